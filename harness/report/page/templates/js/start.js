// The page starts.

const DRAW = { overview: drawOverview, prompts: drawPrompts, points: drawPoints, precision: drawPrecision };

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
  forget();
  drawState();
};

byId("label").append(plain(data.label));
for (const [name, value] of data.facts) byId("facts").append(el("span", "", `${name} `, el("b", "", plain(String(value)))));
for (const view of VIEWS) {
  const tab = link({ view }, NAMES_OF_VIEWS[view], view === "prompts" ? el("span", "count", data.promptCount.toLocaleString("en")) : view === "points" && points.length > 1 ? el("span", "count", points.length) : null);
  tab.dataset.view = view;
  byId("tabs").append(tab);
}
drawNotes();
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
