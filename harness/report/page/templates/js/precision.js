// The fourth view: which precision, at what price, on which tokens.

let precisionDrawn = null;
const drawPrecision = async () => {
  if (!precisionDrawn) {
    precisionDrawn = {};
    clear(byId("precision-notes"), ...precision.notes.map((note) => el("p", "note", plain(note))));
    byId("each-point").addEventListener("click", () => go({ each: !state.each }, false));
    byId("all-agreements").addEventListener("click", () => { allAgreements = !allAgreements; drawAgreements(); });
    byId("worst-of").addEventListener("change", () => go({ worst: byId("worst-of").value || null }, false));
    byId("drifted").addEventListener("change", () => go({ drifted: Number(byId("drifted").value), at: null }));
    byId("drift-text").addEventListener("change", () => go({ text: byId("drift-text").value, at: null }));
    byId("worst-next").addEventListener("click", () => stepWorst(1));
    byId("worst-before").addEventListener("click", () => stepWorst(-1));
    themed.add(() => { drawKlLegend(); if (state.view === "precision") drawPrecisionCharts(); else precisionDrawn.charts = null; });
    drawKlLegend();
    drawHeadline();
    drawAgreements();
  }
  if (precisionDrawn.table !== state.each) { precisionDrawn.table = state.each; drawPrecisionTable(); }
  const charts = `${state.dx}|${state.dy}`;
  if (precisionDrawn.charts !== charts) { precisionDrawn.charts = charts; drawPrecisionCharts(); }
  if (precisionDrawn.worst !== state.worst) { precisionDrawn.worst = state.worst; await drawWorst(); }
  await drawReading();
};
