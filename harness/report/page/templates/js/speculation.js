// Speculative decoding: what each draft would give each run, with every block length.

const SPECULATED = { tokens: "Tokens per forward pass", speedup: "Speed-up by measured costs", places: "Acceptance by place in the block" };
const speculation = data.speculation ?? [];
const speculatedDrafts = [...new Set(speculation.map(({ draft }) => draft))];
const timesText = (value) => (known(value) ? `${fixed(value, 2)}×` : "–");

// Of a row, [x, y] of each mark of a chart.
const speculatedMarks = (row, what) => (what === "places" ? row.places.map((value, i) => [i + 1, value]) : row.lengths.map(([block, tokens, promised]) => [block, what === "tokens" ? tokens : promised])).filter(([, y]) => known(y));

const speculationChart = (rows, what) => (B, width) => {
  const lines = rows.map((row) => [row, speculatedMarks(row, what)]).filter(([, marks]) => marks.length);
  const ends = lines.flatMap(([, marks]) => marks.map(([, y]) => y));
  const xs = [...new Set(lines.flatMap(([, marks]) => marks.map(([x]) => x)))].sort((a, b) => a - b);
  const range = what === "places" ? [0, 1.04] : rangeAround([...ends, 1, ...rows.filter(({ timing }) => timing && what === "speedup").map(({ timing }) => timing[0])], 0.06);
  const plot = figureOf(B, what === "places" ? "place in the block" : "tokens proposed per forward pass", SPECULATED[what].toLowerCase(), { height: 240, y_range: rangeOn(B, range), x_range: rangeOn(B, [xs[0] - 0.4, xs.at(-1) + 0.4]) });
  const ticks = ticksOf(xs, Math.max(120, width - 70)).map((i) => xs[i]);
  plot.below[0].setv({ ticker: new B.FixedTicker({ ticks }), major_label_overrides: new Map(ticks.map((x) => [x, String(x)])) });
  if (what !== "places") glyphs(B, plot, "multi_line", ["x", "y"], { x: [[xs[0] - 0.4, xs.at(-1) + 0.4]], y: [[1, 1]] }, { line_color: cssColour("--soft"), line_dash: "dotted", line_width: 1.2, name: "plain" });
  glyphs(B, plot, "multi_line", ["x", "y"], { x: lines.map(([, marks]) => marks.map(([x]) => x)), y: lines.map(([, marks]) => marks.map(([, y]) => y)), colour: lines.map(([{ point }]) => colourOf(point)), dash: lines.map(([{ point }]) => dashOf(point)) },
    { line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: 2, name: "lines" });
  const shown = (y) => (what === "places" ? share(y) : what === "tokens" ? fixed(y, 2) : timesText(y));
  const marks = lines.flatMap(([row, each]) => each.map(([x, y]) => ({ x, y, colour: colourOf(row.point), name: plain(points[row.point].name), value: shown(y), shape: shapeOf(row.point) })));
  const column = (name) => marks.map((mark) => mark[name]);
  const drawn = glyphs(B, plot, "scatter", ["x", "y"], { x: column("x"), y: column("y"), colour: column("colour"), name: column("name"), value: column("value"), shape: column("shape") }, { marker: { field: "shape" }, size: 6, line_color: null, fill_color: { field: "colour" }, name: "marks" });
  hover(B, plot, [drawn], [["", "@name"], [what === "places" ? "place" : "tokens", "@x"], [SPECULATED[what].toLowerCase(), "@value"]]);
  // What was measured, at the block length that was timed.
  const timed = what === "speedup" ? rows.filter(({ timing }) => timing) : [];
  const measured = timed.map(({ point, block, timing }) => ({ x: block, y: timing[0], colour: colourOf(point), name: `${plain(points[point].name)}, measured`, value: timesText(timing[0]) }));
  if (measured.length) {
    const read = (name) => measured.map((mark) => mark[name]);
    const rings = glyphs(B, plot, "scatter", ["x", "y"], { x: read("x"), y: read("y"), colour: read("colour"), name: read("name"), value: read("value") }, { marker: "circle", size: 12, line_color: { field: "colour" }, line_width: 2, fill_color: null, name: "measured" });
    hover(B, plot, [rings], [["", "@name"], ["tokens", "@x"], ["speed-up", "@value"]]);
  }
  return plot;
};

const speculationCaption = (what) => ({
  tokens: "1 is plain decoding (dotted). Of the stored outputs, replayed with every block length.",
  speedup: "1 is plain decoding (dotted). Lines follow from the times that a proposal and a forward pass took; rings were measured.",
  places: `The share of tokens at each place that are accepted, in blocks of ${speculation[0].places.length}: at most what the places before let through.`,
}[what]);

