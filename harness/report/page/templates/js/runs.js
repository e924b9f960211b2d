// The view Runs: a run's settings, and its differences from another one.

const otherRun = () => {
  if (points.length < 2) return null;
  const other = state.other ?? data.baseline ?? 0;
  return other === state.run ? pointIndices.find((point) => point !== state.run) : other;
};

const change = (before, after) => el("span", "change", plain(before ?? "–"), " → ", el("b", "", plain(after ?? "–")));

// Settings that differ: [key, value of the run, value of the other].
const settingChanges = (all, run, other) => {
  const changes = ["model", "quantization", "prompts", "decoding"].filter((name) => points[run][name] !== points[other][name]).map((name) => [name, points[run][name], points[other][name]]);
  for (const section of ["effective", "requested", "environment"]) {
    const mine = all[run][section] ?? {}, theirs = all[other][section] ?? {};
    for (const key of new Set([...Object.keys(theirs), ...Object.keys(mine)])) {
      if (mine[key] === theirs[key] || /\.name$|seconds|_mb$/.test(key) || changes.some((each) => each[0] === key)) continue;
      if (section === "requested" && key in (all[run].effective ?? {})) continue;
      changes.push([key, mine[key], theirs[key]]);
    }
  }
  return changes;
};

const settingsSentence = (all, run, other) => {
  const changes = settingChanges(all, run, other);
  if (!changes.length) return ["the same settings"];
  const sentence = changes.slice(0, 6).flatMap(([key, mine, theirs], i) => [i ? ", " : "", el("span", "key", plain(key.replace(/^decoding\./, ""))), " ", change(theirs, mine)]);
  if (changes.length > 6) sentence.push(`, and ${changes.length - 6} more below`);
  return sentence;
};

const ratioText = (value, other) => (other ? ` (${value >= other ? "+" : "−"}${Math.abs(100 * (value / other - 1)).toFixed(0)}%)` : "");
const metricChanges = (keys, run, other) =>
  keys.filter((key) => points[run].cells[key] && points[other].cells[key]).flatMap((key, i) => {
    const metric = metricOf.get(key);
    const mine = points[run].cells[key][0], theirs = points[other].cells[key][0];
    const unit = metric.unit ? ` ${metric.unit}` : "";
    return [i ? ", " : "", el("span", "key", metric.name), " ", change(figure(metric, theirs), figure(metric, mine) + unit), key.startsWith("latency/") || key.startsWith("throughput/") ? ratioText(mine, theirs) : ""];
  });

const SPEED_KEYS = ["latency/ttft_p50_ms", "latency/itl_p50_ms", "throughput/tokens_per_s"];
const TEXT_KEYS = [...new Set([data.answer?.goal, "reference/chrf", "reference/exact_match", "probability/mean_logprob", "text/repeated_4", "text/distinct_2", "text/output_tokens"])].filter((key) => metricOf.has(key));

// How often two runs generated the same output.
const identicalOutputs = async (run, other) => {
  let identical = 0, pairs = 0;
  for (const prompt of await promptList()) {
    const { samples } = await textsOf(prompt);
    for (const sample of samples.filter((each) => each.point === run)) {
      const twin = samples.find((each) => each.point === other && each.sample === sample.sample);
      if (!twin) continue;
      pairs++;
      if (twin.text === sample.text) identical++;
    }
  }
  return pairs ? `${identical} of ${pairs} identical` : "none to compare";
};

let differencesOf = null;
const drawDifferences = async (all, run, other) => {
  const mine = (differencesOf = `${run}/${other}`);
  const box = clear(byId("differences"));
  box.hidden = other === null;
  if (other === null) return;
  const texts = metricChanges(TEXT_KEYS, run, other);
  const speed = metricChanges(SPEED_KEYS, run, other);
  const identical = el("span", "", "…");
  const line = (name, ...children) => el("div", "", el("dt", "", name), el("dd", "", ...children));
  box.append(
    line("Settings", ...settingsSentence(all, run, other)),
    line("Speed", ...(speed.length ? speed : ["not measured"])),
    line("Outputs", identical, ...(texts.length ? ["; ", ...texts] : [])),
  );
  const text = await identicalOutputs(run, other);
  if (differencesOf === mine) identical.textContent = text;
};

