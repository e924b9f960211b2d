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

const overviewRows = () => {
  const shown = columnsShown();
  const header = ["label", "status"];
  for (const { key } of shown) header.push(key, `${key} low`, `${key} high`, ...(data.baseline === null ? [] : [`${key} difference`, `${key} difference low`, `${key} difference high`, `${key} p`, `${key} word`, `${key} verdict`, `${key} below noise`]));
  const rows = sortedPoints().map((place) => {
    const row = [points[place].label, points[place].status];
    for (const { key } of shown) {
      const [value, low, high, difference] = points[place].cells[key] ?? [];
      row.push(value, low, high);
      if (data.baseline === null) continue;
      const [mean, from, to, p, word, verdict, noise] = difference ?? [];
      row.push(mean, from, to, p, word, verdict, noise === undefined ? null : noise ? "yes" : "no");
    }
    return row;
  });
  return [header, ...rows];
};

const promptRows = async () => {
  const prompt = await openedPrompt();
  if (!prompt) return [];
  const opened = await samplesOf(prompt);
  const words = wordsOf(state.columns);
  const shown = opened.samples.filter((sample) => holds(points[sample.p].label.toLowerCase(), words) && (state.sample === "all" || String(sample.n) === state.sample));
  const columns = [...new Set(shown.flatMap((sample) => Object.keys(sample.m)))];
  const names = [...new Set(data.feedback.filter((said) => said[1] === prompt.id).map((said) => said[3]))];
  const header = ["prompt_id", "label", "sample", "output", "finish_reason", "output_tokens", "mean_logprob", "parts_from", "parts_at_token", ...columns, ...names.map((name) => `feedback ${name}`)];
  const rows = shown.map((sample) => {
    const other = counterpart(opened.samples, sample);
    const at = other ? partsAt(sample, other) : null;
    const said = names.map((name) => data.feedback.filter((each) => ofSample(each, prompt, sample) && each[3] === name).map((each) => each[4]).join("; "));
    return [prompt.id, points[sample.p].label, sample.n, sample.text, sample.finish, sample.tokens, sample.logprob, other ? points[other.p].label : null, at === null ? null : at + 1, ...columns.map((name) => sample.m[name]), ...said];
  });
  return [header, ...rows];
};

const settingsRows = async () => {
  const one = state.one, other = otherPlace();
  const rows = shownSettings(await settingsOf(), one, other);
  const header = ["key", "requested", "effective", ...(other === null ? [] : [points[other].label])];
  return [header, ...rows.map((row) => [row.key, row.asked, row.effective, ...(other === null ? [] : [row.other])])];
};

const EXPORTS = {
  overview: ["The table of points, with its columns and order", overviewRows],
  prompts: ["The samples of this prompt", promptRows],
  points: ["The settings of this point", settingsRows],
  precision: ["The table of precisions", precisionCsv],
};

const openExport = async () => {
  const [what, rows] = EXPORTS[state.view];
  const text = csvOf(await rows());
  byId("export-what").textContent = `${what}. Where a download is not allowed, as in MLflow's viewer, copy the text.`;
  byId("export-text").value = text;
  byId("copied").textContent = "";
  byId("export").showModal();
};

const readyExport = () => {
  byId("open-export").addEventListener("click", openExport);
  byId("download").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([byId("export-text").value], { type: "text/csv" }));
    const here = el("a");
    here.href = address;
    here.download = `${data.label.replace(/[^A-Za-z0-9._-]+/g, "-") || "comparison"}-${state.view}.csv`;
    here.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
  byId("copy").addEventListener("click", async () => {
    const box = byId("export-text");
    box.select();
    let done = false;
    try { await navigator.clipboard.writeText(box.value); done = true; } catch { done = document.execCommand("copy"); }
    byId("copied").textContent = done ? "copied" : "selected: press Ctrl+C";
  });
};
