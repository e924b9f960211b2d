// Below the charts: expectations, parameter importance and run-to-run noise.

const panel = (title, caption, ...children) => el("section", "panel", el("h2", "", title), caption ? el("p", "caption", caption) : null, ...children);
const metricHeader = (metric) => el("th", "", metric.name, el("small", "", metric.unit || metric.key.split("/")[0]));

const importancePanel = () => {
  if (!data.effects.length) return null;
  const factors = [...new Set(data.effects.map(([, factor]) => factor))];
  const effectOn = (metric, factor) => data.effects.find((effect) => effect[0] === metric.key && effect[1] === factor);
  const available = every.filter((metric) => data.effects.some(([key]) => key === metric.key));
  const wanted = available.filter((metric) => state.all || metric.headline);
  const rows = (wanted.length ? wanted : available).map((metric) => {
    const row = el("tr", "", metricHeader(metric));
    for (const factor of factors) {
      const [, , variance, range, levels] = effectOn(metric, factor) ?? [];
      if (!known(variance)) { row.append(el("td", "", el("span", "soft", "–"))); continue; }
      const cell = el("td", "", el("span", "value", share(variance)), filledBar("share-bar", Math.min(1, variance)), el("small", "", `range ${figure(metric, range)}`));
      row.append(titled(cell, Object.entries(levels).map(([level, value]) => `${plain(level)}: ${figure(metric, value)}`).join("\n")));
    }
    return row;
  });
  const top = el("tr", "", el("th", "", "metric"), ...factors.map((factor) => el("th", "", plain(factor))));
  return panel("Parameter importance", "Share of the variance between runs that a parameter explains (eta squared), and the range of its level means.",
    el("div", "scroll", el("table", "numbers effects", el("thead", "", top), el("tbody", "", ...rows))));
};

const noisePanel = () => {
  const keys = Object.keys(data.noise).filter((key) => known(data.noise[key]));
  if (!keys.length) return null;
  const rows = keys.map((key) => {
    const metric = metricOf.get(key) ?? { key, name: key, unit: "", known: false };
    return el("tr", "", metricHeader(metric), el("td", "", `± ${figure(metric, data.noise[key])}`));
  });
  return panel("Run-to-run noise", "The change from repeating the same strategy, or running it alone instead of in a batch. Smaller differences are marked ≈.",
    el("div", "scroll", el("table", "numbers", el("tbody", "", ...rows))));
};

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

const drawPanels = () => clear(byId("panels"), expectationsPanel(), agreementPanel(), importancePanel(), noisePanel());
