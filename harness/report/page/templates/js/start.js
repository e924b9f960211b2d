// The page starts.

const DRAW = { overview: drawOverview, prompts: drawPrompts, runs: drawRuns, quantization: drawQuantization };

drawState = () => {
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== state.view;
  for (const tab of byId("tabs").children) current(tab, tab.dataset.view === state.view);
  document.body.dataset.view = state.view;
  DRAW[state.view]();
};

const follow = () => {
  if (location.hash === written) return;
  const found = readFragment(location.hash);
  if (!found) return;
  Object.assign(state, found);
  written = location.hash;
  closeDetail();
  drawState();
};

byId("label").append(plain(data.label));
for (const [name, value] of data.facts) byId("facts").append(el("span", "", `${name} `, el("b", "", plain(String(value)))));
const COUNTS = { prompts: data.promptCount, runs: points.length > 1 ? points.length : null };
for (const view of VIEWS) {
  const tab = link({ view }, VIEW_NAMES[view], known(COUNTS[view]) ? el("span", "count", COUNTS[view].toLocaleString("en")) : null);
  tab.dataset.view = view;
  byId("tabs").append(tab);
}
drawNotes();
showScrolling(document.body);
readyExport();
readyKeys();
systemDark.addEventListener("change", () => { if (!theme) setTheme(""); });
byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
byId("theme").textContent = isDark() ? "Light" : "Dark";
addEventListener("popstate", follow);
addEventListener("hashchange", follow);
Object.assign(state, readFragment(location.hash) ?? {});
written = location.hash || null;
drawState();
