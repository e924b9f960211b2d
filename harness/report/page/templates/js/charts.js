// Charts, drawn by Bokeh, which is packed into the page and starts when the first chart comes into sight.

const bokeh = once(async () => {
  await parsed;
  const script = el("script");
  script.textContent = decodeText(await decompressed(byId("library").textContent));
  document.head.append(script);
  return window.Bokeh;
});

const HEIGHT = 300;

// A figure in the page's colours. `options`: further options of the figure.
const figureOf = (B, x, y, options = {}) => {
  const soft = cssColour("--soft"), line = cssColour("--line");
  const plot = B.Plotting.figure({
    sizing_mode: "stretch_width", height: HEIGHT, toolbar_location: null, tools: "", x_axis_label: x, y_axis_label: y,
    background_fill_color: null, border_fill_color: null, outline_line_color: null, min_border: 6, ...options,
  });
  for (const axis of [...plot.below, ...plot.left])
    axis.setv({
      axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: null, major_label_text_color: soft,
      axis_label_text_color: soft, axis_label_text_font_style: "normal", axis_label_text_font_size: "12px",
      major_label_text_font_size: "11px", axis_label_text_font: "system-ui", major_label_text_font: "system-ui",
    });
  for (const grid of plot.center) if (grid instanceof B.Grid) grid.setv({ grid_line_color: line, grid_line_alpha: 0.6 });
  return plot;
};

const hover = (B, plot, renderers, tooltips) => {
  plot.add_tools(new B.HoverTool({ renderers, tooltips, attachment: "vertical" }));
};

const nameAndUnit = (metric) => `${metric.name}${metric.unit ? ` (${metric.unit})` : ""}`;
const axisName = (metric) => `${nameAndUnit(metric)}${metric.better ? `, ${metric.better} is better` : ""}`;

// Draw glyphs of a figure: `fields` are the columns of `columns` that its coordinates come from.
const glyphs = (B, plot, kind, fields, columns, options) =>
  plot[kind](...fields.map((field) => ({ field })), { source: new B.ColumnDataSource({ data: columns }), ...options });

const rangeAround = (values, margin) => {
  const numbers = values.filter((value) => typeof value === "number");
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const more = margin * (high - low || Math.abs(high) || 1);
  return [low - more, high + more];
};
const rangeOn = (B, [start, end]) => new B.Range1d({ start, end });

// Names beside their marks, where they cover neither each other nor another mark: [dx, dy, align] of each, in pixels.
const nameOffsets = (spots, names, [width, height]) => {
  const taken = spots.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return names.map((name, i) => {
    const [x, y] = spots[i];
    const textWidth = 6.8 * name.length;
    let best = null;
    for (const dy of [0, -15, 15, -30, 30, -45, 45])
      for (const [dx, align] of [[10, "left"], [-10, "right"], [0, "center"]]) {
        if (align === "center" && dy === 0) continue;
        const left = x + dx - (align === "right" ? textWidth : align === "center" ? textWidth / 2 : 0);
        const box = [left, y + dy - 7, left + textWidth, y + dy + 7];
        const outside = box[0] < 0 || box[2] > width || box[1] < 0 || box[3] > height;
        const cost = taken.reduce((sum, other, j) => sum + (j === i && dy === 0 ? 0 : overlap(box, other)), 0) + (outside ? 1e4 : 0) + Math.abs(dy);
        if (!best || cost < best.cost) best = { cost, box, offset: [dx, dy, align] };
      }
    taken.push(best.box);
    return best.offset;
  });
};

// Write the names of marks beside them. `marks`: columns x, y and name; `width`: of the chart, in pixels; `log`: whether y is logarithmic.
const labelMarks = (B, plot, marks, [left, right], [low, high], width, log = false) => {
  const box = [Math.max(150, width - 75), 280];
  const level = (value) => (log ? Math.log10(value) : value);
  const [bottom, top] = [level(low), level(high)];
  const spots = marks.x.map((x, i) => [(box[0] * (x - left)) / (right - left), (box[1] * (top - level(marks.y[i]))) / (top - bottom)]);
  const offsets = nameOffsets(spots, marks.name, box);
  const columns = { x: marks.x, y: marks.y, name: marks.name, dx: offsets.map(([dx]) => dx), dy: offsets.map(([, dy]) => dy), align: offsets.map(([, , align]) => align) };
  const placed = { x_offset: { field: "dx" }, y_offset: { field: "dy" }, text_align: { field: "align" }, text_baseline: "middle" };
  glyphs(B, plot, "text", ["x", "y", "name"], columns, { ...placed, text_color: cssColour("--ink"), text_font_size: "12px", text_font: "system-ui" });
};