const SPECULATION_COLUMNS = [
  ["draft", "what proposes tokens"],
  ["block", "tokens proposed per forward pass: the block length that was timed"],
  ["tokens / forward", "tokens per forward pass of the model; 1 in plain decoding"],
  ["accepted", "proposed tokens that are accepted"],
  ["expected", "chance that a proposal agrees at a position with shared noise, from both distributions, ± standard error; what was observed; 1 − TV, the most that any speculative sampling accepts"],
  ["speed-up", "time of plain decoding over that with the draft, of the same outputs in turns; geometric mean, 95% interval over outputs and repetitions"],
  ["proposal's cost", "time of a proposed token over a step of plain decoding; and the most that it may take to be no slower"],
  ["draft's share", "share of the time that the draft takes"],
  ["differ", "tokens of the timed outputs that are not those of plain decoding: rounding"],
];

const speculationRow = (row) => {
  const { point, draft, block, accepted, breakEven, theory, timing, best } = row;
  const tokens = row.lengths.find(([each]) => each === block)[1];
  const cell = (...children) => el("td", "", ...children);
  const small = (text) => el("small", "soft", text);
  const most = timing && timing[7];
  const clear = timing && (known(timing[5]) && timing[5] > 1 && timing[5] <= most ? "better" : known(timing[6]) && timing[6] < 1 ? "worse" : "same");
  return el("tr", "", headCell("row", pointLink(point), best && speculatedDrafts.length > 1 ? chip("best draft", "the draft with which this run is fastest", "chip") : null),
    el("td", "draft", named(draft, 40)), cell(String(block)), cell(fixed(tokens, 2)), cell(known(accepted) ? share(accepted) : "–"),
    theory ? cell(`${fixed(theory[1], 3)} ± ${fixed(theory[2], 3)}`, small(`observed ${fixed(theory[0], 3)}, 1 − TV ${fixed(theory[3], 3)}`)) : cell("–"),
    timing ? cell(el("span", "value", timesText(timing[0]), el("span", `sign ${clear}`, { better: "▲", worse: "▼", same: "·" }[clear])), small(known(timing[5]) ? `[${fixed(timing[5], 2)}, ${fixed(timing[6], 2)}]` : "once"), timing[0] > 1.05 * most ? titled(small(`at most ${timesText(most)} possible`), "the tokens per forward pass of the timed outputs; more is due to other work of the machine") : null) : cell("–"),
    cell(timing ? fixed(timing[2], 2) : "–", small(`at most ${fixed(breakEven, 2)}`)), cell(timing ? share(timing[1]) : "–"), cell(timing ? String(timing[3]) : "–"));
};

const drawSpeculation = () => {
  const box = byId("speculation");
  box.hidden = !speculation.length;
  if (box.hidden) return;
  const whats = Object.keys(SPECULATED).filter((what) => what !== "speedup" || speculation.some(({ timing }) => timing));
  const what = whats.includes(state.speculated) ? state.speculated : whats[0];
  const top = el("tr", "", headCell("col", "run"), ...SPECULATION_COLUMNS.map(([name, title], i) => Object.assign(titled(headCell("col", name), title), { className: i ? "" : "draft" })));
  const table = el("div", "scroll", el("table", "numbers speculation", el("thead", "", top), el("tbody", "", ...speculation.map(speculationRow))));
  Object.assign(table, { tabIndex: 0, role: "region", ariaLabel: "Speculative decoding" });
  const charts = el("div", "charts small");
  const controls = el("div", "controls", choiceOf("Chart", whats.map((each) => [each, SPECULATED[each]]), what, (value) => go({ speculated: value }, false)));
  const sentence = (data.answer?.sentences ?? []).find(({ title }) => title === "Speculation");
  clear(box, el("section", "curves", el("h2", "", "Speculative decoding"),
    sentence ? el("p", "", "It ", ...sentence.spans.map(spanNode)) : null, table,
    el("p", "caption", "A draft proposes tokens, one forward pass of the model verifies them. With shared random numbers the outputs are those of plain decoding, so only time differs. ▲ faster, ▼ slower: the 95% interval over outputs and repetitions leaves 1 out."),
    el("div", "section-head", el("h3", "", "Which block length"), controls), el("p", "caption", speculationCaption(what)),
    el("p", "chart-legend", ...legendOf([...new Set(speculation.map(({ point }) => point))], { line: true })), charts));
  drawCharts(charts, speculatedDrafts.map((draft, i) => {
    const rows = speculation.filter((row) => row.draft === draft);
    return { id: `speculation-${i}`, title: `${SPECULATED[what]}: ${plain(draft)}`, heading: named(draft, 60), draw: speculationChart(rows, what), caption: "" };
  }));
};
