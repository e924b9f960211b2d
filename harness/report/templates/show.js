// What both pages share: safe text, colours, tokens and the close look at one step. Text from a model
// only ever becomes a text node.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

const el = (tag, cls, ...children) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
};

// ---- characters that cannot be seen, or that move others about, become marks

const C0 = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
const NAMES = {
  0x7f: "DEL", 0x85: "NEL", 0xa0: "NBSP", 0xad: "SHY", 0x34f: "CGJ", 0x61c: "ALM", 0x115f: "HCF", 0x1160: "HJF", 0x180e: "MVS",
  0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LS", 0x2029: "PS",
  0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0x3164: "HF", 0xfeff: "BOM", 0xffa0: "HHF",
};
const UNSEEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|\p{Cs}|\p{Co}/gu;

const markOf = (char) => {
  const code = char.codePointAt(0);
  if (char === "\n") return "↵";
  if (char === "\t") return "⇥";
  const name = C0[code] ?? NAMES[code];
  if (name) return `⟨${name}⟩`;
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
};

// Append text to a node; `breaks`: a newline also breaks the line.
const write = (node, text, breaks) => {
  let at = 0;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > at) node.append(text.slice(at, match.index));
    const mark = el("span", "mark", markOf(match[0]));
    mark.title = "U+" + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(mark);
    if (breaks && (match[0] === "\n" || match[0] === "\t")) node.append(match[0]);
    at = match.index + match[0].length;
  }
  if (at < text.length) node.append(text.slice(at));
  return node;
};

const plain = (text) => text.replace(UNSEEN, markOf);

// A token by itself: spaces at its ends are shown, an empty one is named.
const writeToken = (node, text, id) => {
  if (text === "") return node.append(el("span", "mark", id === null || id === undefined ? "⟨…⟩" : `⟨id ${id}⟩`));
  const [, before, body, after] = /^( *)(.*?)( *)$/su.exec(text);
  if (before) node.append(el("span", "mark", "␣".repeat(before.length)));
  write(node, body, false);
  if (after) node.append(el("span", "mark", "␣".repeat(after.length)));
};

// ---- numbers

const nats = (value) => (value === null || value === undefined ? "−∞" : value.toFixed(value > -0.0005 && value < 0.0005 ? 1 : 3).replace("-", "−"));
const probability = (logprob) => (logprob === null || logprob === undefined ? 0 : Math.exp(logprob));
const percent = (p) => {
  if (p === 0) return "0";
  if (p < 0.00001) return p.toExponential(0).replace("e-", "e−");
  const value = 100 * p;
  return (value >= 99.95 ? value.toFixed(p === 1 ? 0 : 1) : value >= 10 ? value.toFixed(1) : value >= 0.1 ? value.toFixed(2) : value.toPrecision(1)) + "%";
};

// ---- colours: t runs from 0 (sure) to 1 (surprising)

const fromLogprob = (v) => (v === null || v === undefined ? 1 : Math.min(1, -v / 7));
const MODES = {
  lp: { name: "Raw", says: "probability of the chosen token, as the model gave it", t: fromLogprob,
    ticks: [["1", 0], ["½", Math.LN2 / 7], ["0.1", 2.3026 / 7], ["0.01", 4.6052 / 7], ["≤ 0.001", 1]] },
  wlp: { name: "Warped", says: "probability of the chosen token in what was drawn from", t: fromLogprob,
    ticks: [["1", 0], ["½", Math.LN2 / 7], ["0.1", 2.3026 / 7], ["0.01", 4.6052 / 7], ["≤ 0.001", 1]] },
  ent: { name: "Entropy", says: "of the raw distribution, nats", t: (v) => Math.min(1, (v ?? 0) / 6),
    ticks: [["0", 0], ["1", 1 / 6], ["2", 2 / 6], ["3", 3 / 6], ["4", 4 / 6], ["≥ 6 nats", 1]] },
  rank: { name: "Rank", says: "of the chosen token in the raw distribution", t: (v) => Math.min(1, Math.log10(Math.max(1, v ?? 1)) / 3),
    ticks: [["1st", 0], ["2", 0.1003], ["5", 0.233], ["10", 1 / 3], ["100", 2 / 3], ["≥ 1000", 1]] },
};
let mode = "lp";
const darkly = matchMedia("(prefers-color-scheme: dark)");

const colourOf = (t) => {
  const [papers, inks] = darkly.matches ? [data.palette.dark, data.palette.darkInk] : [data.palette.light, data.palette.lightInk];
  const place = Math.round(t * (papers.length - 1));
  return [papers[place], inks[place]];
};

