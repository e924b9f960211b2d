// The reference's text coloured by KL; at each token, what either model would have said.

const driftedAt = (place) => precision.drifted.find(([each]) => each === place) ?? null;
const driftAddress = (point, prompt, sample, position) => ({ view: "precision", drifted: point, text: prompt, at: `${sample}.${position}` });
const worstLink = (row, ...children) => {
  const node = link(driftAddress(row.p, row.prompt, ...row.at), ...children);
  node.classList.add("worst-link");
  return node;
};

const chanceRow = (name, own, quantized) => el("tr", "", el("th", "", name), el("td", "", own), el("td", "", quantized));

// One model's alternatives, the token that came among them.
const sideOf = (title, cls, words, tops, logprobs, chosen, chosenLogprob, rank) => {
  const body = el("tbody");
  const row = (place, logprob, is) => {
    const name = el("td");
    writeToken(name, words.texts[place], words.ids[place]);
    name.title = `${JSON.stringify(plain(words.texts[place]))} · id ${words.ids[place]}`;
    body.append(el("tr", is ? "is" : "", name, gauge(cls, logprob)));
  };
  let among = false;
  for (const [place, logprob] of tops) {
    const is = words.ids[place] === words.ids[chosen];
    among ||= is;
    row(place, logprob, is);
  }
  if (!among) row(chosen, chosenLogprob, true);
  const head = el("th", `key-${cls}`, title);
  head.colSpan = 2;
  return el("table", "tops", el("thead", "", el("tr", "", head)), body);
};

const topsAt = (places, logprobs, k, index) => {
  const found = [];
  for (let i = index * k; i < (index + 1) * k; i++) if (places[i] !== NOTHING) found.push([places[i], logprobs[i]]);
  return found;
};

const fillDrift = (box, steps, index) => {
  const words = steps.words, token = steps.token[index];
  const code = el("code");
  writeToken(code, words.texts[token], words.ids[token]);
  const own = steps.lp[index], change = steps.change[index], now = own + change;
  const error = steps.error[index];
  const rank = (value) => value.toLocaleString("en");
  clear(
    box,
    el("p", "chosen", code, el("span", "", `step ${index} · id ${words.ids[token]}`)),
    el("p", "kl-line", "KL ", el("b", "", `${tiny(steps.kl[index], 3)} nats`), error > 0 ? ` ± ${tiny(error)}` : "", ` · total variation ${tiny(steps.tv[index])}`),
    el("table", "facts-of", el("thead", "", el("tr", "", el("td"), el("th", "key-raw", "reference"), el("th", "key-warped", "quantized"))), el("tbody", "",
      chanceRow("probability", percent(probability(own)), percent(probability(now))),
      chanceRow("logprob", nats(own), nats(now)),
      chanceRow("rank", rank(steps.rank[index]), rank(steps.drank[index])),
      chanceRow("entropy", nats(steps.ent[index]), nats(steps.dent[index])))),
    el("p", "line", `logprob ${change > 0 ? "+" : ""}${tiny(change)} · ${steps.same[index] ? "both like the same token best" : "another token is liked best"}`),
    el("div", "both-sides",
      steps.rk ? sideOf("reference", "raw", words, topsAt(steps.rtops, steps.rtlp, steps.rk, index), null, token, own) : null,
      sideOf("quantized", "warped", words, topsAt(steps.dtops, steps.dtlp, steps.dk, index), null, token, now)),
  );
};

const drawKlLegend = () => {
  const ramp = el("div", "ramp");
  ramp.style.background = `linear-gradient(to right, ${(isDark() ? data.palette.dark : data.palette.light).join(", ")})`;
  const ticks = el("div", "ticks");
  for (const [name, at] of KL_TICKS) {
    const tick = el("span", "", name);
    tick.style.left = `${100 * at}%`;
    ticks.append(tick);
  }
  const box = byId("kl-legend");
  box.title = "KL divergence from the reference to the quantized model, in nats, on a log scale";
  clear(box, ramp, ticks);
};

// ---- the tokens that suffer most

// Of each precision, the tokens that take most of all its divergence.
const drawShares = (places) => {
  clear(byId("shares"), ...places.filter((place) => costs[place].shares.length).map((place) => {
    const line = el("p", "shares", namedCost(place), el("span", "soft", "of all KL"));
    for (const [text, id, count, part] of costs[place].shares.slice(0, places.length > 1 ? 5 : 12)) {
      const token = el("code");
      writeToken(token, text, id);
      const each = el("span", "share-of", token, ` ${share(part)}`);
      each.title = `${plural(count, "time")} · id ${id}`;
      line.append(each);
    }
    return line;
  }));
};

const drawWorst = async () => {
  const told = await worstOf();
  const chosen = costs.findIndex((cost, place) => costName(cost) === state.worst && told[place].length);
  const some = costs.map((_, place) => place).filter((place) => told[place].length);
  clear(byId("worst-of"), option("", "all precisions", chosen < 0), ...some.map((place) => option(costName(costs[place]), costName(costs[place]), place === chosen)));
  byId("worst-choice").hidden = some.length < 2;
  drawShares(chosen < 0 ? some : [chosen]);
  const rows = (chosen < 0 ? some : [chosen]).flatMap((place) => told[place].map((row) => ({ ...row, place })));
  rows.sort((a, b) => b.kl - a.kl);
  const list = rows.slice(0, 20).map((row) => {
    const token = el("span", "tok");
    token.dataset.shade = Math.round(fromKl(row.kl) * (SHADES - 1));
    if (row.token === "") token.append(el("span", "mark", `⟨id ${row.id}⟩`));
    else write(token, row.token, false);
    const context = el("span", "context", row.before.length > 70 ? "…" : "");
    write(context, [...row.before].slice(-70).join(""), false);
    context.append(token);
    const rest = el("span", "soft");
    write(rest, [...row.after].slice(0, 36).join(""), false);
    context.append(rest);
    const facts = el("span", "worst-facts", el("b", "", tiny(row.kl)), chosen < 0 ? namedCost(row.place) : null,
      el("span", "", `${percent(probability(row.lp))} → ${percent(probability(row.dlp))}`),
      row.best === null || row.best === row.token ? null : el("span", "", "rather ", quoted(row.best)));
    const jump = worstLink(row, facts, context);
    jump.title = `${plain(points[row.p].label)} · ${plain(row.prompt)}, step ${row.at[1]}`;
    return el("li", "", jump);
  });
  clear(byId("worst-list"), ...list);
  byId("worst-part").hidden = !list.length;
};

