// Below the charts: expectations, agreement and parameter importance.

const panel = (title, caption, ...children) => el("section", "panel", el("h2", "", title), caption ? el("p", "caption", caption) : null, ...children);
const metricHeader = (metric) => el("th", "", metric.name, el("small", "", metric.unit || metric.key.split("/")[0]));

// Whether a test supports that a metric rises or falls with a number: its trend over prompts; of a latency, which has none, the
// runs that differ from the baseline in this number alone (Welch), as far as all that differ significantly go the same way.
const isSupported = (metric, factor, change) => {
  const swept = data.swept.find((each) => each.key === factor);
  const trend = trendOf(metric, swept);
  if (trend) return trend.shape === "rises" || trend.shape === "falls";
  const { baseline } = data;
  if (baseline === null || !known(swept.of[baseline])) return false;
  const others = data.factors.filter(([name]) => name !== factor);
  const beside = pointIndices.filter((point) => known(swept.of[point]) && swept.of[point] !== swept.of[baseline] && others.every(([, , of]) => of[point] === of[baseline]));
  const ways = beside.flatMap((point) => {
    const word = points[point].cells[metric.key]?.[3]?.[4];
    return word === "higher" || word === "lower" ? [(word === "higher") === swept.of[point] > swept.of[baseline]] : [];
  });
  return ways.length > 0 && ways.every((rises) => rises === change > 0);
};

// The direction of an effect: for a number, the change from its smallest to its largest value; else the levels with the lowest and highest mean.
const effectDirection = (metric, factor, levels) => {
  const swept = data.swept.find((each) => each.key === factor);
  const ordered = [...levels].filter(([, mean]) => known(mean)).sort((a, b) => a[1] - b[1]);
  if (ordered.length < 2) return null;
  const [low, high] = [ordered[0], ordered.at(-1)];
  if (!swept) return el("small", "", `${named(low[0], 24)} ${figure(metric, low[1])} to ${named(high[0], 24)} ${figure(metric, high[1])}`);
  const trend = trendOf(metric, swept);
  if (trend?.shape === "optimum") return el("small", "", `optimum at ${known(trend.best) ? digits(trend.best) : "an inner value"}`);
  const numbers = [...levels].filter(([level, mean]) => known(mean) && Number.isFinite(Number(level))).sort((a, b) => a[0] - b[0]);
  if (numbers.length < 2) return null;
  const [first, last] = [numbers[0], numbers.at(-1)];
  const change = last[1] - first[1];
  const from = `${signed(metric, change)} from ${named(String(first[0]), 12)} to ${named(String(last[0]), 12)}`;
  if (!isSupported(metric, factor, change)) return el("small", "soft", `${from}, not significant`);
  const verdict = metric.better && change ? ((change > 0) === (metric.better === "higher") ? "better" : "worse") : "neither";
  return el("small", "", el("span", `sign ${verdict}`, change > 0 ? "↑" : change < 0 ? "↓" : "="), ` ${from}`);
};

const importancePanel = () => {
  if (!data.effects.length) return null;
  const factors = [...new Set(data.effects.map(([, factor]) => factor))];
  const effectOn = (metric, factor) => data.effects.find((effect) => effect[0] === metric.key && effect[1] === factor);
  const available = every.filter((metric) => data.effects.some(([key]) => key === metric.key));
  const wanted = available.filter((metric) => state.all || metric.headline);
  const rows = (wanted.length ? wanted : available).map((metric) => {
    const row = el("tr", "", metricHeader(metric));
    for (const factor of factors) {
      const [, , variance, , levels, confounded = []] = effectOn(metric, factor) ?? [];
      if (!known(variance)) { row.append(el("td", "", el("span", "soft", "–"))); continue; }
      const cell = el("td", "", el("span", "value", share(variance)), filledBar("share-bar", Math.min(1, variance)), effectDirection(metric, factor, levels));
      if (confounded.length) cell.append(el("small", "confounded", `confounded with ${confounded.map((name) => plain(factorName(name))).join(", ")}`));
      row.append(titled(cell, levels.map(([level, value]) => `${plain(level)}: ${figure(metric, value)}`).join("\n")));
    }
    return row;
  });
  const top = el("tr", "", el("th", "", "metric"), ...factors.map((factor) => titled(el("th", "", plain(factorName(factor))), plain(factor))));
  return panel("Parameter importance", "Share of the variance between runs that a parameter explains (eta squared), and its direction: the change over a number's values (↑ rises, ↓ falls, where a test supports it), or the levels with the lowest and the highest mean.",
    el("div", "scroll", el("table", "numbers effects", el("thead", "", top), el("tbody", "", ...rows))));
};
const factorName = (factor) => factor.replace(/^decoding\./, "");

const expectationsPanel = () => {
  if (!data.expectations.length) return null;
  const ordered = [...data.expectations].sort((a, b) => a.passed - b.passed);
  const items = ordered.map(({ passed, text, point, prompt, got }) => el(
    "li", passed ? "passed" : "missed", el("span", "state", passed ? "✓ passed" : "✗ missed"), el("span", "what", plain(text)),
    point === null ? null : pointLink(point),
    known(prompt) ? link({ view: "prompts", prompt }, named(String(prompt))) : null,
    passed || got === null ? null : el("span", "got", "got ", el("q", "", plain(got))),
  ));
  return Object.assign(panel("Expectations", null, el("ul", "expectations", ...items)), { id: "expectations", className: "panel wide" });
};

const drawPanels = () => {
  clear(byId("panels"), expectationsPanel(), agreementPanel(), importancePanel());
  showScrolling(byId("panels"));
};