const paint = (node) => {
  const { steps, index } = node.step;
  const column = steps[mode];
  if (!column || steps.rank[index] === 0) { node.style.background = node.style.color = ""; return; }
  const [paper, ink] = colourOf(MODES[mode].t(column[index]));
  node.style.background = paper;
  node.style.color = ink;
};

const strips = new Set();
const repaint = () => {
  for (const node of document.querySelectorAll(".tok")) paint(node);
  for (const strip of strips) strip.isConnected ? strip.draw() : strips.delete(strip);
  legend();
};

const legend = () => {
  const box = byId("legend");
  box.replaceChildren();
  box.title = MODES[mode].says;
  const ramp = el("div", "ramp");
  const colours = darkly.matches ? data.palette.dark : data.palette.light;
  ramp.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  const ticks = el("div", "ticks");
  for (const [name, at] of MODES[mode].ticks) {
    const tick = el("span", "", name);
    tick.style.left = `${100 * at}%`;
    ticks.append(tick);
  }
  box.append(ramp, ticks);
};

const modes = () => {
  for (const key of Object.keys(MODES)) {
    const button = el("button", "", MODES[key].name);
    button.type = "button";
    button.title = MODES[key].says;
    button.setAttribute("aria-pressed", key === mode);
    button.addEventListener("click", () => {
      mode = key;
      for (const other of byId("modes").children) other.setAttribute("aria-pressed", other === button);
      repaint();
    });
    byId("modes").append(button);
  }
  darkly.addEventListener("change", repaint);
  legend();
};

// ---- tokens

// Fill `box` with the tokens of `steps`. `ends`: the last one is an end-of-text token. `show(node, pinned)`
// is called for the token looked at.
const drawTokens = (box, steps, ends, show) => {
  const nodes = steps.t.map((place, index) => {
    const node = el("span", "tok");
    const text = data.vocab[place];
    node.step = { steps, index, ends };
    node.tabIndex = index ? -1 : 0;
    node.setAttribute("role", "button");
    const last = ends && index === steps.t.length - 1;
    if (last) node.classList.add("end");
    if (text === "") node.append(last ? "end" : el("span", "mark", "·"));
    else write(node, text, true);
    const p = steps.lp[index];
    node.setAttribute("aria-label", `${last ? "end of text" : plain(text) || "part of a character"}, ${p === null ? "no context" : percent(probability(p))}`);
    paint(node);
    return node;
  });
  box.append(...nodes);
  const nodeOf = (event) => { const node = event.target.closest(".tok"); return node && box.contains(node) ? node : null; };
  const go = (node) => {
    if (!node) return;
    for (const other of nodes) other.tabIndex = other === node ? 0 : -1;
    node.focus({ preventScroll: false });
  };
  box.addEventListener("mouseover", (event) => { const node = nodeOf(event); if (node) show(node, false); });
  box.addEventListener("focusin", (event) => { const node = nodeOf(event); if (node) show(node, false); });
  box.addEventListener("click", (event) => { const node = nodeOf(event); if (node) { go(node); show(node, true); } });
  box.addEventListener("keydown", (event) => {
    const node = nodeOf(event);
    if (!node) return;
    const at = node.step.index;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: nodes.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); go(nodes[to]); }
    else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(node, true); }
  });
  return nodes;
};

// The course of a sample: a bar a token, as high as it is surprising.
const drawStrip = (nodes, show) => {
  const canvas = el("canvas", "strip");
  canvas.setAttribute("aria-hidden", "true");
  canvas.draw = () => {
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const css = getComputedStyle(document.documentElement);
    pen.fillStyle = css.getPropertyValue("--wash");
    pen.fillRect(0, 0, width, height);
    const each = Math.min(14, width / nodes.length);
    nodes.forEach((node, index) => {
      const column = node.step.steps[mode];
      if (!column) return;
      const t = MODES[mode].t(column[index]);
      pen.fillStyle = colourOf(0.25 + 0.75 * t)[0];
      const tall = Math.max(2, t * (height - 2));
      pen.fillRect(index * each, height - tall, Math.max(0.6, each - (each > 3 ? 1 : 0)), tall);
    });
  };
  const nodeAt = (event) => nodes[Math.floor(event.offsetX / Math.min(14, canvas.clientWidth / nodes.length))];
  canvas.addEventListener("mousemove", (event) => { const node = nodeAt(event); if (node) show(node, false); });
  canvas.addEventListener("click", (event) => {
    const node = nodeAt(event);
    if (node) { node.scrollIntoView({ block: "nearest" }); show(node, true); }
  });
  strips.add(canvas);
  return canvas;
};

