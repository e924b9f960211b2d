// The answer of the sweep: sentences with links and the figures behind them.

const spanNode = (span) => {
  if (typeof span === "string") return plain(span);
  return span.point === undefined ? link({ view: "prompts", prompt: span.prompt }, named(span.prompt)) : pointLink(span.point);
};

const drawAnswer = () => {
  const rows = (data.answer?.sentences ?? []).map(({ title, tone, spans, evidence }) => [plain(title), tone, spans.map(spanNode), evidence]);
  const missed = data.expectations.filter((expectation) => !expectation.passed).length;
  if (data.expectations.length) {
    const all = plural(data.expectations.length, "expectation");
    const jump = el("a", "", missed ? `${missed} of ${all} missed` : `${all} met`);
    jump.href = "#expectations";
    jump.addEventListener("click", (event) => { event.preventDefault(); byId("expectations").scrollIntoView({ block: "start" }); });
    rows.push(["Expected", missed ? "bad" : "good", [jump, "."], ""]);
  }
  byId("answer").parentElement.hidden = !rows.length;
  clear(byId("answer"), ...rows.map(([title, tone, sentence, evidence]) =>
    el("div", tone, el("dt", "", title), el("dd", "", ...sentence, evidence ? el("small", "evidence", plain(evidence)) : null))));
};

const drawNotes = () => {
  byId("notes").classList.toggle("overview-only", VIEWS.includes("overview"));
  const notes = [...data.notes];
  if (data.approximate) notes.unshift("Fewer than 20 prompts: confidence intervals are approximate.");
  clear(byId("notes"), ...notes.map((note) => el("p", "note", plain(note))));
};
