// The tree of a prompt: common beginnings once, branches where strategies part, with the chances of each choice.

const FOLD = 16; // tokens of a run that are shown before it is folded
const MOST_LEAVES = 64;

const chosenLeaves = (opened) => {
  const words = wordsOf(state.columns);
  return opened.samples
    .filter((sample) => sample.steps?.count && holds(points[sample.p].label.toLowerCase(), words) && (state.sample === "all" || String(sample.n) === state.sample));
};

// Nodes of { leaves, from, to, children }: the run of steps [from, to) that all its leaves share.
const growTree = (leaves, from) => {
  let to = from;
  for (;;) {
    const texts = new Set(leaves.map((leaf) => (to < leaf.steps.count ? textAt(leaf.steps, to) : null)));
    if (texts.size !== 1 || texts.has(null)) break;
    to++;
  }
  const groups = new Map();
  for (const leaf of leaves) {
    if (to >= leaf.steps.count) continue;
    const text = textAt(leaf.steps, to);
    if (!groups.has(text)) groups.set(text, []);
    groups.get(text).push(leaf);
  }
  const children = [...groups.values()].map((group) => growTree(group, to)).sort((a, b) => b.leaves.length - a.leaves.length);
  return { leaves, from, to, children, done: leaves.filter((leaf) => to >= leaf.steps.count) };
};

const leafName = (leaf, several) => el("span", "leaf", dot(leaf.p), named(points[leaf.p].name, 40) + (several ? ` #${leaf.n}` : ""));

// The chances of a branch's first token: raw once a model, warped of each strategy.
const chancesOf = (node, several) => {
  const box = el("div", "chances");
  const leaf = node.leaves[0];
  const raw = probability(leaf.steps.lp[node.from]);
  const bar = el("span", "meter", el("i"));
  bar.firstChild.style.width = `${100 * raw}%`;
  box.append(el("span", "raw", `${percent(raw)} raw`), bar);
  const groups = new Map();
  for (const each of node.leaves) {
    const warped = each.steps.warped ? percent(probability(each.steps.wlp[node.from])) : "";
    if (!groups.has(warped)) groups.set(warped, []);
    groups.get(warped).push(each);
  }
  const line = el("div", "who", groups.has("") ? null : el("span", "warped", "warped "));
  for (const [warped, leaves] of groups) {
    const names = leaves.length > 4 ? [...leaves.slice(0, 3).map((each) => leafName(each, several)), el("span", "leaf", `+${leaves.length - 3}`)] : leaves.map((each) => leafName(each, several));
    const group = el("span", "group", ...names, el("span", "warped", warped), " ");
    if (leaves.length > 4) group.title = leaves.map((each) => plain(points[each.p].name) + (several ? ` #${each.n}` : "")).join("\n");
    line.append(group);
  }
  box.append(line);
  return box;
};

const runNode = (node) => {
  const leaf = node.leaves[0];
  const box = el("div", "text run");
  const owner = node.leaves.length > 1 ? `${points[leaf.p].name} and ${node.leaves.length - 1} more` : points[leaf.p].name;
  const token = (index) => {
    const made = tokenNode(leaf.steps, index, ended(leaf), owner);
    if (index === node.from && node.from > 0) made.classList.add("choice-made");
    return made;
  };
  const put = (from, to, before) => { for (let i = from; i < to; i++) before ? box.insertBefore(token(i), before) : box.append(token(i)); };
  const length = node.to - node.from;
  if (length > FOLD + 4) {
    put(node.from, node.from + FOLD - 4);
    const fold = button("fold", "Show them", `⋯ ${length - FOLD} tokens ⋯`);
    box.append(fold);
    put(node.to - 4, node.to);
    fold.addEventListener("click", () => { put(node.from + FOLD - 4, node.to - 4, fold); fold.remove(); });
  } else put(node.from, node.to);
  if (length) listen(box);
  return box;
};

const branchNode = (node, several, root) => {
  const segment = el("div", "segment");
  if (!root) segment.append(chancesOf(node, several));
  if (node.to > node.from) segment.append(runNode(node));
  else if (root) segment.append(el("p", "soft", "They part at the first token."));
  if (node.done.length && node.children.length) segment.append(el("p", "ends", "ends here: ", ...node.done.map((leaf) => leafName(leaf, several))));
  else if (node.done.length && root) segment.append(el("p", "ends", ...node.done.map((leaf) => leafName(leaf, several))));
  const branch = el("li", "branch", segment);
  branch.style.setProperty("--weight", `${Math.min(6, 0.75 + node.leaves.length * 0.75)}px`);
  if (node.children.length) {
    segment.append(el("p", "at-token", `${PARTS} token ${node.to + 1}`));
    branch.append(el("ul", "", ...node.children.map((child) => branchNode(child, several, false))));
  } else segment.classList.add("last");
  return branch;
};

const drawTree = (opened) => {
  const box = byId("tree");
  let leaves = chosenLeaves(opened);
  if (!leaves.length) { clear(box, el("p", "soft", "The tokens of this prompt are not in this page, so its tree cannot be drawn.")); return; }
  const told = [];
  if (leaves.length > MOST_LEAVES) {
    told.push(`The first ${MOST_LEAVES} of ${leaves.length} texts.`);
    leaves = leaves.slice(0, MOST_LEAVES);
  }
  const several = leaves.some((leaf) => leaf.n > 0);
  const root = growTree(leaves, 0);
  const total = leaves.reduce((sum, leaf) => sum + leaf.steps.count, 0);
  const count = (node) => node.to - node.from + node.children.reduce((sum, child) => sum + count(child), 0);
  told.push(`${plural(leaves.length, "text")}, ${plural(total, "token")}, of which ${count(root).toLocaleString("en")} are distinct beginnings. A line is as thick as the strategies on it; a branch says how likely its first token was.`);
  clear(box, el("p", "caption", told.join(" ")), el("div", "tree-scroll", el("ul", "root", branchNode(root, several, true))));
};
