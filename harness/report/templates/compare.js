// The page of a sweep: a table of metrics, then one prompt's texts of all points beside each other.

const AT_ONCE = 4; // samples of a point drawn before "more" is asked for
byId("label").append(plain(data.label));
for (const [name, value] of data.facts) byId("facts").append(el("span", "", `${name} `, el("b", "", plain(String(value)))));
if (data.note) { byId("note").append(data.note); byId("note").classList.remove("hidden"); }
modes();
const [show, forget] = viewer(byId("aside"), byId("detail"), null);

// ---- metrics

const rounded = (value, decimals) => value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace("-", "−");
const figures = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 }).replace("-", "−");
const everyKey = [...new Set(data.points.flatMap((point) => Object.keys(point.metrics)))].sort();
const few = data.columns.filter(([key]) => everyKey.includes(key));
const whole = everyKey.map((key) => few.find(([k]) => k === key) ?? [key, key.split("/")[1] ?? key, key.split("/")[0], null]);
let all = false;
let order = null; // [key, descending]

const metrics = () => {
  const columns = all ? whole : few;
  const top = el("tr", "", el("th", "", "point"));
  for (const [key, name, unit] of columns) {
    const sorted = order && order[0] === key;
    const button = el("button", "", name + (sorted ? (order[1] ? " ↓" : " ↑") : ""));
    button.type = "button";
    button.title = `${key}: sort`;
    button.addEventListener("click", () => { order = sorted ? (order[1] ? [key, false] : null) : [key, true]; metrics(); });
    const cell = el("th", "", button, unit ? el("small", "", unit) : null);
    cell.scope = "col";
    if (sorted) cell.setAttribute("aria-sort", order[1] ? "descending" : "ascending");
    top.append(cell);
  }
  const rows = [...data.points];
  if (order) {
    const value = (point) => point.metrics[order[0]] ?? (order[1] ? -Infinity : Infinity);
    rows.sort((a, b) => (order[1] ? value(b) - value(a) : value(a) - value(b)) || 0);
  }
  const body = el("tbody");
  for (const point of rows) {
    const name = el("th", "", plain(point.label));
    name.scope = "row";
    if (point.error) name.append(el("small", "error", plain(point.error)));
    const row = el("tr", point.status === "failed" ? "bad" : "", name);
    for (const [key, , , decimals] of columns) {
      const value = point.metrics[key];
      const cell = el("td", "", value === undefined || value === null ? "–" : decimals === null ? figures(value) : rounded(value, decimals));
      const interval = point.intervals[key];
      if (interval) cell.append(el("span", "ci", `[${interval.map((v) => (decimals === null ? figures(v) : rounded(v, decimals))).join(", ")}]`));
      row.append(cell);
    }
    body.append(row);
  }
  byId("metrics").replaceChildren(el("thead", "", top), body);
  byId("all").textContent = all ? "Fewer metrics" : `All ${whole.length} metrics`;
};
byId("all").addEventListener("click", () => { all = !all; metrics(); });
byId("all").classList.toggle("hidden", whole.length === few.length);
metrics();

// ---- texts

const prompts = new Map();
for (const point of data.points) for (const prompt of point.prompts) if (!prompts.has(prompt.id)) prompts.set(prompt.id, prompt.text);
const ids = [...prompts.keys()];
ids.forEach((id, index) => {
  const text = prompts.get(id);
  const option = el("option", "", plain(`${id}: ${text.length > 90 ? text.slice(0, 90) + "…" : text}`));
  option.value = index;
  byId("prompt").append(option);
});

const column = (point, prompt) => {
  const card = el("article", "card");
  const head = el("div", "head", el("strong", "", plain(point.label)));
  if (point.page && location.protocol === "file:") {
    const link = el("a", "", "closer");
    link.href = point.page;
    head.append(" ", link);
  }
  card.append(head);
  if (point.status === "failed") card.append(el("p", "error", plain(point.error ?? "failed")));
  else if (!prompt) card.append(el("p", "soft", "no text of this prompt"));
  const more = (from) => {
    const to = Math.min(prompt.samples.length, from + AT_ONCE);
    for (let i = from; i < to; i++) {
      const sample = prompt.samples[i];
      const line = `${sample.tokens} tokens · mean logprob ${sample.logprob === null ? "–" : nats(sample.logprob)} · ${finishes[sample.finish] ?? sample.finish}`;
      card.append(el("p", "sample-name", prompt.samples.length > 1 ? `sample ${sample.n} · ${line}` : line));
      const text = el("p", "text");
      if (sample.steps && sample.steps.t.length) drawTokens(text, sample.steps, sample.finish === "eos", show);
      else write(text, sample.text, true);
      card.append(text);
    }
    if (to === prompt.samples.length) return;
    const button = el("button", "more", `${prompt.samples.length - to} more samples`);
    button.type = "button";
    button.addEventListener("click", () => { button.remove(); more(to); });
    card.append(button);
  };
  if (prompt) more(0);
  return card;
};

let current = 0;
const draw = () => {
  forget();
  const id = ids[current];
  byId("prompt").value = current;
  byId("before").disabled = current === 0;
  byId("after").disabled = current === ids.length - 1;
  byId("prompt-id").textContent = plain(id);
  byId("prompt-text").replaceChildren();
  write(byId("prompt-text"), prompts.get(id), true);
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = data.points.filter((point) => words.every((word) => point.label.toLowerCase().includes(word)));
  byId("columns").replaceChildren(...wanted.map((point) => column(point, point.prompts.find((prompt) => prompt.id === id))));
};
byId("prompt").addEventListener("change", (event) => { current = Number(event.target.value); draw(); });
byId("before").addEventListener("click", () => { current -= 1; draw(); });
byId("after").addEventListener("click", () => { current += 1; draw(); });
byId("filter").addEventListener("input", draw);
if (ids.length) draw();
else byId("columns").append(el("p", "soft", "No text was kept."));
