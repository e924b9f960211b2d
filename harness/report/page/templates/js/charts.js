// The charts, drawn by Bokeh, which lies packed in the page and starts when the first chart comes into sight.

const library = once(async () => {
  await parsed;
  const script = el("script");
  script.textContent = readable(await opened(byId("library").textContent));
  document.head.append(script);
  
  return window.Bokeh;
});

const TALL = 300;

// A figure in the page's colours. `ranges`: further options of the figure.
const figureOf = (B, x, y, options = {}) => {
  const ink = cssColour("--ink"), soft = cssColour("--soft"), line = cssColour("--line");
  const plot = B.Plotting.figure({
    sizing_mode: "stretch_width", height: TALL, toolbar_location: null, tools: "", x_axis_label: x, y_axis_label: y,
    background_fill_color: null, border_fill_color: null, outline_line_color: null, min_border: 6, ...options,
  });
  for (const axis of [...plot.below, ...plot.left])
    axis.setv({
      axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: null, major_label_text_color: soft,
      axis_label_text_color: soft, axis_label_text_font_style: "normal", axis_label_text_font_size: "12px",
      major_label_text_font_size: "11px", axis_label_text_font: "system-ui", major_label_text_font: "system-ui",
    });
  for (const grid of plot.center) if (grid instanceof B.Grid) grid.setv({ grid_line_color: line, grid_line_alpha: 0.6 });
  return { plot, ink, soft, line };
};

const hover = (B, plot, renderers, tooltips) => {
  plot.add_tools(new B.HoverTool({ renderers, tooltips, attachment: "vertical" }));
};

// A name as a chart has room for it.
const chartName = (place) => { const name = plain(points[place].name); return name.length > 32 ? `${name.slice(0, 31)}…` : name; };
const colours = () => points.map((_, place) => colourOfPoint(place));
const axisName = (metric) => `${metric.name}${metric.unit ? ` (${metric.unit})` : ""}${metric.better ? `, ${metric.better} is better` : ""}`;

const shownPair = () => {
  const front = (data.front?.metrics ?? []).filter((key) => metricOf.has(key));
  const usable = [...front, ...every.map((metric) => metric.key)].filter((key, i, all) => all.indexOf(key) === i && points.filter((point) => point.cells[key]).length > 1);
  const x = usable.includes(state.x) ? state.x : usable[0];
  const y = usable.includes(state.y) ? state.y : usable.find((key) => key !== x);
  return x && y ? [x, y, usable] : null;
};

const NAMED = 16; // points beside whose marks there is room for names

const rangeAround = (values, margin) => {
  const some = values.filter((value) => typeof value === "number");
  const [low, high] = [Math.min(...some), Math.max(...some)];
  const more = margin * (high - low || Math.abs(high) || 1);
  return [low - more, high + more];
};

// Names beside their marks, where they cover neither each other nor another mark: [dx, dy, align] of each, in pixels.
const placeNames = (spots, names, [wide, tall]) => {
  const taken = spots.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return names.map((name, i) => {
    const [x, y] = spots[i];
    const width = 6.8 * name.length;
    let best = null;
    for (const dy of [0, -15, 15, -30, 30, -45, 45])
      for (const [dx, align] of [[10, "left"], [-10, "right"], [0, "center"]]) {
        if (align === "center" && dy === 0) continue;
        const left = x + dx - (align === "right" ? width : align === "center" ? width / 2 : 0);
        const box = [left, y + dy - 7, left + width, y + dy + 7];
        const outside = box[0] < 0 || box[2] > wide || box[1] < 0 || box[3] > tall;
        const cost = taken.reduce((sum, other, j) => sum + (j === i && dy === 0 ? 0 : overlap(box, other)), 0) + (outside ? 1e4 : 0) + Math.abs(dy);
        if (!best || cost < best.cost) best = { cost, box, told: [dx, dy, align] };
      }
    taken.push(best.box);
    return best.told;
  });
};

