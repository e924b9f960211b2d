// What each quantization costs: as sentences, as a table, and whether the strategy ranking is preserved.

// Size, speed, KL, same top token and perplexity first.
const FIRST_COLUMNS = ["memory/weights_mb", "latency/itl_p50_ms", "cost/decode_tokens_per_s", "cost/max_allocated_mb", "cost/energy_j_per_token", "drift/kl_mean", "drift/same_top", "drift/perplexity_ratio"];
const DRIFT_COLUMNS = ["kl_median", "kl_p90", "kl_p99", "kl_max", "rms_dp", "parted", "first_divergence", "text_kl_mean", "text_perplexity", "text_bits_per_byte"].map((name) => `drift/${name}`);
const COST_COLUMNS = ["memory/weights_mb", "memory/cache_bytes_per_token", "memory/peak_mb", "latency/load_seconds", "latency/ttft_p50_ms", "latency/itl_p50_ms", "throughput/tokens_per_s",
  "cost/prefill_p50_ms", "cost/decode_tokens_per_s", "cost/max_allocated_mb", "cost/max_reserved_mb", "cost/max_used_mb", "cost/energy_j_per_token", "cost/energy_j_prefill", "cost/tokens_per_kwh", "energy/j_per_token"];
const costs = quantization?.costs ?? [];
const isKl = (key) => /kl_/.test(key);
const isReference = (cost) => cost.reference === null;
const valueIn = (cost, key) => cost.cells[key]?.[0] ?? (isReference(cost) && key === "drift/kl_mean" ? 0 : null);
const referenceOf = (cost) => costs.find((other) => other.quantization === cost.reference && other.model === (cost.reference_model ?? cost.model) && other.prompts === cost.prompts) ?? null;
const varies = (name) => new Set(costs.map((cost) => cost[name])).size > 1;
// A checkpoint that was stored quantized, as it is: `Q4_1, dequantized`.
const precisionName = (cost) => (cost.stored === null ? cost.quantization : cost.quantization === "none" ? cost.stored : `${cost.quantization} of ${cost.stored}`);
const costName = (cost) => plain([varies("model") ? cost.model : null, varies("prompts") ? cost.prompts : null, precisionName(cost)].filter(Boolean).join(" / "));
// In this view a run's hue would be its strategy: a quantization has the shape and the dash of its runs, in one colour.
const costHue = (index) => (hueChoice === "decoding" || hueChoice === null || manyHues || !costs[index].points.length ? null : hueOf(costs[index].points[0]));
const costColour = (index) => (costHue(index) === null ? cssColour("--accent") : toneOf(costHue(index), null, isDark()));
const costShape = (index) => SHAPES[costMark(index)];
const costMark = (index) => (costHue(index) === null && shapeLevels.length < costs.length ? index % SHAPES.length : costs[index].points.length ? shapeIndex(costs[index].points[0]) : 0);
const costDot = (index) => dotOf(costHue(index) === null ? "var(--accent)" : themedColour(costHue(index), null), costShape(index));
const namedCost = (index) => el("span", "cost-name", costDot(index), costName(costs[index]));
const metricNamed = (key) => metricOf.get(key) ?? { key, name: key, description: key, unit: "", better: null, known: false, decimals: 3 };
const valueText = (metric, value) => {
  if (isKl(metric.key) || metric.key === "drift/rms_dp") return scientific(value);
  const rounded = known(value) && !Number.isInteger(value) && Math.abs(value) >= 0.1 && metric.key !== "drift/perplexity_ratio" && !metric.key.includes("same");
  return rounded ? digits(value, 3) : figure(metric, value);
};
const times = (ratio) => `${digits(ratio, ratio < 10 ? 2 : 3)}×`;
const paretoTitle = () => `not dominated on ${quantization.front.map((key) => metricNamed(key).name).join(", ")}`;

// "3.9× smaller", "1.4× slower", compared with the reference; null where they are about equal.
const ratioSentence = (cost, key, more, less) => {
  const base = referenceOf(cost);
  const mine = valueIn(cost, key), theirs = base ? valueIn(base, key) : null;
  if (!mine || !theirs) return null;
  const ratio = theirs / mine;
  if (Math.abs(Math.log(ratio)) < 0.05) return null;
  return ratio > 1 ? `${times(ratio)} ${more}` : `${times(1 / ratio)} ${less}`;
};

