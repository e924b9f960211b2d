// Drift over what a quantization costs, and where outputs diverge.

const DRIFT_AXES = ["drift/kl_mean", "drift/kl_median", "drift/kl_p90", "drift/kl_p99", "drift/kl_max", "drift/rms_dp", "drift/perplexity_ratio"];
const usableAxes = (keys) => keys.filter((key) => costs.filter((cost) => known(cost.cells[key]?.[0])).length > (key.startsWith("drift/") ? 0 : 1));
const driftAxes = () => {
  const ys = usableAxes(DRIFT_AXES), xs = usableAxes(COST_COLUMNS);
  return { ys, xs, y: ys.includes(state.drift_axis) ? state.drift_axis : ys[0], x: xs.includes(state.cost_axis) ? state.cost_axis : xs[0] };
};

const driftChart = (B, width) => {
  const { x: xKey, y: yKey } = driftAxes();
  const x = metricNamed(xKey), y = metricNamed(yKey);
  const log = yKey !== "drift/perplexity_ratio";
  const shown = costs.map((_, i) => i).filter((i) => known(valueIn(costs[i], xKey)) && (isReference(costs[i]) || known(valueIn(costs[i], yKey))));
  const ends = shown.flatMap((i) => costs[i].cells[yKey] ?? []);
  const positive = (values) => values.filter((value) => value > 0);
  const floor = Math.min(1, ...positive(shown.map((i) => valueIn(costs[i], yKey)))) / 8; // a reference has no drift, which a log axis cannot show
  const none = log ? floor : 1;
  const yOf = (i) => (isReference(costs[i]) ? none : Math.max(valueIn(costs[i], yKey), log ? floor : -Infinity));
  const yRange = log ? [floor / 1.6, Math.max(floor * 20, ...positive(ends)) * 1.8] : rangeAround([1, ...ends], 0.12);
  const plot = figureOf(B, axisName(x), axisName(y), { height: 340, y_axis_type: log ? "log" : "linear", y_range: rangeOn(B, yRange) });
  intervalBars(B, plot, shown.filter((i) => known(costs[i].cells[yKey]?.[1])).map((i) => {
    const at = valueIn(costs[i], xKey), [, low, high] = costs[i].cells[yKey];
    return [at, at, Math.max(low, yRange[0]), high, costColour(i)];
  }));
  const marks = {
    x: shown.map((i) => valueIn(costs[i], xKey)), y: shown.map(yOf), colour: shown.map(costColour), shape: shown.map(costShape), fill: shown.map((i) => (costs[i].front ? costColour(i) : cssColour("--card"))),
    name: shown.map((i) => costName(costs[i])), xs: shown.map((i) => valueText(x, valueIn(costs[i], xKey))), ys: shown.map((i) => (isReference(costs[i]) ? "none (reference)" : valueText(y, valueIn(costs[i], yKey)))),
  };
  scatterMarks(B, plot, marks, x, y, 11);
  const xRange = rangeAround(marks.x, 0.12);
  plot.x_range = rangeOn(B, xRange);
  glyphs(B, plot, "segment", ["x0", "y", "x1", "y"], { x0: [xRange[0]], x1: [xRange[1]], y: [none] }, { line_color: cssColour("--line"), line_dash: "dashed" });
  labelMarks(B, plot, marks, xRange, yRange, width, log);
  return plot;
};

const withColour = (node, index) => { node.style.color = costHue(index) === null ? "var(--accent)" : themedColour(costHue(index), null); return node; };

// The fraction of outputs that are still identical to the reference's, by step.
const divergenceChart = (B) => {
  const plot = figureOf(B, "step (tokens)", "outputs identical to the reference", { y_range: rangeOn(B, [0, 1.12]) });
  const curves = costs.map(({ divergences: [steps, never] }, index) => ({ index, steps, all: steps.reduce((sum, [, count]) => sum + count, never) })).filter(({ all }) => all);
  const last = Math.max(8, ...curves.flatMap(({ steps }) => steps.map(([step]) => step))) + 2;
  const ends = [];
  const lines = curves.map(({ index, steps, all }) => {
    const xs = [0], ys = [1];
    let identical = all;
    for (const [step, count] of steps) { identical -= count; xs.push(step); ys.push(identical / all); }
    xs.push(last);
    ys.push(identical / all);
    ends.push([index, identical / all]);
    const source = new B.ColumnDataSource({ data: { x: xs, y: ys, name: xs.map(() => costName(costs[index])), share: ys.map(percent) } });
    return plot.step({ field: "x" }, { field: "y" }, "after", { source, name: "identical", line_color: costColour(index), line_dash: DASHES[costMark(index)], line_width: 2, line_alpha: 0.85 });
  });
  // Names at the ends of the lines, one above the other where these meet.
  ends.sort((a, b) => a[1] - b[1]);
  let below = -1;
  const levels = ends.map(([, level]) => (below = Math.max(level, below + 0.075)));
  plot.x_range = rangeOn(B, [0, last * 1.22]);
  glyphs(B, plot, "text", ["x", "y", "name"], { x: ends.map(() => last), y: levels, name: ends.map(([index]) => costName(costs[index])) },
    { text_baseline: "middle", x_offset: 6, text_color: cssColour("--ink"), text_font_size: "12px", text_font: "system-ui", name: "names" });
  hover(B, plot, lines, [["", "@name"], ["step", "@x"], ["identical", "@share"]]);
  return plot;
};

const drawQuantizationCharts = () => {
  const { ys, xs, x, y } = driftAxes();
  const charts = [];
  if (x && y) charts.push({
    id: "drift", title: "Drift vs. cost", draw: driftChart,
    controls: [axisChoice("Drift axis", "drift_axis", ys.map(metricNamed), y), " × ", axisChoice("Cost axis", "cost_axis", xs.map(metricNamed), x)],
    caption: [`Filled: Pareto-optimal, ${paretoTitle()}. The reference is on the dashed line: it has no drift.`],
  });
  if (costs.some((cost) => cost.divergences[0].length)) charts.push({
    id: "divergence", title: "First divergence", draw: divergenceChart, legend: [el("span", "key", el("b", "", "Quantization"), ...costs.map((cost, i) => (cost.divergences[0].length || cost.divergences[1] ? el("span", "", withColour(dashLine(costMark(i)), i), costName(cost)) : "")))],
    caption: ["Free-running generation with the same random seed: fraction of outputs still identical to the reference."],
  });
  drawCharts(byId("quantization-charts"), charts);
};
