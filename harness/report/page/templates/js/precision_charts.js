// Drift against what a precision takes, and where texts part.

const DRIFT_AXES = ["drift/kl_mean", "drift/kl_median", "drift/kl_p90", "drift/kl_p99", "drift/kl_max", "drift/rms_dp", "drift/perplexity_ratio"];
const axisChoices = (keys) => keys.filter((key) => costs.filter((cost) => known(cost.cells[key]?.[0])).length > 1 || (key.startsWith("drift/") && costs.some((cost) => known(cost.cells[key]?.[0]))));
const chosenAxes = () => {
  const ys = axisChoices(DRIFT_AXES), xs = axisChoices(PRICE_COLUMNS);
  return { ys, xs, y: ys.includes(state.dy) ? state.dy : ys[0], x: xs.includes(state.dx) ? state.dx : xs[0] };
};

const precisionFront = (B, here) => {
  const { x: xKey, y: yKey } = chosenAxes();
  const x = metricNamed(xKey), y = metricNamed(yKey);
  const log = yKey !== "drift/perplexity_ratio";
  const drawn = costs.map((_, place) => place).filter((place) => known(valueIn(costs[place], xKey)) && (isReference(costs[place]) || known(valueIn(costs[place], yKey))));
  const rising = drawn.map((place) => valueIn(costs[place], yKey)).filter((value) => value > 0);
  const ends = drawn.flatMap((place) => costs[place].cells[yKey] ?? []).filter((value) => value > 0);
  const floor = Math.min(1, ...rising) / 8; // a reference has no drift, for which a log axis has no place
  const yOf = (place) => (isReference(costs[place]) ? (log ? floor : 1) : Math.max(valueIn(costs[place], yKey), log ? floor : -Infinity));
  const ceiling = Math.max(floor * 20, ...ends) * 1.8;
  const span = log ? [floor / 1.6, ceiling] : rangeAround([1, ...drawn.flatMap((place) => costs[place].cells[yKey] ?? [])], 0.12);
  const { plot, ink, line } = figureOf(B, axisName(x), axisName(y), {
    height: 340, y_axis_type: log ? "log" : "linear", y_range: new B.Range1d({ start: span[0], end: span[1] }),
  });
  const own = drawn.map((place) => (isDark() ? DARK_COLOURS : OWN_COLOURS)[place % OWN_COLOURS.length]);
  const bars = drawn.map((place, i) => [place, i]).filter(([place]) => known(costs[place].cells[yKey]?.[1]));
  if (bars.length) {
    const source = new B.ColumnDataSource({ data: { x: bars.map(([p]) => valueIn(costs[p], xKey)), low: bars.map(([p]) => Math.max(costs[p].cells[yKey][1], span[0])), high: bars.map(([p]) => costs[p].cells[yKey][2]), c: bars.map(([, i]) => own[i]) } });
    plot.segment({ field: "x" }, { field: "low" }, { field: "x" }, { field: "high" }, { source, line_color: { field: "c" }, line_alpha: 0.45, line_width: 1.5 });
  }
  const source = new B.ColumnDataSource({ data: {
    x: drawn.map((p) => valueIn(costs[p], xKey)), y: drawn.map(yOf), c: own, fill: drawn.map((p, i) => (costs[p].front ? own[i] : cssColour("--card"))),
    name: drawn.map((p) => costName(costs[p])), xs: drawn.map((p) => toldIn(x, valueIn(costs[p], xKey))), ys: drawn.map((p) => (isReference(costs[p]) ? "the reference: none" : toldIn(y, valueIn(costs[p], yKey)))),
  } });
  const marks = plot.scatter({ field: "x" }, { field: "y" }, { source, size: 11, line_color: { field: "c" }, fill_color: { field: "fill" }, line_width: 2 });
  const xs = rangeAround(source.data.x, 0.12);
  plot.x_range = new B.Range1d({ start: xs[0], end: xs[1] });
  const still = new B.ColumnDataSource({ data: { x0: [xs[0]], x1: [xs[1]], y: [log ? floor : 1] } });
  plot.segment({ field: "x0" }, { field: "y" }, { field: "x1" }, { field: "y" }, { source: still, line_color: line, line_dash: "dashed" });
  const box = [Math.max(150, here.clientWidth - 80), 280];
  const level = (value) => (log ? Math.log10(value) : value);
  const [bottom, top] = span.map(level);
  const spots = drawn.map((p, i) => [(box[0] * (source.data.x[i] - xs[0])) / (xs[1] - xs[0]), (box[1] * (top - level(source.data.y[i]))) / (top - bottom)]);
  const names = placeNames(spots, source.data.name, box);
  const labels = new B.ColumnDataSource({ data: { x: source.data.x, y: source.data.y, name: source.data.name, dx: names.map((n) => n[0]), dy: names.map((n) => n[1]), align: names.map((n) => n[2]) } });
  plot.text({ field: "x" }, { field: "y" }, { field: "name" }, { source: labels, x_offset: { field: "dx" }, y_offset: { field: "dy" }, text_align: { field: "align" }, text_baseline: "middle", text_color: ink, text_font_size: "12px", text_font: "system-ui" });
  hover(B, plot, [marks], [["", "@name"], [x.name, "@xs"], [y.name, "@ys"]]);
  return plot;
};

