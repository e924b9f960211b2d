// The samples of a prompt side by side, one column a point.

const FINISHES = { eos: "ended by itself", stop_string: "stop string", length: "cut at the token limit", time: "cut at the time limit" };
const SAMPLES_AT_ONCE = 4; // of a point, before "more" is asked for
const PARTS = "⑂";

const ended = (sample) => sample.finish === "eos";
const ofSample = (said, prompt, sample) => said[0] === sample.p && said[1] === prompt.id && said[2] === sample.n;

// The sample of the chosen column that a sample is held against.
const counterpart = (samples, sample) => {
  if (sample.p === state.against) return null;
  return samples.find((other) => other.p === state.against && other.n === sample.n) ?? samples.find((other) => other.p === state.against) ?? null;
};

const chanceOf = (sample, index) => (sample.steps ? percent(probability(sample.steps.lp[index])) : null);
const chances = (sample, index) => {
  if (!sample.steps) return "";
  const raw = chanceOf(sample, index);
  return sample.steps.warped ? ` ${raw} raw, ${percent(probability(sample.steps.wlp[index]))} warped` : ` ${raw}`;
};

const partingLine = (sample, other, at) => {
  if (at === null) {
    const a = units(sample).length, b = units(other).length;
    return el("p", "parting", a === b ? `same text as ${plain(points[other.p].name)}` : `as ${plain(points[other.p].name)}, but ${a < b ? "shorter" : "longer"}`);
  }
  const whose = (each) => el("span", "way", dot(each.p), el("b", "", quoted(units(each)[at])), chances(each, at));
  const jump = button("inline", "Show the place", `${PARTS} ${sample.steps ? "token" : "word"} ${at + 1}`);
  const line = el("p", "parting", jump, " ", whose(sample), " ", whose(other));
  jump.addEventListener("click", () => {
    const mark = line.parentNode.querySelector(".parts");
    const box = mark?.closest(".text");
    if (box) box.scrollTop = mark.offsetTop - box.offsetTop - box.clientHeight / 3;
    mark?.parentNode.querySelector(".parts + .tok")?.focus();
  });
  return line;
};

const partsMark = (title) => {
  const mark = el("span", "parts", PARTS);
  mark.title = title;
  return mark;
};

// The tokens of a sample, with marks where it parts, and, in a diff, what it lacks.
const fillText = (box, sample, other, all) => {
  const { steps } = sample;
  const a = units(sample);
  const marks = new Map(); // by index, the title of the mark before it
  if (other) {
    const at = partsAt(sample, other);
    if (at !== null) marks.set(at, `here ${points[other.p].name} parts`);
  } else if (sample.p === state.against) {
    for (const each of all) {
      if (each.p === sample.p || each.n !== sample.n) continue;
      const at = partsAt(sample, each);
      if (at !== null) marks.set(at, `${marks.has(at) ? marks.get(at) + ", " : "here part: "}${points[each.p].name}`);
    }
  }
  const unit = (index) => {
    if (marks.has(index)) box.append(partsMark(plain(marks.get(index))));
    const node = steps ? tokenNode(steps, index, ended(sample)) : write(el("span", "word"), a[index], true);
    box.append(node);
    return node;
  };
  if (state.diff && other) {
    const b = units(other);
    let less = null;
    for (const [kind, index] of differences(a, b)) {
      if (kind === "less") {
        if (!less) { less = el("del"); box.append(less); }
        write(less, b[index], false);
      } else {
        less = null;
        unit(index).classList.add(kind === "more" ? "more" : "common");
      }
    }
    box.classList.add("in-diff");
  } else if (steps || marks.size) a.forEach((_, index) => unit(index));
  else write(box, sample.text, true);
  if (steps) listen(box);
};

const saidNode = (said) => {
  const [, , , name, value, comment, source] = said;
  return el("p", "said", el("b", "", plain(name)), value === null ? null : `: ${plain(String(value))}`, comment ? el("q", "", plain(comment)) : null, source ? el("span", "soft", plain(source)) : null);
};

