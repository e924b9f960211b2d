// Where two outputs diverge, and how they differ.

const wordUnits = (sample) => sample.words ??= sample.text.match(/\s*\S+|\s+$/gu) ?? [];
const tokenUnits = (sample) => sample.tokenTexts ??= Array.from({ length: sample.steps.count }, (_, i) => textAt(sample.steps, i));
const units = (sample) => (sample.steps ? tokenUnits(sample) : wordUnits(sample));
const sameUnits = (one, other) => Boolean(one.steps) === Boolean(other.steps);

// The index of the unit that contains a character.
const unitAt = (texts, character) => {
  let end = 0;
  const index = texts.findIndex((text) => (end += text.length) > character);
  return index < 0 ? texts.length - 1 : index;
};

// The first units at which two samples differ, [index in one, index in the other]; null where one is a prefix of the other, or
// both are equal. Tokens are compared with tokens; where only one sample has them, the characters decide.
const divergesAt = (one, other) => {
  const same = sameUnits(one, other);
  const a = same ? units(one) : one.text, b = same ? units(other) : other.text;
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) if (a[i] !== b[i]) return same ? [i, i] : [unitAt(units(one), i), unitAt(units(other), i)];
  return null;
};

const MOST_CELLS = 4_000_000;

// The longest common subsequence as [kind, index]: "same" and "added" by index in `a`, "removed" by index in `b`.
const differences = (a, b) => {
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start] === b[start]) start++;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA--; endB--; }
  const rows = endA - start, columns = endB - start;
  const found = [];
  for (let i = 0; i < start; i++) found.push(["same", i]);
  if ((rows + 1) * (columns + 1) <= MOST_CELLS) {
    const stride = columns + 1;
    const longest = new Uint16Array((rows + 1) * stride);
    for (let i = rows - 1; i >= 0; i--)
      for (let j = columns - 1; j >= 0; j--)
        longest[i * stride + j] = a[start + i] === b[start + j]
          ? longest[(i + 1) * stride + j + 1] + 1
          : Math.max(longest[(i + 1) * stride + j], longest[i * stride + j + 1]);
    let i = 0, j = 0;
    while (i < rows || j < columns) {
      if (i < rows && j < columns && a[start + i] === b[start + j]) { found.push(["same", start + i]); i++; j++; }
      else if (j < columns && (i === rows || longest[i * stride + j + 1] >= longest[(i + 1) * stride + j])) found.push(["removed", start + j++]);
      else found.push(["added", start + i++]);
    }
  } else {
    for (let j = start; j < endB; j++) found.push(["removed", j]);
    for (let i = start; i < endA; i++) found.push(["added", i]);
  }
  for (let i = endA; i < a.length; i++) found.push(["same", i]);
  return found;
};
