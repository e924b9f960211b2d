// The findings as sentences with links.

const spanNode = (span) => {
  if (typeof span === "string") return span;
  return span.point === undefined ? link({ view: "prompts", prompt: span.prompt }, named(span.prompt)) : pointLink(span.point);
};

const drawFindings = () => {
  const missed = data.expectations.filter((expectation) => !expectation.passed).length;
  const rows = data.findings.map(({ title, tone, spans }) => [title, tone, spans.map(spanNode)]);
  if (data.expectations.length) {
    const all = plural(data.expectations.length, "expectation");
    const jump = el("a", "", missed ? `${missed} of ${all} missed` : `${all} met`);
    jump.href = "#expectations";
    jump.addEventListener("click", (event) => { event.preventDefault(); byId("expectations").scrollIntoView({ block: "start" }); });
    rows.push(["Expected", missed ? "bad" : "good", [jump, "."]]);
  }
  clear(byId("findings"), ...rows.map(([title, tone, sentence]) => el("div", tone, el("dt", "", title), el("dd", "", ...sentence))));
};

const drawNotes = () => {
  byId("notes").classList.toggle("overview-only", VIEWS.includes("overview"));
  const notes = [...data.notes];
  if (data.approximate) notes.unshift("Fewer than 20 prompts: confidence intervals are approximate.");
  clear(byId("notes"), ...notes.map((note) => el("p", "note", plain(note))));
};