const drawProblems = ({ error, traceback, warnings, selected }) => clear(
  byId("problems"),
  selected ? el("p", "caption", selectedText({ selected })) : null,
  error ? el("p", "problem error", plain(error)) : null,
  traceback ? el("details", "", el("summary", "", "Traceback"), el("pre", "", traceback.split("\n").map(plain).join("\n"))) : null,
  ...warnings.map((warning) => el("p", "problem warning", plain(warning))),
);

const settingRows = (all, run, other) => {
  const mine = all[run] ?? {}, theirs = other === null ? {} : (all[other] ?? {});
  const keysOf = (...sections) => new Set(sections.flatMap((section) => [mine, theirs].flatMap((each) => Object.keys(each[section] ?? {}))));
  const groups = Map.groupBy(keysOf("requested", "effective"), (key) => key.split(".")[0]);
  const configured = [...groups].flatMap(([group, keys]) => keys.map((key) => ({
    group, key, requested: mine.requested?.[key], effective: mine.effective?.[key] ?? mine.requested?.[key],
    resolved: key in (mine.effective ?? {}), other: theirs.effective?.[key] ?? theirs.requested?.[key],
  })));
  const environment = [...keysOf("environment")].map((key) => ({ group: "environment", key, effective: mine.environment?.[key], resolved: true, other: theirs.environment?.[key] }));
  return [...configured, ...environment];
};

let differencesOnly = false;
const shownSettings = (all, run, other) => {
  const words = wordsOf(byId("settings-filter").value);
  return settingRows(all, run, other).filter((row) => {
    row.changed = row.resolved && row.requested !== undefined && row.requested !== row.effective;
    row.differs = other !== null && row.effective !== row.other;
    return includesAll(`${row.group} ${row.key} ${row.requested} ${row.effective} ${row.other}`.toLowerCase(), words) && (!differencesOnly || row.differs || row.changed);
  });
};

const drawSettings = (all, run, other) => {
  const top = el("tr", "", el("th", "", "key"), el("th", "", "requested"), el("th", "", "effective"), other === null ? null : el("th", "", pointLink(other)));
  const value = (text) => el("td", "", text === undefined ? el("span", "soft", "–") : el("code", "", plain(text)));
  const body = el("tbody");
  let group = null;
  for (const row of shownSettings(all, run, other)) {
    if (row.group !== group) {
      group = row.group;
      body.append(el("tr", "", Object.assign(el("th", "group", plain(group)), { colSpan: other === null ? 3 : 4 })));
    }
    const name = headCell("row", plain(row.key.startsWith(`${group}.`) ? row.key.slice(group.length + 1) : row.key));
    body.append(el("tr", [row.changed ? "changed" : "", row.differs ? "differs" : ""].join(" ").trim(), name, value(row.requested), row.resolved ? value(row.effective) : el("td", "soft", "same"), other === null ? null : value(row.other)));
  }
  clear(byId("settings"), el("thead", "", top), body);
  pressed("differences-only", differencesOnly);
};

const readyRuns = once(() => {
  byId("run").addEventListener("change", () => go({ run: Number(byId("run").value) }));
  byId("other").addEventListener("change", () => go({ other: Number(byId("other").value) }));
  byId("settings-filter").addEventListener("input", () => drawRuns());
  byId("differences-only").addEventListener("click", () => { differencesOnly = !differencesOnly; drawRuns(); });
  byId("pair").hidden = points.length < 2;
});
const drawRuns = async () => {
  readyRuns();
  const { run } = state, other = otherRun();
  clear(byId("run"), ...pointOptions(run));
  clear(byId("other"), ...pointOptions(other));
  drawProblems(points[run]);
  const all = await allSettings();
  if (differencesOf !== `${run}/${other}`) drawDifferences(all, run, other);
  drawSettings(all, run, other);
};
