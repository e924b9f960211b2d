// The third view: a point's settings, and what sets two of them apart.

const otherPlace = () => {
  if (points.length < 2) return null;
  const other = state.other ?? data.baseline ?? 0;
  return other === state.one ? points.findIndex((_, place) => place !== state.one) : other;
};

const arrow = (one, other) => el("span", "change", plain(other ?? "–"), " → ", el("b", "", plain(one ?? "–")));

const settingChanges = (all, one, other) => {
  const a = all[one], b = all[other];
  const changes = [];
  for (const part of ["effective", "requested", "environment"]) {
    const mine = a[part] ?? {}, theirs = b[part] ?? {};
    for (const key of new Set([...Object.keys(theirs), ...Object.keys(mine)])) {
      if (mine[key] === theirs[key] || /\.name$|seconds|_mb$/.test(key) || changes.some((change) => change[0] === key)) continue;
      if (part === "requested" && key in (a.effective ?? {})) continue;
      changes.push([key, mine[key], theirs[key]]);
    }
  }
  return changes;
};

const configLine = (all, one, other) => {
  const choices = ["model", "quantization", "prompts", "decoding"].filter((name) => points[one][name] !== points[other][name]).map((name) => [name, points[one][name], points[other][name]]);
  const changes = [...choices, ...settingChanges(all, one, other)];
  if (!changes.length) return ["the same settings"];
  const told = changes.slice(0, 6).flatMap(([key, mine, theirs], i) => [i ? ", " : "", el("span", "key", plain(key.replace(/^decoding\./, ""))), " ", arrow(mine, theirs)]);
  if (changes.length > 6) told.push(`, and ${changes.length - 6} more below`);
  return told;
};

const ratioOf = (one, other) => (other ? ` (${one >= other ? "+" : "−"}${Math.abs(100 * (one / other - 1)).toFixed(0)}%)` : "");
const metricChanges = (keys, one, other) =>
  keys.filter((key) => points[one].cells[key] && points[other].cells[key]).flatMap((key, i) => {
    const metric = metricOf.get(key);
    const mine = points[one].cells[key][0], theirs = points[other].cells[key][0];
    const unit = metric.unit ? ` ${metric.unit}` : "";
    return [i ? ", " : "", el("span", "key", metric.name), " ", arrow(figure(metric, mine) + unit, figure(metric, theirs)), key.startsWith("latency/") || key.startsWith("throughput/") ? ratioOf(mine, theirs) : ""];
  });

const SPEED_KEYS = ["latency/ttft_p50_ms", "latency/itl_p50_ms", "throughput/tokens_per_s"];
const TEXT_KEYS = ["probability/mean_logprob", "text/repeated_4", "text/distinct_2", "text/output_tokens"];

// How often two points wrote the same, and where they part otherwise.
const agreement = async (one, other) => {
  let same = 0, both = 0;
  for (const prompt of await promptList()) {
    const { samples } = await textsOf(prompt);
    for (const sample of samples.filter((each) => each.p === one)) {
      const twin = samples.find((each) => each.p === other && each.n === sample.n);
      if (!twin) continue;
      both++;
      if (twin.text === sample.text) same++;
    }
  }
  return both ? `the same text ${same} of ${both} times` : "";
};

let differencesOf = null;
const drawDifferences = async (all, one, other) => {
  const box = byId("differences");
  clear(box);
  box.hidden = other === null;
  if (other === null) return;
  const texts = metricChanges(TEXT_KEYS, one, other);
  const speed = metricChanges(SPEED_KEYS, one, other);
  const written = el("span", "", "…");
  const line = (name, ...says) => el("div", "", el("dt", "", name), el("dd", "", ...says));
  box.append(
    line("Settings", ...configLine(all, one, other)),
    line("Speed", ...(speed.length ? speed : ["not timed"])),
    line("Texts", written, ...(texts.length ? ["; ", ...texts] : [])),
  );
  const mine = (differencesOf = `${one}/${other}`);
  const told = await agreement(one, other);
  if (differencesOf === mine) written.textContent = told;
};

