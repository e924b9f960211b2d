// Text of any kind as nodes: model output only ever becomes text nodes, and invisible characters become marks.

const el = (tag, cls, ...children) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
};

// ---- characters that are invisible, or that reorder others, become marks

const C0 = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
const NAMES = {
  0x7f: "DEL", 0x85: "NEL", 0xa0: "NBSP", 0xad: "SHY", 0x34f: "CGJ", 0x61c: "ALM", 0x115f: "HCF", 0x1160: "HJF", 0x180e: "MVS",
  0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM", 0x200f: "RLM", 0x2028: "LS", 0x2029: "PS",
  0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2060: "WJ",
  0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0x3164: "HF", 0xfeff: "BOM", 0xffa0: "HHF",
};
const INVISIBLE = /[\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{e0000}-\u{e0fff}]|\p{Cs}|\p{Co}/gu;

const codePoint = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
const markOf = (char) => {
  if (char === "\n") return "↵";
  if (char === "\t") return "⇥";
  const code = char.codePointAt(0);
  return `⟨${C0[code] ?? NAMES[code] ?? codePoint(char)}⟩`;
};

// Append text to a node; `breaks`: a newline also breaks the line.
const write = (node, text, breaks) => {
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > end) node.append(text.slice(end, match.index));
    node.append(titled(el("span", "mark", markOf(match[0])), codePoint(match[0])));
    if (breaks && (match[0] === "\n" || match[0] === "\t")) node.append(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) node.append(text.slice(end));
  return node;
};

const plain = (text) => text.replace(INVISIBLE, markOf);

// A token by itself: spaces at its ends become marks, an empty one shows its id.
const writeToken = (node, text, id) => {
  if (text === "") return node.append(el("span", "mark", id === null || id === undefined ? "⟨…⟩" : `⟨id ${id}⟩`));
  const [, before, body, after] = /^( *)(.*?)( *)$/su.exec(text);
  if (before) node.append(el("span", "mark", "␣".repeat(before.length)));
  write(node, body, false);
  if (after) node.append(el("span", "mark", "␣".repeat(after.length)));
};

// A token in a sentence: in quotes, with its spaces.
const quoted = (text) => (text === "" ? "end of text" : `“${plain(text)}”`);

// A name in a line, whatever its length.
const named = (text, most = 90) => (text === "" ? "⟨empty⟩" : plain(text.length > most ? `${text.slice(0, most)}…` : text));

// A name that breaks between its words, never within one.
const breakable = (text) => {
  const node = el("span", "breakable");
  plain(text).split(/(?<=[/_=,-])/u).forEach((part, i) => node.append(i ? el("wbr") : "", part));
  return node;
};

// A fork as a drawing: it is not copied with the text, and no font need have it.
const forkMark = () => byId("fork").content.firstElementChild.cloneNode(true);

const button = (cls, title, ...children) => {
  const node = el("button", cls, ...children);
  node.type = "button";
  if (title) node.title = title;
  return node;
};

const clear = (node, ...children) => {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

const titled = (node, title) => Object.assign(node, { title });
const headCell = (scope, ...children) => Object.assign(el("th", "", ...children), { scope });
const pressed = (id, is) => byId(id).setAttribute("aria-pressed", is);

// Call the function of each node once it comes near the window; a box has one such set of nodes at a time.
const observers = new WeakMap();
const whenNear = (box, rootMargin, waiting) => {
  observers.get(box)?.disconnect();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) { observer.unobserve(target); waiting.get(target)(); }
  }, { rootMargin });
  observers.set(box, observer);
  for (const node of waiting.keys()) observer.observe(node);
};

// A bar filled up to a fraction, for the eye only.
const filledBar = (cls, fraction) => {
  const node = el("span", cls, el("i"));
  node.firstChild.style.width = `${100 * fraction}%`;
  node.setAttribute("aria-hidden", "true");
  return node;
};

const current = (node, is) => (is ? node.setAttribute("aria-current", "true") : node.removeAttribute("aria-current"));
