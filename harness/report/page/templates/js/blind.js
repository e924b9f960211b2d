// Blind comparison: two outputs of a prompt, without names and in random order; which is better?

let blindPair = null; // { prompt, first, left, right, sample }: what is shown
let resultsOpen = false;

// Pairs of different outputs of a prompt that are not judged yet.
const openPairs = (prompt, texts) => {
  const judged = new Set(allVotes().map(pairKey)), found = [];
  const samples = texts.samples.filter((sample) => matchesFilter(sample.point) && !points[sample.point].selected);
  samples.forEach((one, i) => {
    for (const other of samples.slice(i + 1)) {
      if (one.point === other.point || one.sample !== other.sample || one.text === other.text) continue;
      const pair = { prompt: prompt.id, first: prompt.first, left: one.point, right: other.point, sample: one.sample };
      if (!judged.has(pairKey(pair))) found.push(pair);
    }
  });
  return found;
};

// A random pair among those whose runs were compared least, in random order.
const choosePair = (pairs) => {
  const runsKey = ({ left, right }) => [Math.min(left, right), Math.max(left, right)].join("_");
  const counts = new Map();
  for (const vote of allVotes()) counts.set(runsKey(vote), (counts.get(runsKey(vote)) ?? 0) + 1);
  const countOf = (pair) => counts.get(runsKey(pair)) ?? 0;
  const least = Math.min(...pairs.map(countOf));
  const few = pairs.filter((pair) => countOf(pair) === least);
  const pair = few[Math.floor(Math.random() * few.length)];
  return Math.random() < 0.5 ? pair : { ...pair, left: pair.right, right: pair.left };
};

const isOpen = (pair, prompt) => pair?.prompt === prompt.id && matchesFilter(pair.left) && matchesFilter(pair.right) && !allVotes().some((vote) => pairKey(vote) === pairKey(pair));

let seeking = false; // between a vote and the next pair

// Go to the next prompt that has a pair to judge, this one last.
const nextPair = async () => {
  const at = listed.findIndex((prompt) => prompt.id === state.prompt);
  for (let i = 1; i <= listed.length; i++) {
    const prompt = listed[(at + i) % listed.length];
    if (!openPairs(prompt, await textsOf(prompt)).length) continue;
    go({ prompt: prompt.id }, false);
    return;
  }
  seeking = false;
  promptKey = null;
  drawState();
};

const isBlind = () => state.view === "prompts" && state.layout === "blind";
const judge = (choice) => {
  if (!isBlind() || !blindPair) return;
  const { first, left, right, sample } = blindPair;
  blindPair = null;
  seeking = true;
  addVote({ first, left, right, sample, choice });
  nextPair();
};

const undoVote = async () => {
  const votes = allVotes(), last = votes.pop();
  if (!isBlind() || !last) return;
  const prompt = (await promptList()).find((each) => each.first === last.first);
  if (!prompt) return;
  blindPair = { ...last, prompt: prompt.id };
  go({ votes: votes.length ? votes.map(writeVote).join(".") : null, prompt: prompt.id }, false);
};

const saveVotes = async () =>
  showExport("Votes", "The votes in this link, as a file", await votesFile(), `${fileName(data.label)}-votes.json`, "application/json", "harness report votes=FILE brings them home.");

const blindResults = () => {
  const mine = allVotes(), home = data.preferences;
  const box = el("details", "results");
  box.open = resultsOpen;
  box.addEventListener("toggle", () => { resultsOpen = box.open; });
  box.append(el("summary", "", "Results"));
  if (mine.length) box.append(el("h3", "", `In this link: ${plural(mine.length, "vote")}`), winsTable(tally(mine)));
  if (home.length) box.append(el("h3", "", `Brought home: ${plural(data.voteCount, "vote")}`), winsTable(home.map(([point, wins, ties, losses, rate, low, high]) => ({ point, wins, ties, losses, rate, low, high }))));
  if (!mine.length && !home.length) box.append(el("p", "soft", "No votes yet."));
  else box.append(el("p", "caption", "Win rate: the share of a run's comparisons that it won, ties counting half; Wilson's interval, which takes votes as independent."));
  return box;
};

const choiceButton = (key, name, choice) => {
  const node = button("quiet", "", name, " ", el("kbd", "", key));
  node.dataset.choice = choice;
  node.addEventListener("click", () => judge(choice));
  return node;
};

const drawBlind = (prompt, opened) => {
  const box = byId("blind"), votes = allVotes().length;
  if (!isOpen(blindPair, prompt)) {
    const pairs = openPairs(prompt, opened);
    blindPair = pairs.length ? choosePair(pairs) : null;
  }
  if (blindPair) seeking = false;
  box.ariaBusy = String(seeking);
  const undo = button("quiet", "", "Undo ", el("kbd", "", "u")), save = button("main", "", `Save ${plural(votes, "vote")}`);
  undo.disabled = save.disabled = !votes;
  undo.addEventListener("click", undoVote);
  save.addEventListener("click", saveVotes);
  const textOf = (point) => opened.samples.find((sample) => sample.point === point && sample.sample === blindPair.sample).text;
  const card = (name, point) => {
    const text = textOf(point);
    return el("article", "column", el("header", "", el("b", "", name)), text === "" ? el("p", "soft", "an empty output") : write(el("div", "text"), text, true));
  };
  clear(
    box,
    opened.reference === null ? null : el("details", "reference-of", el("summary", "", "Reference"), write(el("div", "text"), opened.reference, true)),
    blindPair
      ? el("div", "pair-of", card("Left", blindPair.left), card("Right", blindPair.right))
      : el("p", "soft", seeking ? "Looking for the next pair …" : "No pair of different outputs is left to compare for this prompt."),
    el("div", "controls choices", ...(blindPair ? [choiceButton("←", "Left is better", "l"), choiceButton("=", "Tie", "t"), choiceButton("→", "Right is better", "r")] : []), undo, save),
    blindResults(),
  );
};
