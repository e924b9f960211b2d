// The reference's outputs coloured by KL; at each token, what either model made of it.

const quantization = data.quantization;

const driftPrompts = once(async () => (await jsonChunk(quantization.prompts)).map(([id, tokens]) => ({ id, tokens })));
const driftVocabulary = once(() => vocabularyAt(quantization.vocabulary));
const worstSteps = once(() => jsonChunk(quantization.worst));

// On a log scale from 1e-5 to 1 nat, the same for all quantizations.
const KL_TICKS = [["≤ 10⁻⁵", 0], ["10⁻⁴", 0.2], ["10⁻³", 0.4], ["0.01", 0.6], ["0.1", 0.8], ["≥ 1", 1]];
const fromKl = (kl) => (kl > 0 ? Math.max(0, Math.min(1, (Math.log10(kl) + 5) / 5)) : 0);

// The samples of a point's reference, each step with what both models made of it.
const driftSteps = (bytes, vocabulary, point) => {
  const blocks = readColumns(bytes, vocabulary);
  return blocks.filter((block) => block.kind === "drift" && block.point === point).map((block) => {
    const reference = blocks[block.reference];
    const steps = { ...reference, ...block, k: { ...reference.k, ...block.k }, reference: reference.point };
    steps.shade = (index) => Math.round(fromKl(steps.kl[index]) * (SHADES - 1));
    steps.detail = (box, index) => fillDriftDetail(box, steps, index);
    return steps;
  });
};

const driftOf = (point) => quantization.drifted.find(([each]) => each === point);
const worstLink = (row, ...children) => {
  const node = link({ view: "quantization", drifted: row.point, drifted_prompt: row.prompt, at: row.at.join(".") }, ...children);
  node.classList.add("worst-link");
  return node;
};

const fillDriftDetail = (box, steps, index) => {
  const { vocabulary } = steps, token = steps.token[index], id = vocabulary.ids[token];
  const code = el("code");
  writeToken(code, vocabulary.texts[token], id);
  const change = steps.logprob_change[index], logprob = steps.logprob[index], drifted = logprob + change;
  const error = steps.kl_error[index];
  const tops = (title, kind, tokens, logprobs, chosenLogprob) =>
    (steps.k[tokens] ? topsTable(vocabulary, null, [[title, kind]], alternativesAt(steps, index, tokens, [logprobs]), token, [chosenLogprob], false) : null);
  clear(
    box,
    el("p", "chosen", code, el("span", "", `${tokenNumber(index)} · id ${id}`)),
    el("p", "kl-line", "KL ", el("b", "", `${scientific(steps.kl[index], 3)} nats`), error > 0 ? ` ± ${scientific(error)}` : "", ` · total variation ${scientific(steps.total_variation[index])}`),
    factsTable([["reference", "raw"], ["quantized", "warped"]], [
      ["probability", percentOf(logprob), percentOf(drifted)],
      ["logprob", nats(logprob), nats(drifted)],
      ["rank", ...[steps.rank, steps.drift_rank].map((ranks) => ranks[index].toLocaleString("en"))],
      ["entropy", nats(steps.entropy[index]), nats(steps.drift_entropy[index])],
    ]),
    el("p", "line", `logprob ${change > 0 ? "+" : ""}${scientific(change)} · ${steps.same_top[index] ? "same top token" : "different top token"}`),
    el("div", "both-sides", tops("reference", "raw", "top_tokens", "top_logprobs", logprob), tops("quantized", "warped", "drift_top_tokens", "drift_top_logprobs", drifted)),
  );
};

const drawKlLegend = () => fillLegend(byId("kl-legend"), "KL divergence from the reference to the quantized model, in nats, on a log scale", KL_TICKS);

// ---- the most affected tokens

// The tokens with the largest share of the total KL of each quantization.
const drawShares = (shown) => {
  clear(byId("shares"), ...shown.filter((i) => costs[i].shares.length).map((i) => {
    const line = el("p", "shares", namedCost(i), el("span", "soft", "share of total KL"));
    for (const [text, id, count, klShare] of costs[i].shares.slice(0, shown.length > 1 ? 5 : 12)) {
      const token = el("code");
      writeToken(token, text, id);
      line.append(titled(el("span", "share-of", token, ` ${share(klShare)}`), `${plural(count, "time")} · id ${id}`));
    }
    return line;
  }));
};

const worstItem = (row, withQuantization) => {
  const token = el("span", "tok");
  token.dataset.shade = Math.round(fromKl(row.kl) * (SHADES - 1));
  if (row.token === "") token.append(el("span", "mark", `⟨id ${row.id}⟩`));
  else write(token, row.token, false);
  const context = el("span", "context", row.before.length > 70 ? "…" : "");
  write(context, [...row.before].slice(-70).join(""), false);
  const after = el("span", "soft");
  write(after, [...row.after].slice(0, 36).join(""), false);
  context.append(token, after);
  const facts = el("span", "worst-facts", el("b", "", scientific(row.kl)), withQuantization ? namedCost(row.cost) : null,
    el("span", "", `${percentOf(row.logprob)} → ${percentOf(row.drift_logprob)}`),
    row.best === null || row.best === row.token ? null : el("span", "", "now prefers ", quoted(row.best)));
  return el("li", "", titled(worstLink(row, facts, context), `${plain(points[row.point].label)} · ${plain(row.prompt)}, ${tokenNumber(row.at[1])}`));
};