const drawProblems = (place) => {
  const point = points[place];
  const told = [];
  if (point.error) told.push(el("p", "problem error", plain(point.error)));
  if (point.traceback) {
    const more = el("details", "", el("summary", "", "Traceback"), el("pre", "", plain(point.traceback.replace(/\n/g, "\u0000")).replace(/␀|⟨NUL⟩/g, "\n")));
    told.push(more);
  }
  for (const warning of point.warnings) told.push(el("p", "problem warning", plain(warning)));
  clear(byId("problems"), ...told);
};

const settingRows = (all, one, other) => {
  const rows = [];
  const parts = [all[one] ?? {}, other === null ? {} : (all[other] ?? {})];
  const keys = new Set();
  for (const part of ["requested", "effective"]) for (const each of parts) for (const key of Object.keys(each[part] ?? {})) keys.add(key);
  const groups = [...new Set([...keys].map((key) => key.split(".")[0]))];
  for (const group of groups)
    for (const key of [...keys].filter((each) => each.split(".")[0] === group))
      rows.push({ group, key, asked: parts[0].requested?.[key], effective: parts[0].effective?.[key] ?? parts[0].requested?.[key], has: key in (parts[0].effective ?? {}), other: parts[1].effective?.[key] ?? parts[1].requested?.[key] });
  for (const key of new Set(parts.flatMap((each) => Object.keys(each.environment ?? {}))))
    rows.push({ group: "environment", key, asked: undefined, effective: parts[0].environment?.[key], has: true, other: parts[1].environment?.[key] });
  return rows;
};

let onlyDiffering = false;
const shownSettings = (all, one, other) => {
  const words = wordsOf(byId("settings-filter").value);
  return settingRows(all, one, other).filter((row) => {
    row.changed = row.has && row.asked !== undefined && row.asked !== row.effective;
    row.apart = other !== null && row.effective !== row.other;
    return holds(`${row.group} ${row.key} ${row.asked} ${row.effective} ${row.other}`.toLowerCase(), words) && (!onlyDiffering || row.apart || row.changed);
  });
};

const drawSettings = (all, one, other) => {
  const top = el("tr", "", el("th", "", "key"), el("th", "", "requested"), el("th", "", "effective"), other === null ? null : el("th", "", pointLink(other)));
  const value = (text) => el("td", "", text === undefined ? el("span", "soft", "–") : el("code", "", plain(text)));
  const body = el("tbody");
  let group = null;
  for (const row of shownSettings(all, one, other)) {
    if (row.group !== group) {
      group = row.group;
      const title = el("th", "group", plain(group));
      title.colSpan = other === null ? 3 : 4;
      body.append(el("tr", "", title));
    }
    const name = el("th", "", plain(row.key.startsWith(`${group}.`) ? row.key.slice(group.length + 1) : row.key));
    name.scope = "row";
    body.append(el("tr", [row.changed ? "changed" : "", row.apart ? "apart" : ""].join(" ").trim(), name, value(row.asked), row.has ? value(row.effective) : el("td", "soft", "as requested"), other === null ? null : value(row.other)));
  }
  clear(byId("settings"), el("thead", "", top), body);
  byId("only-differing").setAttribute("aria-pressed", onlyDiffering);
};

let pointsReady = false;
const drawPoints = async () => {
  const again = () => drawPoints();
  if (!pointsReady) {
    pointsReady = true;
    byId("one").addEventListener("change", () => go({ one: Number(byId("one").value) }));
    byId("other").addEventListener("change", () => go({ other: Number(byId("other").value) }));
    byId("settings-filter").addEventListener("input", again);
    byId("only-differing").addEventListener("click", () => { onlyDiffering = !onlyDiffering; again(); });
    byId("pair").hidden = points.length < 2;
  }
  const one = state.one, other = otherPlace();
  clear(byId("one"), ...points.map((point, place) => option(place, point.name, place === one)));
  clear(byId("other"), ...points.map((point, place) => option(place, point.name, place === other)));
  drawProblems(one);
  const all = await settingsOf();
  const key = `${one}/${other}`;
  if (drawPoints.key !== key) { drawPoints.key = key; drawDifferences(all, one, other); }
  drawSettings(all, one, other);
};
