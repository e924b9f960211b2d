// The table of points: a value, its interval on the column's range, and a mark against the baseline.

const signOf = (word, verdict, noise) => {
  if (noise) return "≈";
  if (word === "not told apart") return "·";
  return { better: "▲", worse: "▼" }[verdict] ?? (word === "higher" ? "↑" : "↓");
};

const head = data.metrics.filter((metric) => metric.head && points.some((point) => point.cells[metric.key]));
const every = data.metrics.filter((metric) => points.some((point) => point.cells[metric.key]));
// What people said is a metric as well, where it is a number.
for (const name of new Set(data.feedback.map((said) => said[3]))) {
  const key = `feedback/${name}`;
  let found = false;
  points.forEach((point, place) => {
    const values = data.feedback.filter((said) => said[0] === place && said[3] === name && (typeof said[4] === "number" || typeof said[4] === "boolean")).map((said) => Number(said[4]));
    if (!values.length) return;
    point.cells[key] = [values.reduce((a, b) => a + b, 0) / values.length, null, null];
    found = true;
  });
  if (!found) continue;
  const metric = { key, name: plain(name), says: "mean of what people said in MLflow", unit: "feedback", decimals: 2, better: null, column: null, known: true, head: true };
  metricOf.set(key, metric);
  head.push(metric);
  every.push(metric);
}
const columnsShown = () => (state.all || !head.length ? every : head);

const sortedPoints = () => {
  const places = points.map((_, place) => place);
  if (!state.sort) return places;
  const [key, way] = state.sort.split(" ");
  const value = (place) => points[place].cells[key]?.[0];
  return places.sort((a, b) => {
    const one = value(a), other = value(b);
    if (!known(one) || !known(other)) return known(one) ? -1 : known(other) ? 1 : a - b;
    return (way === "up" ? one - other : other - one) || a - b;
  });
};

// A difference as a sentence.
const differenceSays = (metric, place) => {
  const [value, low, high, difference] = points[place].cells[metric.key];
  const unit = metric.unit ? ` ${metric.unit}` : "";
  const told = [`${figure(metric, value)}${unit}${known(low) ? `, 95% interval ${figure(metric, low)} to ${figure(metric, high)}` : ""}.`];
  if (place === data.baseline) told.push("The baseline: what the others are held against.");
  else if (difference) {
    const [mean, from, to, p, word, verdict, noise, prompts] = difference;
    const apart = word === "not told apart";
    const interval = known(from) ? ` (95% interval ${signed(metric, from)} to ${signed(metric, to)}${known(p) ? `, p ${p < 0.001 ? "< 0.001" : digits(p, 2)} when corrected for all comparisons` : ""})` : "";
    told.push(`${signed(metric, mean)}${unit} on average against ${points[data.baseline].name}${interval}, paired over ${plural(prompts, "prompt")}: ${apart ? "not told apart" : word}${verdict ? `, which is ${verdict}` : ""}.`);
    if (noise) told.push(`Below the noise floor: running the same strategy again changes ${known(data.noise[metric.key]) ? figure(metric, data.noise[metric.key]) : "as much"}.`);
  }
  return told;
};

const markOfDifference = (difference) => {
  const [, , , , word, verdict, noise] = difference;
  const told = [word, verdict, noise ? "below the noise floor" : null].filter(Boolean).join(", ");
  const mark = el("span", `sign ${word === "not told apart" ? "same" : (verdict ?? "neither")}`, signOf(word, verdict, noise));
  mark.setAttribute("aria-label", told);
  mark.setAttribute("role", "img");
  return mark;
};

const trackOf = (metric, cell, range) => {
  const [value, low, high] = cell;
  const at = (v) => `${Math.max(0, Math.min(100, (100 * (v - range[0])) / (range[1] - range[0] || 1)))}%`;
  const track = el("span", "track");
  track.setAttribute("aria-hidden", "true");
  if (known(range[2])) { const base = el("i", "base"); base.style.left = at(range[2]); track.append(base); }
  if (known(low) && known(high)) {
    const span = el("i", "span");
    span.style.left = at(low);
    span.style.right = `calc(100% - ${at(high)})`;
    track.append(span);
  }
  const mark = el("i", "at");
  mark.style.left = at(value);
  track.append(mark);
  return track;
};

const rangeOf = (metric) => {
  const cells = points.map((point) => point.cells[metric.key]).filter(Boolean);
  const ends = cells.flatMap(([value, low, high]) => [value, low, high]).filter(known);
  return [Math.min(...ends), Math.max(...ends), data.baseline === null ? null : points[data.baseline].cells[metric.key]?.[0]];
};

