// How far the outputs of the runs agree, pair by pair; a pair opens its outputs.

const openPair = (one, other) => {
  const shown = new Set([one, other]);
  const hide = points.filter((_, point) => !shown.has(point)).map((point) => encoded(point.label)).join(",");
  go({ view: "prompts", layout: "columns", vs: one, hide, filter: "", identical: true });
};

const agreementPanel = () => {
  if (!data.agreement) return null;
  const { unit, prompts, matrix } = data.agreement;
  const rows = pointIndices.filter((point) => matrix[point].some(known));
  if (rows.length < 2) return null;
  const names = namesAmong(rows), few = rows.length <= 14;
  const numberOf = (i) => el("span", "number", String(i + 1));
  const top = el("tr", "", el("th"), ...rows.map((point, i) => titled(headCell("col", numberOf(i)), plain(points[point].label))));
  const cell = (one, other) => {
    const value = matrix[one][other];
    if (!known(value)) return el("td", "soft", "–");
    if (one === other) return el("td", "self");
    const text = value === 1 ? "1" : Math.min(value, 0.99).toFixed(2).slice(1);
    const open = button("", `${plain(points[one].name)} and ${plain(points[other].name)}: ${share(value)} of ${unit}s before they diverge`, few ? text : "");
    open.setAttribute("aria-label", open.title);
    open.style.setProperty("--share", `${Math.round(100 * value)}%`);
    if (value > 0.6) open.classList.add("full");
    open.addEventListener("click", () => openPair(one, other));
    return el("td", "", open);
  };
  const body = rows.map((point, i) => el("tr", "", titled(headCell("row", numberOf(i), dot(point), breakable(names.get(point).slice(0, 300))), plain(points[point].label)), ...rows.map((other) => cell(point, other))));
  const of = known(data.promptCount) && prompts < data.promptCount ? ` of the first ${plural(prompts, "prompt")}` : "";
  const box = panel("Agreement of outputs", `Share of an output's ${unit}s that two runs have in common before they diverge, mean over prompts${of}. A cell opens the pair's outputs.`,
    el("div", "scroll", el("table", `agreement ${few ? "few" : ""}`, el("thead", "", top), el("tbody", "", ...body))));
  return Object.assign(box, { id: "agreement", className: few ? "panel" : "panel wide" });
};
