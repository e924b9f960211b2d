// Below the charts: what moves each metric, the noise floor, and what was expected.

const panel = (title, caption, ...children) => el("section", "panel", el("h2", "", title), caption ? el("p", "caption", caption) : null, ...children);

const effectsPanel = () => {
  if (!data.effects.length) return null;
  const factors = [...new Set(data.effects.map((effect) => effect[1]))];
  const byMetric = new Map();
  for (const effect of data.effects) {
    if (!byMetric.has(effect[0])) byMetric.set(effect[0], new Map());
    byMetric.get(effect[0]).set(effect[1], effect);
  }
  const wanted = every.filter((metric) => byMetric.has(metric.key) && (state.all || metric.head));
  const rows = (wanted.length ? wanted : every.filter((metric) => byMetric.has(metric.key))).map((metric) => {
    const row = el("tr", "", el("th", "", metric.name, el("small", "", metric.unit || metric.key.split("/")[0])));
    for (const factor of factors) {
      const effect = byMetric.get(metric.key).get(factor);
      const cell = el("td");
      if (effect && known(effect[2])) {
        const bar = el("span", "share-bar", el("i"));
        bar.firstChild.style.width = share(Math.min(1, effect[2]));
        cell.append(el("span", "value", share(effect[2])), bar, el("small", "", `spread ${figure(metric, effect[3])}`));
        cell.title = Object.entries(effect[4]).map(([level, value]) => `${plain(level)}: ${figure(metric, value)}`).join("\n");
      } else cell.append(el("span", "soft", "–"));
      row.append(cell);
    }
    return row;
  });
  const top = el("tr", "", el("th", "", "metric"), ...factors.map((factor) => el("th", "", plain(factor))));
  return panel("What moves each metric", "Share of the variance over the points that a choice explains (eta squared), and how far apart its levels' means lie.",
    el("div", "scroll", el("table", "numbers effects", el("thead", "", top), el("tbody", "", ...rows))));
};

const noisePanel = () => {
  const keys = Object.keys(data.noise).filter((key) => known(data.noise[key]));
  if (!keys.length) return null;
  const rows = keys.map((key) => {
    const metric = metricOf.get(key) ?? { key, name: key, says: key, unit: "", known: false };
    return el("tr", "", el("th", "", metric.name, el("small", "", metric.unit || key.split("/")[0])), el("td", "", `± ${figure(metric, data.noise[key])}`));
  });
  return panel("Noise floor", "What running the same strategy again, or alone instead of in a batch, changes. Differences below it are marked ~.",
    el("div", "scroll", el("table", "numbers", el("tbody", "", ...rows))));
};

const expectationsPanel = () => {
  if (!data.expectations.length) return null;
  const ordered = [...data.expectations].sort((a, b) => a.passed - b.passed);
  const items = ordered.map((expectation) => {
    const item = el("li", expectation.passed ? "passed" : "missed", el("span", "state", expectation.passed ? "✓ passed" : "✗ missed"), el("span", "what", plain(expectation.text)));
    if (expectation.point !== null) item.append(pointLink(expectation.point));
    if (known(expectation.prompt)) item.append(link({ view: "prompts", prompt: expectation.prompt }, named(String(expectation.prompt))));
    if (!expectation.passed && expectation.got !== null) item.append(el("span", "got", "got ", el("q", "", plain(expectation.got))));
    return item;
  });
  const node = panel("Expectations", null, el("ul", "expectations", ...items));
  node.id = "expectations";
  node.classList.add("wide");
  return node;
};

const drawJudged = () => clear(byId("judged"), expectationsPanel(), effectsPanel(), noisePanel());
