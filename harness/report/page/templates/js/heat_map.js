// A metric over two swept numbers: its value in each cell, with the best region outlined.

// Pairs of keys that make a grid: two or more values of both, together.
const gridPairs = () => data.swept.flatMap((one, i) => data.swept.slice(i + 1).map((other) => [one, other])).filter(([one, other]) => {
  const both = pointIndices.filter((point) => known(one.of[point]) && known(other.of[point]));
  return [one, other].every((swept) => new Set(both.map((point) => swept.of[point])).size > 1) && both.length > 3;
});

const pairOf = (pairs) => {
  const wanted = [state.heat_x, state.heat_y];
  const found = pairs.find((pair) => pair.every(({ key }) => wanted.includes(key))) ?? pairs[0];
  return found[0].key === state.heat_y || found[1].key === state.heat_x ? [found[1], found[0]] : found;
};

// What is fixed in a grid: the group, and the values of all other keys.
const sliceOf = (point, [x, y]) => JSON.stringify([x.groups[x.group[point]] ?? "", ...data.swept.filter((each) => each !== x && each !== y).map((each) => each.of[point])]);
const sliceName = (point, [x, y]) => {
  const choices = varyingChoices.map((name) => points[point][name]);
  const others = data.swept.filter((each) => each !== x && each !== y && known(each.of[point])).map((each) => `${each.name}=${digits(each.values[each.of[point]])}`);
  return [choices.join("/"), ...others].filter(Boolean).join(" ") || "all runs";
};

// Sides of a cell where the region ends: the outline is drawn there.
const outlineOf = (grid, inside, row, column) => {
  const within = (r, c) => known(grid[r]?.[c]) && inside(grid[r][c]);
  return [["edge-top", -1, 0], ["edge-bottom", 1, 0], ["edge-left", 0, -1], ["edge-right", 0, 1]].filter(([, r, c]) => !within(row + r, column + c)).map(([cls]) => cls);
};

const heatTable = (metric, [x, y], runs) => {
  const cells = points.map((point) => point.cells[metric.key]?.[0]).filter(known);
  const [low, high] = [Math.min(...cells), Math.max(...cells)];
  const columns = [...new Set(runs.map((point) => x.of[point]))].sort((a, b) => a - b);
  const rows = [...new Set(runs.map((point) => y.of[point]))].sort((a, b) => b - a);
  const grid = rows.map((row) => columns.map((column) => runs.find((point) => y.of[point] === row && x.of[point] === column && points[point].cells[metric.key]) ?? null));
  const [best, ties, worse] = bestOf.get(metric.key) ?? [null, [], []];
  // Where no cell is significantly worse, an outline around all of them would say nothing: the best one alone.
  const decided = runs.some((point) => worse.includes(point));
  const region = new Set(decided ? [best, ...ties] : [best]);
  const cellFor = (point, row, column) => {
    if (point === null) return el("td", "empty", "–");
    const [value, from, to] = points[point].cells[metric.key];
    const number = link({ view: "runs", run: point }, figure(metric, value));
    const cell = el("td", region.has(point) ? ["within", ...outlineOf(grid, (each) => region.has(each), row, column)].join(" ") : "", number);
    if (point === best) cell.classList.add("best");
    cell.dataset.shade = Math.round((high > low ? (value - low) / (high - low) : 0.3) * (SHADES - 1));
    return titled(cell, `${plain(points[point].name)}\n${metric.name} ${figure(metric, value)}${known(from) ? `, 95% confidence interval ${figure(metric, from)} to ${figure(metric, to)}` : ""}${point === best ? "\nbest" : ties.includes(point) ? "\nnot significantly worse than the best" : ""}`);
  };
  const body = grid.map((cells, row) => el("tr", "", headCell("row", digits(y.values[rows[row]])), ...cells.map((point, column) => cellFor(point, row, column))));
  const last = el("tr", "", el("th"), ...columns.map((column) => headCell("col", digits(x.values[column]))));
  const table = el("table", columns.length > 12 ? "heat many" : "heat", el("tbody", "", ...body), el("tfoot", "", last));
  return { table, low, high, decided, region };
};