const paretoChart = (B, here) => {
  const [xKey, yKey] = shownPair();
  const x = metricOf.get(xKey), y = metricOf.get(yKey);
  const places = points.map((_, place) => place).filter((place) => points[place].cells[xKey] && points[place].cells[yKey]);
  const onFront = (place) => Boolean(data.front?.points.includes(place));
  const { plot, ink } = figureOf(B, axisName(x), axisName(y), { height: 340 });
  const own = colours();
  const cell = (place, key) => points[place].cells[key];
  const bars = (key, along) => {
    const some = places.filter((place) => known(cell(place, key)[1]) && known(cell(place, key)[2]));
    const other = along === "x" ? yKey : xKey;
    const ends = [some.map((p) => cell(p, key)[1]), some.map((p) => cell(p, key)[2])];
    const still = some.map((p) => cell(p, other)[0]);
    const source = new B.ColumnDataSource({ data: along === "x" ? { x0: ends[0], x1: ends[1], y0: still, y1: still, c: some.map((p) => own[p]) } : { x0: still, x1: still, y0: ends[0], y1: ends[1], c: some.map((p) => own[p]) } });
    if (some.length) plot.segment({ field: "x0" }, { field: "y0" }, { field: "x1" }, { field: "y1" }, { source, line_color: { field: "c" }, line_alpha: 0.45, line_width: 1.5 });
  };
  bars(xKey, "x");
  bars(yKey, "y");
  const source = new B.ColumnDataSource({ data: {
    x: places.map((p) => cell(p, xKey)[0]), y: places.map((p) => cell(p, yKey)[0]), c: places.map((p) => own[p]),
    fill: places.map((p) => (onFront(p) ? own[p] : cssColour("--card"))), size: places.map((p) => (onFront(p) ? 11 : 9)),
    name: places.map((p) => chartName(p)), xs: places.map((p) => figure(x, cell(p, xKey)[0])), ys: places.map((p) => figure(y, cell(p, yKey)[0])),
  } });
  const marks = plot.scatter({ field: "x" }, { field: "y" }, { source, size: { field: "size" }, line_color: { field: "c" }, fill_color: { field: "fill" }, line_width: 2 });
  const xs = rangeAround(places.flatMap((p) => cell(p, xKey)), 0.07);
  const ys = rangeAround(places.flatMap((p) => cell(p, yKey)), 0.1);
  plot.x_range = new B.Range1d({ start: xs[0], end: xs[1] });
  plot.y_range = new B.Range1d({ start: ys[0], end: ys[1] });
  if (places.length <= NAMED) {
    const box = [here.clientWidth - 70, 280];
    const spots = places.map((p) => [(box[0] * (cell(p, xKey)[0] - xs[0])) / (xs[1] - xs[0]), (box[1] * (ys[1] - cell(p, yKey)[0])) / (ys[1] - ys[0])]);
    const names = placeNames(spots, places.map((p) => chartName(p)), box);
    const labels = new B.ColumnDataSource({ data: { x: source.data.x, y: source.data.y, name: source.data.name, dx: names.map((n) => n[0]), dy: names.map((n) => n[1]), align: names.map((n) => n[2]) } });
    plot.text({ field: "x" }, { field: "y" }, { field: "name" }, { source: labels, x_offset: { field: "dx" }, y_offset: { field: "dy" }, text_align: { field: "align" }, text_baseline: "middle", text_color: ink, text_font_size: "12px", text_font: "system-ui" });
  }
  hover(B, plot, [marks], [["", "@name"], [x.name, "@xs"], [y.name, "@ys"]]);
  return plot;
};

const entropyChart = (B) => {
  const { plot } = figureOf(B, "position in the text (tokens)", "mean entropy (nats)");
  const own = colours();
  const drawn = points.map((_, place) => place).filter((place) => points[place].entropy.length > 1);
  const lines = drawn.map((place) => {
    const curve = smooth(points[place].entropy);
    const source = new B.ColumnDataSource({ data: { x: curve.map((_, i) => i), y: curve.map((value) => value ?? NaN), name: curve.map(() => chartName(place)), v: points[place].entropy.map((value) => (known(value) ? digits(value, 3) : "–")) } });
    return plot.line({ field: "x" }, { field: "y" }, { source, line_color: own[place], line_width: points.length > 10 ? 1.2 : 2, line_alpha: points.length > 10 ? 0.6 : 0.9 });
  });
  plot.y_range.start = 0;
  hover(B, plot, lines, [["", "@name"], ["position", "@x"], ["entropy", "@v"]]);
  return plot;
};

// A running mean over as many positions as keep a curve readable.
const smooth = (curve) => {
  const half = Math.floor(Math.min(4, curve.length / 24));
  return curve.map((_, i) => {
    const some = curve.slice(Math.max(0, i - half), i + half + 1).filter(known);
    return some.length ? some.reduce((a, b) => a + b, 0) / some.length : null;
  });
};

