// The charts of the overview: two metrics, entropy by token position, latencies.

const MOST_NAMES = 16; // marks beside which there is room for names

const chartName = (point) => { const name = plain(points[point].name); return name.length > 32 ? `${name.slice(0, 31)}…` : name; };

// Runs with results that have no place in this chart, since they lack one of these metrics: named, not lost.
const leftOut = (keys) => {
  const groups = Map.groupBy(pointIndices.filter((point) => Object.keys(points[point].cells).length), (point) => metricNames(keys.filter((key) => !points[point].cells[key])));
  groups.delete("");
  return [...groups].flatMap(([names, runs]) => [` Left out, without ${names}: `, ...runs.slice(0, 12).flatMap((point, i) => [i ? ", " : "", pointLink(point)]), runs.length > 12 ? ` and ${runs.length - 12} more.` : "."]);
};

// The metrics of the first chart, [x, y], and those to choose from: the goal over the front's first metric, else two of the front's.
const shownAxes = () => {
  const front = (data.front?.metrics ?? []).filter((key) => metricOf.has(key));
  const usable = [...new Set([...front, ...every.map((metric) => metric.key)])].filter((key) => points.filter((point) => point.cells[key]).length > 1);
  const goal = data.answer?.goal;
  const x = usable.includes(state.x) ? state.x : usable.find((key) => key !== goal);
  const y = usable.includes(state.y) ? state.y : usable.includes(goal) && x !== goal ? goal : usable.find((key) => key !== x);
  return x && y ? [x, y, usable] : null;
};

const paretoChart = inFacets((B, width, colour, several) => {
  const [xKey, yKey] = shownAxes();
  const x = metricOf.get(xKey), y = metricOf.get(yKey);
  const shown = pointIndices.filter((point) => points[point].cells[xKey] && points[point].cells[yKey]);
  const onFront = (point) => Boolean(data.front?.points.includes(point));
  const plot = figureOf(B, several ? nameAndUnit(x) : axisName(x), several ? nameAndUnit(y) : axisName(y), { height: several ? 190 : 340 });
  const cell = (point, key) => points[point].cells[key];
  if (!several) intervalBars(B, plot, shown.flatMap((point) => {
    const [x, xLow, xHigh] = cell(point, xKey), [y, yLow, yHigh] = cell(point, yKey);
    return [[xLow, xHigh, y, y, colour(point)], [x, x, yLow, yHigh, colour(point)]].filter((bar) => bar.every(known));
  }));
  // Those in colour over those in grey.
  const grey = cssColour("--line");
  if (several) shown.sort((a, b) => (colour(b) === grey) - (colour(a) === grey));
  const marks = {
    x: shown.map((point) => cell(point, xKey)[0]), y: shown.map((point) => cell(point, yKey)[0]), colour: shown.map(colour), shape: shown.map(shapeOf),
    fill: shown.map((point) => (onFront(point) ? colour(point) : cssColour("--card"))), size: shown.map((point) => (onFront(point) ? 11 : 9)),
    name: shown.map(chartName), xs: shown.map((point) => figure(x, cell(point, xKey)[0])), ys: shown.map((point) => figure(y, cell(point, yKey)[0])),
  };
  scatterMarks(B, plot, marks, x, y, { field: "size" });
  const ends = (key) => shown.flatMap((point) => cell(point, key).slice(0, several ? 1 : 3));
  const xRange = rangeAround(ends(xKey), 0.07), yRange = rangeAround(ends(yKey), 0.1);
  plot.x_range = rangeOn(B, xRange);
  plot.y_range = rangeOn(B, yRange);
  if (several) return plot;
  // Where there is no room for all names: those of the front and of the best run.
  const crowded = shown.length > MOST_NAMES || marks.name.reduce((sum, name) => sum + 100 * name.length, 0) > 0.2 * 280 * Math.max(150, width - 75);
  const named = shown.map((point) => !crowded || onFront(point) || point === data.answer?.best);
  if (named.filter(Boolean).length <= MOST_NAMES) labelMarks(B, plot, { ...marks, name: marks.name.map((name, i) => (named[i] ? name : "")) }, xRange, yRange, width);
  return plot;
});

