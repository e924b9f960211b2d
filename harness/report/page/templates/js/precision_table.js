// What each precision costs: in words, in a table, and whether strategies keep their ranking.

const DRIFT_COLUMNS = ["kl_mean", "kl_median", "kl_p90", "kl_p99", "kl_max", "same_top", "rms_dp", "perplexity_ratio", "parted", "first_divergence", "text_kl_mean", "text_perplexity", "text_bits_per_byte"].map((name) => `drift/${name}`);
const PRICE_COLUMNS = ["memory/weights_mb", "memory/cache_bytes_per_token", "memory/peak_mb", "latency/load_seconds", "latency/ttft_p50_ms", "latency/itl_p50_ms", "throughput/tokens_per_s"];
const costs = precision?.costs ?? [];
const isKl = (key) => /kl_/.test(key);
const valueIn = (cost, key) => cost.cells[key]?.[0] ?? (isReference(cost) && key === "drift/kl_mean" ? 0 : null);
const isReference = (cost) => cost.reference === null;
const referenceOf = (cost) => costs.find((other) => other.quantization === cost.reference && other.model === cost.model && other.prompts === cost.prompts) ?? null;
const several = (name) => new Set(costs.map((cost) => cost[name])).size > 1;
const costName = (cost) => plain([several("model") ? cost.model : null, several("prompts") ? cost.prompts : null, cost.quantization].filter(Boolean).join(" / "));
const costDot = (place) => {
  const node = el("i", "dot");
  node.style.background = `light-dark(${OWN_COLOURS[place % OWN_COLOURS.length]},${DARK_COLOURS[place % DARK_COLOURS.length]})`;
  node.setAttribute("aria-hidden", "true");
  return node;
};
const namedCost = (place) => el("span", "cost-name", costDot(place), costName(costs[place]));
const metricNamed = (key) => metricOf.get(key) ?? { key, name: key, says: key, unit: "", better: null, known: false, decimals: 3 };
const toldIn = (metric, value) => (isKl(metric.key) || metric.key === "drift/rms_dp" ? tiny(value) : known(value) && !Number.isInteger(value) && metric.key !== "drift/perplexity_ratio" && Math.abs(value) >= 0.1 && !metric.key.includes("same") ? digits(value, 3) : figure(metric, value));
const times = (ratio) => `${digits(ratio, ratio < 10 ? 2 : 3)}×`;

// "3.9× smaller", "0.7× as fast": against the reference.
const factorSays = (cost, key, more, less) => {
  const base = referenceOf(cost);
  const mine = valueIn(cost, key), theirs = base ? valueIn(base, key) : null;
  if (!known(mine) || !known(theirs) || !mine || !theirs) return null;
  const ratio = theirs / mine;
  if (Math.abs(Math.log(ratio)) < 0.05) return null;
  return ratio > 1 ? `${times(ratio)} ${more}` : `${times(1 / ratio)} ${less}`;
};

const costSays = (cost, place, worst) => {
  const says = [];
  const comma = () => says.push("; ");
  if (isReference(cost)) says.push("the reference");
  else if (known(valueIn(cost, "drift/kl_mean"))) {
    says.push("KL ", el("b", "", `${tiny(valueIn(cost, "drift/kl_mean"))} nats`));
    if (cost.cells["drift/kl_error"]?.[0] > 0) says.push(` (within ${tiny(cost.cells["drift/kl_error"][0])})`);
    const same = valueIn(cost, "drift/same_top");
    if (known(same)) says.push(`, the same top choice at ${percent(same)} of tokens`);
    const ratio = valueIn(cost, "drift/perplexity_ratio");
    if (known(ratio)) says.push(`, perplexity ${ratio >= 1 ? "+" : "−"}${tiny(100 * Math.abs(ratio - 1), 1)}%`);
  } else says.push("no drift kept");
  const weights = valueIn(cost, "memory/weights_mb");
  if (known(weights)) { comma(); says.push(el("b", "", `${digits(weights, 3)} MB`), " of weights"); const told = factorSays(cost, "memory/weights_mb", "smaller", "larger"); if (told) says.push(`, ${told}`); }
  const itl = valueIn(cost, "latency/itl_p50_ms");
  if (known(itl)) { comma(); says.push(el("b", "", `${digits(itl, 3)} ms`), " a token"); const told = factorSays(cost, "latency/itl_p50_ms", "faster", "slower"); if (told) says.push(`, ${told}`); }
  const load = valueIn(cost, "latency/load_seconds");
  if (known(load)) says.push(`, loads in ${digits(load, 2)} s`);
  if (worst) {
    comma();
    says.push("worst at ", worstLink(worst, quoted(worst.token.trim() || worst.token)), ` in ${plain(worst.prompt)}, KL ${tiny(worst.kl)}`);
  }
  return says;
};

