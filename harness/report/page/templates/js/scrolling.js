// Shadows at the edges of a table that scrolls sideways.

const showEdges = (box) => {
  const frame = box.parentElement;
  frame.classList.toggle("more-left", box.scrollLeft > 1);
  frame.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
};
const scrollSizes = new ResizeObserver((entries) => {
  for (const { target } of entries) showEdges(target.closest(".scroll"));
});
const showScrolling = (root) => {
  for (const box of root.querySelectorAll(".scroll")) {
    if (box.parentElement.classList.contains("scroll-frame")) continue;
    const frame = el("div", "scroll-frame");
    box.replaceWith(frame);
    frame.append(box);
    box.addEventListener("scroll", () => showEdges(box), { passive: true });
    scrollSizes.observe(box);
    for (const child of box.children) scrollSizes.observe(child);
  }
};