const drawWorst = async () => {
  const worst = await worstSteps();
  const available = costs.map((_, i) => i).filter((i) => worst[i].length);
  const chosen = available.find((i) => costName(costs[i]) === state.worst) ?? null;
  clear(byId("worst-of"), option("", "all quantizations", chosen === null), ...available.map((i) => option(costName(costs[i]), costName(costs[i]), i === chosen)));
  byId("worst-choice").hidden = available.length < 2;
  const shown = chosen === null ? available : [chosen];
  drawShares(shown);
  const rows = shown.flatMap((cost) => worst[cost].map((row) => ({ ...row, cost }))).sort((a, b) => b.kl - a.kl).slice(0, 20);
  clear(byId("worst-list"), ...rows.map((row) => worstItem(row, chosen === null)));
  byId("worst-section").hidden = !rows.length;
};

// ---- the outputs

let reading = null; // what the reader shows: { key, outputs: [{ steps, box }], worst: [[index of the output, step]], stepped, at }
const MOST_STEPPED = 20;

// Choose a run and a prompt; returns the run's prompts, the most affected first: [index of the prompt, mean KL, maximum].
const chooseReading = (prompts) => {
  const withDrift = quantization.drifted.filter(([, , under]) => under.length).map(([point]) => point);
  if (!withDrift.includes(state.drifted)) {
    const most = (point) => Math.max(0, ...driftOf(point)[2].map((each) => each[2]));
    state.drifted = withDrift.reduce((best, point) => (most(point) > most(best) ? point : best));
  }
  const under = [...driftOf(state.drifted)[2]].sort((a, b) => b[2] - a[2]);
  if (!under.some(([i]) => prompts[i].id === state.drifted_prompt)) {
    const [first] = under.find(([i]) => prompts[i].tokens) ?? under[0];
    state.drifted_prompt = prompts[first].id;
    state.at = null;
  }
  return under;
};

const drawReading = async () => {
  const some = quantization.drifted.some(([, , under]) => under.length);
  byId("reading-section").hidden = !some;
  if (!some) return;
  const prompts = await driftPrompts();
  const under = chooseReading(prompts);
  const key = `${state.drifted}|${state.drifted_prompt}`;
  clear(byId("drifted"), ...quantization.drifted.map(([point]) => option(point, points[point].name, point === state.drifted)));
  clear(byId("drifted-prompt"), ...under.map(([i, mean, most]) => option(prompts[i].id, `${prompts[i].id} (mean ${scientific(mean)}, max ${scientific(most)})`, prompts[i].id === state.drifted_prompt)));
  if (reading?.key !== key) {
    const { tokens } = prompts.find((each) => each.id === state.drifted_prompt);
    const mine = { key, outputs: [], worst: [], stepped: -1 };
    reading = mine;
    const found = tokens ? driftSteps(await chunk(tokens), await driftVocabulary(), state.drifted) : [];
    const prompt = (await promptList()).find((each) => each.id === state.drifted_prompt);
    const promptText = prompt ? (await textsOf(prompt)).text : "";
    if (reading !== mine) return;
    byId("drift-note").textContent = tokens ? "" : "The drift of this prompt did not fit into this page; drift.parquet of the run contains it.";
    write(clear(byId("prompt-of-drift")), promptText, true);
    const box = clear(byId("drift-reading"));
    for (const steps of found) {
      const output = el("div", "text");
      for (let i = 0; i < steps.count; i++) output.append(tokenNode(steps, i, false, points[steps.point].name));
      listen(output);
      const mean = (values) => values.reduce((a, b) => a + b, 0) / (steps.count || 1);
      const source = steps.reference === null ? "output of the reference" : `output of ${plain(points[steps.reference].name)}`;
      const facts = [source, found.length > 1 ? `sample ${steps.sample}` : null, plural(steps.count, "token"), `mean KL ${scientific(mean(steps.kl))}`, `same top token ${percent(mean(steps.same_top))}`];
      box.append(el("div", "sample", el("p", "sample-facts", facts.filter(Boolean).join(" · ")), steps.count ? drawStrip(steps, output) : null, output));
      mine.outputs.push({ steps, box: output });
    }
    mine.worst = mine.outputs.flatMap(({ steps }, output) => [...steps.kl].map((kl, index) => [output, index, kl])).filter(([, , kl]) => kl > 0).sort((a, b) => b[2] - a[2]).slice(0, MOST_STEPPED);
  }
  if (reading.at !== state.at) {
    reading.at = state.at;
    showStep(state.at);
  }
  byId("worst-next").disabled = byId("worst-before").disabled = !reading.worst.length;
};

const showStep = (at) => {
  if (!at) return;
  const [sample, step] = String(at).split(".").map(Number);
  const output = reading.outputs.findIndex(({ steps }) => steps.sample === sample);
  const node = reading.outputs[output]?.box.querySelectorAll(".tok")[step];
  if (!node) return;
  reading.stepped = reading.worst.findIndex(([which, index]) => which === output && index === step);
  closeDetail();
  node.scrollIntoView({ block: innerWidth <= 760 ? "start" : "center" });
  node.focus({ preventScroll: true });
  closeDetail();
  showDetail(node, true);
};

// To the next of the most affected tokens of this prompt, or the previous one.
const stepWorst = (by) => {
  if (state.view !== "quantization" || !reading?.worst.length) return;
  const count = reading.worst.length;
  const next = reading.stepped < 0 ? (by > 0 ? 0 : count - 1) : (reading.stepped + by + count) % count;
  const [output, index] = reading.worst[next];
  reading.at = undefined;
  go({ at: `${reading.outputs[output].steps.sample}.${index}` }, false);
};