// ---- one step, closely

let pinned = null;
let shown = null;

const fillDetail = (box, node) => {
  const { steps, index, ends } = node.step;
  box.replaceChildren();
  const text = data.vocab[steps.t[index]];
  const last = ends && index === steps.t.length - 1;
  const code = el("code");
  if (last && text === "") code.append("end of text");
  else if (text === "") code.append(el("span", "mark", "part of a character"));
  else writeToken(code, text, steps.id[index]);
  box.append(el("p", "chosen", code, el("span", "", `step ${index} · id ${steps.id[index]}`)));
  const known = steps.rank[index] !== 0;
  const both = (name, column, tell) => el("tr", "", el("th", "", name), el("td", "", tell(steps[column]?.[index])),
    steps[`w${column}`] ? el("td", "", tell(steps[`w${column}`][index])) : null);
  const head = el("tr", "", el("td"), el("th", "key-raw", "raw"), steps.wlp ? el("th", "key-warped", "warped") : null);
  const facts = el("table", "facts-of", el("thead", "", head));
  if (known) facts.append(el("tbody", "", both("probability", "lp", (v) => percent(probability(v))), both("logprob", "lp", nats), both("entropy", "ent", nats)));
  box.append(facts);
  const line = [known ? `rank ${steps.rank[index].toLocaleString("en")}` : "first token: nothing to predict it from"];
  if (steps.kept) line.push(`${steps.kept[index].toLocaleString("en")} tokens kept, ${percent(steps.mass[index] ?? 0)} of the raw mass`);
  box.append(el("p", "line", line.join(" · ")));
  if (!steps.k) return;
  const body = el("tbody");
  const row = (place, id, raw, warped, is) => {
    const name = el("td");
    const text = data.vocab[place];
    if (is && last && text === "") name.append("end of text");
    else writeToken(name, text, id);
    name.title = `${JSON.stringify(plain(text))} · id ${id}`;
    const gauge = (kind, logprob) => {
      const p = probability(logprob);
      const fill = el("b");
      fill.style.width = `${100 * p}%`;
      if (p === 0) fill.style.minWidth = "0";
      return el("td", "", el("div", `gauge ${kind}`, el("i", "", fill), el("span", "", percent(p))));
    };
    body.append(el("tr", is ? "is" : "", name, gauge("raw", raw), gauge("warped", warped)));
  };
  let among = false;
  for (let i = index * steps.k; i < (index + 1) * steps.k; i++) {
    if (steps.ti[i] === null) continue;
    const is = steps.ti[i] === steps.id[index];
    among ||= is;
    row(steps.tt[i], steps.ti[i], steps.tlp[i], steps.twlp[i], is);
  }
  if (!among) row(steps.t[index], steps.id[index], steps.lp[index], steps.wlp[index], true);
  const title = el("tr", "", el("th", "", "alternatives"), el("th", "key-raw", "raw"), el("th", "key-warped", "warped"));
  box.append(el("table", "tops", el("thead", "", title), body));
};

// Returns `show(node, pin)` for a detail box; a pinned token stays until it is let go.
const viewer = (frame, box, idle) => {
  const rest = () => { frame.classList.add("idle"); box.replaceChildren(); if (idle) box.append(idle()); };
  const show = (node, pin) => {
    if (pin) {
      const again = pinned === node;
      pinned?.classList.remove("pin");
      pinned = again ? null : node;
      pinned?.classList.add("pin");
    } else if (pinned && pinned !== node) return;
    shown?.classList.remove("on");
    shown = node;
    shown.classList.add("on");
    frame.classList.remove("idle");
    fillDetail(box, node);
    const close = el("button", "close", "✕");
    close.type = "button";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", forget);
    box.prepend(close);
  };
  const forget = () => {
    pinned?.classList.remove("pin");
    shown?.classList.remove("on");
    pinned = shown = null;
    rest();
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") forget(); });
  rest();
  return [show, forget];
};

const finishes = { eos: "ended by itself", stop_string: "stop string", length: "cut at the token limit", time: "cut at the time limit" };

const search = (input, prompts, texts, apply) => {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    apply(prompts.map((prompt, index) => words.every((word) => texts[index].includes(word))));
  });
};
