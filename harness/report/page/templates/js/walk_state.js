// Walks through continuations of the prompt, the parameters, and the fragment of the address that holds them.

// A walk: its name, its tokens' ids, and what is known of them (`scored`, for the parameters of `scoredFor`).
const state = { walks: [], current: 0, cursor: 0, vs: null, values: {}, order: "raw" };
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const nameOfWalk = (index) => (index < LETTERS.length ? LETTERS[index] : String(index + 1));
const walkNow = () => state.walks[state.current];
const prefixNow = () => walkNow().tokens.slice(0, state.cursor);
const newWalk = (tokens = [], scored = []) => ({ tokens, scored, scoredFor: null });

// ---- the address

const fragmentNow = () => {
  const query = new URLSearchParams();
  for (const walk of state.walks) query.append("walk", walk.tokens.join("."));
  query.append("at", `${state.current}.${state.cursor}`);
  if (state.vs !== null) query.append("vs", state.vs);
  for (const [name, value] of Object.entries(state.values)) query.append(name, value);
  return `#${query}`;
};

const numbersOf = (text) => (text === "" ? [] : text.split(".").map(Number));
const readFragment = (fragment) => {
  const query = new URLSearchParams(fragment.replace(/^#/, ""));
  const walks = query.getAll("walk").map(numbersOf);
  if (!walks.length || !walks.flat().every((id) => Number.isInteger(id) && id >= 0 && id < data.vocabulary)) return false;
  const [current = 0, cursor = 0] = numbersOf(query.get("at") ?? "");
  const before = new Map(state.walks.map((walk) => [walk.tokens.join("."), walk]));
  state.walks = walks.map((tokens) => before.get(tokens.join(".")) ?? newWalk(tokens));
  state.current = walks[current] ? current : 0;
  state.cursor = Math.min(Math.max(0, cursor || 0), walkNow().tokens.length);
  const vs = Number(query.get("vs") ?? NaN);
  state.vs = walks[vs] && vs !== state.current ? vs : null;
  state.values = {};
  for (const { name } of data.knobs) if (query.get(name)) state.values[name] = query.get(name);
  return true;
};

// `step`: a new entry in the browser's history, which Undo goes back to.
const depth = () => history.state?.depth ?? 0;
const remember = (step) => {
  const fragment = fragmentNow();
  if (fragment === location.hash) return;
  if (step) history.pushState({ depth: depth() + 1 }, "", fragment);
  else history.replaceState({ depth: depth() }, "", fragment);
};
const undo = () => { if (depth() > 0) history.back(); };

// ---- what can be done

let redraw = () => {}; // set at the start: draws what is known, and asks for what is not

const goTo = (index, cursor) => {
  if (index !== state.current && state.vs === index) state.vs = state.current;
  state.current = index;
  state.cursor = Math.min(Math.max(0, cursor), walkNow().tokens.length);
  remember(false);
  redraw();
};

// Go on from the cursor with tokens; what came after it is replaced, unless they are the same.
const goOn = (ids, scored = []) => {
  const walk = walkNow(), at = state.cursor;
  if (!ids.every((id, i) => walk.tokens[at + i] === id)) {
    state.walks[state.current] = newWalk([...walk.tokens.slice(0, at), ...ids], [...walk.scored.slice(0, at), ...scored]);
  }
  state.cursor = at + ids.length;
  remember(true);
  redraw();
};

const removeToken = () => {
  if (!state.cursor) return;
  const walk = walkNow();
  state.cursor -= 1;
  state.walks[state.current] = newWalk(walk.tokens.slice(0, state.cursor), walk.scored.slice(0, state.cursor));
  remember(true);
  redraw();
};

const fork = () => {
  const walk = walkNow();
  state.walks.push(newWalk(prefixNow(), walk.scored.slice(0, state.cursor)));
  state.vs = state.current;
  state.current = state.walks.length - 1;
  remember(true);
  redraw();
};

const removeWalk = (index) => {
  if (state.walks.length < 2) return;
  state.walks.splice(index, 1);
  const shifted = (each) => (each > index ? each - 1 : each);
  if (state.current === index) {
    state.current = Math.min(index, state.walks.length - 1);
    state.cursor = walkNow().tokens.length;
  } else state.current = shifted(state.current);
  state.vs = state.vs === null || state.vs === index ? null : shifted(state.vs);
  if (state.vs === state.current) state.vs = null;
  remember(true);
  redraw();
};

const setValue = (name, text) => {
  if (text.trim() === "") delete state.values[name];
  else state.values[name] = text.trim();
  remember(false);
  redraw();
};

const setValues = (values) => {
  state.values = { ...values };
  remember(false);
  redraw();
};

// ---- two walks compared

const otherWalk = () => (state.walks.length < 2 ? null : state.vs ?? (state.current === 0 ? 1 : 0));
const firstDivergence = (one, other) => {
  const most = Math.min(one.tokens.length, other.tokens.length);
  for (let i = 0; i < most; i++) if (one.tokens[i] !== other.tokens[i]) return i;
  return null;
};
const isScored = (walk) => walk.scored.length === walk.tokens.length && walk.scored.every((token) => known(token.logprob));
const totalOf = (walk) => (isScored(walk) ? walk.scored.reduce((sum, token) => sum + token.logprob, 0) : null);