// A running mean over as many positions as keep a curve readable.
const smooth = (curve) => {
  const half = Math.floor(Math.min(4, curve.length / 24));
  return curve.map((_, i) => {
    const near = curve.slice(Math.max(0, i - half), i + half + 1).filter(known);
    return near.length ? near.reduce((a, b) => a + b, 0) / near.length : NaN;
  });
};

const withEntropy = () => pointIndices.filter((point) => points[point].entropy.length > 1 && !points[point].selected);
const entropyChart = inFacets((B, width, colour, several) => {
  const plot = figureOf(B, several ? "position" : "token position", several ? "entropy" : "mean entropy (nats)", several ? { height: 180 } : {});
  const grey = cssColour("--line");
  const shown = withEntropy().sort((a, b) => several * ((colour(b) === grey) - (colour(a) === grey)));
  const curves = shown.map((point) => points[point].entropy);
  // One glyph for all curves: Bokeh takes milliseconds a glyph, and a sweep may have a thousand runs.
  const columns = { x: curves.map((curve) => curve.map((_, i) => i)), y: curves.map(smooth), name: shown.map(chartName), colour: shown.map(colour), dash: shown.map(dashOf) };
  const many = shown.length > 10;
  const lines = glyphs(B, plot, "multi_line", ["x", "y"], columns, { line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: many ? 1.3 : 2, line_alpha: many ? 0.75 : 0.9, name: "curves" });
  plot.y_range.start = 0;
  hover(B, plot, [lines], [["", "@name"], ["position", "$snap_x{0}"], ["entropy", "$snap_y{0.000}"]]);
  return plot;
});

// One row per run; of many, the fastest.
const MOST_ROWS = 48;
const timedRuns = (kind) => {
  const timed = pointIndices.filter((point) => points[point].latency[kind]);
  if (timed.length <= MOST_ROWS) return timed;
  const median = (point) => points[point].latency[kind].quartiles[1];
  return timed.sort((a, b) => median(a) - median(b)).slice(0, MOST_ROWS);
};
const latencyChart = (kind, name) => (B) => {
  const shown = timedRuns(kind);
  const names = shown.map((point, i) => `${chartName(point)}${"\u200b".repeat(shown.slice(0, i).filter((other) => chartName(other) === chartName(point)).length)}`);
  const of = (point) => points[point].latency[kind];
  const times = (point) => of(point).times;
  // One measurement far out must not press all others together: of many, the axis leaves out the longest.
  const longest = (point) => times(point).at(times(point).length < 20 ? -1 : -2);
  const plot = figureOf(B, `${name} (ms)`, null, {
    height: Math.max(150, 58 + 26 * shown.length), y_range: [...names].reverse(),
    x_range: [Math.min(...shown.flatMap(times)) * 0.96, Math.max(...shown.map(longest)) * 1.05],
  });
  for (const grid of plot.center) if (grid.dimension === 1) grid.grid_line_color = null;
  const ms = (value) => `${digits(value, 3)} ms`;
  const columns = {
    y: names, colour: shown.map((point) => colourOf(point)), name: shown.map(chartName), p25: shown.map((point) => of(point).quartiles[0]), p50: shown.map((point) => of(point).quartiles[1]), p75: shown.map((point) => of(point).quartiles[2]),
    median: shown.map((point) => ms(of(point).quartiles[1])), range: shown.map((point) => `${digits(times(point)[0], 3)} to ${ms(times(point).at(-1))}`), count: shown.map((point) => plural(of(point).count, "measurement")),
  };
  // Few measurements have no 5th and no 95th percentile.
  const wide = shown.map((point, i) => ({ tails: of(point).tails, y: names[i], colour: colourOf(point) })).filter(({ tails }) => tails);
  const tails = { p5: wide.map((each) => each.tails[0]), p95: wide.map((each) => each.tails[1]), y: wide.map((each) => each.y), colour: wide.map((each) => each.colour) };
  const ticks = { x: shown.flatMap(times), y: shown.flatMap((point, i) => times(point).map(() => names[i])), colour: shown.flatMap((point) => times(point).map(() => colourOf(point))) };
  const line_color = { field: "colour" };
  glyphs(B, plot, "scatter", ["x", "y"], ticks, { marker: "dash", angle: Math.PI / 2, size: 13, line_color, line_alpha: 0.5, line_width: 1.2, name: "ticks" });
  glyphs(B, plot, "segment", ["p5", "y", "p95", "y"], tails, { line_color, line_width: 1.5, name: "tails" });
  const boxes = glyphs(B, plot, "segment", ["p25", "y", "p75", "y"], columns, { line_color, line_width: 7, line_cap: "round", line_alpha: 0.75, name: "boxes" });
  const medians = glyphs(B, plot, "scatter", ["p50", "y"], columns, { size: 8, fill_color: cssColour("--card"), line_color: cssColour("--ink"), line_width: 2, name: "medians" });
  hover(B, plot, [medians, boxes], [["", "@name"], ["median", "@median"], ["shortest to longest", "@range"], ["", "@count"]]);
  return plot;
};