const interactionSentence = (metric, pair) => {
  const found = data.interactions.find((each) => each.metric === metric.key && pair.every(({ key }) => each.keys.includes(key)));
  if (!found || !known(found.slope[3])) return "";
  return ` ${found.slope[3] < 0.05 ? "The two keys interact" : "No significant interaction of the two keys"}${pText(found.slope[3], " (", ")")}.`;
};

const drawHeatMap = () => {
  const box = byId("heat");
  const pairs = gridPairs();
  const usable = preferredMetrics();
  box.hidden = !pairs.length || !usable.length;
  if (box.hidden) return;
  const metric = usable.find(({ key }) => key === state.heat) ?? usable[0];
  const pair = pairOf(pairs);
  const [x, y] = pair;
  const runs = pointIndices.filter((point) => known(x.of[point]) && known(y.of[point]) && points[point].cells[metric.key]);
  const slices = [...Map.groupBy(runs, (point) => sliceOf(point, pair)).values()];
  const [best] = bestOf.get(metric.key) ?? [null];
  const slice = slices.find((members) => sliceName(members[0], pair) === state.slice) ?? slices.find((members) => members.includes(best)) ?? slices[0] ?? [];
  const { table, low, high, decided, region } = heatTable(metric, pair, slice);
  const pairName = ([one, other]) => `${one.name} × ${other.name}`;
  const controls = [
    choiceOf("Metric of the heat map", chartMetrics().map((each) => [each.key, nameAndUnit(each)]), metric.key, (heat) => go({ heat }, false)),
    pairs.length > 1 ? choiceOf("Keys of the heat map", pairs.map((each) => [pairName(each), pairName(each)]), pairName(pairs.find((each) => each.every((key) => pair.includes(key)))), (name) => {
      const [one, other] = pairs.find((each) => pairName(each) === name);
      go({ heat_x: one.key, heat_y: other.key, slice: null }, false);
    }) : null,
    slices.length > 1 ? choiceOf("Runs of the heat map", slices.map((members) => [sliceName(members[0], pair), sliceName(members[0], pair)]), sliceName(slice[0], pair), (name) => go({ slice: name }, false)) : null,
  ].filter(Boolean);
  const outlined = slice.some((point) => region.has(point));
  const bestRun = ["Best run: ", pointLink(best), "."];
  const legend = best === null ? []
    : !decided ? [...(outlined ? ["Outlined: the best (bold)."] : bestRun), outlined ? " No cell is significantly worse." : " No cell is significantly worse than it."]
    : !outlined ? [...bestRun, " All cells are significantly worse."]
    : [`Outlined: the best (bold)${region.size > 1 ? " and what is not significantly worse" : "; all others are significantly worse"}.`, ...(slice.includes(best) ? [] : [" ", ...bestRun])];
  const scale = el("span", "key", el("b", "", nameAndUnit(metric)), figure(metric, low), " ", rampOfShades(), " ", figure(metric, high), metric.better ? el("span", "soft", `${metric.better} is better`) : "");
  clear(box,
    el("div", "section-head", el("h2", "", plain(`${x.name} × ${y.name}`)), el("div", "controls", ...controls)),
    el("p", "caption", ...legend, interactionSentence(metric, pair)),
    el("p", "chart-legend", scale),
    el("div", "heat-frame", el("span", "heat-y", plain(y.name)), el("div", "scroll-x", table), el("span", "heat-x", plain(x.name))));
  showScrolling(box);
};
const rampOfShades = () => {
  const node = el("i", "scale");
  node.style.background = `linear-gradient(to right, ${data.palette.light.map((paper, i) => `light-dark(${paper},${data.palette.dark[i]})`).join(", ")})`;
  return node;
};
