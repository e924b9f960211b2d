// The next token's distribution: the model's own beside the processed one.

let step = null; // the answer that is shown

// What is too small for a bar is too small for a figure: the exact one is in the tooltip.
const roundPercent = (logprob) => (logprob < Math.log(1e-5) ? "< 0.001%" : percentOf(logprob));

const level = (cls, logprob, scale) => {
  const node = el("div", `level ${cls}`);
  const track = el("span", "track", el("b"));
  track.firstChild.style.width = `${(100 * probability(logprob)) / scale}%`;
  track.setAttribute("aria-hidden", "true");
  const value = el("span", "value", known(logprob) ? roundPercent(logprob) : el("span", "removed-word", "removed"));
  node.append(track, value);
  if (known(logprob)) node.title = `probability ${scientific(Math.exp(logprob), 4)}, log ${nats(logprob)}`;
  return node;
};

const shownRows = () => {
  if (!step || step.ended) return [];
  const key = state.order === "warped" ? "warped_logprob" : "logprob";
  const value = (row) => row[key] ?? -Infinity;
  const sorted = [...step.rows].sort((a, b) => value(b) - value(a) || b.logprob - a.logprob);
  const rows = sorted.slice(0, data.rows);
  const chosen = walkNow().tokens[state.cursor];
  const row = sorted.find((each) => each.id === chosen);
  return row && !rows.includes(row) ? [...rows, row] : rows;
};

const pickRow = (row, event) => {
  if (event?.shiftKey) fork();
  goOn([row.id], [{ id: row.id, text: row.text, logprob: row.logprob, rank: row.rank, warped_logprob: row.warped_logprob }]);
};

const rowNode = (row, scale) => {
  const token = button("pick", `Append (Shift: in another walk). Token ${row.id}`);
  writeToken(token, row.text, row.id);
  const node = el("tr", row.kept ? "" : "removed",
    el("td", "number", row.rank.toLocaleString("en")), el("td", "", token),
    el("td", "number", String(row.id)), el("td", "number", known(row.logit) ? fixed(row.logit, 2) : "–"),
    el("td", "", level("raw", row.logprob, scale)), el("td", "", level("warped", row.warped_logprob, scale)));
  if (row.id === walkNow().tokens[state.cursor]) node.classList.add("is");
  node.dataset.id = row.id;
  node.addEventListener("click", (event) => pickRow(row, event));
  return node;
};

const drawTable = () => {
  const focused = document.activeElement?.closest?.("#rows tr");
  const index = focused ? [...byId("rows").children].indexOf(focused) : -1;
  const rows = shownRows();
  const largest = Math.max(...rows.map((row) => Math.max(probability(row.logprob), probability(row.warped_logprob))), 1e-9);
  clear(byId("rows"), ...rows.map((row) => rowNode(row, largest)));
  if (index >= 0 && rows.length) byId("rows").children[Math.min(index, rows.length - 1)].querySelector("button").focus();
  const ended = Boolean(step?.ended);
  byId("ended").hidden = !ended;
  byId("next").hidden = byId("step-facts").hidden = ended || !step;
  byId("h-next").textContent = `Next token: ${state.cursor + 1}`;
  if (ended) byId("ended").textContent = "The walk ended with an end-of-text token. Go back to an earlier token, or fork there.";
  for (const one of byId("orders").children) one.setAttribute("aria-pressed", one.dataset.order === state.order);
  if (!step) return;
  byId("overrides").value = step.overrides.join(" ");
  if (ended) return;
  const all = step.kept === data.vocabulary;
  const facts = [
    ["Entropy", `${fixed(step.entropy, 3)} nats`], ["Entropy, processed", `${fixed(step.warped_entropy, 3)} nats`],
    ["Candidates kept", all ? `all ${data.vocabulary.toLocaleString("en")}` : `${step.kept.toLocaleString("en")} of ${data.vocabulary.toLocaleString("en")}`],
    ["Kept mass", percent(step.kept_mass)],
  ];
  clear(byId("step-facts"), ...facts.map(([name, value]) => el("div", "", el("dt", "", name), el("dd", "", value))));
};

const moveInTable = (by) => {
  const buttons = [...document.querySelectorAll("#rows .pick")];
  if (!buttons.length) return;
  const at = buttons.indexOf(document.activeElement);
  buttons[Math.min(buttons.length - 1, Math.max(0, at + by))].focus();
};
