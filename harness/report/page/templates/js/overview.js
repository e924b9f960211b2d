// The first view: findings, the table, charts, and what they rest on.

let overviewDrawn = null;
const drawOverview = () => {
  const table = [state.sort, state.all, state.numbers].join("|");
  const axes = [state.x, state.y].join("|");
  if (!overviewDrawn) {
    drawFindings();
    byId("all-metrics").addEventListener("click", () => go({ all: !state.all }, false));
    byId("numbers").addEventListener("click", () => go({ numbers: !state.numbers }, false));
    themed.add(() => { if (state.view === "overview") { drawTable(); drawCharts(); } else overviewDrawn.axes = null; });
  }
  if (overviewDrawn?.table !== table) { forget(); drawTable(); drawJudged(); }
  if (overviewDrawn?.axes !== axes) drawCharts();
  overviewDrawn = { table, axes };
};
