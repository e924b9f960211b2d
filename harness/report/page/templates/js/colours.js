// What the colours of tokens show, and light or dark. A shade runs from 0 (sure) to the last (surprising).

const fromLogprob = (v) => (Number.isNaN(v) ? 1 : Math.min(1, -v / 7));
const TICKS = [["1", 0], ["½", Math.LN2 / 7], ["0.1", 2.3026 / 7], ["0.01", 4.6052 / 7], ["≤ 0.001", 1]];
const MODES = {
  lp: { name: "Raw", says: "probability of the chosen token, as the model gave it", t: fromLogprob, ticks: TICKS },
  wlp: { name: "Warped", says: "probability of the chosen token in what was drawn from", t: fromLogprob, ticks: TICKS },
  ent: { name: "Entropy", says: "of the raw distribution, nats", t: (v) => Math.min(1, (v || 0) / 6),
    ticks: [["0", 0], ["1", 1 / 6], ["2", 2 / 6], ["3", 3 / 6], ["4", 4 / 6], ["≥ 6 nats", 1]] },
  rank: { name: "Rank", says: "of the chosen token in the raw distribution", t: (v) => Math.min(1, Math.log10(Math.max(1, v)) / 3),
    ticks: [["1st", 0], ["2", 0.1003], ["5", 0.233], ["10", 1 / 3], ["100", 2 / 3], ["≥ 1000", 1]] },
  kept: { name: "Kept", says: "how many tokens were left to draw from", t: (v) => Math.min(1, Math.log10(Math.max(1, v)) / 4),
    ticks: [["1", 0], ["10", 0.25], ["100", 0.5], ["1000", 0.75], ["≥ 10⁴", 1]] },
};
const SHADES = data.palette.light.length;

// The shades as rules, which follow light and dark by themselves.
const shades = new CSSStyleSheet();
shades.replaceSync(
  data.palette.light
    .map((paper, i) => `.tok[data-shade="${i}"]{background:light-dark(${paper},${data.palette.dark[i]});color:light-dark(${data.palette.lightInk[i]},${data.palette.darkInk[i]})}`)
    .join(""),
);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, shades];

const shadeOf = (steps, index) => {
  if (steps.shade) return steps.shade(index);
  const value = steps[state.colour][index];
  if (steps.rank[index] === 0 || ((state.colour === "wlp" || state.colour === "kept") && !steps.warped)) return -1;
  return Math.round(MODES[state.colour].t(value) * (SHADES - 1));
};

const systemDark = matchMedia("(prefers-color-scheme: dark)");
let theme = ""; // as the system has it
const isDark = () => (theme ? theme === "dark" : systemDark.matches);
const themed = new Set(); // called when light and dark change
const setTheme = (next) => {
  theme = next;
  document.documentElement.style.colorScheme = theme || "";
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  for (const redraw of themed) redraw();
};
const cssColour = (name) => {
  const probe = el("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

const drawLegend = () => {
  const box = byId("legend");
  const mode = MODES[state.colour];
  box.title = mode.says;
  const ramp = el("div", "ramp");
  ramp.style.background = `linear-gradient(to right, ${(isDark() ? data.palette.dark : data.palette.light).join(", ")})`;
  const ticks = el("div", "ticks");
  for (const [name, at] of mode.ticks) {
    const tick = el("span", "", name);
    tick.style.left = `${100 * at}%`;
    ticks.append(tick);
  }
  clear(box, ramp, ticks);
};
themed.add(drawLegend);

// Points have colours of their own while there are few; Okabe and Ito's, which every kind of colour vision tells apart.
const OWN_COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8d00", "#6b4fbb", "#7a6a5a", "#2f2f2f"];
const DARK_COLOURS = ["#4aa8e0", "#f0b429", "#2fc79a", "#e29bc1", "#8fd0f5", "#f07f3c", "#cfd13a", "#a48bea", "#b8a692", "#d8d8d8"];
const colourOfPoint = (place) => {
  const colours = isDark() ? DARK_COLOURS : OWN_COLOURS;
  if (points.length <= colours.length) return colours[place];
  const kinds = [...new Set(points.map((point) => point.decoding))];
  return kinds.length <= colours.length ? colours[kinds.indexOf(points[place].decoding)] : colours[place % colours.length];
};
const dot = (place) => {
  const node = el("i", "dot");
  node.style.background = points.length <= OWN_COLOURS.length ? `light-dark(${OWN_COLOURS[place]},${DARK_COLOURS[place]})` : colourOfPoint(place);
  node.setAttribute("aria-hidden", "true");
  return node;
};
