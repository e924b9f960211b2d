// The prompt and the walks as chips, side by side.

const describeToken = (token, index) => {
  const parts = [`token ${index + 1}, id ${token.id}`];
  if (known(token.logprob)) parts.push(`model ${percentOf(token.logprob)}, rank ${token.rank.toLocaleString("en")}`);
  if (token.warped_logprob !== undefined) parts.push(token.warped_logprob === null ? "removed by the parameters" : `processed ${percentOf(token.warped_logprob)}`);
  return parts.join("; ");
};

const promptNode = (token, index) => {
  const node = titled(el("span", token.special ? "chip-token special" : "chip-token"), `prompt token ${index + 1}, id ${token.id}`);
  writeToken(node, token.text, token.id);
  return node;
};

const tokenChip = (walk, number, index, divergence) => {
  const token = walk.scored[index] ?? { id: walk.tokens[index], text: "…" }; // not answered yet
  const node = button("chip-token", describeToken(token, index));
  writeToken(node, token.text, token.id);
  if (token.special) node.classList.add("special");
  if (known(token.logprob)) node.dataset.shade = shadeOf(token.logprob);
  if (token.warped_logprob === null) node.classList.add("removed");
  if (number === state.current && index > state.cursor) node.classList.add("later");
  if (index === divergence) { node.classList.add("diverges"); node.title += "; first divergence"; }
  current(node, number === state.current && index === state.cursor);
  node.addEventListener("click", () => goTo(number, index));
  return node;
};

const walkNode = (walk, number, divergence) => {
  const chips = el("div", "chips", ...walk.tokens.map((_, index) => tokenChip(walk, number, index, divergence)));
  const end = button("chip-token next-place", "Go on at the end", "next");
  current(end, number === state.current && state.cursor === walk.tokens.length);
  end.addEventListener("click", () => goTo(number, walk.tokens.length));
  chips.append(end);
  const total = totalOf(walk);
  const name = button("inline", "Go on with this walk", `Walk ${nameOfWalk(number)}`);
  name.addEventListener("click", () => goTo(number, walk.tokens.length));
  const head = el("div", "walk-head", name, el("span", "", plural(walk.tokens.length, "token")),
    titled(el("span", "total", `log p ${nats(total)}`), "Cumulative log-probability of its tokens in the model's own distribution, nats"));
  if (state.walks.length > 1) {
    const remove = button("remove", "", "Remove");
    remove.setAttribute("aria-label", `Remove walk ${nameOfWalk(number)}`);
    remove.addEventListener("click", () => removeWalk(number));
    head.append(remove);
  }
  const node = el("article", number === state.current ? "walk is-current" : "walk", head, chips);
  node.setAttribute("aria-label", `Walk ${nameOfWalk(number)}`);
  return node;
};

const compareText = (other, divergence) => {
  const [one, two] = [walkNow(), state.walks[other]];
  const [a, b] = [nameOfWalk(state.current), nameOfWalk(other)];
  const textAt = (walk) => { const token = walk.scored[divergence]; return token ? `${quoted(token.text)} (${percentOf(token.logprob)})` : "…"; };
  const totals = [totalOf(one), totalOf(two)];
  const sums = totals.every(known) ? ` Cumulative log-probability: ${a} ${nats(totals[0])}, ${b} ${nats(totals[1])}; difference ${nats(totals[0] - totals[1])} nats.` : "";
  if (divergence !== null) return `${a} and ${b} diverge at token ${divergence + 1}: ${textAt(one)} vs. ${textAt(two)}.${sums}`;
  if (one.tokens.length === two.tokens.length) return `${a} and ${b} are the same so far.`;
  const [short, long] = one.tokens.length < two.tokens.length ? [a, b] : [b, a];
  return `${long} continues ${short}; no divergence so far.${sums}`;
};

const scrollInside = (box, node) => {
  const [outer, inner] = [box.getBoundingClientRect(), node.getBoundingClientRect()];
  if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 4;
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top + 4;
};

const drawWalks = () => {
  const other = otherWalk();
  const divergence = other === null ? null : firstDivergence(walkNow(), state.walks[other]);
  const inside = document.activeElement?.closest?.(".chips");
  clear(byId("walks"), ...state.walks.map((walk, number) => walkNode(walk, number, number === state.current || number === other ? divergence : null)));
  const here = document.querySelector(".walk.is-current .chip-token[aria-current]");
  if (inside) here?.focus({ preventScroll: true });
  if (here) scrollInside(here.parentNode, here); // the page itself stays where it is
  byId("vs-choice").hidden = state.walks.length < 3;
  clear(byId("vs"), ...state.walks.map((_, number) => new Option(`Walk ${nameOfWalk(number)}`, number)).filter((_, number) => number !== state.current));
  byId("vs").value = String(other ?? "");
  byId("comparison").hidden = other === null;
  byId("comparison").textContent = other === null ? "" : compareText(other, divergence);
  byId("back").disabled = state.cursor === 0;
  byId("undo").disabled = depth() === 0;
};
