// What the page shows, and the fragment that links to it: #/prompts/ID?colour=rank&layout=tree.

const VIEWS = data.kind === "compare" ? ["overview", "prompts", "runs", ...(data.quantization ? ["quantization"] : [])] : ["prompts", "runs"];
const VIEW_NAMES = { overview: "Overview", prompts: "Prompts", runs: data.kind === "compare" ? "Runs" : "Settings", quantization: "Quantization" };
const DEFAULTS = {
  view: VIEWS[0], prompt: null, colour: Object.keys(MODES)[0] ?? null, layout: "columns", vs: data.baseline ?? 0, diff: false, sample: "all", ballot: null, votes: null, hide: "", identical: false, rendered: false,
  order: points.length > 1 ? "disagreement" : "prompts", search: "", filter: "", run: 0, other: null, sort: null, all: false, intervals: false, x: null, y: null, curves: null, chosen: null, speculated: null, heat: null, slice: null, heat_x: null, heat_y: null, axes: null,
  drifted: null, drifted_prompt: null, at: null, worst: null, per_run: false, drift_axis: null, cost_axis: null,
};
const state = { ...DEFAULTS };

const POINT_KEYS = ["vs", "run", "other", "drifted", "chosen"]; // linked by label, which stays when points are added
const FLAGS = ["diff", "identical", "rendered", "all", "intervals", "per_run"];
const KEYS_OF_VIEW = {
  overview: ["sort", "all", "intervals", "x", "y", "curves", "chosen", "speculated", "heat", "slice", "heat_x", "heat_y", "axes"],
  prompts: ["colour", "layout", "vs", "diff", "sample", "order", "search", "filter", "hide", "identical", "rendered"],
  runs: ["run", "other"],
  quantization: ["drifted", "drifted_prompt", "at", "worst", "per_run", "drift_axis", "cost_axis"],
};

const KEYS_OF_ALL = ["ballot", "votes"]; // a link keeps the votes of blind comparisons, whatever it shows

const encoded = (text) => { try { return encodeURIComponent(text); } catch { return encodeURIComponent(text.replace(/\p{Cs}/gu, "\ufffd")); } };
const decoded = (text) => { try { return decodeURIComponent(text.replace(/\+/g, " ")); } catch { return text; } };

const fragmentOf = (target) => {
  const path = target.view === "prompts" && target.prompt !== null ? `/${encoded(target.prompt)}` : "";
  const query = [...KEYS_OF_VIEW[target.view], ...KEYS_OF_ALL]
    .filter((key) => target[key] !== DEFAULTS[key] && target[key] !== null)
    .map((key) => `${key}=${encoded(POINT_KEYS.includes(key) ? points[target[key]].label : FLAGS.includes(key) ? "1" : String(target[key]))}`);
  return `#/${target.view}${path}${query.length ? "?" + query.join("&") : ""}`;
};

const readFragment = (fragment) => {
  const found = { ...DEFAULTS };
  const [path, query = ""] = fragment.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  if (!VIEWS.includes(view)) return null;
  found.view = view;
  if (view === "prompts" && rest.length && rest.join("/") !== "") found.prompt = decoded(rest.join("/"));
  for (const pair of query.split("&").filter(Boolean)) {
    const [key, ...value] = pair.split("=");
    const text = decoded(value.join("="));
    if (!KEYS_OF_VIEW[view].includes(key) && !KEYS_OF_ALL.includes(key)) continue;
    if (POINT_KEYS.includes(key)) {
      const point = points.findIndex((each) => each.label === text);
      if (point >= 0) found[key] = point;
    } else if (FLAGS.includes(key)) found[key] = text === "1";
    else found[key] = text;
  }
  found.ballot = state.ballot ?? found.ballot;
  found.votes = mergedVotes(state.votes, found.votes);
  if (!Object.hasOwn(MODES, found.colour)) found.colour = DEFAULTS.colour;
  return found;
};

let written = null;
// `step`: a new entry in the browser's history. In a sandbox history may be refused: the page goes on.
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
  node.href = fragmentOf({ ...DEFAULTS, ...changes });
  node.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(changes);
  });
  return node;
};
const pointLink = (point) => {
  const node = link({ view: "runs", run: point }, dot(point), breakable(named(points[point].name)));
  node.classList.add("point-link");
  return titled(node, plain(points[point].label));
};
