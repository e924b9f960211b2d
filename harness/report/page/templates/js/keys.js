// Keyboard shortcuts.

const KEYS = [
  [VIEWS.map((_, i) => String(i + 1)), VIEWS.map((view) => VIEW_NAMES[view]).join(", "), null],
  [["j", "k"], "next and previous prompt; also ↓ and ↑ in the list", null],
  [["/"], "search prompts and outputs", null],
  [["c"], "cycle colouring", () => { const all = Object.keys(MODES); if (all.length) go({ view: "prompts", colour: all[(all.indexOf(state.colour) + 1) % all.length] }, false); }],
  [["t"], "side by side or tree", () => go({ view: "prompts", layout: state.layout === "tree" ? "columns" : "tree" }, false)],
  ...(Object.hasOwn(LAYOUTS, "blind") ? [
    [["b"], "blind comparison", () => go({ view: "prompts", layout: state.layout === "blind" ? "columns" : "blind" }, false)],
    [["←", "=", "→"], "there: the left is better, a tie, the right is better; u takes a vote back", null],
  ] : []),
  [["d"], "diff vs. the chosen run", () => { if (points.length > 1) go({ view: "prompts", layout: "columns", diff: !state.diff }, false); }],
  [["i"], "show or fold runs with identical outputs", () => go({ view: "prompts", identical: !state.identical }, false)],
  ...(quantization ? [[["n"], "in Quantization: next most affected token", () => stepWorst(1)], [["p"], "and the previous one", () => stepWorst(-1)]] : []),
  [["←", "→"], "from token to token, once one is focused (Tab); Enter pins its details", null],
  [["Esc"], "close or unpin", null],
  [["?"], "this help", () => byId("help").showModal()],
];

const typing = (target) => target.matches?.("input:not([type=checkbox]), textarea, select");

const readyKeys = () => {
  for (const [keys, description] of KEYS) byId("keys").append(el("div", "", el("dt", "", ...keys.flatMap((key, i) => [i ? " " : "", el("kbd", "", key)])), el("dd", "", description)));
  byId("open-help").addEventListener("click", () => byId("help").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (byId("help").open || byId("export").open) return;
      if (closeDetail()) return;
      if (typing(event.target)) event.target.blur();
      byId("picker").classList.remove("open");
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || byId("help").open || byId("export").open) return;
    if (isBlind()) {
      const choice = { ArrowLeft: "l", "=": "t", ArrowRight: "r" }[event.key];
      if (choice || event.key === "u") { choice ? judge(choice) : undoVote(); event.preventDefault(); return; }
    }
    const view = VIEWS[Number(event.key) - 1];
    const inList = event.target.closest?.("#prompt-list");
    if (view) go({ view });
    else if (event.key === "/") { go({ view: "prompts" }); byId("picker").classList.add("open"); byId("search").focus(); }
    else if (event.key === "j" || (event.key === "ArrowDown" && inList)) state.view === "prompts" ? stepPrompt(1) : go({ view: "prompts" });
    else if (event.key === "k" || (event.key === "ArrowUp" && inList)) state.view === "prompts" ? stepPrompt(-1) : go({ view: "prompts" });
    else {
      const act = KEYS.find(([keys, , each]) => each && keys.includes(event.key))?.[2];
      if (!act) return;
      act();
    }
    event.preventDefault();
    if (inList) document.querySelector("#prompt-list [aria-current]")?.focus();
  });
};