// Marks with names for hovering. `marks`: columns x, y, colour, fill, shape, name, and xs and ys, the values as text.
const scatterMarks = (B, plot, marks, x, y, size) => {
  const drawn = glyphs(B, plot, "scatter", ["x", "y"], marks, { marker: { field: "shape" }, size, line_color: { field: "colour" }, fill_color: { field: "fill" }, line_width: 2, name: "marks" });
  hover(B, plot, [drawn], [["", "@name"], [x.name, "@xs"], [y.name, "@ys"]]);
};

// Confidence intervals as bars: [x0, x1, y0, y1, colour] of each.
const intervalBars = (B, plot, bars) => {
  if (!bars.length) return;
  const columns = Object.fromEntries(["x0", "x1", "y0", "y1", "colour"].map((name, i) => [name, bars.map((bar) => bar[i])]));
  glyphs(B, plot, "segment", ["x0", "y0", "x1", "y1"], columns, { line_color: { field: "colour" }, line_alpha: 0.45, line_width: 1.5 });
};

// A choice from [value, text] of each option; that of a metric for an axis is kept in the state under `key`.
const axisChoice = (label, key, metrics, current) => choiceOf(label, metrics.map((metric) => [metric.key, nameAndUnit(metric)]), current, (value) => go({ [key]: value }, false));
const choiceOf = (label, options, current, choose) => {
  const select = el("select", "field", ...options.map(([value, text]) => option(value, text, value === current)));
  select.setAttribute("aria-label", label);
  select.addEventListener("change", () => choose(select.value));
  return select;
};

const drawChart = async (chart, draw) => {
  try {
    const B = await bokeh();
    if (!chart.isConnected) return;
    // Several plots are small multiples: { title, plot } of each.
    const drawn = draw(B, chart.clientWidth);
    for (const { title, plot } of Array.isArray(drawn) ? drawn : [{ title: null, plot: drawn }]) {
      const target = title === null ? chart : chart.appendChild(el("div", "facet", el("h3", "", title), el("div")));
      await B.Plotting.show(plot, title === null ? target : target.lastChild);
    }
    chart.dataset.drawn = "";
  } catch (error) {
    clear(chart, el("p", "error", `This chart could not be drawn: ${error.message}`));
  }
};

// Above eight strategies, small multiples: each shows the runs of one in colour, the others in grey behind them.
// `draw` gets the width, the colour of a run, and whether it is one of several plots.
const inFacets = (draw) => (B, width) => {
  if (!facetLevels) return draw(B, width, colourOf, false);
  const grey = cssColour("--line");
  return facetLevels.map((level) => {
    const within = (point) => points[point][hueChoice] === level;
    return { title: named(level, 40), plot: draw(B, Math.min(width, 240), (point, except) => (within(point) ? colourOf(point, except) : grey), true) };
  });
};
const manyCaption = () => (facetLevels ? ` One panel per ${CHOICE_NAMES[hueChoice].toLowerCase()}, the other runs in grey.` : "");

// Panels of charts in a box, each drawn when it comes near: { id, title, heading (empty: none), caption, draw, controls, legend, cls }.
const drawCharts = (box, charts) => {
  const waiting = new Map();
  clear(box, ...charts.map(({ id, title, heading = title, caption, draw, controls, legend, cls = "" }) => {
    const chart = el("div", "chart");
    chart.id = `chart-${id}`;
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", title);
    waiting.set(chart, () => drawChart(chart, draw));
    const head = el("div", "section-head", heading ? el("h2", "", heading) : null, controls ? el("div", "controls", ...controls) : null);
    return el("section", `panel ${cls}`.trim(), head, caption.length ? el("p", "caption", ...caption) : null, legend?.length ? el("p", "chart-legend", ...legend) : null, chart);
  }));
  showScrolling(box);
  whenNear(box, "300px", waiting);
};
