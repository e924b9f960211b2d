// The samples of a prompt side by side, one column per run; the reference first.

const FINISHES = { eos: "EOS", stop_string: "stop string", length: "hit max_new_tokens", stop: "EOS or stop string", error: "cut off by an error" };
const SAMPLES_AT_ONCE = 4; // of a run, before "more" is clicked
const COLUMNS_AT_ONCE = 12; // drawn before they come near

const ended = (sample) => sample.finish === "eos" || sample.finish === "stop";
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
  const jump = button("inline", `Jump to ${unit}`, forkMark(), ` ${sample.steps ? tokenNumber(at[0]) : `word ${at[0] + 1}`}`);
  const line = el("p", "divergence", jump, " ", branch(sample, at[0]), " ", branch(other, at[1]));
  jump.addEventListener("click", () => {
    const token = line.parentNode.querySelector(".forks");
    const box = token?.closest(".text");
    if (box) box.scrollTop = token.offsetTop - box.offsetTop - box.clientHeight / 3;
    token?.focus();
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
    const node = steps ? tokenNode(steps, index, ended(sample)) : write(el("span", "word"), a[index], true);
    if (marks.has(index)) {
      node.insertBefore(titled(el("span", "diverges", forkMark()), plain(marks.get(index))), node.querySelector(".ink") ?? node.firstChild);
      node.classList.add("forks");
    }
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
  if (several) facts.push(`sample ${sample.chosen ?? sample.sample}`);
  if (known(sample.tokens)) facts.push(plural(sample.tokens, "token"));
  if (known(sample.finish)) facts.push(FINISHES[sample.finish] ?? plain(String(sample.finish)));
  if (known(sample.logprob)) facts.push(`logprob ${nats(sample.logprob)}`);
  if (known(sample.score)) facts.push(`beam score ${nats(sample.score)}`);
  const values = Object.entries(sample.metrics).map(([name, value]) => `${name} ${known(value) ? digits(value) : "–"}`);
  const line = el("p", "sample-facts", ...scoreNodes(sample), titled(el("span", "", facts.join(" · ")), [facts.join(" · "), `seed ${sample.seed}`, ...values].join("\n")));
  const chosenBy = all.filter((each) => points[each.point].selected?.of === sample.point && each.chosen === sample.sample).map((each) => points[each.point].selected.by);
  if (chosenBy.length) line.prepend(el("span", "chip good", `chosen by ${chosenBy.join(", ")}`), " ");
  const box = el("div", "text");
  fillText(box, sample, other, all);
  const node = el("div", "sample", line, other ? divergenceLine(sample, other, divergesAt(sample, other)) : null);
  if (sample.steps?.count && Object.keys(MODES).some((column) => sample.steps[column])) node.append(drawStrip(sample.steps, box));
  node.append(box);
  for (const feedback of data.feedback) if (isOfSample(feedback, prompt, sample)) node.append(feedbackNode(feedback));
  return node;
};

// The runs whose outputs are those of an earlier run, by that run; a run of which more is to be said stays by itself.
const identicalRuns = (prompt, shown, opened) => {
  const leaders = new Map(), folded = new Map();
  for (const point of shown) {
    const samples = opened.samples.filter((sample) => sample.point === point && inSelection(sample));
    const own = data.expectations.some((each) => each.point === point && each.prompt === prompt.id) || samples.some((sample) => data.feedback.some((each) => isOfSample(each, prompt, sample)));
    if (!samples.length || own) continue;
    const key = JSON.stringify(samples.map((sample) => [sample.sample, sample.text, sample.finish, Boolean(sample.steps)]));
    if (leaders.has(key)) folded.get(leaders.get(key)).push(point);
    else { leaders.set(key, point); folded.set(point, []); }
  }
  return folded;
};

const sameAs = (same) => {
  const names = namesAmong(same);
  const line = el("p", "same-as", "same output: ");
  same.forEach((point, i) => line.append(i ? ", " : "", el("span", "run", dot(point), breakable(names.get(point).slice(0, 300)))));
  const show = button("inline", "Show runs with identical outputs (i)", "show");
  show.addEventListener("click", () => go({ identical: true }, false));
  line.append(" ", show);
  return line;
};

const columnHead = (index) => {
  const name = link({ view: "runs", run: index }, dot(index), stackedName(index));
  name.classList.add("point-link");
  return el("header", "", titled(name, plain(points[index].label)), index === data.baseline ? el("span", "chip", "baseline") : null);
};

const columnOf = (prompt, index, opened, same) => {
  const point = points[index];
  const card = el("article", "column");
  card.classList.toggle("chosen", index === state.vs && points.length > 1);
  const head = columnHead(index);
  if (point.page && location.protocol === "file:") head.append(Object.assign(el("a", "tokens-page", "Token view"), { href: point.page }));
  card.append(head);
  if (same?.length) card.append(sameAs(same));
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

const referenceColumn = (reference) =>
  el("article", "column reference", el("header", "", el("b", "", "Reference")), el("p", "sample-facts", "outputs are compared with this"), write(el("div", "text"), reference, true));

// Columns far below are drawn when they come near.
const drawColumns = (prompt, opened) => {
  const shown = pointIndices.filter(matchesFilter);
  if (data.kind === "compare" && shown.includes(state.vs)) shown.sort((a, b) => (b === state.vs) - (a === state.vs) || a - b);
  const identical = identicalRuns(prompt, shown, opened);
  const folded = state.identical ? new Set() : new Set([...identical.values()].flat());
  byId("identical").hidden = ![...identical.values()].some((same) => same.length);
  const waiting = new Map();
  const later = (point) => {
    const column = el("article", "column later", columnHead(point));
    waiting.set(column, () => column.replaceWith(columnOf(prompt, point, opened, folded.size ? identical.get(point) : null)));
    return column;
  };
  const columns = shown.filter((point) => !folded.has(point))
    .map((point, i) => (i < COLUMNS_AT_ONCE ? columnOf(prompt, point, opened, folded.size ? identical.get(point) : null) : later(point)));
  const box = clear(byId("columns"), opened.reference === null ? null : referenceColumn(opened.reference), ...columns);
  whenNear(box, "500px", waiting);
  if (!shown.length) box.append(el("p", "soft", "No runs match."));
};
