// The prefix tree of a prompt's outputs: shared prefixes once, branches where outputs diverge, with their probabilities.

const FOLD = 16; // tokens of a run of tokens that are shown before it is folded
const MOST_LEAVES = 64;

const chosenLeaves = (opened) => opened.samples.filter((sample) => sample.steps?.count && matchesFilter(sample.point) && inSelection(sample));

// Nodes of { leaves, from, to, children, done }: the steps [from, to) that all its leaves share.
const growTree = (leaves, from) => {
  let to = from;
  for (;;) {
    const texts = new Set(leaves.map((leaf) => (to < leaf.steps.count ? textAt(leaf.steps, to) : null)));
    if (texts.size !== 1 || texts.has(null)) break;
    to++;
  }
  const groups = Map.groupBy(leaves.filter((leaf) => to < leaf.steps.count), (leaf) => textAt(leaf.steps, to));
  const children = [...groups.values()].map((group) => growTree(group, to)).sort((a, b) => b.leaves.length - a.leaves.length);
  return { leaves, from, to, children, done: leaves.filter((leaf) => to >= leaf.steps.count) };
};

let treeNames = new Map(); // by run, its name without what all runs of the tree have in common
const leafTitle = (leaf, several) => treeNames.get(leaf.point) + (several ? ` #${leaf.sample}` : "");
const leafName = (leaf, several) => el("span", "leaf", dot(leaf.point), breakable(leafTitle(leaf, several).slice(0, 300)));

// Some outputs: one by its name, several as dots and a count, which show the names when they are clicked.
const MOST_DOTS = 8;
const leafGroup = (leaves, several) => {
  if (leaves.length === 1) return leafName(leaves[0], several);
  const runs = [...new Set(leaves.map((leaf) => leaf.point))];
  const box = el("span", "leaves");
  const names = leaves.map((leaf) => plain(leafTitle(leaf, several)));
  const show = button("dots", [`${plural(leaves.length, "output")}:`, ...names].join("\n"), ...runs.slice(0, MOST_DOTS).map(dot), String(leaves.length));
  show.setAttribute("aria-label", plural(leaves.length, "output"));
  show.setAttribute("aria-expanded", "false");
  show.addEventListener("click", () => {
    const list = box.querySelector(".names");
    show.setAttribute("aria-expanded", !list);
    if (list) list.remove();
    else box.append(el("span", "names", ...leaves.map((leaf) => leafName(leaf, several))));
  });
  box.append(show);
  return box;
};

// The probability of a branch's first token: in the model's distribution, and after each run's sampling transforms.
const branchChances = (node, several) => {
  const box = el("div", "chances");
  const logprobs = node.leaves[0].steps.logprob;
  if (logprobs) box.append(el("span", "raw", `${percentOf(logprobs[node.from])} model`), filledBar("meter", probability(logprobs[node.from])));
  const groups = Map.groupBy(node.leaves, ({ steps }) => (steps.warped_logprob ? percentOf(steps.warped_logprob[node.from]) : ""));
  const line = el("div", "who", groups.has("") ? null : el("span", "warped", "processed "));
  for (const [processed, leaves] of groups) line.append(el("span", "group", el("span", "warped", processed), " ", leafGroup(leaves, several)), " ");
  box.append(line);
  return box;
};

const runOfTokens = (node, root) => {
  const leaf = node.leaves[0];
  const box = el("div", "text run");
  const owner = node.leaves.length > 1 ? `${points[leaf.point].name} and ${node.leaves.length - 1} more` : points[leaf.point].name;
  const token = (index) => {
    const made = tokenNode(leaf.steps, index, ended(leaf), owner);
    if (index === node.from && !root) made.classList.add("branch-token");
    return made;
  };
  const put = (from, to, before) => { for (let i = from; i < to; i++) before ? box.insertBefore(token(i), before) : box.append(token(i)); };
  const length = node.to - node.from;
  if (length > FOLD + 4) {
    put(node.from, node.from + FOLD - 4);
    const fold = button("fold", "Show all tokens", `⋯ ${length - FOLD} tokens ⋯`);
    box.append(fold);
    put(node.to - 4, node.to);
    fold.addEventListener("click", () => { put(node.from + FOLD - 4, node.to - 4, fold); fold.remove(); });
  } else put(node.from, node.to);
  if (length) listen(box);
  return box;
};

const branchNode = (node, several, root) => {
  const segment = el("div", "segment");
  if (node.to > node.from) segment.append(runOfTokens(node, root));
  if (!root) segment.append(branchChances(node, several));
  else if (node.to === node.from) segment.append(el("p", "soft", "Outputs diverge at the first token."));
  if (node.done.length && (node.children.length || root))
    segment.append(el("p", "ends", node.children.length ? "end here: " : null, leafGroup(node.done, several)));
  const branch = el("li", "branch", segment);
  branch.style.setProperty("--weight", `${Math.min(6, 0.75 + node.leaves.length * 0.75)}px`);
  if (node.children.length) {
    segment.append(el("p", "at-token", forkMark(), ` ${tokenNumber(node.to)}`));
    branch.append(el("ul", "", ...node.children.map((child) => branchNode(child, several, false))));
  } else segment.classList.add("last");
  return branch;
};

const drawTree = (opened) => {
  const box = byId("tree");
  let leaves = chosenLeaves(opened);
  if (!leaves.length) { clear(box, el("p", "soft", "The tree needs the tokens of this prompt, which are not in this page.")); return; }
  const caption = [];
  if (leaves.length > MOST_LEAVES) {
    caption.push(`The first ${MOST_LEAVES} of ${leaves.length} outputs.`);
    leaves = leaves.slice(0, MOST_LEAVES);
  }
  treeNames = namesAmong([...new Set(leaves.map((leaf) => leaf.point))]);
  const several = leaves.some((leaf) => leaf.sample > 0);
  const root = growTree(leaves, 0);
  const total = leaves.reduce((sum, leaf) => sum + leaf.steps.count, 0);
  const count = (node) => node.to - node.from + node.children.reduce((sum, child) => sum + count(child), 0);
  caption.push(`${plural(leaves.length, "output")}, ${plural(total, "token")}, ${plural(count(root), "unique prefix token")}. Dots and a number: outputs that share a branch; click for their names. Line width: number of runs sharing the prefix; a branch shows the probability of its first token.`);
  clear(box, el("p", "caption", caption.join(" ")), el("div", "tree-scroll", el("ul", "root", branchNode(root, several, true))));
  showScrolling(box);
};
