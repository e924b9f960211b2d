// What colours and shapes of runs mean in every view: hue is the strategy, lightness the value of a swept number,
// shape and dash the precision. Where strategies do not vary, colour alone is the number, on a sequential scale.

// The colours of Okabe and Ito, safe for colour blindness, and two more.
const LIGHT_HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8d00", "#6b4fbb"];
const DARK_HUES = ["#4aa8e0", "#f0b429", "#2fc79a", "#e29bc1", "#8fd0f5", "#f07f3c", "#cfd13a", "#a48bea"];
const MOST_HUES = LIGHT_HUES.length;
const MOST_FACETS = 16; // strategies that small multiples show
const SHAPES = ["circle", "square", "triangle", "diamond", "inverted_triangle", "hex"];
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [9, 3, 2, 3, 2, 3]];
const CHOICE_NAMES = { decoding: "Strategy", quantization: "Quantization", model: "Model", prompts: "Prompt set" };

const varyingChoices = Object.keys(CHOICE_NAMES).filter((name) => new Set(points.map((point) => point[name])).size > 1);
const hueChoice = varyingChoices.includes("decoding") || !data.swept.length ? (varyingChoices[0] ?? null) : null;
const hueLevels = hueChoice === null ? [] : [...new Set(points.map((point) => point[hueChoice]))];
const manyHues = hueLevels.length > MOST_HUES;
// Above eight hues, small multiples: one panel per level; above sixteen, one colour.
const facetLevels = manyHues && hueLevels.length <= MOST_FACETS ? hueLevels : null;
const hueIndices = new Map(hueLevels.map((level, i) => [level, i]));
const hueOf = (point) => (hueChoice === null ? null : hueIndices.get(points[point][hueChoice]));

const shapeChoices = varyingChoices.filter((name) => name !== hueChoice);
const shapeLevel = (point) => shapeChoices.map((name) => points[point][name]).join(" / ");
const shapeLevels = [...new Set(pointIndices.map(shapeLevel))];
const shapeIndices = new Map(shapeLevels.map((level, i) => [level, i]));
const shapeIndex = (point) => shapeIndices.get(shapeLevel(point)) % SHAPES.length;
const shapeOf = (point) => SHAPES[shapeIndex(point)];
const dashOf = (point) => DASHES[shapeIndex(point)].join(" ") || "solid"; // as Bokeh takes it from a column

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const mixed = (one, other, share) => {
  const others = channels(other);
  return `#${channels(one).map((value, i) => Math.round(value + share * (others[i] - value)).toString(16).padStart(2, "0")).join("")}`;
};

// A hue (null: none) at a place from 0 to 1 on the scale of a number (null: none).
const toneOf = (hue, place, dark) => {
  if (hue === null && place !== null) {
    const scale = dark ? data.palette.dark : data.palette.light;
    return scale[Math.round((0.3 + 0.7 * place) * (scale.length - 1))];
  }
  const base = (dark ? DARK_HUES : LIGHT_HUES)[(hue ?? 0) % MOST_HUES];
  if (place === null) return base;
  const [pale, strong] = dark ? ["#1b1c22", "#ffffff"] : ["#ffffff", "#1b1c20"];
  return place < 0.5 ? mixed(base, pale, 0.44 - 0.88 * place) : mixed(base, strong, 1.1 * place - 0.55);
};

// The swept key that lightness shows: the first that the run has a value of, other than `except`.
const rampKey = (point, except = null) => data.swept.find((swept) => swept !== except && known(swept.of[point])) ?? null;
const rampPlace = (swept, point) => swept.of[point] / (swept.values.length - 1);
const placeOf = (point, except) => {
  const swept = rampKey(point, except);
  return swept && rampPlace(swept, point);
};
const colourOf = (point, except = null) => toneOf(manyHues ? null : hueOf(point), placeOf(point, except), isDark());

const themedColour = (hue, place) => `light-dark(${toneOf(hue, place, false)},${toneOf(hue, place, true)})`;
const dotOf = (colour, shape, cls = "") => {
  const node = el("i", `dot ${shape} ${cls}`.trim());
  node.style.setProperty("--dot", colour);
  node.setAttribute("aria-hidden", "true");
  return node;
};
// A run's mark beside its name. Names of more than eight strategies use the hues again, as rings.
const dot = (point) => dotOf(themedColour(hueOf(point), placeOf(point)), shapeOf(point), hueOf(point) >= MOST_HUES ? "ring" : "");

const dashLine = (index) => {
  const node = el("i", "dash");
  const pattern = DASHES[index].length ? DASHES[index] : [30, 0];
  let at = 0;
  const stops = pattern.map((length, i) => { const from = at; at += length; return `${i % 2 ? "transparent" : "currentColor"} ${from}px ${at}px`; });
  node.style.background = `repeating-linear-gradient(to right, ${stops.join(", ")})`;
  return node;
};

// The scale of a number; beside hues, which all have it, in grey.
const rampOf = (grey) => {
  const node = el("i", "scale");
  const greys = (place) => `light-dark(${mixed("#d0d0d0", "#303030", place)},${mixed("#484848", "#f0f0f0", place)})`;
  node.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((place) => (grey ? greys(place) : themedColour(null, place))).join(", ")})`;
  return node;
};

// The legend of a chart of these runs, each part with its title. `line`: dashes instead of shapes; `except`: the key on an axis.
const legendOf = (shown, { line = false, except = null } = {}) => {
  const parts = [];
  const present = (levels, levelOf) => levels.filter((level) => shown.some((point) => levelOf(point) === level));
  const hues = hueChoice === null || manyHues ? [] : present(hueLevels, (point) => points[point][hueChoice]);
  if (hues.length > 1)
    parts.push([CHOICE_NAMES[hueChoice], hues.map((level) => el("span", "", dotOf(themedColour(hueIndices.get(level), null), "circle"), named(level, 40)))]);
  const shapes = shapeLevels.length > 1 ? present(shapeLevels, shapeLevel) : [];
  if (shapes.length > 1)
    parts.push([shapeChoices.map((name) => CHOICE_NAMES[name]).join(" / "), shapes.slice(0, SHAPES.length).map((level) => {
      const index = shapeIndices.get(level) % SHAPES.length;
      return el("span", "", line ? dashLine(index) : dotOf("currentColor", SHAPES[index]), named(level, 40));
    })]);
  for (const swept of new Set(shown.map((point) => rampKey(point, except)).filter(Boolean)))
    parts.push([plain(swept.name), [el("span", "", `${digits(swept.values[0])} `, rampOf(hueChoice !== null && !manyHues), ` ${digits(swept.values.at(-1))}`)]]);
  return parts.map(([title, entries]) => el("span", "key", el("b", "", title), ...entries));
};
