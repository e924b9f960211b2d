// Names of runs: in parts, of which those that all runs share can be left out.

const CHOICES = ["model", "quantization", "prompts", "decoding"];
const nameChoices = CHOICES.filter((choice) => new Set(points.map((point) => point[choice])).size > 1);

// The parts of a run's name: its choices that vary, and the keys that do; the whole name where it is made otherwise.
const nameParts = (point) => {
  const choices = nameChoices.map((choice) => points[point][choice]);
  const { name } = points[point], start = choices.join("/");
  if (!choices.length || !(name === start || name.startsWith(`${start} `))) return [name];
  const keys = name.slice(start.length).trim();
  return keys ? [...choices.slice(0, -1), `${choices.at(-1)} ${keys}`] : choices;
};

// The name in parts above each other, the strategy last.
const stackedName = (point) => el("span", "stacked", ...nameParts(point).map((each) => el("span", "", breakable(each.slice(0, 300)))));

// By run, its name without the parts that these runs have in common.
const namesAmong = (some) => {
  const parts = new Map(some.map((point) => [point, nameParts(point)]));
  const all = [...parts.values()];
  let common = 0;
  while (all.length > 1 && all.every((each) => each.length > common + 1 && each[common] === all[0][common])) common++;
  return new Map([...parts].map(([point, each]) => [point, each.slice(common).join("/")]));
};

// Which runs the view Prompts shows: those that are not hidden, and match the filter.
const hiddenRuns = () => new Set(state.hide.split(",").filter(Boolean).map(decoded));
const isFound = (point) => includesAll(points[point].label.toLowerCase(), wordsOf(state.filter));
const matchesFilter = (point) => isFound(point) && !hiddenRuns().has(points[point].label);
const hideRuns = (labels) => go({ hide: [...labels].map(encoded).join(",") }, false);

const drawRunPicker = () => {
  const hidden = hiddenRuns(), box = byId("run-picker");
  const shown = pointIndices.filter(matchesFilter).length;
  byId("open-runs").textContent = shown < points.length ? `Runs ${shown} of ${points.length}` : "Runs";
  if (box.hidden) return;
  const focused = document.activeElement?.closest?.("#run-picker") ? document.activeElement.dataset.point : null;
  for (const old of box.querySelectorAll(".run")) old.remove();
  box.append(...pointIndices.filter(isFound).map((point) => {
    const { label } = points[point];
    const check = Object.assign(el("input"), { type: "checkbox", checked: !hidden.has(label) });
    check.dataset.point = point;
    check.addEventListener("change", () => {
      const next = hiddenRuns();
      if (check.checked) next.delete(label);
      else next.add(label);
      hideRuns(next);
    });
    const only = button("inline only", `Only ${plain(label)}`, "only");
    only.addEventListener("click", () => hideRuns(points.map((each) => each.label).filter((each) => each !== label)));
    return el("div", "run", el("label", "", check, dot(point), breakable(points[point].name.slice(0, 300))), only);
  }));
  if (focused !== null && focused !== undefined) box.querySelector(`input[data-point="${focused}"]`)?.focus();
};

const readyRunPicker = () => {
  byId("open-runs").addEventListener("click", () => {
    byId("run-picker").hidden = !byId("run-picker").hidden;
    byId("open-runs").setAttribute("aria-expanded", !byId("run-picker").hidden);
    drawRunPicker();
  });
  byId("all-runs").addEventListener("click", () => hideRuns([]));
  byId("no-runs").addEventListener("click", () => hideRuns(points.map((point) => point.label)));
  byId("identical").addEventListener("click", () => go({ identical: !state.identical }, false));
};
