// What is shown, as CSV: a file where downloads are allowed, else text to copy.

// A text that a spreadsheet would read as a formula is kept a text by an apostrophe, as OWASP advises.
const csvCell = (value) => {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  let text = String(value).replace(/\p{Cs}/gu, "\ufffd");
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
const csvOf = (rows) => rows.map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";

const DIFFERENCE = ["difference", "difference low", "difference high", "p", "word", "verdict", "below noise"];
const overviewRows = () => {
  const shown = columnsShown();
  const columns = ["low", "high", ...(data.baseline === null ? [] : DIFFERENCE)];
  const header = ["label", "status", ...shown.flatMap(({ key }) => [key, ...columns.map((column) => `${key} ${column}`)])];
  const rows = sortedPoints().map((point) => [points[point].label, points[point].status, ...shown.flatMap(({ key }) => {
    const [value, low, high, difference = []] = points[point].cells[key] ?? [];
    const [mean, from, to, p, word, verdict, noise] = difference;
    return [value, low, high, mean, from, to, p, word, verdict, known(noise) ? (noise ? "yes" : "no") : null].slice(0, 1 + columns.length);
  })]);
  return [header, ...rows];
};

const promptRows = async () => {
  const prompt = await openedPrompt();
  if (!prompt) return [];
  const opened = await samplesOf(prompt);
  const shown = opened.samples.filter((sample) => matchesFilter(sample.point) && inSelection(sample));
  const metrics = [...new Set(shown.flatMap((sample) => Object.keys(sample.metrics)))];
  const feedback = [...new Set(data.feedback.filter((each) => each.prompt === prompt.id).map((each) => each.name))];
  const header = ["prompt_id", "label", "sample", "output", "finish_reason", "output_tokens", "mean_logprob", "diverges_from", "first_divergence", ...metrics, ...feedback.map((name) => `feedback ${name}`)];
  const rows = shown.map((sample) => {
    const other = counterpart(opened.samples, sample);
    const at = other ? divergesAt(sample, other) : null;
    const values = feedback.map((name) => data.feedback.filter((each) => isOfSample(each, prompt, sample) && each.name === name).map((each) => each.value).join("; "));
    return [prompt.id, points[sample.point].label, sample.sample, sample.text, sample.finish, sample.tokens, sample.logprob, other ? points[other.point].label : null, at === null ? null : at[0] + 1, ...metrics.map((name) => sample.metrics[name]), ...values];
  });
  return [header, ...rows];
};

const settingsRows = async () => {
  const other = otherRun();
  const rows = shownSettings(await allSettings(), state.run, other);
  const header = ["key", "requested", "effective", ...(other === null ? [] : [points[other].label])];
  return [header, ...rows.map((row) => [row.key, row.requested, row.effective, ...(other === null ? [] : [row.other])])];
};

const EXPORTS = {
  overview: ["The table of runs, with its columns and order", overviewRows],
  prompts: ["The samples of this prompt", promptRows],
  runs: ["The settings of this run", settingsRows],
  quantization: ["The table of quantizations", quantizationCsv],
};

// Show a file to download, or to copy where downloads are not allowed.
const fileName = (text) => text.replace(/[^A-Za-z0-9._-]+/g, "-") || "comparison";
let exported = { download: "", type: "" };
const showExport = (title, what, text, download, type, note = "") => {
  exported = { download, type };
  byId("h-export").textContent = title;
  byId("export-what").textContent = `${what}. Where downloads are not allowed, as in MLflow's viewer, copy the text. ${note}`;
  byId("export-text").value = text;
  byId("export-text").setAttribute("aria-label", title);
  byId("copied").textContent = "";
  byId("export").showModal();
};

const openExport = async () => {
  const [what, rows] = EXPORTS[state.view];
  showExport("Export CSV", what, csvOf(await rows()), `${fileName(data.label)}-${state.view}.csv`, "text/csv");
};

const readyExport = () => {
  byId("open-export").addEventListener("click", openExport);
  byId("download").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([byId("export-text").value], { type: exported.type }));
    Object.assign(el("a"), { href: address, download: exported.download }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
  byId("copy").addEventListener("click", async () => {
    const box = byId("export-text");
    box.select();
    let copied = false;
    try { await navigator.clipboard.writeText(box.value); copied = true; } catch { copied = document.execCommand("copy"); }
    byId("copied").textContent = copied ? "copied" : "selected: press Ctrl+C";
  });
};
