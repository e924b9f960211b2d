// Votes of blind comparisons. They are kept in the page's link, so that they need no storage: prompt, left run, right run and
// sample as numbers, and which was better: 4_0_2_0_l for the left, r for the right, t for a tie.

const VOTE_NAMES = { l: "left", r: "right", t: "tie" };
const readVote = (text) => {
  const match = /^([0-9a-z]+)_([0-9a-z]+)_([0-9a-z]+)_([0-9a-z]+)_([lrt])$/.exec(text);
  if (!match) return null;
  const [first, left, right, sample] = match.slice(1, 5).map((each) => parseInt(each, 36));
  return points[left] && points[right] && left !== right ? { first, left, right, sample, choice: match[5] } : null;
};
const writeVote = ({ first, left, right, sample, choice }) => [first, left, right, sample].map((each) => each.toString(36)).join("_") + `_${choice}`;
const votesIn = (text) => (text ?? "").split(".").map(readVote).filter(Boolean);
const allVotes = () => votesIn(state.votes);

// What is compared, whichever side it was shown on.
const pairKey = ({ first, left, right, sample }) => [first, Math.min(left, right), Math.max(left, right), sample].join("_");

// Votes of two links together: going back in the browser's history loses none.
const mergedVotes = (mine, theirs) => {
  const found = new Map([...votesIn(theirs), ...votesIn(mine)].map((vote) => [pairKey(vote), vote]));
  return found.size ? [...found.values()].map(writeVote).join(".") : null;
};

const newBallot = () => [...crypto.getRandomValues(new Uint8Array(10))].map((byte) => (byte % 36).toString(36)).join("");
const addVote = (vote) => go({ ballot: state.ballot ?? newBallot(), votes: [...allVotes().filter((each) => pairKey(each) !== pairKey(vote)), vote].map(writeVote).join(".") }, false);

const votesFile = async () => {
  const ids = new Map((await promptList()).map((prompt) => [prompt.first, prompt.id]));
  const votes = allVotes().filter((vote) => ids.has(vote.first)).map(({ first, left, right, sample, choice }) =>
    ({ prompt_id: ids.get(first), sample, left: points[left].label, right: points[right].label, choice: VOTE_NAMES[choice] }));
  return JSON.stringify({ sweep_id: data.sweepId, ballot: state.ballot, votes }, null, 1);
};

// Wilson's interval of a proportion, as harness/analysis/statistics/proportions.py has it.
const wilson = (successes, trials) => {
  if (!trials) return [0, 1];
  const z = 1.959963984540054, z2 = z * z, p = successes / trials;
  const centre = (p + z2 / (2 * trials)) / (1 + z2 / trials);
  const half = (z / (1 + z2 / trials)) * Math.sqrt((p * (1 - p)) / trials + z2 / (4 * trials * trials));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
};

// By run: { point, wins, ties, losses, rate, low, high }, the best first.
const tally = (votes) => {
  const found = new Map();
  const of = (point) => found.get(point) ?? found.set(point, { point, wins: 0, ties: 0, losses: 0 }).get(point);
  for (const { left, right, choice } of votes) {
    of(left)[{ l: "wins", r: "losses", t: "ties" }[choice]]++;
    of(right)[{ l: "losses", r: "wins", t: "ties" }[choice]]++;
  }
  for (const row of found.values()) {
    const trials = row.wins + row.ties + row.losses;
    row.rate = (row.wins + row.ties / 2) / trials;
    [row.low, row.high] = wilson(row.wins + row.ties / 2, trials);
  }
  return [...found.values()].sort((a, b) => b.rate - a.rate || a.point - b.point);
};

const winsTable = (rows) => {
  const head = ["run", "win rate", "95% interval", "wins", "ties", "losses"].map((name) => el("th", "", name));
  const body = rows.map(({ point, wins, ties, losses, rate, low, high }) => {
    const bar = el("span", "win-bar", el("i"), el("b"));
    bar.setAttribute("aria-hidden", "true");
    bar.firstChild.style.left = `${100 * low}%`;
    bar.firstChild.style.width = `${100 * (high - low)}%`;
    bar.lastChild.style.left = `${100 * rate}%`;
    return el("tr", "", headCell("row", pointLink(point)), el("td", "", `${Math.round(100 * rate)}%`), el("td", "", bar, el("span", "", `${Math.round(100 * low)} to ${Math.round(100 * high)}%`)), ...[wins, ties, losses].map((count) => el("td", "", String(count))));
  });
  return el("div", "scroll", el("table", "numbers wins", el("thead", "", el("tr", "", ...head)), el("tbody", "", ...body)));
};
