// The list of prompts: its order, and search over prompts and outputs.

const option = (value, text, selected = false) => Object.assign(el("option", "", named(text)), { value, selected });
const pointOptions = (chosen) => pointIndices.map((point) => option(point, points[point].name, point === chosen));

const ORDERS = {
  disagreement: ["Most disagreement first", (a, b) => (b.disagreement ?? -1) - (a.disagreement ?? -1) || a.first - b.first],
  agreement: ["Least disagreement first", (a, b) => (a.disagreement ?? 2) - (b.disagreement ?? 2) || a.first - b.first],
  ...scoreOrders,
  prompts: ["Original order", (a, b) => a.first - b.first],
  id: ["By name", (a, b) => a.id.localeCompare(b.id)],
};

const ITEMS_AT_ONCE = 150; // prompts drawn before the list is scrolled
let listed = []; // prompts in the list, in its order
let listKey = null;

const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
const includesAll = (text, words) => words.every((word) => text.includes(word));

// The searched text of a prompt; its outputs are opened when the first search needs them.
const headText = (prompt) => (prompt.headText ??= `${prompt.id}\n${prompt.title}`.toLowerCase());
const fullText = async (prompt) => {
  if (prompt.fullText === undefined) {
    const texts = await textsOf(prompt);
    prompt.fullText = [prompt.id, texts.text, ...texts.samples.map((sample) => sample.text)].join("\n").toLowerCase();
  }
  return prompt.fullText;
};

const listItem = (prompt) => {
  const id = el("span", "id", el("span", "name", named(prompt.id)));
  if (prompt.ends && Object.hasOwn(scoreOrders, state.order)) {
    id.append(el("span", "", endsText(prompt.ends)));
    id.title = `${plain(scores[0].name)} of the runs`;
  } else if (prompt.disagreement !== null) {
    id.append(filledBar("meter", prompt.disagreement), el("span", "", share(prompt.disagreement)));
    id.title = "disagreement between strategies";
  }
  if (!prompt.tokens) id.append(el("span", "chip", "no tokens"));
  const item = button("", "", id, el("span", "start", named(prompt.title, 200)));
  item.addEventListener("click", () => { go({ prompt: prompt.id }); byId("picker").classList.remove("open"); });
  prompt.item = item;
  return el("li", "", item);
};

const drawList = () => {
  const box = clear(byId("prompt-list"));
  let drawn = 0;
  const more = () => {
    const end = Math.min(listed.length, drawn + ITEMS_AT_ONCE);
    for (; drawn < end; drawn++) box.append(listItem(listed[drawn]));
    markCurrent();
  };
  more();
  box.onscroll = () => { if (drawn < listed.length && box.scrollTop + box.clientHeight > box.scrollHeight - 400) more(); };
  box.drawTo = (index) => { while (drawn <= index && drawn < listed.length) more(); };
};

const markCurrent = () => {
  for (const prompt of listed) if (prompt.item) current(prompt.item, prompt.id === state.prompt);
};

const revealCurrent = () => {
  const index = listed.findIndex((prompt) => prompt.id === state.prompt);
  if (index < 0) return;
  const box = byId("prompt-list");
  box.drawTo?.(index);
  markCurrent();
  const item = listed[index].item;
  if (item && box.scrollHeight > box.clientHeight) {
    const top = item.offsetTop - box.offsetTop;
    if (top < box.scrollTop || top + item.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 3;
  }
};

// Fill `listed` by order and search; outputs that are not open yet are searched as they open.
const fillList = async () => {
  const key = `${state.order}|${state.search}`;
  if (key === listKey) return;
  listKey = key;
  const prompts = [...(await promptList())].sort(ORDERS[Object.hasOwn(ORDERS, state.order) ? state.order : DEFAULTS.order][1]);
  const words = wordsOf(state.search);
  if (!words.length) { listed = prompts; byId("found").textContent = ""; drawList(); return; }
  const hits = new Set();
  const update = (searched) => {
    if (listKey !== key) return false;
    listed = prompts.filter((prompt) => hits.has(prompt));
    byId("found").textContent = `${plural(listed.length, "prompt")}${searched < prompts.length ? ` in ${searched.toLocaleString("en")} of ${prompts.length.toLocaleString("en")} searched …` : ""}`;
    drawList();
    return true;
  };
  for (const prompt of prompts) if (includesAll(headText(prompt), words)) hits.add(prompt);
  let last = performance.now();
  for (let i = 0; i < prompts.length; i++) {
    if (!hits.has(prompts[i]) && includesAll(await fullText(prompts[i]), words)) hits.add(prompts[i]);
    if (performance.now() - last > 250) {
      last = performance.now();
      if (!update(i + 1)) return;
      await new Promise((resume) => setTimeout(resume));
    }
  }
  update(prompts.length);
};
