// The view Overview: the answer, the table of runs, curves over swept numbers, charts and panels.

// What is drawn, and the entries of the state that it depends on.
const OVERVIEW = [
  [["sort", "all", "intervals"], () => { closeDetail(); drawTable(); drawPanels(); }],
  [["heat", "slice", "heat_x", "heat_y"], () => drawHeatMap()],
  [["curves"], () => drawCurves()],
  [["chosen"], () => drawSelection()],
  [["speculated"], () => drawSpeculation()],
  [["x", "y"], () => drawOverviewCharts()],
  [["axes"], () => drawParallel()],
];
let overviewDrawn = null;
const drawOverview = () => {
  if (!overviewDrawn) {
    overviewDrawn = [];
    drawAnswer();
    byId("all-metrics").addEventListener("click", () => go({ all: !state.all }, false));
    byId("intervals").addEventListener("click", () => go({ intervals: !state.intervals }, false));
    // Charts have the colours of the theme that they were drawn in; all else follows by itself.
    themed.add(() => {
      overviewDrawn = overviewDrawn.slice(0, 2);
      if (state.view === "overview") drawOverview();
    });
  }
  OVERVIEW.forEach(([keys, draw], i) => {
    const now = keys.map((key) => state[key]).join("|");
    if (overviewDrawn[i] === now) return;
    overviewDrawn[i] = now;
    draw();
  });
};