const drawOverviewCharts = () => {
  const charts = [];
  const axes = shownAxes();
  const cls = facetLevels ? "wide facets" : "";
  if (axes) {
    const metrics = axes[2].map((key) => metricOf.get(key));
    charts.push({
      id: "pareto", title: data.front ? "Pareto front" : "Two metrics", draw: paretoChart, cls,
      caption: [...(data.front
        ? [`Filled: Pareto-optimal, not dominated on ${metricNames(data.front.metrics)}: `, ...data.front.points.slice(0, 12).flatMap((point, i) => [i ? ", " : "", pointLink(point)]), data.front.points.length > 12 ? ` and ${data.front.points.length - 12} more.` : "."]
        : [facetLevels ? "Each run by two metrics." : "Two metrics with their confidence intervals."]), ...leftOut([...new Set([...(data.front?.metrics ?? []), axes[0], axes[1]])]), manyCaption()],
      controls: [axisChoice("x axis", "x", metrics, axes[0]), " × ", axisChoice("y axis", "y", metrics, axes[1])],
      legend: legendOf(pointIndices.filter((point) => axes.slice(0, 2).every((key) => points[point].cells[key]))),
    });
  }
  const curves = withEntropy();
  if (curves.length)
    charts.push({
      id: "entropy", title: "Entropy by token position", draw: entropyChart, caption: ["Mean predictive entropy at each token position, one line per run.", manyCaption()], cls,
      legend: legendOf(curves, { line: true }),
    });
  for (const [kind, title] of [["ttft", "Time to first token"], ["itl", "Inter-token latency"]]) {
    const timed = points.map((point) => point.latency[kind]).filter(Boolean);
    if (!timed.length) continue;
    const fastest = timed.length > MOST_ROWS ? ` The ${MOST_ROWS} fastest of ${timed.length.toLocaleString("en")} runs.` : "";
    const thinned = Math.max(...timed.map(({ count, times }) => (count > times.length ? times.length : 0)));
    const line = timed.some(({ tails }) => tails) ? " line: 5th to 95th percentile;" : "";
    charts.push({ id: kind, title, draw: latencyChart(kind, title.toLowerCase()), caption: [`Ticks: individual measurements${thinned ? `, of more than ${thinned} evenly thinned` : ""};${line} bar: interquartile range; circle: median.${fastest}`] });
  }
  drawCharts(byId("charts"), charts);
};
