// What choosing among samples is worth: the score of the chosen sample by the number of samples, for one run at a time.

const WAY_NAMES = { one: "one at random", any: "best possible" };
const wayName = (curves, way) => (way === "any" && curves.passes ? "pass@k" : (WAY_NAMES[way] ?? way));
// Selectors have hues of their own, in the order of the page; what they are compared with has none.
const selectionWays = [...new Set((data.selection ?? []).flatMap((curves) => curves.ways.map(([way]) => way)))].filter((way) => !(way in WAY_NAMES));
const wayColour = (way) => (way in WAY_NAMES ? cssColour(way === "any" ? "--ink" : "--soft") : toneOf(selectionWays.indexOf(way), null, isDark()));
const wayDot = (way) => dotOf(way in WAY_NAMES ? `var(${way === "any" ? "--ink" : "--soft"})` : themedColour(selectionWays.indexOf(way), null), "circle");
const wayDash = (way) => (way === "any" ? "dashed" : way === "one" ? "dotted" : "solid");

// Bands of many ways would be one blot: of many, that of the best possible and of the best choice among all samples.
const MOST_BANDED = 4;
const withBand = ({ ways }, metric) => {
  if (ways.length <= MOST_BANDED) return ways;
  const sign = metric.better === "lower" ? -1 : 1;
  const [best] = ways.filter(([way]) => !(way in WAY_NAMES)).sort((a, b) => sign * (b[1].at(-1) - a[1].at(-1)));
  return ways.filter((each) => each === best || each[0] === "any");
};

const selectionChart = (curves, metric) => (B, width) => {
  const { sizes, ways } = curves;
  const log = logarithmic({ values: sizes });
  const ends = ways.flatMap(([, means, lows, highs]) => [...means, ...lows, ...highs]);
  const plot = figureOf(B, "samples per prompt", nameAndUnit(metric), { height: 300, x_axis_type: log ? "log" : "linear", y_range: rangeOn(B, rangeAround(ends, 0.04)) });
  const ticks = ticksOf(sizes.map((size) => (log ? Math.log(size) : size)), Math.max(120, width - 70)).map((i) => sizes[i]);
  plot.below[0].setv({ ticker: new B.FixedTicker({ ticks }), major_label_overrides: new Map(ticks.map((size) => [size, String(size)])), minor_tick_line_color: null });
  const banded = withBand(curves, metric).filter(([, , lows, highs]) => [...lows, ...highs].every(known));
  glyphs(B, plot, "patches", ["x", "y"], {
    x: banded.map(() => [...sizes, ...[...sizes].reverse()]), y: banded.map(([, , lows, highs]) => [...lows, ...[...highs].reverse()]), colour: banded.map(([way]) => wayColour(way)),
  }, { fill_color: { field: "colour" }, fill_alpha: 0.12, line_color: null, name: "bands" });
  glyphs(B, plot, "multi_line", ["x", "y"], { x: ways.map(() => sizes), y: ways.map(([, means]) => means), colour: ways.map(([way]) => wayColour(way)), dash: ways.map(([way]) => wayDash(way)) },
    { line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: 2, name: "lines" });
  const marks = ways.flatMap(([way, means, lows, highs]) => sizes.map((size, i) => ({ size, y: means[i], colour: wayColour(way), name: wayName(curves, way), interval: known(lows[i]) ? `${figure(metric, lows[i])} to ${figure(metric, highs[i])}` : "–" })));
  const column = (read) => marks.map(read);
  const drawn = glyphs(B, plot, "scatter", ["x", "y"], {
    x: column(({ size }) => size), y: column(({ y }) => y), colour: column(({ colour }) => colour), name: column(({ name }) => name), value: column(({ y }) => figure(metric, y)), interval: column(({ interval }) => interval),
  }, { size: 5, line_color: null, fill_color: { field: "colour" }, name: "marks" });
  hover(B, plot, [drawn], [["", "@name"], ["samples", "@x"], [metric.name, "@value"], ["95% interval", "@interval"]]);
  return plot;
};

const selectionCaption = (curves, metric) => [
  `The sample that is chosen from n: ${metric.name}, mean over ${plural(curves.prompts, "prompt")}. Bands: 95% intervals${curves.ways.length > MOST_BANDED ? ` of ${wayName(curves, "any")} and of the best choice` : ""}. `,
  curves.passes ? "pass@k: any of k samples is right, which no choice can exceed." : "Best possible: the best of n by this score itself, which no choice can exceed.",
];

const drawSelection = () => {
  const box = byId("selection");
  const runs = [...new Set((data.selection ?? []).map(({ point }) => point))];
  box.hidden = !runs.length;
  if (box.hidden) return;
  const run = runs.includes(state.chosen) ? state.chosen : runs[0];
  const shown = data.selection.filter(({ point }) => point === run).map((curves) => [curves, metricOf.get(curves.metric)]).filter(([, metric]) => metric);
  const controls = runs.length > 1 ? [choiceOf("Run", runs.map((point) => [String(point), plain(points[point].name)]), String(run), (value) => go({ chosen: Number(value) }, false))] : [el("span", "soft", plain(points[run].name))];
  const charts = el("div", "charts small");
  clear(box, el("section", "curves", el("div", "section-head", el("h2", "", "Choosing among samples"), el("div", "controls", ...controls)), charts));
  drawCharts(charts, shown.map(([curves, metric], i) => ({
    id: `selection-${i}`, title: `${metric.name} by number of samples`, heading: nameAndUnit(metric), draw: selectionChart(curves, metric), caption: selectionCaption(curves, metric),
    legend: [el("span", "key", ...curves.ways.map(([way]) => el("span", "", wayDot(way), wayName(curves, way))))],
  })));
};
