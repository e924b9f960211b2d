// The parameters of decoding: a field and a slider each, whose scale follows from the field's range.

const STEPS = 200;

const scaleOf = (knob) => {
  const high = knob.whole ? Math.min(knob.high ?? Infinity, data.vocabulary) : knob.high ?? 2 * (knob.neutral || 1);
  if (knob.whole) {
    const low = Math.max(1, knob.low); // a logarithmic scale
    return { value: (t) => (t === 0 ? knob.low : Math.round(low * (high / low) ** t)), at: (value) => (value <= low ? 0 : Math.log(value / low) / Math.log(high / low)) };
  }
  const power = knob.neutral === 0 ? 4 : 1; // useful thresholds are small ones
  const first = knob.open_low ? 1 / STEPS : 0, last = knob.open_high ? 1 - 1 / STEPS : 1;
  return {
    value: (t) => Number((knob.low + (high - knob.low) * Math.min(last, Math.max(first, t)) ** power).toPrecision(3)),
    at: (value) => Math.min(1, Math.max(0, (value - knob.low) / (high - knob.low))) ** (1 / power),
  };
};

const knobNodes = new Map();

const drawKnobs = () => {
  let kind = null;
  for (const knob of data.knobs) {
    if (knob.kind !== kind && knob.kind !== knob.name) byId("knobs").append(el("p", "knobs-head", knob.kind));
    kind = knob.kind;
    const scale = scaleOf(knob);
    const node = el("div", "knob");
    const label = el("label", "", knob.name);
    const field = el("input", "field");
    Object.assign(field, { type: "text", inputMode: "decimal", id: `knob-${knob.name}`, title: knob.accepts, placeholder: knob.neutral || "off", autocomplete: "off" });
    label.htmlFor = field.id;
    const slider = Object.assign(el("input"), { type: "range", min: 0, max: STEPS, step: 1 });
    slider.setAttribute("aria-label", knob.name);
    const off = button("off", "Neutral value", "off");
    off.setAttribute("aria-label", `${knob.name}: neutral value`);
    field.addEventListener("input", () => setValue(knob.name, field.value));
    slider.addEventListener("input", () => { field.value = String(scale.value(slider.value / STEPS)); setValue(knob.name, field.value); });
    off.addEventListener("click", () => { field.value = ""; setValue(knob.name, ""); });
    const wrong = el("p", "wrong");
    wrong.hidden = true;
    node.append(label, field, off, slider, wrong);
    byId("knobs").append(node);
    knobNodes.set(knob.name, { knob, scale, node, field, slider, wrong });
  }
  byId("choice").append(new Option("a choice", ""), ...Object.keys(data.choices).map((name) => new Option(plain(name), name)));
};

// Show the values; one that is being typed stays as it is.
const showValues = () => {
  for (const [name, { knob, scale, node, field, slider }] of knobNodes) {
    const text = state.values[name] ?? "";
    if (document.activeElement !== field) field.value = text;
    node.classList.toggle("is-set", text !== "");
    const value = text === "" ? knob.neutral ?? knob.low : Number(text);
    if (document.activeElement !== slider && Number.isFinite(value)) slider.value = Math.round(STEPS * scale.at(value));
    slider.setAttribute("aria-valuetext", text === "" ? "neutral" : text);
  }
};

// Say what is wrong with values beside them; return the lines that are about something else.
const showWrongValues = (lines) => {
  const rest = [...lines];
  for (const [name, { field, wrong }] of knobNodes) {
    const index = rest.findIndex((line) => line.startsWith(`decoding.${name}=`) || line.startsWith(`decoding.${name}:`));
    const [line] = index < 0 ? [""] : rest.splice(index, 1);
    wrong.hidden = !line;
    clear(wrong, plain(line));
    field.setAttribute("aria-invalid", Boolean(line));
  }
  return rest;
};

const copyOverrides = async () => {
  const field = byId("overrides");
  try {
    await navigator.clipboard.writeText(field.value);
    byId("copied").textContent = "copied";
  } catch {
    field.select();
    byId("copied").textContent = "press Ctrl-C to copy";
  }
};
