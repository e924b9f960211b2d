// The view Quantization: what each quantization costs, and its drift token by token.

let quantizationDrawn = null;
const drawQuantization = async () => {
  if (!quantizationDrawn) {
    quantizationDrawn = {};
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
  }
  if (quantizationDrawn.table !== state.per_run) { quantizationDrawn.table = state.per_run; drawQuantizationTable(); }
  const charts = `${state.drift_axis}|${state.cost_axis}`;
  if (quantizationDrawn.charts !== charts) { quantizationDrawn.charts = charts; drawQuantizationCharts(); }
  if (quantizationDrawn.worst !== state.worst) { quantizationDrawn.worst = state.worst; await drawWorst(); }
  await drawReading();
};
