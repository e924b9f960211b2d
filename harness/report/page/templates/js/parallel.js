// Parallel coordinates: what each run was composed of, and the metrics that came of it, a line per run.

const LEAST_RUNS = 7;
const MOST_AXES = 7; // metrics, unless more are chosen
const AXIS_WIDTH = 92; // pixels
const NO_VALUE = "–";

// An axis: its name, the place from 0 to 1 of each run (null: none), and the texts of its ticks.
const choiceAxis = ([name, levels, of]) => {
  const swept = data.swept.find((each) => each.key === name);
  if (swept) {
    const missing = swept.of.some((index) => !known(index));
    const ticks = [...(missing ? [NO_VALUE] : []), ...swept.values.map((value) => digits(value))];
    return { name: swept.name, ticks: evenTicks(ticks), at: (point) => (known(swept.of[point]) ? swept.of[point] + missing : 0) / Math.max(1, ticks.length - 1) };
  }
  return { name: name.replace(/^decoding\./, ""), ticks: evenTicks(levels), at: (point) => (levels.length > 1 ? of[point] / (levels.length - 1) : 0.5) };
};
const evenTicks = (texts) => {
  const step = Math.ceil(texts.length / 12); // of many levels, some
  return texts.map((text, i) => [texts.length > 1 ? i / (texts.length - 1) : 0.5, text]).filter((_, i) => i % step === 0);
};
const metricAxis = (metric) => {
  const value = (point) => points[point].cells[metric.key]?.[0];
  const values = pointIndices.map(value).filter(known);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ticks = low === high ? [[0.5, figure(metric, low)]] : [0, 0.25, 0.5, 0.75, 1].map((place) => [place, figure(metric, low + place * (high - low))]);
  const hint = { higher: " ↑", lower: " ↓" }[metric.better] ?? "";
  return { name: metric.name + hint, ticks, at: (point) => (!known(value(point)) ? NaN : low === high ? 0.5 : (value(point) - low) / (high - low)) };
};

const axisMetrics = () => {
  const chosen = (state.axes ?? "").split(",").filter((key) => metricOf.has(key)).map((key) => metricOf.get(key));
  return chosen.length ? chosen : preferredMetrics().filter(differs).slice(0, MOST_AXES);
};
const shortened = (text, most) => { const shown = plain(text); return shown.length > most ? `${shown.slice(0, most - 1)}…` : shown; };

const parallelChart = (B, width) => {
  const axes = [...data.factors.map(choiceAxis), ...axisMetrics().map(metricAxis)];
  const pitch = Math.max(AXIS_WIDTH, width / (axes.length + 0.1));
  const plot = figureOf(B, null, null, {
    height: 330, sizing_mode: "fixed", width: Math.round(pitch * (axes.length + 0.1)), min_border: 0,
    x_range: rangeOn(B, [-0.5, axes.length - 0.4]), y_range: rangeOn(B, [-0.06, 1.16]),
  });
  for (const axis of [...plot.below, ...plot.left, ...plot.center]) axis.visible = false;
  const best = data.answer?.best;
  // The best run last, over the others.
  const shown = pointIndices.filter((point) => Object.keys(points[point].cells).length).sort((a, b) => (a === best) - (b === best));
  const many = shown.length > 60;
  const columns = {
    x: shown.map(() => axes.map((_, i) => i)), y: shown.map((point) => axes.map((axis) => axis.at(point))), name: shown.map(chartName),
    colour: shown.map((point) => colourOf(point)), dash: shown.map(dashOf), width: shown.map((point) => (point === best ? 4 : many ? 1 : 1.6)), alpha: shown.map((point) => (point === best ? 1 : many ? 0.35 : 0.75)),
  };
  glyphs(B, plot, "segment", ["x", "y0", "x", "y1"], { x: axes.map((_, i) => i), y0: axes.map(() => 0), y1: axes.map(() => 1) }, { line_color: cssColour("--faint"), line_width: 1, name: "axes" });
  const lines = glyphs(B, plot, "multi_line", ["x", "y"], columns, {
    line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: { field: "width" }, line_alpha: { field: "alpha" },
    hover_line_color: { field: "colour" }, hover_line_width: 5, hover_line_alpha: 1, name: "lines",
  });
  const font = { text_font: "system-ui", text_baseline: "middle" };
  const ticks = axes.flatMap((axis, i) => axis.ticks.map(([place, text]) => [i, place, shortened(text, Math.floor(pitch / 7.2))]));
  glyphs(B, plot, "text", ["x", "y", "text"], { x: ticks.map(([x]) => x), y: ticks.map(([, y]) => y), text: ticks.map(([, , text]) => text) },
    { ...font, text_font_size: "11px", text_color: cssColour("--ink"), x_offset: 5, background_fill_color: cssColour("--paper"), background_fill_alpha: 0.75, name: "ticks" });
  glyphs(B, plot, "text", ["x", "y", "text"], { x: axes.map((_, i) => i), y: axes.map(() => 1.11), text: axes.map(({ name }) => shortened(name, Math.floor(pitch / 7))) },
    { ...font, text_font_size: "12px", text_font_style: "bold", text_align: "center", text_color: cssColour("--ink"), name: "names" });
  hover(B, plot, [lines], [["", "@name"]]);
  return plot;
};

// Which metrics have an axis: boxes to check, within a drop-down.
const axesChoice = () => {
  const chosen = new Set(axisMetrics().map((metric) => metric.key));
  const boxes = chartMetrics().map((metric) => {
    const box = Object.assign(el("input"), { type: "checkbox", checked: chosen.has(metric.key), value: metric.key });
    box.addEventListener("change", () => {
      box.checked ? chosen.add(metric.key) : chosen.delete(metric.key);
      if (chosen.size) go({ axes: [...chosen].join(",") }, false);
      else box.checked = chosen.add(metric.key);
    });
    return el("label", "", box, " ", metric.name);
  });
  const drop = el("details", "drop", el("summary", "quiet", "Metrics"), el("div", "drop-list", ...boxes));
  drop.open = axesOpen;
  drop.addEventListener("toggle", () => { axesOpen = drop.open; });
  return drop;
};
let axesOpen = false;

const drawParallel = () => {
  const box = byId("parallel");
  const shown = pointIndices.filter((point) => Object.keys(points[point].cells).length);
  box.hidden = shown.length < LEAST_RUNS || data.factors.length + axisMetrics().length < 2;
  if (box.hidden) return;
  const best = data.answer?.best;
  drawCharts(box, [{
    id: "parallel", title: "Parallel coordinates", draw: parallelChart, controls: [axesChoice()], cls: "wide scrolls", legend: legendOf(shown, { line: true }),
    caption: ["One line per run, from its choices to its metrics; ↑ higher, ↓ lower is better.", ...(known(best) ? [" Thick: ", pointLink(best), "."] : [])],
  }]);
};