const latencyChart = (kind, name) => (B) => {
  const places = points.map((_, place) => place).filter((place) => points[place].latency[kind]);
  const names = places.map((place, i) => `${chartName(place)}${"\u200b".repeat(places.slice(0, i).filter((p) => chartName(p) === chartName(place)).length)}`);
  const all = places.flatMap((place) => points[place].latency[kind]);
  const middle = places.flatMap((place) => points[place].latency[kind].slice(1, -1));
  const { plot, ink } = figureOf(B, `${name} (ms)`, null, {
    height: Math.max(150, 58 + 26 * places.length), y_range: [...names].reverse(),
    x_range: [Math.min(...all) * 0.96, Math.max(...middle) * 1.05],
  });
  for (const grid of plot.center) if (grid.dimension === 1) grid.grid_line_color = null;
  const own = colours();
  const at = (place, q) => { const values = points[place].latency[kind]; return values[Math.round(q * (values.length - 1))]; };
  const column = (q) => places.map((place) => at(place, q));
  const source = new B.ColumnDataSource({ data: {
    y: names, c: places.map((place) => own[place]), name: places.map((place) => chartName(place)), p5: column(0.05), p25: column(0.25), p50: column(0.5), p75: column(0.75), p95: column(0.95),
    t50: column(0.5).map((v) => digits(v, 3)), t5: column(0.05).map((v) => digits(v, 3)), t95: column(0.95).map((v) => digits(v, 3)), tmax: column(1).map((v) => digits(v, 3)),
  } });
  const ticks = new B.ColumnDataSource({ data: {
    x: places.flatMap((place) => points[place].latency[kind]), y: places.flatMap((place, i) => points[place].latency[kind].map(() => names[i])),
    c: places.flatMap((place) => points[place].latency[kind].map(() => own[place])),
  } });
  plot.scatter({ field: "x" }, { field: "y" }, { source: ticks, marker: "dash", angle: Math.PI / 2, size: 13, line_color: { field: "c" }, line_alpha: 0.5, line_width: 1.2 });
  plot.segment({ field: "p5" }, { field: "y" }, { field: "p95" }, { field: "y" }, { source, line_color: { field: "c" }, line_width: 1.5 });
  const boxes = plot.segment({ field: "p25" }, { field: "y" }, { field: "p75" }, { field: "y" }, { source, line_color: { field: "c" }, line_width: 7, line_cap: "round", line_alpha: 0.75 });
  const middles = plot.scatter({ field: "p50" }, { field: "y" }, { source, size: 8, fill_color: cssColour("--card"), line_color: ink, line_width: 2 });
  hover(B, plot, [middles, boxes], [["", "@name"], ["median", "@t50 ms"], ["5% to 95%", "@t5 to @t95 ms"], ["longest", "@tmax ms"]]);
  return plot;
};

// What is drawn, below its title: [title, caption, drawing, controls].
const chartList = () => {
  const list = [];
  const pair = shownPair();
  if (pair) {
    const pick = (name, key, current) => {
      const select = el("select", "field");
      select.setAttribute("aria-label", `${name} axis`);
      for (const each of pair[2]) select.append(option(each, `${metricOf.get(each).name}${metricOf.get(each).unit ? ` (${metricOf.get(each).unit})` : ""}`, each === current));
      select.addEventListener("change", () => go({ [key]: select.value }, false));
      return select;
    };
    const front = data.front
      ? ["Filled: on the front, which no other point beats in every one of ", data.front.metrics.map((key) => metricOf.get(key)?.name ?? key).join(", "), ": ",
        ...data.front.points.flatMap((place, i) => [i ? ", " : "", pointLink(place)]), "."]
      : ["Two metrics against each other, with their intervals."];
    list.push({ id: "pareto", title: data.front ? "Pareto front" : "Two metrics", caption: front, draw: paretoChart, controls: [pick("x", "x", pair[0]), " × ", pick("y", "y", pair[1])] });
  }
  if (points.some((point) => point.entropy.length > 1))
    list.push({ id: "entropy", title: "Entropy along the position", caption: ["How unsure the model was, by how far the text had come; a line a point."], draw: entropyChart });
  for (const [kind, title, name] of [["ttft", "Time to first token", "time to first token"], ["itl", "Time between tokens", "time between tokens"]])
    if (points.some((point) => point.latency[kind]))
      list.push({ id: kind, title, caption: ["Ticks: the distribution; bar: the middle half; circle: the median."], draw: latencyChart(kind, name) });
  return list;
};

const pointLegend = () => el("p", "point-legend", ...points.map((_, place) => pointLink(place)));

let seen = null;
const drawCharts = () => {
  seen?.disconnect();
  seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); drawn.get(entry.target)(); }
  }, { rootMargin: "300px" });
  const drawn = new Map();
  const boxes = chartList().map(({ id, title, caption, draw, controls }) => {
    const here = el("div", "chart");
    here.id = `chart-${id}`;
    here.setAttribute("role", "img");
    here.setAttribute("aria-label", title);
    drawn.set(here, async () => {
      try {
        const B = await library();
        if (!here.isConnected) return;
        await B.Plotting.show(draw(B, here), here);
        here.dataset.drawn = "";
      } catch (error) {
        clear(here, el("p", "error", `This chart could not be drawn: ${error.message}`));
      }
    });
    const head = el("div", "section-head", el("h2", "", title), controls ? el("div", "controls", ...controls) : null);
    return el("section", "panel", head, el("p", "caption", ...caption), id === "entropy" && points.length > 1 && points.length <= 16 ? pointLegend() : null, here);
  });
  clear(byId("charts"), ...boxes);
  for (const here of drawn.keys()) seen.observe(here);
};
