// The page of one point: pick a prompt, read its samples, look closely at a step.

const AT_ONCE = 6; // samples drawn before "more" is asked for
byId("label").append(plain(data.label));
for (const [name, value] of data.facts) byId("facts").append(el("span", "", `${name} `, el("b", "", plain(String(value)))));
if (data.note) { byId("note").append(data.note); byId("note").classList.remove("hidden"); }
modes();

const hint = () => el("p", "hint", "Point at a token, or tab to one and walk with ", el("kbd", "", "←"), " ", el("kbd", "", "→"),
  ", to see what else could have come. A click keeps it; ", el("kbd", "", "Esc"), " lets it go.");
const [show, forget] = viewer(byId("aside"), byId("detail"), hint);

const sampleCard = (sample, many) => {
  const card = el("article", "card");
  const head = el("div", "head", el("strong", "", many ? `Sample ${sample.n}` : "Output"));
  head.append(el("span", "", `${sample.tokens} tokens`));
  if (sample.logprob !== null) head.append(el("span", "", `mean logprob ${nats(sample.logprob)}`));
  if (sample.score !== null) head.append(el("span", "", `sequence score ${nats(sample.score)}`));
  head.append(el("span", "chip", finishes[sample.finish] ?? String(sample.finish)));
  const text = el("p", "text");
  card.append(head);
  if (sample.steps && sample.steps.t.length) {
    const nodes = drawTokens(text, sample.steps, sample.finish === "eos", show);
    const strip = drawStrip(nodes, show);
    card.append(strip, text);
    requestAnimationFrame(() => strip.draw());
  } else {
    write(text, sample.text, true);
    card.append(text);
  }
  return card;
};

const promptCard = (prompt) => {
  const card = el("article", "card prompt");
  const first = prompt.samples[0];
  card.append(el("div", "head", el("strong", "", plain(prompt.id)), el("span", "", `prompt, ${first.promptTokens} tokens`)));
  const text = el("p", "text");
  if (prompt.scores) drawTokens(text, prompt.scores, false, show);
  else write(text, prompt.text, true);
  card.append(text);
  return card;
};

let current = -1;
const open = (index) => {
  current = index;
  const prompt = data.prompts[index];
  forget();
  items.forEach((item, i) => item.firstChild.setAttribute("aria-current", i === index));
  const view = byId("view");
  view.replaceChildren(promptCard(prompt));
  const more = (from) => {
    const to = Math.min(prompt.samples.length, from + AT_ONCE);
    for (let i = from; i < to; i++) view.append(sampleCard(prompt.samples[i], prompt.samples.length > 1));
    if (to === prompt.samples.length) return;
    const button = el("button", "more", `${prompt.samples.length - to} more samples`);
    button.type = "button";
    button.addEventListener("click", () => { button.remove(); more(to); });
    view.append(button);
  };
  more(0);
};

const items = data.prompts.map((prompt, index) => {
  const logprobs = prompt.samples.map((sample) => sample.logprob).filter((value) => value !== null);
  const mean = logprobs.length ? nats(logprobs.reduce((a, b) => a + b, 0) / logprobs.length) : "";
  const id = el("span", "id", el("span", "", plain(prompt.id)), el("span", "", mean));
  id.lastChild.title = "mean logprob";
  const tail = prompt.text.length > 160 ? "…" + prompt.text.slice(-150) : prompt.text;
  const button = el("button", "", id, el("span", "start", plain(tail)));
  button.type = "button";
  button.addEventListener("click", () => open(index));
  const item = el("li", "", button);
  byId("prompts").append(item);
  return item;
});

const texts = data.prompts.map((p) => [p.id, p.text, ...p.samples.map((s) => s.text)].join("\n").toLowerCase());
search(byId("search"), data.prompts, texts, (hits) => {
  items.forEach((item, index) => item.classList.toggle("hidden", !hits[index]));
  if (!hits[current]) { const first = hits.indexOf(true); if (first >= 0) open(first); }
});
addEventListener("resize", () => { for (const strip of strips) strip.draw(); });

if (data.prompts.length) open(0);
else byId("view").append(el("p", "soft", "No text was kept."));
