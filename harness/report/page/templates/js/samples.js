// The samples of a prompt side by side, one column per run.

const FINISHES = { eos: "EOS", stop_string: "stop string", length: "hit max_new_tokens" };
const SAMPLES_AT_ONCE = 4; // of a run, before "more" is clicked
const DIVERGENCE = "⋔";

const ended = (sample) => sample.finish === "eos";
const isOfSample = (feedback, prompt, sample) => feedback.point === sample.point && feedback.prompt === prompt.id && feedback.sample === sample.sample;
const inSelection = (sample) => state.sample === "all" || String(sample.sample) === state.sample;

// The sample of the chosen run that a sample is compared with.
const counterpart = (samples, sample) => {
  if (sample.point === state.vs) return null;
  return samples.find((other) => other.point === state.vs && other.sample === sample.sample) ?? samples.find((other) => other.point === state.vs) ?? null;
};

// The probability of a token, in both distributions where there are two.
const chances = ({ steps }, index) => {
  if (!steps?.logprob) return "";
  const raw = percentOf(steps.logprob[index]);
  return steps.warped_logprob ? ` ${raw} model, ${percentOf(steps.warped_logprob[index])} processed` : ` ${raw}`;
};

const divergenceLine = (sample, other, at) => {
  if (at === null) {
    const [a, b] = sameUnits(sample, other) ? [units(sample).length, units(other).length] : [sample.text.length, other.text.length];
    const name = plain(points[other.point].name);
    return el("p", "divergence", a === b ? `identical to ${name}` : a < b ? `a prefix of ${name}` : `${name}, continued`);
  }
  const branch = (each, index) => el("span", "way", dot(each.point), el("b", "", quoted(units(each)[index])), chances(each, index));
  const unit = sample.steps ? "token" : "word";
  const jump = button("inline", `Jump to ${unit}`, `${DIVERGENCE} ${unit} ${at[0] + 1}`);
  const line = el("p", "divergence", jump, " ", branch(sample, at[0]), " ", branch(other, at[1]));
  jump.addEventListener("click", () => {
    const mark = line.parentNode.querySelector(".diverges");
    const box = mark?.closest(".text");
    if (box) box.scrollTop = mark.offsetTop - box.offsetTop - box.clientHeight / 3;
    mark?.parentNode.querySelector(".diverges + .tok")?.focus();
  });
  return line;
};

// The tokens of a sample, with marks where it diverges, and, in a diff, what it lacks.
const fillText = (box, sample, other, all) => {
  // A diff of tokens with words would differ everywhere: both sides are then compared as words.
  const inWords = Boolean(state.diff && other && !sameUnits(sample, other));
  const steps = inWords ? null : sample.steps;
  const a = steps ? units(sample) : wordUnits(sample);
  const marks = new Map(); // by index, the title of the mark before it
  if (other && !inWords) {
    const at = divergesAt(sample, other);
    if (at !== null) marks.set(at[0], `first divergence from ${points[other.point].name}`);
  } else if (sample.point === state.vs) {
    for (const each of all) {
      if (each.point === sample.point || each.sample !== sample.sample) continue;
      const at = divergesAt(sample, each);
      if (at !== null) marks.set(at[0], `${marks.has(at[0]) ? marks.get(at[0]) + ", " : "first divergence of "}${points[each.point].name}`);
    }
  }
  const unit = (index) => {
    if (marks.has(index)) box.append(titled(el("span", "diverges", DIVERGENCE), plain(marks.get(index))));
    const node = steps ? tokenNode(steps, index, ended(sample)) : write(el("span", "word"), a[index], true);
    box.append(node);
    return node;
  };
  if (state.diff && other) {
    const b = inWords ? wordUnits(other) : units(other);
    let removed = null;
    for (const [kind, index] of differences(a, b)) {
      if (kind === "removed") {
        if (!removed) { removed = el("del"); box.append(removed); }
        write(removed, b[index], false);
      } else {
        removed = null;
        unit(index).classList.add(kind === "added" ? "added" : "common");
      }
    }
    box.classList.add("in-diff");
  } else if (steps || marks.size) a.forEach((_, index) => unit(index));
  else write(box, sample.text, true);
  if (steps) listen(box);
};

