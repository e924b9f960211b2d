// Shadows at the edges of what scrolls sideways: tables, trees, wide charts.

const SCROLLING = ".scroll, .tree-scroll, .scroll-x, .scrolls .chart";

const PADDING = 10; // pixels at the right of a last column, which nobody misses
const showEdges = (box) => {
  const frame = box.parentElement;
  frame.classList.toggle("more-left", box.scrollLeft > 1);
  frame.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - PADDING);
};
const scrollSizes = new ResizeObserver((entries) => {
  for (const { target } of entries) showEdges(target.closest(SCROLLING));
});
const showScrolling = (root) => {
  for (const box of root.querySelectorAll(SCROLLING)) {
    if (box.parentElement.classList.contains("scroll-frame")) continue;
    const frame = el("div", "scroll-frame");
    box.replaceWith(frame);
    frame.append(box);
    box.addEventListener("scroll", () => showEdges(box), { passive: true });
    new MutationObserver(() => { for (const child of box.children) scrollSizes.observe(child); }).observe(box, { childList: true });
    scrollSizes.observe(box);
    for (const child of box.children) scrollSizes.observe(child);
  }
};
