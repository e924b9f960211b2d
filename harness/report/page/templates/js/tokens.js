// Tokens as nodes that are coloured, walked through and looked at.

const nodesOf = new WeakMap(); // a token's node to its { steps, index, ends }

const paint = (node) => {
  const { steps, index } = nodesOf.get(node);
  const shade = shadeOf(steps, index);
  if (shade < 0) delete node.dataset.shade;
  else node.dataset.shade = shade;
};

// A token's node. `ends`: the last step is an end-of-text token.
const tokenNode = (steps, index, ends, owner) => {
  const node = el("span", "tok");
  const text = textAt(steps, index);
  nodesOf.set(node, { steps, index, ends, owner });
  node.tabIndex = -1;
  node.setAttribute("role", "button");
  const last = ends && index === steps.count - 1;
  if (last) node.classList.add("end");
  if (text === "") node.append(last ? "end" : el("span", "mark", "·"));
  else write(node, text, true);
  const lp = steps.lp[index];
  node.setAttribute("aria-label", `${last ? "end of text" : plain(text) || "part of a character"}, ${Number.isNaN(lp) ? "no context" : percent(probability(lp))}`);
  paint(node);
  return node;
};

// Listen to a box of tokens: pointing at one shows it, arrows walk, a click keeps it.
const listen = (box) => {
  const nodeOf = (event) => { const node = event.target.closest?.(".tok"); return node && box.contains(node) && nodesOf.has(node) ? node : null; };
  const first = box.querySelector(".tok");
  if (first) first.tabIndex = 0;
  const walk = (node) => {
    if (!node) return;
    for (const other of box.querySelectorAll('.tok[tabindex="0"]')) other.tabIndex = -1;
    node.tabIndex = 0;
    node.focus();
  };
  box.addEventListener("mouseover", (event) => { const node = nodeOf(event); if (node && moved(event)) showDetail(node, false); });
  box.addEventListener("mouseleave", () => hideDetail());
  box.addEventListener("focusin", (event) => { const node = nodeOf(event); if (node) showDetail(node, false); });
  box.addEventListener("focusout", () => hideDetail());
  box.addEventListener("click", (event) => { const node = nodeOf(event); if (node) { walk(node); showDetail(node, true); } });
  box.addEventListener("keydown", (event) => {
    const node = nodeOf(event);
    if (!node) return;
    const all = [...box.querySelectorAll(".tok")];
    const at = all.indexOf(node);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); event.stopPropagation(); walk(all[to]); }
    else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); showDetail(node, true); }
  });
};

// The course of a sample: a bar a token, as high as it is surprising.
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
    const each = Math.min(8, width / steps.count);
    for (let i = 0; i < steps.count; i++) {
      const t = Math.max(0, shadeOf(steps, i)) / (SHADES - 1);
      pen.fillStyle = colours[Math.round((0.3 + 0.7 * t) * (SHADES - 1))];
      const tall = Math.max(1.5, t * height);
      pen.fillRect(i * each, height - tall, Math.max(0.6, each - (each > 3 ? 1 : 0)), tall);
    }
  };
  const nodeAt = (event) => {
    const index = Math.floor(event.offsetX / Math.min(8, canvas.clientWidth / steps.count));
    for (const node of box.querySelectorAll(".tok")) if (nodesOf.get(node)?.index === index) return node;
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
  for (const node of document.querySelectorAll(".tok")) if (nodesOf.has(node)) paint(node);
  redrawStrips();
  drawLegend();
};
themed.add(redrawStrips);
addEventListener("resize", redrawStrips);
