// The table of runs: a value, its confidence interval on the column's range, and a mark for its difference from the baseline.

const NO_DIFFERENCE = "no significant difference";
const DIFFERENCES_ARE = "A difference is the mean over the prompts that both runs have, each prompt counting alike; a value may weigh prompts by their tokens, or be a median.";
const signOf = (word, verdict, noise) => {
  if (noise) return "≈";
  if (word === NO_DIFFERENCE) return "·";
  return { better: "▲", worse: "▼" }[verdict] ?? (word === "higher" ? "↑" : "↓");
};

const bestOf = new Map(Object.entries(data.best));
// The runs that are not significantly worse than the best: of no interest where no run is.
const notWorse = new Set(bestOf.get(data.answer?.goal)?.[2].length ? data.answer.ties : []);
// The runs with the best value of a column, as it is shown; none where all look alike.
const bestRuns = (metric) => {
  const shown = pointIndices.filter((point) => metric.better && points[point].cells[metric.key]);
  const value = (point) => points[point].cells[metric.key][0];
  if (new Set(shown.map((point) => figure(metric, value(point)))).size < 2) return new Set();
  const best = bestOf.get(metric.key)?.[0] ?? shown.reduce((a, b) => ((metric.better === "higher") === value(b) > value(a) ? b : a));
  return new Set(shown.filter((point) => figure(metric, value(point)) === figure(metric, value(best))));
};
const every = data.metrics.filter((metric) => points.some((point) => point.cells[metric.key]));
const headline = every.filter((metric) => metric.headline);
const columnsShown = () => (state.all || !headline.length ? every : headline);
const betterHint = (metric) => (metric.better ? `${metric.better} is better` : "");
const unitLine = (metric) => el("small", "", [metric.unit, betterHint(metric)].filter(Boolean).join(", ") || "\u00a0");

const sortedPoints = () => {
  const order = [...pointIndices];
  if (!state.sort) return order;
  const [key, direction] = state.sort.split(" ");
  const value = (point) => points[point].cells[key]?.[0];
  return order.sort((a, b) => {
    const one = value(a), other = value(b);
    if (!known(one) || !known(other)) return known(one) ? -1 : known(other) ? 1 : a - b;
    return (direction === "up" ? one - other : other - one) || a - b;
  });
};

// A value and its difference from the baseline, as sentences.
const cellSentences = (metric, point) => {
  const [value, low, high, difference, constant] = points[point].cells[metric.key];
  const unit = metric.unit ? ` ${metric.unit}` : "";
  const sentences = [constant ? `${figure(metric, value)}${unit} in all samples: there is no interval.` : `${figure(metric, value)}${unit}${known(low) ? `, 95% confidence interval ${figure(metric, low)} to ${figure(metric, high)}` : ""}.`];
  if (point === data.baseline) sentences.push("Baseline for all comparisons.");
  else if (difference) {
    const [mean, from, to, p, word, verdict, noise, prompts] = difference;
    const adjusted = known(p) ? `, adjusted p ${p < 0.001 ? "< 0.001" : `= ${digits(p, 2)}`}` : "";
    const interval = known(from) ? ` (95% confidence interval ${signed(metric, from)} to ${signed(metric, to)}${adjusted})` : "";
    const own = Math.abs(mean - (value - points[data.baseline].cells[metric.key]?.[0])) > 0.5 * 10 ** -metric.decimals;
    sentences.push(`${signed(metric, mean)}${unit} vs. ${points[data.baseline].name}${interval}, paired over ${plural(prompts, "prompt")}: ${word === NO_DIFFERENCE ? word : `significantly ${word}`}${verdict ? ` (${verdict})` : ""}.`);
    if (own) sentences.push(`${DIFFERENCES_ARE} It is therefore not the difference of the two values.`);
    if (noise) sentences.push(`Within run-to-run noise${known(data.noise[metric.key]) ? `: measured again, it moves by ${figure(metric, data.noise[metric.key])}` : ""}.`);
  }
  return sentences;
};

const differenceMark = ([, , , , word, verdict, noise]) => {
  const mark = el("span", `sign ${word === NO_DIFFERENCE ? "same" : (verdict ?? "neither")}`, signOf(word, verdict, noise));
  mark.setAttribute("aria-label", [word, verdict, noise ? "within run-to-run noise" : null].filter(Boolean).join(", "));
  mark.setAttribute("role", "img");
  return mark;
};

const trackOf = (cell, range) => {
  const [value, low, high] = cell;
  const at = (v) => `${Math.max(0, Math.min(100, (100 * (v - range[0])) / (range[1] - range[0] || 1)))}%`;
  const mark = (cls, left) => { const node = el("i", cls); node.style.left = at(left); return node; };
  const track = el("span", "track", known(range[2]) ? mark("base", range[2]) : null);
  track.setAttribute("aria-hidden", "true");
  if (known(low) && known(high)) {
    track.append(mark("span", low));
    track.lastChild.style.right = `calc(100% - ${at(high)})`;
  }
  track.append(mark("at", value));
  return track;
};

const rangeOf = (metric) => {
  const cells = points.map((point) => point.cells[metric.key]).filter(Boolean);
  const ends = cells.flatMap(([value, low, high]) => [value, low, high]).filter(known);
  return [Math.min(...ends), Math.max(...ends), data.baseline === null ? null : points[data.baseline].cells[metric.key]?.[0]];
};

