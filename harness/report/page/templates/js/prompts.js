// The view Prompts: a prompt, its samples side by side or as a tree.

const LAYOUTS = { columns: "Side by side", tree: "Tree", ...(data.kind === "compare" && points.length > 1 ? { blind: "Blind" } : {}) };

const segments = (box, choices, current, choose) => {
  clear(box, ...Object.entries(choices).map(([key, name]) => {
    const each = button("", typeof name === "string" ? "" : name.description, typeof name === "string" ? name : name.name);
    each.setAttribute("aria-pressed", key === current);
    each.addEventListener("click", () => choose(key));
    return each;
  }));
};

const readyPrompts = once(() => {
  clear(byId("order"), ...Object.entries(ORDERS).filter(([key]) => points.length > 1 || !key.includes("agreement")).map(([key, [name]]) => option(key, name)));
  byId("order").addEventListener("change", () => go({ order: byId("order").value }, false));
  byId("search").addEventListener("input", () => go({ search: byId("search").value }, false));
  byId("run-filter").addEventListener("input", () => go({ filter: byId("run-filter").value }, false));
  clear(byId("vs"), ...pointOptions());
  byId("vs").addEventListener("change", () => go({ vs: Number(byId("vs").value) }, false));
  byId("sample").addEventListener("change", () => go({ sample: byId("sample").value }, false));
  byId("diff").addEventListener("click", () => go({ diff: !state.diff }, false));
  byId("before").addEventListener("click", () => stepPrompt(-1));
  byId("after").addEventListener("click", () => stepPrompt(1));
  byId("rendered").addEventListener("click", () => go({ rendered: !state.rendered }, false));
  readyRunPicker();
  byId("open-picker").addEventListener("click", () => byId("open-picker").setAttribute("aria-expanded", byId("picker").classList.toggle("open")));
  const one = points.length < 2;
  for (const id of ["vs-choice", "diff", "open-runs", "identical"]) byId(id).hidden = one;
  byId("view-prompts").classList.toggle("alone", one);
});

const stepPrompt = (by) => {
  const index = listed.findIndex((prompt) => prompt.id === state.prompt);
  const next = listed[index < 0 ? 0 : index + by];
  if (next) go({ prompt: next.id });
};

const openedPrompt = async () => (await promptList()).find((prompt) => prompt.id === state.prompt) ?? null;

// A prompt that is opened is shown from its top.
const showTop = () => {
  const top = byId("view-prompts").getBoundingClientRect().top + scrollY - document.querySelector(".top").offsetHeight;
  if (scrollY > top) scrollTo(0, Math.max(0, top));
};

let promptKey = null;
let openedId = null;
const drawPrompts = async () => {
  readyPrompts();
  byId("order").value = Object.hasOwn(ORDERS, state.order) ? state.order : DEFAULTS.order;
  for (const [id, key] of [["search", "search"], ["run-filter", "filter"]]) if (byId(id).value !== state[key]) byId(id).value = state[key];
  segments(byId("layouts"), LAYOUTS, state.layout, (layout) => go({ layout }, false));
  if (!Object.hasOwn(LAYOUTS, state.layout)) state.layout = DEFAULTS.layout;
  const blind = state.layout === "blind";
  byId("modes").hidden = !state.colour || blind;
  segments(byId("modes"), MODES, state.colour, (colour) => go({ colour }, false));
  byId("vs").value = state.vs;
  pressed("diff", state.diff);
  pressed("identical", state.identical);
  drawRunPicker();
  byId("diff").disabled = state.layout === "tree";
  if (points.length > 1) for (const id of ["vs-choice", "diff"]) byId(id).hidden = blind;
  drawLegend();
  if (blind) byId("legend").hidden = true;
  const filling = fillList();
  if (!listed.length) await filling;
  const prompts = await promptList();
  if (!prompts.length) { clear(byId("columns"), el("p", "soft", "No outputs were stored.")); return; }
  if (state.prompt === null || !prompts.some((prompt) => prompt.id === state.prompt)) {
    state.prompt = (listed[0] ?? prompts[0]).id;
    remember(false);
  }
  revealCurrent();
  filling.then(revealCurrent);
  const key = JSON.stringify([state.prompt, state.layout, state.vs, state.diff, state.sample, state.filter, state.hide, state.identical, state.rendered, blind ? state.votes : null]);
  if (key === promptKey) { repaint(); return; }
  promptKey = key;
  const prompt = prompts.find((each) => each.id === state.prompt);
  const opened = await samplesOf(prompt);
  if (promptKey !== key) return; // another prompt was chosen meanwhile
  closeDetail();
  drawPrompt(prompt, opened);
  if (openedId !== prompt.id && openedId !== null) showTop();
  openedId = prompt.id;
};

// A chat as its turns; the text that the model got on demand. A text as it is.
const drawPromptText = (opened) => {
  const chat = opened.turns.length > 0;
  clear(byId("prompt-turns"), ...opened.turns.map(([role, content]) => el("div", "turn", el("span", "role", plain(role)), write(el("div", "text"), content, true))));
  byId("rendered").hidden = !chat;
  byId("rendered").textContent = state.rendered ? "Hide the rendered prompt" : "Show the rendered prompt";
  pressed("rendered", state.rendered);
  const text = clear(byId("prompt-text"));
  text.hidden = chat && !state.rendered;
  if (text.hidden) return;
  if (opened.promptSteps) {
    for (let i = 0; i < opened.promptSteps.count; i++) text.append(tokenNode(opened.promptSteps, i, false));
    listen(text);
  } else write(text, opened.text, true);
};

const drawPrompt = (prompt, opened) => {
  byId("prompt-id").textContent = named(prompt.id, 300);
  const facts = [];
  if (prompt.ends) facts.push(`${plain(scores[0].name)} ${endsText(prompt.ends)}`);
  if (known(opened.promptTokens)) facts.push(plural(opened.promptTokens, "prompt token"));
  if (prompt.disagreement !== null) facts.push(`${share(prompt.disagreement)} disagreement`);
  if (known(selfBleuOf.get(prompt.id))) facts.push(`self-BLEU across strategies ${digits(selfBleuOf.get(prompt.id), 3)}`);
  byId("prompt-facts").textContent = facts.join(" · ");
  drawPromptText(opened);
  const index = listed.indexOf(prompt);
  byId("before").disabled = index <= 0;
  byId("after").disabled = index >= listed.length - 1;
  const numbers = [...new Set(opened.samples.map((sample) => sample.sample))].sort((a, b) => a - b);
  byId("sample-choice").hidden = numbers.length < 2;
  byId("layouts").hidden = opened.samples.length < 2;
  clear(byId("sample"), option("all", "all"), ...numbers.map((n) => option(n, String(n))));
  if (!numbers.some((n) => String(n) === state.sample)) state.sample = "all";
  byId("sample").value = state.sample;
  byId("reading-note").textContent = prompt.tokens ? "" : "The tokens of this prompt are not in this page: its outputs are shown without probabilities.";
  const tree = state.layout === "tree";
  const blind = state.layout === "blind";
  byId("columns").hidden = tree || blind;
  byId("blind").hidden = !blind;
  byId("tree").hidden = !tree;
  for (const id of ["columns", "tree", "blind"]) if (byId(id).hidden) clear(byId(id));
  if (tree || blind) byId("identical").hidden = true;
  if (blind) byId("sample-choice").hidden = true;
  if (tree) drawTree(opened);
  else if (blind) drawBlind(prompt, opened);
  else drawColumns(prompt, opened);
};