const costSentence = (cost, worst) => {
  const spans = [];
  if (isReference(cost)) spans.push("the reference");
  else if (known(valueIn(cost, "drift/kl_mean"))) {
    spans.push("KL ", el("b", "", `${scientific(valueIn(cost, "drift/kl_mean"))} nats`));
    if (cost.cells["drift/kl_error"]?.[0] > 0) spans.push(` (± ${scientific(cost.cells["drift/kl_error"][0])})`);
    const same = valueIn(cost, "drift/same_top");
    if (known(same)) spans.push(`, same top token at ${percent(same)} of positions`);
    const ratio = valueIn(cost, "drift/perplexity_ratio");
    if (known(ratio)) spans.push(`, perplexity ${changePercent(ratio)}`);
  } else spans.push("drift was not measured");
  const add = (key, format, rest, more, less) => {
    const value = valueIn(cost, key);
    if (!known(value)) return;
    spans.push("; ", el("b", "", format(value)), rest);
    const ratio = ratioSentence(cost, key, more, less);
    if (ratio) spans.push(`, ${ratio}`);
  };
  add("memory/weights_mb", (value) => `${digits(value, 3)} MB`, " of weights", "smaller", "larger");
  add("latency/itl_p50_ms", (value) => `${digits(value, 3)} ms`, " per token", "faster", "slower");
  add("cost/decode_tokens_per_s", (value) => `${digits(value, 3)} tokens/s`, " of the model by itself", "slower", "faster");
  add("cost/energy_j_per_token", (value) => `${digits(value, 3)} J`, " per token", "less", "more");
  const load = valueIn(cost, "latency/load_seconds");
  if (known(load)) spans.push(`, loads in ${digits(load, 2)} s`);
  if (worst) spans.push("; largest KL at ", worstLink(worst, quoted(worst.token.trim() || worst.token)), ` in ${plain(worst.prompt)}, ${scientific(worst.kl)} nats`);
  return spans;
};

const drawCostSentences = async () => {
  const worst = await worstSteps();
  clear(byId("quantization-findings"), ...costs.map((cost, i) => el("div", "", el("dt", "", namedCost(i), cost.front ? chip("Pareto-optimal", paretoTitle()) : null), el("dd", "", ...costSentence(cost, worst[i][0])))));
};

const quantizationRows = () => (state.per_run
  ? costs.flatMap((cost, index) => cost.points.map((point) => ({ index, point, cells: points[point].cells, cost })))
  : costs.map((cost, index) => ({ index, point: null, cells: cost.cells, cost })));
const quantizationColumns = (rows) => [...new Set([...FIRST_COLUMNS, ...DRIFT_COLUMNS, ...COST_COLUMNS])].filter((key) => rows.some((row) => row.cells[key]));

const costCell = (cost, point, key, [value, low, high]) => {
  const metric = metricNamed(key);
  const cell = el("td", "", known(value) ? el("span", "", valueText(metric, value)) : el("span", "soft", "–"));
  if (isKl(key) && known(value)) cell.append(filledBar("kl-bar", fromKl(value)));
  const base = referenceOf(cost);
  if (known(low)) cell.append(el("small", "", `${valueText(metric, low)} to ${valueText(metric, high)}`));
  else if (point === null && base && COST_COLUMNS.includes(key) && known(value) && valueIn(base, key)) cell.append(el("small", "", times(value / valueIn(base, key))));
  return cell;
};