const cellOf = (metric, point, range) => {
  const cell = points[point].cells[metric.key];
  if (!cell) return el("td", "", el("span", "soft", "–"));
  const [value, low, high] = cell;
  const difference = point === data.baseline ? null : cell[3];
  const node = el("td", "", el("span", bestRuns(metric).has(point) ? "value best" : "value", figure(metric, value), difference ? differenceMark(difference) : el("span", "sign")), cell[4] ? (points.length > 1 ? el("small", "equal", "all equal") : null) : trackOf(cell, range));
  if (state.intervals) {
    if (known(low)) node.append(el("small", "", `[${figure(metric, low)}, ${figure(metric, high)}]`));
    if (difference)
      node.append(el("small", "", `${signed(metric, difference[0])}${known(difference[1]) ? ` [${signed(metric, difference[1])}, ${signed(metric, difference[2])}]` : ""}`));
  }
  const show = (pin) => showBeside(node, (box) => clear(box, el("p", "chosen", el("strong", "", metric.name), el("span", "", plain(points[point].name))), ...cellSentences(metric, point).map((text) => el("p", "sentence", text)), el("p", "line", plain(metric.description))), pin);
  node.addEventListener("mouseenter", (event) => { if (moved(event)) show(false); });
  node.addEventListener("mouseleave", hideDetail);
  node.addEventListener("click", () => show(true));
  return node;
};

const headerOf = (metric) => {
  const [key, direction] = (state.sort ?? "").split(" ");
  const sorted = key === metric.key;
  const first = metric.better === "lower" ? "up" : "down";
  const name = button("", `${plain(metric.description)} · ${metric.key}: sort`, plain(metric.name) + (sorted ? (direction === "up" ? " ↑" : " ↓") : ""));
  name.addEventListener("click", () => go({ sort: !sorted ? `${metric.key} ${first}` : direction === first ? `${metric.key} ${first === "up" ? "down" : "up"}` : null }, false));
  const cell = headCell("col", name, unitLine(metric));
  if (sorted) cell.setAttribute("aria-sort", direction === "up" ? "ascending" : "descending");
  return cell;
};

const metricNames = (keys) => keys.map((key) => metricOf.get(key)?.name ?? key).join(", ");
const chip = (text, title, cls = "chip") => titled(el("span", cls, text), title);

const selectedText = ({ selected }) => `One of ${selected.from} samples per prompt, chosen by ${selected.by}. It costs all of them, so it has no latency of its own.`;

const pointHeader = (index) => {
  const point = points[index];
  const cell = titled(headCell("row", pointLink(index)), plain(point.label));
  if (index === data.baseline) cell.append(chip("baseline", "baseline for all comparisons"));
  if (index === data.answer?.best) cell.append(chip("best", `best ${metricNames([data.answer.goal])}`, "chip good"));
  else if (notWorse.has(index)) cell.append(chip("not significantly worse", `${metricNames([data.answer.goal])}: not significantly worse than the best`));
  if (data.front?.points.includes(index)) cell.append(chip("Pareto-optimal", `not dominated on ${metricNames(data.front.metrics)}`));
  if (point.selected) cell.append(chip(`1 of ${point.selected.from}`, selectedText(point)));
  if (point.status === "failed") cell.append(el("small", "error", plain(point.error ?? "failed")));
  else if (!Object.keys(point.cells).length) cell.append(el("small", "soft", "no results stored"));
  if (point.warnings.length) cell.append(chip(`${point.warnings.length} ⚠`, point.warnings.map(plain).join("\n"), "chip warn"));
  return cell;
};

const drawTable = () => {
  const shown = columnsShown();
  const top = el("tr", "", headCell("col", "run"), ...shown.map(headerOf));
  const ranges = shown.map(rangeOf);
  const body = el("tbody", "", ...sortedPoints().map((point) => {
    const cls = [points[point].status === "failed" ? "bad" : "", point === data.baseline ? "baseline" : ""].join(" ").trim();
    return el("tr", cls, pointHeader(point), ...shown.map((metric, i) => cellOf(metric, point, ranges[i])));
  }));
  clear(byId("metrics"), el("thead", "", top), body);
  byId("all-metrics").textContent = state.all ? "Key metrics only" : `All ${every.length} metrics`;
  pressed("all-metrics", state.all);
  byId("all-metrics").hidden = every.length <= headline.length;
  pressed("intervals", state.intervals);
  const caption = ["Dot and bar: the value and its 95% confidence interval on the column's range."];
  if (data.baseline !== null)
    caption.push(el("span", "", " Compared with ", el("strong", "", plain(points[data.baseline].name)), " (thin line): ",
      el("span", "sign better", "▲ better"), ", ", el("span", "sign worse", "▼ worse"), ", ", el("span", "sign neither", "↑ higher, ↓ lower"), `, · ${NO_DIFFERENCE}, ≈ within run-to-run noise. Hover over a cell for details.`));
  if (points.length > 1) caption.push(" Bold: the best values of a column.");
  if (state.intervals && data.baseline !== null) caption.push(` Second line: the difference. ${DIFFERENCES_ARE}`);
  if (data.tested) caption.push(el("span", "tested", ` ${plain(data.tested)}`));
  clear(byId("metrics-caption"), ...caption);
};
