// The view Quantization: what each quantization costs, and its drift token by token.

const quantizationDrawn = {}; // the choices with which the table, the charts and the tokens were drawn
const readyQuantization = once(() => {
  clear(byId("quantization-notes"), ...quantization.notes.map((note) => el("p", "note", plain(note))));
  byId("per-run").addEventListener("click", () => go({ per_run: !state.per_run }, false));
  byId("all-agreements").addEventListener("click", () => { allAgreements = !allAgreements; drawAgreements(); });
  byId("worst-of").addEventListener("change", () => go({ worst: byId("worst-of").value || null }, false));
  byId("drifted").addEventListener("change", () => go({ drifted: Number(byId("drifted").value), at: null }));
  byId("drifted-prompt").addEventListener("change", () => go({ drifted_prompt: byId("drifted-prompt").value, at: null }));
  byId("worst-next").addEventListener("click", () => stepWorst(1));
  byId("worst-before").addEventListener("click", () => stepWorst(-1));
  themed.add(() => { drawKlLegend(); if (state.view === "quantization") drawQuantizationCharts(); else quantizationDrawn.charts = null; });
  drawKlLegend();
  drawCostSentences();
  drawAgreements();
});
const drawQuantization = async () => {
  readyQuantization();
  const shown = { table: state.per_run, charts: `${state.drift_axis}|${state.cost_axis}`, worst: state.worst };
  const [table, charts, worst] = ["table", "charts", "worst"].map((name) => quantizationDrawn[name] !== shown[name]);
  Object.assign(quantizationDrawn, shown);
  if (table) drawQuantizationTable();
  if (charts) drawQuantizationCharts();
  if (worst) await drawWorst();
  await drawReading();
};
