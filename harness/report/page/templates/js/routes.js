// Where the page stands, and the fragment that says so: #/prompts/ID?colour=rank&layout=tree.

const VIEWS = data.kind === "compare" ? ["overview", "prompts", "points", ...(data.precision ? ["precision"] : [])] : ["prompts", "points"];
const NAMES_OF_VIEWS = { overview: "Overview", prompts: "Prompts", points: data.kind === "compare" ? "Points" : "Point", precision: "Precision" };
const RESTING = {
  view: VIEWS[0], prompt: null, colour: "lp", layout: "columns", against: data.baseline ?? 0, diff: false, sample: "all",
  order: data.points.length > 1 ? "disagreement" : "prompts", words: "", columns: "", one: 0, other: null, sort: null, all: false, numbers: false, x: null, y: null,
  drifted: null, text: null, at: null, worst: null, each: false, dx: null, dy: null,
};
const state = { ...RESTING };

const LABELS = ["against", "one", "other", "drifted"]; // told by label, which stays when points are added
const FLAGS = ["diff", "all", "numbers", "each"];
const OF_VIEW = {
  overview: ["sort", "all", "numbers", "x", "y"],
  prompts: ["colour", "layout", "against", "diff", "sample", "order", "words", "columns"],
  points: ["one", "other"],
  precision: ["drifted", "text", "at", "worst", "each", "dx", "dy"],
};

const encoded = (text) => { try { return encodeURIComponent(text); } catch { return encodeURIComponent(text.replace(/\p{Cs}/gu, "\ufffd")); } };
const decoded = (text) => { try { return decodeURIComponent(text.replace(/\+/g, " ")); } catch { return text; } };

const fragmentOf = (place) => {
  const path = place.view === "prompts" && place.prompt !== null ? `/${encoded(place.prompt)}` : "";
  const said = OF_VIEW[place.view]
    .filter((key) => place[key] !== RESTING[key] && place[key] !== null)
    .map((key) => `${key}=${encoded(LABELS.includes(key) ? points[place[key]].label : FLAGS.includes(key) ? "1" : String(place[key]))}`);
  return `#/${place.view}${path}${said.length ? "?" + said.join("&") : ""}`;
};

const readFragment = (fragment) => {
  const found = { ...RESTING };
  const [path, query = ""] = fragment.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  if (!VIEWS.includes(view)) return null;
  found.view = view;
  if (view === "prompts" && rest.length && rest.join("/") !== "") found.prompt = decoded(rest.join("/"));
  for (const part of query.split("&").filter(Boolean)) {
    const [key, ...value] = part.split("=");
    const text = decoded(value.join("="));
    if (!OF_VIEW[view].includes(key)) continue;
    if (LABELS.includes(key)) {
      const place = points.findIndex((point) => point.label === text);
      if (place >= 0) found[key] = place;
    } else if (FLAGS.includes(key)) found[key] = text === "1";
    else found[key] = text;
  }
  if (!MODES[found.colour]) found.colour = "lp";
  return found;
};

let written = null;
// `step`: a place of its own in the browser's history. In a sandbox history may be refused: the page goes on.
const remember = (step) => {
  const fragment = fragmentOf(state);
  if (fragment === written) return;
  written = fragment;
  try {
    if (step) history.pushState(null, "", fragment);
    else history.replaceState(null, "", fragment);
  } catch {
    try { location.hash = fragment; } catch { /* a page without an address */ }
  }
};

let drawState = () => {}; // start.js
const go = (changes, step = true) => {
  Object.assign(state, changes);
  remember(step);
  drawState();
};

// A link that works by itself where fragments do, and without them too.
const link = (changes, ...children) => {
  const node = el("a", "", ...children);
  node.href = fragmentOf({ ...RESTING, ...changes });
  node.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(changes);
  });
  return node;
};
const pointLink = (place, text) => {
  const node = link({ view: "points", one: place }, dot(place), named(text ?? points[place].name));
  node.title = plain(points[place].label);
  node.classList.add("point-link");
  return node;
};