// ---- the text

let reading = null; // what stands in the reader: { point, text, texts: [{ steps, box }], worst: [[t, index]] }
const MOST_STEPPED = 20;

// Prompts of a point, the worst first: [place among the texts, mean, maximum].
const textsUnder = (point) => [...(driftedAt(point)?.[2] ?? [])].sort((a, b) => b[2] - a[2]);

const chooseReading = (texts) => {
  const all = precision.drifted.filter(([, , under]) => under.length).map(([place]) => place);
  if (!all.includes(state.drifted)) {
    const most = (place) => Math.max(0, ...driftedAt(place)[2].map((each) => each[2]));
    state.drifted = all.reduce((best, place) => (most(place) > most(best) ? place : best));
  }
  const under = textsUnder(state.drifted);
  if (!under.some(([number]) => texts[number].id === state.text)) { state.text = texts[under.find(([number]) => texts[number].at)?.[0] ?? under[0][0]].id; state.at = null; }
  return under;
};

const drawReading = async () => {
  const some = precision.drifted.some(([, , under]) => under.length);
  byId("reading-part").hidden = !some;
  if (!some) return;
  const texts = await driftTexts();
  const under = chooseReading(texts);
  const key = `${state.drifted}|${state.text}`;
  clear(byId("drifted"), ...precision.drifted.map(([place]) => option(place, points[place].name, place === state.drifted)));
  clear(byId("drift-text"), ...under.map(([number, mean, most]) => option(texts[number].id, `${texts[number].id} (mean ${tiny(mean)}, max ${tiny(most)})`, texts[number].id === state.text)));
  if (reading?.key !== key) {
    const place = texts.find((text) => text.id === state.text).at;
    const mine = { key, texts: [], worst: [], stepped: -1 };
    reading = mine;
    const box = byId("drift-reading");
    const note = byId("drift-note");
    const found = place ? readDrift(await piece(place), await driftWords(), state.drifted) : [];
    const prompt = (await promptList()).find((each) => each.id === state.text);
    const before = prompt ? (await textsOf(prompt)).text : "";
    if (reading !== mine) return;
    note.textContent = place ? "" : "The drift of this prompt did not fit this page; drift.parquet of the point holds it.";
    clear(write(byId("drift-prompt"), "", false));
    write(byId("drift-prompt"), before, true);
    clear(box);
    for (const steps of found) {
      const text = el("div", "text");
      for (let i = 0; i < steps.count; i++) text.append(tokenNode(steps, i, false, points[steps.point].name));
      listen(text);
      const mean = steps.kl.reduce((a, b) => a + b, 0) / (steps.count || 1);
      const same = steps.same.reduce((a, b) => a + b, 0) / (steps.count || 1);
      const facts = el("p", "sample-facts", [steps.reference >= 0 ? `as ${plain(points[steps.reference].name)} wrote it` : "as the reference wrote it", found.length > 1 ? `sample ${steps.sample}` : null, plural(steps.count, "token"), `mean KL ${tiny(mean)}`, `same top choice ${percent(same)}`].filter(Boolean).join(" · "));
      box.append(el("div", "sample", facts, steps.count ? drawStrip(steps, text) : null, text));
      mine.texts.push({ steps, box: text });
    }
    mine.worst = mine.texts.flatMap(({ steps }, t) => [...steps.kl].map((kl, index) => [t, index, kl])).filter(([, , kl]) => kl > 0).sort((a, b) => b[2] - a[2]).slice(0, MOST_STEPPED);
    mine.at = undefined;
  }
  if (reading.at !== state.at) {
    reading.at = state.at;
    pointAt(state.at);
  }
  byId("worst-next").disabled = byId("worst-before").disabled = !reading.worst.length;
};

const pointAt = (at) => {
  if (!at) return;
  const [sample, position] = String(at).split(".").map(Number);
  const t = reading.texts.findIndex(({ steps }) => steps.sample === sample);
  const node = reading.texts[t]?.box.querySelectorAll(".tok")[position];
  if (!node) return;
  reading.stepped = reading.worst.findIndex(([which, index]) => which === t && index === position);
  forget();
  node.scrollIntoView({ block: innerWidth <= 760 ? "start" : "center" });
  node.focus({ preventScroll: true });
  forget();
  showDetail(node, true);
};

// To the next of the worst tokens in sight, or the one before.
const stepWorst = (by) => {
  if (state.view !== "precision" || !reading?.worst.length) return;
  const count = reading.worst.length;
  const next = reading.stepped < 0 ? (by > 0 ? 0 : count - 1) : (reading.stepped + by + count) % count;
  const [t, index] = reading.worst[next];
  const at = `${reading.texts[t].steps.sample}.${index}`;
  reading.at = undefined;
  go({ at }, false);
};
