// How metrics move over the numbers that a sweep varies: one panel per metric, one line per other choice.

const MOST_CURVES = 4;
const MOST_BANDS = 12; // of more lines, bands would be one blot
const trendOf = (metric, swept) => data.trends.find((trend) => trend.metric === metric.key && trend.key === swept.key) ?? null;

// Metrics to choose from: those that two runs have. First the goal, then the key metrics that differ between runs.
const chartMetrics = () => every.filter((metric) => points.filter((point) => point.cells[metric.key]).length > 1);
const differs = (metric) => new Set(points.map((point) => point.cells[metric.key]?.[0]).filter(known)).size > 1;
const preferredMetrics = () => {
  const usable = chartMetrics();
  const goal = usable.filter((metric) => metric.key === data.answer?.goal);
  const wanted = [...goal, ...usable.filter((metric) => metric.headline && differs(metric)), ...usable.filter(differs), ...usable];
  return [...new Set(wanted)];
};
const chosenMetrics = (text, most) => {
  const preferred = preferredMetrics();
  const usable = new Set(preferred.map((metric) => metric.key));
  const chosen = (text ?? "").split(",").filter((key) => usable.has(key)).map((key) => metricOf.get(key));
  return [...new Set([...chosen, ...preferred])].slice(0, most);
};

// The lines over a key: runs of one group and, in a grid, of one value of every other key; by ascending value.
const linesOver = (swept, metric) => {
  const others = data.swept.filter((other) => other !== swept);
  const shown = pointIndices.filter((point) => known(swept.of[point]) && points[point].cells[metric.key]);
  const lines = Map.groupBy(shown, (point) => JSON.stringify([swept.group[point], ...others.map((other) => other.of[point])]));
  return [...lines.values()].map((line) => line.sort((a, b) => swept.of[a] - swept.of[b]));
};

const MOST_LEVELS = 6;
const withoutKey = (swept, metric) => {
  const found = pointIndices.filter((point) => !known(swept.of[point]) && points[point].cells[metric.key]);
  return found.length <= MOST_LEVELS ? found : [];
};

// Values in runs without a gap, as [first, last]: those of a plateau.
const stretches = (values, wanted) => {
  const found = [];
  values.forEach((value, i) => {
    if (!wanted.includes(value)) return;
    if (i && wanted.includes(values[i - 1])) found.at(-1)[1] = value;
    else found.push([value, value]);
  });
  return found;
};
const stretchText = ([first, last]) => (first === last ? digits(first) : `${digits(first)} to ${digits(last)}`);

const pText = (p, before = "", after = "") => (known(p) ? `${before}p ${p < 0.001 ? "< 0.001" : `= ${digits(p, 2)}`}${after}` : "");
const trendSentence = (metric, swept, trend) => {
  const [slope, low, high, p] = trend.slope;
  const span = swept.values.at(-1) - swept.values[0];
  // A straight line can lead out of what the metric can be.
  const over = (each) => signed(metric, known(metric.width) ? Math.max(-metric.width, Math.min(metric.width, each * span)) : each * span);
  const change = `on a fitted line ${over(slope)}${known(low) ? ` [${over(low)}, ${over(high)}]` : ""} from ${digits(swept.values[0])} to ${digits(swept.values.at(-1))}`;
  const chance = pText(p, ", ");
  const words = { rises: `Rises: ${change}${chance}.`, falls: `Falls: ${change}${chance}.`, flat: `No significant trend: ${change}${chance}.`, optimum: `Optimum inside the range${pText(trend.curvature_p, " (curvature ", ")")}.`, curved: `Not a straight line${pText(trend.curvature_p, " (curvature ", ")")}.` };
  return [words[trend.shape], plateauSentence(swept, trend)].filter(Boolean).join(" ");
};
const plateauSentence = (swept, trend) => {
  if (!known(trend.best)) return "";
  if (trend.plateau.length === swept.values.length) return "No value is significantly better than another.";
  const plateau = stretches(swept.values, trend.plateau).map(stretchText).join(", ");
  return `Best at ${digits(trend.best)}${trend.plateau.length > 1 ? `; no significant difference within ${plateau}` : ""}.`;
};

