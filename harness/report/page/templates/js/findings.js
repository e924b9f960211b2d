// What a reader would look up first, in sentences with links.

const partNode = (part) => {
  if (typeof part === "string") return part;
  if (part.point !== undefined) return pointLink(part.point, part.text);
  if (part.prompt !== undefined) return link({ view: "prompts", prompt: part.prompt }, named(part.text ?? part.prompt));
  return "";
};

const drawFindings = () => {
  const box = byId("findings");
  clear(box);
  const missed = data.expectations.filter((expectation) => !expectation.passed).length;
  const told = data.findings.map((finding) => [finding.about, finding.tone, finding.says.map(partNode)]);
  if (data.expectations.length) {
    const words = missed ? `${missed} of ${plural(data.expectations.length, "expectation")} missed` : `${plural(data.expectations.length, "expectation")} met`;
    const jump = el("a", "", words);
    jump.href = "#expectations";
    jump.addEventListener("click", (event) => { event.preventDefault(); byId("expectations").scrollIntoView({ block: "start" }); });
    told.push(["Expected", missed ? "bad" : "good", [jump, "."]]);
  }
  for (const [about, tone, says] of told) box.append(el("div", tone, el("dt", "", about), el("dd", "", ...says)));
};

const drawNotes = () => {
  byId("notes").classList.toggle("several", VIEWS.includes("overview")); // there they stand in the overview alone
  const notes = [...data.notes];
  if (data.rough) notes.unshift("Fewer than 20 prompts: intervals are rough.");
  clear(byId("notes"), ...notes.map((note) => el("p", "note", plain(note))));
};
