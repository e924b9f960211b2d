// What the colours of tokens show, and light or dark. A shade runs from 0 (likely) to the last (surprising).

const fromLogprob = (value) => Math.min(1, -value / 7);
const LOGPROB_TICKS = [["1", 0], ["½", Math.LN2 / 7], ["0.1", 2.3026 / 7], ["0.01", 4.6052 / 7], ["≤ 10⁻³", 1]];
// By the column that is shown: those that the page has.
const MODES = Object.fromEntries(Object.entries({
  logprob: { name: "Model", description: "probability of the chosen token in the model's own (raw) distribution", scale: fromLogprob, ticks: LOGPROB_TICKS },
  warped_logprob: { name: "Processed", description: "probability of the chosen token after sampling transforms: penalties, temperature, truncation", scale: fromLogprob, ticks: LOGPROB_TICKS },
  entropy: { name: "Entropy", description: "entropy of the model's own distribution, nats", scale: (value) => Math.min(1, value / 6),
    ticks: [["0", 0], ["1", 1 / 6], ["2", 2 / 6], ["3", 3 / 6], ["4", 4 / 6], ["≥ 6 nats", 1]] },
  rank: { name: "Rank", description: "rank of the chosen token in the model's own distribution", scale: (value) => Math.min(1, Math.log10(value) / 3),
    ticks: [["1st", 0], ["2", 0.1003], ["5", 0.233], ["10", 1 / 3], ["100", 2 / 3], ["≥ 1000", 1]] },
  kept: { name: "Candidates", description: "candidates kept by truncation", scale: (value) => Math.min(1, Math.log10(Math.max(1, value)) / 4),
    ticks: [["1", 0], ["10", 0.25], ["100", 0.5], ["1000", 0.75], ["≥ 10⁴", 1]] },
}).filter(([column]) => data.tokenColumns.includes(column)));
const SHADES = data.palette.light.length;

// The shades as rules, which follow light and dark by themselves.
const shades = new CSSStyleSheet();
shades.replaceSync(
  data.palette.light
    .map((paper, i) => `:is(.tok, .ink)[data-shade="${i}"],.heat [data-shade="${i}"]{background:light-dark(${paper},${data.palette.dark[i]});color:light-dark(${data.palette.lightInk[i]},${data.palette.darkInk[i]})}`)
    .join(""),
);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, shades];

// The shade of a step; -1 where what the colours show was not recorded, or a first token has no context.
const shadeOf = (steps, index) => {
  if (steps.shade) return steps.shade(index);
  const value = steps[state.colour]?.[index];
  if (!known(value) || steps.rank?.[index] === 0) return -1;
  return Math.round(MODES[state.colour].scale(value) * (SHADES - 1));
};

const systemDark = matchMedia("(prefers-color-scheme: dark)");
let theme = ""; // that of the system
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

const fillLegend = (box, description, namedTicks) => {
  box.title = description;
  const ramp = el("div", "ramp");
  ramp.style.background = `linear-gradient(to right, ${(isDark() ? data.palette.dark : data.palette.light).join(", ")})`;
  const ticks = namedTicks.map(([name, at]) => { const tick = el("span", "", name); tick.style.left = `${100 * at}%`; return tick; });
  clear(box, ramp, el("div", "ticks", ...ticks));
};
const drawLegend = () => {
  const mode = MODES[state.colour];
  byId("legend").hidden = !mode;
  if (mode) fillLegend(byId("legend"), mode.description, mode.ticks);
};
themed.add(drawLegend);