const feedbackNode = ({ name, value, comment, source }) =>
  el("p", "feedback", el("b", "", plain(name)), value === null ? null : `: ${plain(String(value))}`, comment ? el("q", "", plain(comment)) : null, source ? el("span", "soft", plain(source)) : null);

const sampleNode = (prompt, sample, all, several) => {
  const other = counterpart(all, sample);
  const facts = [];
  if (several) facts.push(`sample ${sample.sample}`);
  if (known(sample.tokens)) facts.push(plural(sample.tokens, "token"));
  if (known(sample.logprob)) facts.push(`mean logprob ${nats(sample.logprob)}`);
  if (known(sample.score)) facts.push(`score ${nats(sample.score)}`);
  if (known(sample.finish)) facts.push(FINISHES[sample.finish] ?? plain(String(sample.finish)));
  const values = Object.entries(sample.metrics).map(([name, value]) => `${name} ${known(value) ? digits(value) : "–"}`);
  const line = titled(el("p", "sample-facts", facts.join(" · ")), [`seed ${sample.seed}`, ...values].join("\n"));
  const box = el("div", "text");
  fillText(box, sample, other, all);
  const node = el("div", "sample", line, other ? divergenceLine(sample, other, divergesAt(sample, other)) : null);
  if (sample.steps?.count && Object.keys(MODES).some((column) => sample.steps[column])) node.append(drawStrip(sample.steps, box));
  node.append(box);
  for (const feedback of data.feedback) if (isOfSample(feedback, prompt, sample)) node.append(feedbackNode(feedback));
  return node;
};

const columnOf = (prompt, index, opened) => {
  const point = points[index];
  const card = el("article", "column");
  card.classList.toggle("chosen", index === state.vs && points.length > 1);
  const head = el("header", "", pointLink(index));
  if (index === data.baseline) head.append(el("span", "chip", "baseline"));
  if (point.page && location.protocol === "file:") head.append(Object.assign(el("a", "tokens-page", "Token view"), { href: point.page }));
  card.append(head);
  for (const expectation of data.expectations)
    if (expectation.point === index && expectation.prompt === prompt.id)
      card.append(el("p", `expected ${expectation.passed ? "passed" : "missed"}`, `${expectation.passed ? "✓" : "✗"} expected ${plain(expectation.text)}`, !expectation.passed && expectation.got !== null ? `: got ${plain(expectation.got)}` : ""));
  if (point.status === "failed") { card.append(el("p", "error", plain(point.error ?? "failed"))); return card; }
  const wanted = opened.samples.filter((sample) => sample.point === index && inSelection(sample));
  if (!wanted.length) { card.append(el("p", "soft", "no output for this prompt")); return card; }
  const several = opened.samples.some((sample) => sample.sample > 0);
  const more = (from) => {
    const to = Math.min(wanted.length, from + SAMPLES_AT_ONCE);
    for (let i = from; i < to; i++) card.append(sampleNode(prompt, wanted[i], opened.samples, several));
    if (to === wanted.length) return;
    const ask = button("quiet", "", `${wanted.length - to} more samples`);
    ask.addEventListener("click", () => { ask.remove(); more(to); });
    card.append(ask);
  };
  more(0);
  return card;
};

const matchesFilter = (point) => includesAll(points[point].label.toLowerCase(), wordsOf(state.filter));

// Columns far below are drawn when they come near.
const drawColumns = (prompt, opened) => {
  const shown = pointIndices.filter(matchesFilter);
  if (data.kind === "compare" && shown.includes(state.vs)) shown.sort((a, b) => (b === state.vs) - (a === state.vs) || a - b);
  const waiting = new Map();
  const later = (point) => {
    const column = el("article", "column later", el("header", "", pointLink(point)));
    waiting.set(column, () => column.replaceWith(columnOf(prompt, point, opened)));
    return column;
  };
  const box = clear(byId("columns"), ...shown.map((point, i) => (i < 12 ? columnOf(prompt, point, opened) : later(point))));
  whenNear(box, "500px", waiting);
  if (!shown.length) box.append(el("p", "soft", "No runs match."));
};
