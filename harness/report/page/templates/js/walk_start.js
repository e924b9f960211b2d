// The page starts: it draws what is known, asks for the rest one request at a time, and listens.

const showMistakes = (lines) => {
  const rest = showWrongValues(lines);
  byId("mistakes").hidden = !rest.length;
  clear(byId("mistakes"), ...rest.map((line) => el("p", "", plain(line))));
};

// ---- asking: one request at a time, always for what is on the page by then

let wanted = false, asking = false;
let right = null; // the last walks that the model could read

const stepKey = () => JSON.stringify([prefixNow(), walkNow().tokens[state.cursor] ?? null, state.values]);
let shownFor = null;

const askStep = async () => {
  const key = stepKey();
  if (key === shownFor) return;
  const chosen = walkNow().tokens[state.cursor];
  step = await ask("step", { tokens: prefixNow(), decoding: state.values, show: chosen === undefined ? [] : [chosen] });
  shownFor = key;
  right = { walks: [...state.walks], current: state.current, cursor: state.cursor, vs: state.vs };
  showMistakes([]);
  drawTable();
  byId("next").classList.remove("stale");
};

const askScores = async () => {
  const values = JSON.stringify(state.values);
  for (const walk of state.walks) {
    if (walk.scoredFor === values && walk.scored.length === walk.tokens.length) continue;
    const { tokens } = await ask("score", { tokens: walk.tokens, decoding: state.values });
    Object.assign(walk, { scored: tokens, scoredFor: values });
    if (wanted) return;
  }
  drawWalks();
};

const pump = async () => {
  if (asking) return;
  asking = true;
  while (wanted) {
    wanted = false;
    try {
      await askStep();
      // While a slider moves, only the distribution follows it.
      if (!wanted) await new Promise((resolve) => setTimeout(resolve, 80));
      if (!wanted) await askScores();
    } catch (error) {
      if (!(error instanceof Mistakes)) throw error;
      const ofValues = error.lines.every((line) => line.startsWith("decoding."));
      // What the model cannot read is taken back; a wrong value stays where it was typed.
      const changed = right && (right.walks.length !== state.walks.length || right.walks.some((walk, i) => walk !== state.walks[i]));
      if (!ofValues && changed) {
        Object.assign(state, right, { walks: [...right.walks] });
        remember(false);
        draw();
        wanted = true;
      }
      if (ofValues) shownFor = null;
      byId("next").classList.add("stale");
      showMistakes(error.lines);
    }
  }
  asking = false;
};

const draw = () => {
  showValues();
  drawWalks();
  drawTable();
};

redraw = () => {
  draw();
  wanted = true;
  pump();
};

// ---- several tokens at once

const AT_ONCE = 4;
let stopped = true;
const run = async (seed) => {
  if (!stopped) return;
  let left = Number(byId("count").value);
  if (!Number.isInteger(left) || left < 1) return showMistakes([`count=${byId("count").value}: must be a whole number from 1`]);
  stopped = false;
  byId("stop").hidden = false;
  showMistakes([]);
  let notes = [];
  try {
    while (left > 0 && !stopped) {
      const prefix = prefixNow(), from = JSON.stringify([state.current, prefix]);
      const answer = await ask("continue", { tokens: prefix, decoding: state.values, count: Math.min(left, AT_ONCE), seed });
      if (stopped || from !== JSON.stringify([state.current, prefixNow()])) break;
      goOn(answer.tokens.slice(prefix.length));
      left -= AT_ONCE;
      if (answer.full && left > 0) notes = [`the context is full: ${plural(answer.tokens.length, "token")} after the prompt are all that fit`];
      if (answer.ended || answer.full) break;
    }
  } catch (error) {
    if (!(error instanceof Mistakes)) throw error;
    notes = error.lines;
  }
  stopped = true;
  byId("stop").hidden = true;
  if (notes.length) { await settled(); showMistakes(notes); }
};
const settled = async () => { while (asking) await new Promise((resolve) => setTimeout(resolve, 20)); };
const runGreedy = () => run(null);
const runSampled = () => run(byId("seed").value);

// ---- listening

