// Scores of outputs: how well they match their prompt's reference, and the user's own metrics.

const { scores } = data;
const scoreText = ({ passes, decimals }, value) => (passes ? (value === 1 ? "✓ pass" : value === 0 ? "✗ fail" : digits(value, 3)) : decimals === null ? digits(value, 3) : fixed(value, decimals));
const MOST_SCORES = 4;

// The scores on an output: the one that prompts are sorted by, pass or fail, the user's own; the others on hover.
const scoreNodes = (sample) => {
  const all = scores.filter(({ column }) => known(sample.metrics[column]));
  const wanted = all.filter((score, i) => i === 0 || score.passes || score.decimals === null).slice(0, MOST_SCORES);
  return wanted.map((score) => {
    const value = sample.metrics[score.column];
    const node = el("span", `score ${score.passes ? (value === 1 ? "passed" : value === 0 ? "failed" : "") : ""}`.trim());
    node.append(...(score.passes ? [] : [`${plain(score.name)} `]), el("b", "", scoreText(score, value)));
    return titled(node, `${plain(score.name)}: ${digits(value)}\n${plain(score.description)}`);
  });
};

// Prompts by score: `ends` are the least and the greatest mean of the runs; a prompt without any comes last.
const missingLast = (value) => (a, b) => {
  const [x, y] = [a, b].map((prompt) => (prompt.ends ? value(prompt.ends) : null));
  return x === null || y === null ? (x === null) - (y === null) || a.first - b.first : y - x || a.first - b.first;
};
const worst = ([low, high]) => (scores[0].better === "lower" ? high : low), best = ([low, high]) => (scores[0].better === "lower" ? low : high);
const falling = () => (scores[0].better === "lower" ? -1 : 1); // the better score first
const scoreOrders = scores.length ? {
  spread: [`Largest spread of ${plain(scores[0].name)} first`, missingLast(([low, high]) => high - low)],
  hardest: [`Worst ${plain(scores[0].name)} of the best run first`, missingLast((ends) => -falling() * best(ends))],
  worst: [`Worst ${plain(scores[0].name)} of any run first`, missingLast((ends) => -falling() * worst(ends))],
  best: [`Best ${plain(scores[0].name)} of any run first`, missingLast((ends) => falling() * best(ends))],
} : {};

const endsText = ([low, high]) => (low === high ? scoreText(scores[0], low) : `${scoreText({ ...scores[0], passes: false }, low)} to ${scoreText({ ...scores[0], passes: false }, high)}`);
