// The view Overview: findings, the table, charts and panels.

let overviewDrawn = null;
const drawOverview = () => {
  const table = [state.sort, state.all, state.intervals].join("|");
  const axes = [state.x, state.y].join("|");
  if (!overviewDrawn) {
    drawFindings();
    byId("all-metrics").addEventListener("click", () => go({ all: !state.all }, false));
    byId("intervals").addEventListener("click", () => go({ intervals: !state.intervals }, false));
    themed.add(() => { if (state.view === "overview") { drawTable(); drawOverviewCharts(); } else overviewDrawn.axes = null; });
  }
  if (overviewDrawn?.table !== table) { closeDetail(); drawTable(); drawPanels(); }
  if (overviewDrawn?.axes !== axes) drawOverviewCharts();
  overviewDrawn = { table, axes };
};