// The share of texts that are still the reference's own, by step.
const partingChart = (B) => {
  const { plot } = figureOf(B, "step (tokens)", "texts still as the reference's", { y_range: new B.Range1d({ start: 0, end: 1.04 }) });
  const told = costs.map((cost, place) => ({ place, steps: cost.parts[0], all: cost.parts[0].reduce((sum, [, count]) => sum + count, cost.parts[1]) })).filter(({ all }) => all);
  const last = Math.max(8, ...told.flatMap(({ steps }) => steps.map(([step]) => step))) + 2;
  const lines = told.map(({ place, steps, all }) => {
    const xs = [0], ys = [1];
    let left = all;
    for (const [step, count] of steps) { left -= count; xs.push(step); ys.push(left / all); }
    xs.push(last);
    ys.push(left / all);
    const source = new B.ColumnDataSource({ data: { x: xs, y: ys, name: xs.map(() => costName(costs[place])), s: ys.map((value) => percent(value)) } });
    return plot.step({ field: "x" }, { field: "y" }, "after", { source, line_color: (isDark() ? DARK_COLOURS : OWN_COLOURS)[place % OWN_COLOURS.length], line_width: 2, line_alpha: 0.85 });
  });
  hover(B, plot, lines, [["", "@name"], ["step", "@x"], ["the same", "@s"]]);
  return plot;
};

let precisionSeen = null;
const drawPrecisionCharts = () => {
  precisionSeen?.disconnect();
  const { ys, xs, x, y } = chosenAxes();
  const pick = (name, key, keys, now) => {
    const select = el("select", "field");
    select.setAttribute("aria-label", name);
    for (const each of keys) select.append(option(each, metricNamed(each).name, each === now));
    select.addEventListener("change", () => go({ [key]: select.value }, false));
    return select;
  };
  const list = [];
  if (x && y) list.push({
    id: "precision-front", title: "Pareto front of precision", draw: precisionFront, controls: [pick("Drift axis", "dy", ys, y), " × ", pick("Price axis", "dx", xs, x)],
    caption: `Filled: on the front, which no other precision beats in ${precision.front.map((key) => metricNamed(key).name).join(", ")}. The reference stands on the dashed line: it has no drift.`,
  });
  if (costs.some((cost) => cost.parts[0].length)) list.push({
    id: "precision-parts", title: "First divergence", draw: partingChart,
    caption: "Decoded by itself under the same luck: the share of texts that have not parted yet from the reference's own.", legend: true,
  });
  const waiting = new Map();
  precisionSeen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { precisionSeen.unobserve(entry.target); waiting.get(entry.target)(); }
  }, { rootMargin: "300px" });
  clear(byId("precision-charts"), ...list.map(({ id, title, caption, draw, controls, legend }) => {
    const here = el("div", "chart");
    here.id = `chart-${id}`;
    here.setAttribute("role", "img");
    here.setAttribute("aria-label", title);
    waiting.set(here, async () => {
      try {
        const B = await library();
        if (!here.isConnected) return;
        await B.Plotting.show(draw(B, here), here);
        here.dataset.drawn = "";
      } catch (error) {
        clear(here, el("p", "error", `This chart could not be drawn: ${error.message}`));
      }
    });
    const names = legend ? el("p", "point-legend", ...costs.map((cost, place) => (cost.parts[0].length || cost.parts[1] ? namedCost(place) : null))) : null;
    return el("section", "panel", el("div", "section-head", el("h2", "", title), controls ? el("div", "controls", ...controls) : null), el("p", "caption", caption), names, here);
  }));
  for (const here of waiting.keys()) precisionSeen.observe(here);
};
