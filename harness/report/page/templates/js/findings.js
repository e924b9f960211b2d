// The findings as sentences with links.

const spanNode = (span) => {
  if (typeof span === "string") return span;
  if (span.point !== undefined) return pointLink(span.point, span.text);
  if (span.prompt !== undefined) return link({ view: "prompts", prompt: span.prompt }, named(span.text ?? span.prompt));
  return "";
};

const drawFindings = () => {
  const box = byId("findings");
  clear(box);
  const missed = data.expectations.filter((expectation) => !expectation.passed).length;
  const rows = data.findings.map(({ title, tone, spans }) => [title, tone, spans.map(spanNode)]);
  if (data.expectations.length) {
    const all = plural(data.expectations.length, "expectation");
    const jump = el("a", "", missed ? `${missed} of ${all} missed` : `${all} met`);
    jump.href = "#expectations";
    jump.addEventListener("click", (event) => { event.preventDefault(); byId("expectations").scrollIntoView({ block: "start" }); });
    rows.push(["Expected", missed ? "bad" : "good", [jump, "."]]);
  }
  for (const [title, tone, sentence] of rows) box.append(el("div", tone, el("dt", "", title), el("dd", "", ...sentence)));
};

const drawNotes = () => {
  byId("notes").classList.toggle("overview-only", VIEWS.includes("overview"));
  const notes = [...data.notes];
  if (data.approximate) notes.unshift("Fewer than 20 prompts: confidence intervals are approximate.");
  clear(byId("notes"), ...notes.map((note) => el("p", "note", plain(note))));
};
