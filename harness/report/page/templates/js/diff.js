// Where two texts part, and what one has that the other lacks.

const units = (sample) => sample.units ??= sample.steps
  ? Array.from({ length: sample.steps.count }, (_, i) => textAt(sample.steps, i))
  : sample.text.match(/\s*\S+|\s+$/gu) ?? [];

// The first place at which two samples differ; null where one is the beginning of the other, or both are equal.
const partsAt = (one, other) => {
  const a = units(one), b = units(other);
  const both = Math.min(a.length, b.length);
  for (let i = 0; i < both; i++) if (a[i] !== b[i]) return i;
  return null;
};

const MOST_CELLS = 4_000_000;

// Longest common subsequence: [kind, index], kind "same" and "more" by index in `a`, "less" by index in `b`.
const differences = (a, b) => {
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start] === b[start]) start++;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA--; endB--; }
  const rows = endA - start, columns = endB - start;
  const found = [];
  for (let i = 0; i < start; i++) found.push(["same", i]);
  if ((rows + 1) * (columns + 1) <= MOST_CELLS) {
    const wide = columns + 1;
    const longest = new Uint16Array((rows + 1) * wide);
    for (let i = rows - 1; i >= 0; i--)
      for (let j = columns - 1; j >= 0; j--)
        longest[i * wide + j] = a[start + i] === b[start + j]
          ? longest[(i + 1) * wide + j + 1] + 1
          : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
    let i = 0, j = 0;
    while (i < rows || j < columns) {
      if (i < rows && j < columns && a[start + i] === b[start + j]) { found.push(["same", start + i]); i++; j++; }
      else if (j < columns && (i === rows || longest[i * wide + j + 1] >= longest[(i + 1) * wide + j])) found.push(["less", start + j++]);
      else found.push(["more", start + i++]);
    }
  } else {
    for (let j = start; j < endB; j++) found.push(["less", j]);
    for (let i = start; i < endA; i++) found.push(["more", i]);
  }
  for (let i = endA; i < a.length; i++) found.push(["same", i]);
  return found;
};
