// The details of a step: its alternatives in both distributions. Beside the token; on a phone a sheet at the bottom.

let pinned = null;
let hovered = null;
let hiding = 0;

// A pointer that rests while the page scrolls beneath it is not hovering.
const pointer = { x: -1, y: -1 };
const moved = (event) => {
  const did = event.clientX !== pointer.x || event.clientY !== pointer.y;
  Object.assign(pointer, { x: event.clientX, y: event.clientY });
  return did;
};
for (const kind of ["mousemove", "mousedown"]) addEventListener(kind, (event) => { moved(event); }, { passive: true });

const gauge = (kind, logprob) => {
  if (!known(logprob)) return el("td", "soft", "–");
  const p = probability(logprob);
  const fill = el("b");
  fill.style.width = `${100 * p}%`;
  if (p === 0) fill.style.minWidth = "0";
  return el("td", "", el("div", `gauge ${kind}`, el("i", "", fill), el("span", "", percent(p))));
};

// A table of numbers. `heads`: [title, kind] of each column; `rows`: [name, text of each column].
const factsTable = (heads, rows) => {
  const head = el("tr", "", el("td"), ...heads.map(([title, kind]) => el("th", `key-${kind}`, title)));
  const body = rows.map(([name, ...texts]) => el("tr", "", el("th", "", name), ...texts.map((text) => el("td", "", text))));
  return el("table", "facts-of", el("thead", "", head), el("tbody", "", ...body));
};
const DISTRIBUTIONS = [["model", "raw"], ["processed", "warped"]];

// What both distributions say of a step, as far as it was recorded; null if nothing was.
const distributionTable = (steps, index) => {
  const shown = steps.warped_logprob || steps.warped_entropy ? 2 : 1;
  const rows = [["probability", "logprob", percentOf], ["logprob", "logprob", nats], ["entropy", "entropy", nats]]
    .filter(([, column]) => steps[column] || steps[`warped_${column}`])
    .map(([name, column, format]) => [name, ...[column, `warped_${column}`].slice(0, shown).map((each) => format(steps[each]?.[index]))]);
  return rows.length ? factsTable(DISTRIBUTIONS.slice(0, shown), rows) : null;
};

// A table of alternatives, the chosen token among them. `columns`: [title, kind] of each distribution; `rows`: [token, logprob of each].
const topsTable = (vocabulary, corner, columns, rows, chosen, chosenLogprobs, endOfText) => {
  const body = el("tbody");
  const add = (token, logprobs, is) => {
    const name = el("td");
    const text = vocabulary.texts[token], id = vocabulary.ids[token];
    if (is && endOfText && text === "") name.append("end of text");
    else writeToken(name, text, id);
    name.title = `${JSON.stringify(plain(text))}${known(id) ? ` · id ${id}` : ""}`;
    body.append(el("tr", is ? "is" : "", name, ...columns.map(([, kind], i) => gauge(kind, logprobs[i]))));
  };
  const same = (token) => token === chosen || (known(vocabulary.ids[token]) && vocabulary.ids[token] === vocabulary.ids[chosen]);
  for (const [token, ...logprobs] of rows) add(token, logprobs, same(token));
  if (!rows.some(([token]) => same(token))) add(chosen, chosenLogprobs, true);
  const heads = columns.map(([title, kind]) => el("th", `key-${kind}`, title));
  if (corner) heads.unshift(el("th", "", corner));
  else heads[0].colSpan = 2;
  return el("table", "tops", el("thead", "", el("tr", "", ...heads)), body);
};

// Tokens are numbered from 1 everywhere in the page; tokens.parquet has positions, from 0.
const tokenNumber = (index) => `token ${index + 1}`;

const fillDetail = (box, node) => {
  const { steps, index, ends, owner } = stepOf.get(node);
  if (steps.detail) { steps.detail(box, index); return; }
  const text = textAt(steps, index), id = idAt(steps, index);
  const last = ends && index === steps.count - 1;
  const code = el("code");
  if (text !== "") writeToken(code, text, id);
  else code.append(last ? "end of text" : el("span", "mark", "part of a character"));
  const withoutContext = steps.rank?.[index] === 0;
  const table = withoutContext ? null : distributionTable(steps, index);
  const line = [];
  if (withoutContext) line.push("first token: it has no context");
  else if (steps.rank) line.push(`rank ${steps.rank[index].toLocaleString("en")}`);
  if (steps.untruncated) line.push("no truncation");
  else if (steps.kept) line.push(`${plural(steps.kept[index], "candidate")}${steps.removed_mass ? `, ${percent(1 - (steps.removed_mass[index] || 0))} of probability mass` : ""}`);
  if (!table && !withoutContext) line.push("probabilities were not recorded");
  const columns = DISTRIBUTIONS.slice(0, steps.top_warped_logprobs ? 2 : 1);
  clear(
    box,
    el("p", "chosen", code, titled(el("span", "", [owner ? plain(owner) : null, tokenNumber(index), known(id) ? `id ${id}` : null].filter(Boolean).join(" · ")), `position ${index} in tokens.parquet`)),
    table,
    line.length ? el("p", "line", line.join(" · ")) : null,
    steps.k.top_tokens
      ? topsTable(steps.vocabulary, "alternatives", columns, alternativesAt(steps, index, "top_tokens", ["top_logprobs", "top_warped_logprobs"]),
        steps.token[index], [steps.logprob?.[index], steps.warped_logprob?.[index]], last)
      : null,
  );
};

// Beside a node, within the window; on a phone the style sheet makes it a sheet at the bottom.
const positionDetail = (node) => {
  const box = byId("detail");
  box.style.left = box.style.top = "0";
  const target = node.getClientRects()[0] ?? node.getBoundingClientRect();
  const left = Math.max(8, Math.min(target.left - 20, innerWidth - box.offsetWidth - 8));
  const below = target.bottom + 8;
  const top = below + box.offsetHeight < innerHeight ? below : Math.max(8, target.top - box.offsetHeight - 8);
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
};

const showBeside = (node, fill, pin) => {
  clearTimeout(hiding);
  if (pin) {
    const again = pinned === node;
    pinned?.classList.remove("pin");
    pinned = again ? null : node;
    pinned?.classList.add("pin");
  } else if (pinned && pinned !== node) return;
  hovered?.classList.remove("on");
  hovered = node;
  hovered.classList.add("on");
  const box = byId("detail");
  box.hidden = false;
  box.classList.toggle("pinned", pinned === node);
  fill(box);
  const close = button("close", "Close (Esc)", "✕");
  close.addEventListener("click", closeDetail);
  box.prepend(close);
  positionDetail(node);
};
const showDetail = (node, pin) => showBeside(node, (box) => fillDetail(box, node), pin);

const hideDetail = () => {
  if (pinned) return;
  clearTimeout(hiding);
  hiding = setTimeout(closeDetail, 150);
};

const closeDetail = () => {
  clearTimeout(hiding);
  const open = Boolean(pinned || hovered);
  pinned?.classList.remove("pin");
  hovered?.classList.remove("on");
  pinned = hovered = null;
  byId("detail").hidden = true;
  return open;
};