const KEYS = [
  [["1", "9"], "append the first to ninth token of the table", null],
  [["↓", "↑"], "through the table; Enter appends, Shift-Enter in another walk", null],
  [["←", "→"], "to the token before and after", null],
  [["Backspace"], "remove the last token", removeToken],
  [["f"], "fork: keep this walk, start another from here", fork],
  [["w"], "next walk", () => { const next = (state.current + 1) % state.walks.length; goTo(next, state.walks[next].tokens.length); }],
  [["g"], "next tokens greedy", runGreedy],
  [["s"], "next tokens sampled", runSampled],
  [["o"], "order by model or processed probability", () => setOrder(state.order === "raw" ? "warped" : "raw")],
  [["0"], "reset the parameters", () => setValues({})],
  [["c"], "copy the overrides", copyOverrides],
  [["u"], "undo", undo],
  [["Esc"], "leave a field, stop decoding", null],
  [["?"], "this help", () => byId("help").showModal()],
];
const setOrder = (order) => { state.order = order; drawTable(); };

const typing = (target) => target.matches?.("input, textarea, select");
const onKey = (event) => {
  if (byId("help").open) return;
  if (event.key === "Escape") { stopped = true; if (typing(event.target)) event.target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const digit = Number(event.key);
  if (event.key === "ArrowLeft") goTo(state.current, state.cursor - 1);
  else if (event.key === "ArrowRight") goTo(state.current, state.cursor + 1);
  else if (event.key === "ArrowDown") moveInTable(1);
  else if (event.key === "ArrowUp") moveInTable(-1);
  else if (digit >= 1 && digit <= 9) { const row = shownRows()[digit - 1]; if (row && shownFor === stepKey()) pickRow(row, null); }
  else {
    const act = KEYS.find(([keys, , each]) => each && keys.includes(event.key))?.[2];
    if (!act) return;
    act();
  }
  event.preventDefault();
};

const listen = () => {
  const on = (id, kind, act) => byId(id).addEventListener(kind, act);
  on("undo", "click", undo);
  on("back", "click", removeToken);
  on("fork", "click", fork);
  on("sample", "click", runSampled);
  on("stop", "click", () => { stopped = true; });
  on("run", "submit", (event) => { event.preventDefault(); (document.activeElement === byId("seed") ? runSampled : runGreedy)(); });
  on("append", "submit", async (event) => {
    event.preventDefault();
    const prefix = prefixNow();
    try {
      const { tokens } = await ask("encode", { tokens: prefix, text: byId("text").value });
      byId("text").value = "";
      goOn(tokens.slice(prefix.length));
    } catch (error) {
      if (!(error instanceof Mistakes)) throw error;
      showMistakes(error.lines);
    }
  });
  on("vs", "change", () => { state.vs = Number(byId("vs").value); remember(false); drawWalks(); });
  on("choice", "change", () => { const values = data.choices[byId("choice").value]; byId("choice").value = ""; if (values) setValues(values); });
  on("neutral", "click", () => setValues({}));
  on("copy", "click", copyOverrides);
  on("theme", "click", () => setTheme(byId("theme").textContent.toLowerCase()));
  on("open-help", "click", () => byId("help").showModal());
  for (const one of byId("orders").children) one.addEventListener("click", () => setOrder(one.dataset.order));
  systemDark.addEventListener("change", () => { if (!theme) setTheme(""); });
  document.addEventListener("keydown", onKey);
  addEventListener("popstate", ({ state: entry }) => {
    const values = state.values;
    if (fragmentNow() === location.hash || !readFragment(location.hash)) return;
    if (entry) state.values = values; // undone are walks; an address that was typed has its own values
    remember(false);
    redraw();
  });
};

byId("label").append(`Next tokens of ${plain(data.model)}`);
const facts = [["quantization", data.quantization], ["vocabulary", data.vocabulary.toLocaleString("en")], ["prompt", plural(data.prompt.length, "token")], ...(data.room === null ? [] : [["room after it", plural(data.room, "token")]])];
for (const [name, value] of facts) byId("facts").append(el("span", "", `${name} `, el("b", "", plain(String(value)))));
clear(byId("prompt-tokens"), ...data.prompt.map(promptNode));
byId("seed").value = data.seed;
for (const [keys, description] of KEYS) byId("keys").append(el("div", "", el("dt", "", ...keys.flatMap((key, i) => [i ? (key === "9" ? " – " : " ") : "", el("kbd", "", key)])), el("dd", "", description)));
state.walks = [newWalk()];
state.values = { ...data.values };
setTheme("");
drawKnobs();
listen();
if (!readFragment(location.hash)) remember(false);
redraw();
