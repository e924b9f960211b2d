// Tokens as nodes that are coloured, walked through by keyboard and inspected.

const stepOf = new WeakMap(); // by node, the step that it shows: { steps, index, ends, owner, ink }

const paint = (node) => {
  const { steps, index, ink } = stepOf.get(node);
  const shade = shadeOf(steps, index);
  if (shade < 0) delete ink.dataset.shade;
  else ink.dataset.shade = shade;
};

// A token's text within its node. Spaces at its ends stay outside the coloured ink: at the end of a line they would leave a sliver of it.
const writeInk = (node, ink, text) => {
  const [, before, body, after] = /^( *)(.*?)( *)$/su.exec(text);
  if (body === "") { ink.append(text); node.append(ink); return; }
  node.append(before, ink, after);
  write(ink, body, true);
  if (after === "" && body.endsWith("\n")) node.append(ink.lastChild);
};

// A token's node. `ends`: the last step is an end-of-text token; `owner`: whose step it is.
const tokenNode = (steps, index, ends, owner) => {
  const node = el("span", "tok"), ink = el("span", "ink");
  const text = textAt(steps, index);
  stepOf.set(node, { steps, index, ends, owner, ink });
  node.tabIndex = -1;
  node.setAttribute("role", "button");
  const last = ends && index === steps.count - 1 && text === "";
  if (last) node.classList.add("end");
  if (text === "") { ink.append(last ? "end" : el("span", "mark", "·")); node.append(ink); }
  else writeInk(node, ink, text);
  const spoken = last ? "end of text" : plain(text) || "part of a character";
  const logprob = steps.logprob?.[index];
  node.setAttribute("aria-label", known(logprob) ? `${spoken}, ${percentOf(logprob)}` : spoken);
  paint(node);
  return node;
};

// Listen to a box of tokens: hovering shows details, arrow keys walk, a click pins them.
const listen = (box) => {
  const nodeOf = (event) => { const node = event.target.closest?.(".tok"); return node && box.contains(node) && stepOf.has(node) ? node : null; };
  const first = box.querySelector(".tok");
  if (first) first.tabIndex = 0;
  const walk = (node) => {
    if (!node) return;
    for (const other of box.querySelectorAll('.tok[tabindex="0"]')) other.tabIndex = -1;
    node.tabIndex = 0;
    node.focus();
  };
  const on = (kind, act) => box.addEventListener(kind, (event) => { const node = nodeOf(event); if (node) act(node, event); });
  for (const kind of ["mouseleave", "focusout"]) box.addEventListener(kind, hideDetail);
  on("mouseover", (node, event) => { if (moved(event)) showDetail(node, false); });
  on("focusin", (node) => showDetail(node, false));
  on("click", (node) => { walk(node); showDetail(node, true); });
  on("keydown", (node, event) => {
    const all = [...box.querySelectorAll(".tok")];
    const index = all.indexOf(node);
    const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next !== undefined) { event.preventDefault(); event.stopPropagation(); walk(all[next]); }
    else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); showDetail(node, true); }
  });
};

// A sample at a glance: one bar per token, as high as it is surprising.
const strips = new Set();
const drawStrip = (steps, box) => {
  const canvas = el("canvas", "strip");
  canvas.setAttribute("aria-hidden", "true");
  canvas.draw = () => {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const colours = isDark() ? data.palette.dark : data.palette.light;
    const barWidth = Math.min(8, width / steps.count);
    for (let i = 0; i < steps.count; i++) {
      const t = Math.max(0, shadeOf(steps, i)) / (SHADES - 1);
      pen.fillStyle = colours[Math.round((0.3 + 0.7 * t) * (SHADES - 1))];
      const tall = Math.max(1.5, t * height);
      pen.fillRect(i * barWidth, height - tall, Math.max(0.6, barWidth - (barWidth > 3 ? 1 : 0)), tall);
    }
  };
  const nodeAt = (event) => {
    const index = Math.floor(event.offsetX / Math.min(8, canvas.clientWidth / steps.count));
    for (const node of box.querySelectorAll(".tok")) if (stepOf.get(node)?.index === index) return node;
    return null;
  };
  canvas.addEventListener("mousemove", (event) => { const node = nodeAt(event); if (node) showDetail(node, false); });
  canvas.addEventListener("mouseleave", () => hideDetail());
  canvas.addEventListener("click", (event) => {
    const node = nodeAt(event);
    if (node) { node.scrollIntoView({ block: "nearest" }); showDetail(node, true); }
  });
  strips.add(canvas);
  requestAnimationFrame(canvas.draw);
  return canvas;
};

const redrawStrips = () => { for (const strip of strips) strip.isConnected ? strip.draw() : strips.delete(strip); };
const repaint = () => {
  for (const node of document.querySelectorAll(".tok")) if (stepOf.has(node)) paint(node);
  redrawStrips();
  drawLegend();
};
themed.add(redrawStrips);
addEventListener("resize", redrawStrips);