const cellOf = (metric, place, range) => {
  const cell = points[place].cells[metric.key];
  const node = el("td");
  if (!cell) { node.append(el("span", "soft", "–")); return node; }
  const [value, low, high, difference] = cell;
  const line = el("span", "value", figure(metric, value), difference && place !== data.baseline ? markOfDifference(difference) : el("span", "sign"));
  node.append(line, trackOf(metric, cell, range));
  if (state.numbers) {
    if (known(low)) node.append(el("small", "", `[${figure(metric, low)}, ${figure(metric, high)}]`));
    if (difference && place !== data.baseline)
      node.append(el("small", "", `${signed(metric, difference[0])}${known(difference[1]) ? ` [${signed(metric, difference[1])}, ${signed(metric, difference[2])}]` : ""}`));
  }
  const show = (pin) => showBeside(node, (box) => clear(box, el("p", "chosen", el("strong", "", metric.name), el("span", "", plain(points[place].name))), ...differenceSays(metric, place).map((text) => el("p", "says", text)), el("p", "line", plain(metric.says))), pin);
  node.addEventListener("mouseenter", (event) => { if (moved(event)) show(false); });
  node.addEventListener("mouseleave", hideDetail);
  node.addEventListener("click", () => show(true));
  return node;
};

const headerOf = (metric) => {
  const [key, way] = (state.sort ?? "").split(" ");
  const sorted = key === metric.key;
  const first = metric.better === "lower" ? "up" : "down";
  const name = button("", `${plain(metric.says)} · ${metric.key}: sort`, metric.name + (sorted ? (way === "up" ? " ↑" : " ↓") : ""));
  name.addEventListener("click", () => go({ sort: !sorted ? `${metric.key} ${first}` : way === first ? `${metric.key} ${first === "up" ? "down" : "up"}` : null }, false));
  const better = metric.better ? `${metric.better === "lower" ? "low" : "high"} is good` : "";
  const cell = el("th", "", name, el("small", "", [metric.unit, better].filter(Boolean).join(", ") || "\u00a0"));
  cell.scope = "col";
  if (sorted) cell.setAttribute("aria-sort", way === "up" ? "ascending" : "descending");
  return cell;
};

const pointHeader = (place) => {
  const point = points[place];
  const cell = el("th", "", pointLink(place));
  cell.scope = "row";
  cell.title = plain(point.label);
  if (place === data.baseline) cell.append(el("span", "chip", "baseline"));
  if (data.front?.points.includes(place)) { const chip = el("span", "chip", "front"); chip.title = "on the Pareto front"; cell.append(chip); }
  if (point.status === "failed") cell.append(el("small", "error", plain(point.error ?? "failed")));
  else if (!Object.keys(point.cells).length) cell.append(el("small", "soft", "nothing kept"));
  if (point.warnings.length) { const chip = el("span", "chip warn", `${point.warnings.length} ⚠`); chip.title = point.warnings.map(plain).join("\n"); cell.append(chip); }
  return cell;
};

const drawTable = () => {
  const shown = columnsShown();
  const top = el("tr", "", el("th", "", "point"), ...shown.map(headerOf));
  top.firstChild.scope = "col";
  const ranges = shown.map(rangeOf);
  const body = el("tbody", "", ...sortedPoints().map((place) => {
    const row = el("tr", points[place].status === "failed" ? "bad" : "", pointHeader(place), ...shown.map((metric, i) => cellOf(metric, place, ranges[i])));
    if (place === data.baseline) row.classList.add("baseline");
    return row;
  }));
  clear(byId("metrics"), el("thead", "", top), body);
  byId("all-metrics").textContent = state.all ? "Fewer metrics" : `All ${every.length} metrics`;
  byId("all-metrics").setAttribute("aria-pressed", state.all);
  byId("all-metrics").hidden = every.length <= head.length;
  byId("numbers").setAttribute("aria-pressed", state.numbers);
  const caption = ["Dot and bar: the value and its 95% interval on the column's range."];
  if (data.baseline !== null)
    caption.push(el("span", "", " Against ", el("strong", "", plain(points[data.baseline].name)), " (thin line): ",
      el("span", "sign better", "▲ better"), ", ", el("span", "sign worse", "▼ worse"), ", ", el("span", "sign neither", "↑ higher, ↓ lower"), ", · not told apart, ≈ below the noise floor; corrected for all comparisons of the sweep. Point at a cell for the numbers."));
  clear(byId("metrics-caption"), ...caption);
};