// Values over more than a factor of thirty are on a logarithmic axis.
const logarithmic = ({ values }) => values[0] > 0 && values.at(-1) / values[0] > 30;

// The values that have a tick, by index: those that leave room for each other's labels.
const ticksOf = (places, width) => {
  const pixels = places.map((place) => (width * (place - places[0])) / (places.at(-1) - places[0]));
  let last = -Infinity;
  return places.map((_, i) => i).filter((i) => {
    if (pixels[i] - last < 34 || (i < places.length - 1 && pixels.at(-1) - pixels[i] < 34)) return false;
    last = pixels[i];
    return true;
  });
};

const curveChart = (swept, metric) => (B, width, colour, several) => {
  const grey = cssColour("--line");
  const lines = linesOver(swept, metric).sort((a, b) => several * ((colour(b[0]) === grey) - (colour(a[0]) === grey)));
  const trend = several ? null : trendOf(metric, swept);
  const { values } = swept;
  const cell = (point) => points[point].cells[metric.key];
  const log = logarithmic(swept);
  const place = (value, share) => {
    const [first, last] = [values[0], values.at(-1)].map((each) => (log ? Math.log(each) : each));
    const moved = (log ? Math.log(value) : value) + share * (last - first);
    return log ? Math.exp(moved) : moved;
  };
  const yRange = rangeAround([...lines.flat(), ...(several ? [] : withoutKey(swept, metric))].flatMap((point) => cell(point).slice(0, 3)), 0.06);
  const plot = figureOf(B, plain(swept.name), nameAndUnit(metric), {
    height: several ? 190 : 250, x_axis_type: log ? "log" : "linear", x_range: rangeOn(B, [place(values[0], -0.05), place(values.at(-1), 0.05)]), y_range: rangeOn(B, yRange),
  });
  const ticks = ticksOf(values.map((value) => (log ? Math.log(value) : value)), Math.max(120, width - 70)).map((i) => values[i]);
  plot.below[0].setv({ ticker: new B.FixedTicker({ ticks }), major_label_overrides: new Map(ticks.map((value) => [value, digits(value)])), minor_tick_line_color: null });
  const [bottom, top] = yRange;
  if (trend) {
    const plateau = known(trend.best) && trend.plateau.length < values.length ? stretches(values, trend.plateau) : [];
    glyphs(B, plot, "quad", ["left", "right", "bottom", "top"], { left: plateau.map(([first]) => place(first, -0.025)), right: plateau.map(([, last]) => place(last, 0.025)), bottom: plateau.map(() => bottom), top: plateau.map(() => top) },
      { fill_color: cssColour("--good"), fill_alpha: 0.13, line_color: null, name: "plateau" });
    const best = known(trend.best) && (plateau.length || trend.shape !== "flat") ? [trend.best] : [];
    glyphs(B, plot, "segment", ["x", "y0", "x", "y1"], { x: best, y0: best.map(() => bottom), y1: best.map(() => top) }, { line_color: cssColour("--good"), line_dash: "dashed", line_width: 1.5, name: "best" });
  }
  const banded = lines.length > MOST_BANDS ? [] : lines.map((line) => line.filter((point) => known(cell(point)[1]) && known(cell(point)[2]))).filter((line) => line.length > 1);
  const at = (point) => values[swept.of[point]];
  const bands = {
    x: banded.map((line) => [...line.map(at), ...line.map(at).reverse()]), y: banded.map((line) => [...line.map((point) => cell(point)[1]), ...line.map((point) => cell(point)[2]).reverse()]),
    colour: banded.map((line) => colour(line[0], swept)),
  };
  glyphs(B, plot, "patches", ["x", "y"], bands, { fill_color: { field: "colour" }, fill_alpha: lines.length > 4 ? 0.07 : 0.14, line_color: null, name: "bands" });
  const columns = { x: lines.map((line) => line.map(at)), y: lines.map((line) => line.map((point) => cell(point)[0])), colour: lines.map((line) => colour(line[0], swept)), dash: lines.map((line) => dashOf(line[0])) };
  glyphs(B, plot, "multi_line", ["x", "y"], columns, { line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: 2, name: "lines" });
  // Runs without the key, as greedy has no temperature, are lines at their level.
  const levels = several ? [] : withoutKey(swept, metric);
  glyphs(B, plot, "multi_line", ["x", "y"], { x: levels.map(() => [place(values[0], -0.05), place(values.at(-1), 0.05)]), y: levels.map((point) => [cell(point)[0], cell(point)[0]]), colour: levels.map((point) => colour(point, swept)), dash: levels.map(dashOf) },
    { line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: 1.2, line_alpha: 0.8, name: "levels" });
  const marked = lines.flat();
  const interval = ([, low, high]) => (known(low) ? `${figure(metric, low)} to ${figure(metric, high)}` : "–");
  const marks = {
    x: marked.map(at), y: marked.map((point) => cell(point)[0]), colour: marked.map((point) => colour(point, swept)), shape: marked.map(shapeOf), name: marked.map(chartName),
    value: marked.map((point) => figure(metric, cell(point)[0])), interval: marked.map((point) => interval(cell(point))),
  };
  const drawn = glyphs(B, plot, "scatter", ["x", "y"], marks, { marker: { field: "shape" }, size: 7, line_color: { field: "colour" }, fill_color: { field: "colour" }, name: "marks" });
  hover(B, plot, [drawn], [["", "@name"], [metric.name, "@value"], ["95% interval", "@interval"]]);
  return plot;
};