const drawHeadline = async () => {
  const worst = await worstOf();
  clear(byId("precision-findings"), ...costs.map((cost, place) => el("div", "", el("dt", "", namedCost(place), cost.front ? el("span", "chip", "front") : null), el("dd", "", ...costSays(cost, place, worst[place][0])))));
};

const precisionRows = () => (state.each
  ? costs.flatMap((cost, place) => cost.points.map((point) => ({ place, point, cells: points[point].cells, cost })))
  : costs.map((cost, place) => ({ place, point: null, cells: cost.cells, cost })));
const precisionColumns = (rows) => [...DRIFT_COLUMNS, ...PRICE_COLUMNS].filter((key) => rows.some((row) => row.cells[key]));

const drawPrecisionTable = () => {
  const rows = precisionRows();
  const keys = precisionColumns(rows);
  const heads = keys.map((key) => {
    const metric = metricNamed(key);
    const cell = el("th", "", plain(metric.name), el("small", "", [metric.unit, metric.better ? `${metric.better === "lower" ? "low" : "high"} is good` : ""].filter(Boolean).join(", ") || "\u00a0"));
    cell.scope = "col";
    cell.title = `${plain(metric.says)} · ${key}`;
    return cell;
  });
  const first = el("th", "", "precision");
  first.scope = "col";
  const top = el("tr", "", first, ...heads);
  const body = el("tbody", "", ...rows.map(({ place, point, cells, cost }) => {
    const name = el("th", "", point === null ? namedCost(place) : pointLink(point));
    name.scope = "row";
    if (isReference(cost)) name.append(el("span", "chip", "reference"));
    if (point === null && cost.front) { const chip = el("span", "chip", "front"); chip.title = `no other precision is as good in all of ${precision.front.map((key) => metricNamed(key).name).join(", ")}`; name.append(chip); }
    const base = referenceOf(cost);
    const row = el("tr", isReference(cost) ? "baseline" : "", name, ...keys.map((key) => {
      const metric = metricNamed(key);
      const [value, low, high] = cells[key] ?? [null, null, null];
      const cell = el("td", "", known(value) ? el("span", "", toldIn(metric, value)) : el("span", "soft", "–"));
      if (isKl(key) && known(value)) { const bar = el("span", "kl-bar", el("i")); bar.firstChild.style.width = `${100 * fromKl(value)}%`; bar.setAttribute("aria-hidden", "true"); cell.append(bar); }
      if (known(low)) cell.append(el("small", "", `${toldIn(metric, low)} to ${toldIn(metric, high)}`));
      else if (point === null && base && PRICE_COLUMNS.includes(key) && known(value) && valueIn(base, key)) cell.append(el("small", "", times(value / valueIn(base, key))));
      return cell;
    }));
    return row;
  }));
  clear(byId("precision-table"), el("thead", "", top), body);
  byId("each-point").setAttribute("aria-pressed", state.each);
  byId("each-point").hidden = costs.every((cost) => cost.points.length < 2);
  clear(byId("precision-caption"), state.each
    ? "Each point, with 95% intervals over prompts."
    : `A precision's figures are means over its ${plural(Math.max(...costs.map((cost) => cost.points.length)), "point")} (KL max: the largest), with 95% intervals over prompts; × is against the reference. KL and the others are along the reference's own texts, as llama.cpp's --kl-divergence defines them. Bars: KL on a log scale from 10⁻⁵ to 1 nat.`);
};

