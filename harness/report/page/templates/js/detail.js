// One step, closely: what else could have come, in both distributions. Beside the token; a sheet on a phone.

let pinned = null;
let looked = null;
let leaving = 0;

// A pointer that rests while the page moves beneath it asks for nothing.
const pointer = { x: -1, y: -1 };
const moved = (event) => {
  const did = event.clientX !== pointer.x || event.clientY !== pointer.y;
  Object.assign(pointer, { x: event.clientX, y: event.clientY });
  return did;
};
for (const kind of ["mousemove", "mousedown"]) addEventListener(kind, (event) => { moved(event); }, { passive: true });

const gauge = (kind, logprob) => {
  const p = probability(logprob);
  const fill = el("b");
  fill.style.width = `${100 * p}%`;
  if (p === 0) fill.style.minWidth = "0";
  return el("td", "", el("div", `gauge ${kind}`, el("i", "", fill), el("span", "", percent(p))));
};

const bothRows = (steps, index) => {
  const row = (name, raw, warped, tell) =>
    el("tr", "", el("th", "", name), el("td", "", tell(steps[raw][index])), steps.warped ? el("td", "", tell(steps[warped][index])) : null);
  return [
    row("probability", "lp", "wlp", (v) => percent(probability(v))),
    row("logprob", "lp", "wlp", nats),
    row("entropy", "ent", "went", nats),
  ];
};

const alternatives = (steps, index, last) => {
  const body = el("tbody");
  const row = (place, raw, warped, is) => {
    const name = el("td");
    const text = steps.words.texts[place];
    const id = steps.words.ids[place];
    if (is && last && text === "") name.append("end of text");
    else writeToken(name, text, id);
    name.title = `${JSON.stringify(plain(text))} · id ${id}`;
    body.append(el("tr", is ? "is" : "", name, gauge("raw", raw), gauge("warped", warped)));
  };
  let among = false;
  for (let i = index * steps.k; i < (index + 1) * steps.k; i++) {
    if (steps.tops[i] === NOTHING) continue;
    const is = steps.words.ids[steps.tops[i]] === idAt(steps, index);
    among ||= is;
    row(steps.tops[i], steps.tlp[i], steps.twlp[i], is);
  }
  if (!among) row(steps.token[index], steps.lp[index], steps.wlp[index], true);
  const title = el("tr", "", el("th", "", "alternatives"), el("th", "key-raw", "raw"), el("th", "key-warped", "warped"));
  return el("table", "tops", el("thead", "", title), body);
};

const fillDetail = (box, node) => {
  const { steps, index, ends, owner } = nodesOf.get(node);
  if (steps.detail) { steps.detail(box, index); return; }
  const text = textAt(steps, index);
  const last = ends && index === steps.count - 1;
  const code = el("code");
  if (last && text === "") code.append("end of text");
  else if (text === "") code.append(el("span", "mark", "part of a character"));
  else writeToken(code, text, idAt(steps, index));
  const known = steps.rank[index] !== 0;
  const facts = el("table", "facts-of", el("thead", "", el("tr", "", el("td"), el("th", "key-raw", "raw"), steps.warped ? el("th", "key-warped", "warped") : null)));
  if (known) facts.append(el("tbody", "", ...bothRows(steps, index)));
  const line = [known ? `rank ${steps.rank[index].toLocaleString("en")}` : "first token: nothing to predict it from"];
  if (steps.warped) line.push(`${plural(steps.kept[index], "token")} kept, ${percent(1 - (steps.cut[index] || 0))} of the raw mass`);
  clear(
    box,
    el("p", "chosen", code, el("span", "", `${owner ? plain(owner) + " · " : ""}step ${index} · id ${idAt(steps, index)}`)),
    known ? facts : null,
    el("p", "line", line.join(" · ")),
    steps.k ? alternatives(steps, index, last) : null,
  );
};

// Beside a node, within the window; on a phone the style sheet makes it a sheet at the bottom.
const placeDetail = (node) => {
  const box = byId("detail");
  box.style.left = box.style.top = "0";
  const at = node.getClientRects()[0] ?? node.getBoundingClientRect();
  const wide = box.offsetWidth, tall = box.offsetHeight;
  const left = Math.max(8, Math.min(at.left - 20, innerWidth - wide - 8));
  const below = at.bottom + 8;
  const top = below + tall < innerHeight ? below : Math.max(8, at.top - tall - 8);
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
};

const showBeside = (node, fill, pin) => {
  clearTimeout(leaving);
  if (pin) {
    const again = pinned === node;
    pinned?.classList.remove("pin");
    pinned = again ? null : node;
    pinned?.classList.add("pin");
  } else if (pinned && pinned !== node) return;
  looked?.classList.remove("on");
  looked = node;
  looked.classList.add("on");
  const box = byId("detail");
  box.hidden = false;
  box.classList.toggle("kept", pinned === node);
  fill(box);
  const close = button("close", "Close (Esc)", "✕");
  close.addEventListener("click", forget);
  box.prepend(close);
  placeDetail(node);
};
const showDetail = (node, pin) => showBeside(node, (box) => fillDetail(box, node), pin);

const hideDetail = () => {
  if (pinned) return;
  clearTimeout(leaving);
  leaving = setTimeout(forget, 150);
};

const forget = () => {
  clearTimeout(leaving);
  const was = Boolean(pinned || looked);
  pinned?.classList.remove("pin");
  looked?.classList.remove("on");
  pinned = looked = null;
  byId("detail").hidden = true;
  return was;
};