const sampleNodes = (prompt, sample, all, several) => {
  const other = counterpart(all, sample);
  const facts = [];
  if (several) facts.push(`sample ${sample.n}`);
  facts.push(plural(sample.tokens ?? 0, "token"));
  if (sample.logprob !== null) facts.push(`mean logprob ${nats(sample.logprob)}`);
  if (sample.score !== null) facts.push(`score ${nats(sample.score)}`);
  facts.push(FINISHES[sample.finish] ?? plain(String(sample.finish)));
  const line = el("p", "sample-facts", facts.join(" · "));
  line.title = [`seed ${sample.seed}`, ...Object.entries(sample.m).map(([name, value]) => `${name} ${known(value) ? digits(value) : "–"}`)].join("\n");
  const box = el("div", "text");
  fillText(box, sample, other, all);
  const node = el("div", "sample", line, other ? partingLine(sample, other, partsAt(sample, other)) : null);
  if (sample.steps?.count) node.append(drawStrip(sample.steps, box));
  node.append(box);
  for (const said of data.feedback) if (ofSample(said, prompt, sample)) node.append(saidNode(said));
  return node;
};

const columnOf = (prompt, place, opened) => {
  const point = points[place];
  const card = el("article", "column");
  card.classList.toggle("chosen", place === state.against && points.length > 1);
  const head = el("header", "", pointLink(place));
  if (place === data.baseline) head.append(el("span", "chip", "baseline"));
  if (point.page && location.protocol === "file:") {
    const closer = el("a", "closer", "own page");
    closer.href = point.page;
    head.append(closer);
  }
  card.append(head);
  for (const expectation of data.expectations)
    if (expectation.point === place && expectation.prompt === prompt.id)
      card.append(el("p", `expected ${expectation.passed ? "passed" : "missed"}`, `${expectation.passed ? "✓" : "✗"} expected ${plain(expectation.text)}`, !expectation.passed && expectation.got !== null ? `: got ${plain(expectation.got)}` : ""));
  if (point.status === "failed") { card.append(el("p", "error", plain(point.error ?? "failed"))); return card; }
  const wanted = opened.samples.filter((sample) => sample.p === place && (state.sample === "all" || String(sample.n) === state.sample));
  if (!wanted.length) { card.append(el("p", "soft", "no text of this prompt")); return card; }
  const several = opened.samples.some((sample) => sample.n > 0);
  const more = (from) => {
    const to = Math.min(wanted.length, from + SAMPLES_AT_ONCE);
    for (let i = from; i < to; i++) card.append(sampleNodes(prompt, wanted[i], opened.samples, several));
    if (to === wanted.length) return;
    const ask = button("quiet", "", `${wanted.length - to} more samples`);
    ask.addEventListener("click", () => { ask.remove(); more(to); });
    card.append(ask);
  };
  more(0);
  return card;
};

// Columns far below are drawn when they come near.
let nearing = null;
const drawColumns = (prompt, opened) => {
  nearing?.disconnect();
  const words = wordsOf(state.columns);
  const places = points.map((_, place) => place).filter((place) => holds(points[place].label.toLowerCase(), words));
  if (data.kind === "compare" && places.includes(state.against)) places.sort((a, b) => (b === state.against) - (a === state.against) || a - b);
  const box = byId("columns");
  clear(box);
  const waiting = new Map();
  nearing = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || !waiting.has(entry.target)) continue;
      nearing.unobserve(entry.target);
      entry.target.replaceWith(columnOf(prompt, waiting.get(entry.target), opened));
    }
  }, { rootMargin: "500px" });
  places.forEach((place, i) => {
    if (i < 12) { box.append(columnOf(prompt, place, opened)); return; }
    const later = el("article", "column later", el("header", "", pointLink(place)));
    waiting.set(later, place);
    box.append(later);
    nearing.observe(later);
  });
  if (!places.length) box.append(el("p", "soft", "No point has these words."));
};