// Kendall's tau of a metric over strategies, a column a precision.
const MOST_AGREEMENTS = 8;
let allAgreements = false;
const drawAgreements = () => {
  const box = byId("agreements");
  const told = precision.agreements;
  byId("agreements-part").hidden = !told.length;
  if (!told.length) return;
  const columns = [...new Set(told.map(([place]) => place))].sort((a, b) => a - b);
  const byMetric = new Map();
  for (const [place, key, strategies, rho, tau] of told) {
    if (!byMetric.has(key)) byMetric.set(key, new Map());
    byMetric.get(key).set(place, { strategies, rho, tau });
  }
  // The least agreement first, as they come; times, which also change by chance, after all others.
  const timed = (key) => Number(/^(latency|throughput)\//.test(key));
  const keys = [...byMetric.keys()].sort((a, b) => timed(a) - timed(b));
  const shown = allAgreements ? keys : keys.slice(0, MOST_AGREEMENTS);
  const says = columns.map((place) => {
    const mine = told.filter((each) => each[0] === place);
    return `${costName(costs[place])} ${mine.filter((each) => each[4] > 0.9999).length} of ${mine.length}`;
  });
  byId("agreements-caption").textContent = `Whether ${plural(Math.max(...told.map((each) => each[2])), "decoding strategy").replace("strategys", "strategies")} are ranked as they are in the reference: Kendall's τ, 1 the same order, −1 the reverse. Metrics that keep the order exactly: ${says.join(", ")}. Orders by time, which also change by chance, come last.`;
  const corner = el("th", "", "ranked by");
  corner.scope = "col";
  const top = el("tr", "", corner, ...columns.map((place) => { const cell = el("th", "", namedCost(place)); cell.scope = "col"; return cell; }));
  const body = el("tbody", "", ...shown.map((key) => {
    const name = el("th", "", plain(metricNamed(key).name));
    name.scope = "row";
    name.title = plain(key);
    return el("tr", "", name, ...columns.map((place) => {
      const found = byMetric.get(key).get(place);
      if (!found) return el("td", "soft", "–");
      const cell = el("td", "", nats(found.tau).replace(/\.000$/, "").replace(/(\.\d*?)0+$/, "$1"));
      const track = el("span", "tau", el("i"));
      track.setAttribute("aria-hidden", "true");
      track.firstChild.style.left = `${50 * (1 + Math.min(0, found.tau))}%`;
      track.firstChild.style.width = `${50 * Math.abs(found.tau)}%`;
      track.classList.toggle("against", found.tau < 0);
      cell.append(track);
      cell.title = `Spearman's ρ ${nats(found.rho)} over ${found.strategies} strategies`;
      return cell;
    }));
  }));
  clear(box, el("thead", "", top), body);
  byId("all-agreements").hidden = keys.length <= MOST_AGREEMENTS;
  byId("all-agreements").textContent = allAgreements ? "Fewer metrics" : `All ${keys.length} metrics`;
  byId("all-agreements").setAttribute("aria-pressed", allAgreements);
};

const precisionCsv = () => {
  const rows = precisionRows();
  const keys = precisionColumns(rows);
  return [
    ["model", "prompts", "quantization", ...(state.each ? ["label"] : []), "reference", "on_front", ...keys.flatMap((key) => [key, `${key} low`, `${key} high`])],
    ...rows.map(({ cost, cells, point }) => [cost.model, cost.prompts, cost.quantization, ...(state.each ? [points[point].label] : []), cost.reference, cost.front === null ? null : cost.front ? "yes" : "no",
      ...keys.flatMap((key) => [...(cells[key] ?? [null, null, null])].slice(0, 3))]),
  ];
};