// Panels over each swept key; the choice of metrics holds for all of them.
const drawCurves = () => {
  const box = byId("curves");
  const usable = preferredMetrics();
  box.hidden = !data.swept.length || !usable.length;
  if (box.hidden) return;
  const metrics = chosenMetrics(state.curves, facetLevels ? 1 : Math.min(MOST_CURVES, usable.length));
  const replaced = (i, key) => {
    const keys = metrics.map((metric) => metric.key);
    const twin = keys.indexOf(key);
    if (twin >= 0) keys[twin] = keys[i];
    keys[i] = key;
    return keys.join(",");
  };
  const sections = data.swept.map((swept, index) => {
    const shown = metrics.filter((metric) => linesOver(swept, metric).length);
    const runs = [...new Set(shown.flatMap((metric) => [...linesOver(swept, metric).flat(), ...withoutKey(swept, metric)]))].sort((a, b) => a - b);
    const charts = el("div", "charts small");
    const section = el("section", "curves", el("div", "section-head", el("h2", "", "Over ", plain(swept.name)), el("p", "chart-legend", ...legendOf(runs, { line: true, except: swept }))), charts);
    return [section, charts, shown.map((metric) => {
      const trend = trendOf(metric, swept);
      const i = metrics.indexOf(metric);
      return {
        id: `curve-${index}-${i}`, title: `${metric.name} over ${plain(swept.name)}`, heading: "", cls: facetLevels ? "wide facets" : "", draw: inFacets(curveChart(swept, metric)), caption: trend ? [trendSentence(metric, swept, trend)] : [],
        controls: [choiceOf("Metric", chartMetrics().map((each) => [each.key, nameAndUnit(each)]), metric.key, (key) => go({ curves: replaced(i, key) }, false)), el("span", "soft", betterHint(metric))],
      };
    })];
  });
  clear(box, ...sections.map(([section]) => section));
  for (const [, charts, panels] of sections) drawCharts(charts, panels);
};