const drawQuantizationTable = () => {
  const rows = quantizationRows();
  const keys = quantizationColumns(rows);
  const heads = keys.map((key) => {
    const metric = metricNamed(key);
    return titled(headCell("col", plain(metric.name), unitLine(metric)), `${plain(metric.description)} · ${key}`);
  });
  const first = headCell("col", state.per_run ? "run" : "quantization");
  const body = el("tbody", "", ...rows.map(({ index, point, cells, cost }) => {
    const name = headCell("row", point === null ? namedCost(index) : pointLink(point), isReference(cost) ? el("span", "chip", "reference") : null);
    if (point === null && cost.front) name.append(chip("Pareto-optimal", paretoTitle()));
    return el("tr", isReference(cost) ? "baseline" : "", name, ...keys.map((key) => costCell(cost, point, key, cells[key] ?? [])));
  }));
  clear(byId("quantization-table"), el("thead", "", el("tr", "", first, ...heads)), body);
  pressed("per-run", state.per_run);
  byId("per-run").hidden = costs.every((cost) => cost.points.length < 2);
  clear(byId("quantization-caption"), state.per_run
    ? "One row per run, with 95% confidence intervals over prompts."
    : `Means over the ${plural(Math.max(...costs.map((cost) => cost.points.length)), "run")} of a quantization (KL max: the largest), with 95% confidence intervals over prompts; × compared with the reference. KL and the other drift metrics are computed along the reference's own outputs, as llama.cpp's --kl-divergence defines them. Bars: KL on a log scale from 10⁻⁵ to 1 nat.`);
};

// ---- whether the strategy ranking is preserved

const MOST_AGREEMENTS = 8;
let allAgreements = false;
const drawAgreements = () => {
  const box = byId("agreements");
  const { agreements } = quantization;
  byId("agreements-section").hidden = !agreements.length;
  if (!agreements.length) return;
  const columns = [...new Set(agreements.map(([cost]) => cost))].sort((a, b) => a - b);
  // The least agreement first, as they come; measured times, which also vary from run to run, last.
  const timed = (key) => Number(/^(latency|throughput)\//.test(key));
  const keys = [...new Set(agreements.map(([, key]) => key))].sort((a, b) => timed(a) - timed(b));
  const shown = allAgreements ? keys : keys.slice(0, MOST_AGREEMENTS);
  const preserved = columns.map((cost) => {
    const mine = agreements.filter((each) => each[0] === cost);
    return `${costName(costs[cost])} ${mine.filter((each) => each[4] > 0.9999).length} of ${mine.length}`;
  });
  byId("agreements-caption").textContent = `Kendall's τ between the ranking of ${plural(Math.max(...agreements.map((each) => each[2])), "decoding strategy")} here and in the reference: 1 the same order, −1 the reverse. Metrics whose order is preserved exactly: ${preserved.join(", ")}. Measured times, which also vary from run to run, come last.`;
  const agreementCell = (key, cost) => {
    const found = agreements.find((each) => each[0] === cost && each[1] === key);
    if (!found) return el("td", "soft", "–");
    const [, , strategies, rho, tau] = found;
    const track = filledBar(tau < 0 ? "tau negative" : "tau", Math.abs(tau) / 2);
    track.firstChild.style.left = `${50 * (1 + Math.min(0, tau))}%`;
    const cell = el("td", "", nats(tau).replace(/\.000$/, "").replace(/(\.\d*?)0+$/, "$1"), track);
    return titled(cell, `Spearman's ρ ${nats(rho)} over ${plural(strategies, "strategy")}`);
  };
  const top = el("tr", "", headCell("col", "ranked by"), ...columns.map((cost) => headCell("col", namedCost(cost))));
  const body = el("tbody", "", ...shown.map((key) =>
    el("tr", "", titled(headCell("row", plain(metricNamed(key).name)), plain(key)), ...columns.map((cost) => agreementCell(key, cost)))));
  clear(box, el("thead", "", top), body);
  byId("all-agreements").hidden = keys.length <= MOST_AGREEMENTS;
  byId("all-agreements").textContent = allAgreements ? `First ${MOST_AGREEMENTS} metrics only` : `All ${keys.length} metrics`;
  pressed("all-agreements", allAgreements);
};

const quantizationCsv = () => {
  const rows = quantizationRows();
  const keys = quantizationColumns(rows);
  return [
    ["model", "prompts", "quantization", ...(state.per_run ? ["label"] : []), "reference", "on_front", ...keys.flatMap((key) => [key, `${key} low`, `${key} high`])],
    ...rows.map(({ cost, cells, point }) => [cost.model, cost.prompts, cost.quantization, ...(state.per_run ? [points[point].label] : []), cost.reference, cost.front === null ? null : cost.front ? "yes" : "no",
      ...keys.flatMap((key) => [...(cells[key] ?? [null, null, null])].slice(0, 3))]),
  ];
};
