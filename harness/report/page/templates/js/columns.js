// Steps of samples out of a chunk of columns. Its header names the columns, their types and widths; see columns.py.

const PROMPT = -1; // the sample index of a prompt's own tokens
const NONE = 0xffffff; // no alternative

const halfFloats = once(() => {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    table[bits] = sign * (exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
  }
  return table;
});

// The blocks of a chunk: the facts of its header, `count` steps, `k` alternatives per step, and each recorded column by name.
const readColumns = (bytes, vocabulary) => {
  const halves = halfFloats();
  const end = bytes.indexOf(10);
  const header = JSON.parse(decodeText(bytes.subarray(0, end)));
  let offset = end + 1;
  // Integers of `width` bytes, plane by plane, the lowest bytes first.
  const integers = (count, width) => {
    const values = new Uint32Array(count);
    for (let shift = 0; shift < 8 * width; shift += 8) for (let i = 0; i < count; i++) values[i] |= bytes[offset++] << shift;
    return values;
  };
  const readers = {
    u24: (count) => integers(count, 3),
    f16: (count) => { const values = new Float32Array(count); integers(count, 2).forEach((bits, i) => { values[i] = halves[bits]; }); return values; },
    f24: (count) => new Float32Array(integers(count, 3).map((bits) => bits << 8).buffer),
  };
  return header.blocks.map(({ columns, steps: count, ...facts }) => {
    const block = { ...facts, count, vocabulary, k: {} };
    for (const [name, type, width] of header.columns[columns]) {
      block[name] = readers[type](count * width);
      if (width !== 1 || name.includes("top_")) block.k[name] = width;
    }
    if (isUntruncated(block)) { block.untruncated = true; delete block.kept; delete block.removed_mass; }
    return block;
  });
};

// Whether nothing was truncated: the same many candidates at each step, with all of the mass but for rounding.
const LEAST_VOCABULARY = 256;
const isUntruncated = ({ kept, removed_mass: removed }) =>
  Boolean(kept?.length && removed) && kept[0] >= LEAST_VOCABULARY && kept.every((each) => each === kept[0]) && removed.every((each) => !(each > 1e-5));

const textAt = (steps, index) => steps.vocabulary.texts[steps.token[index]];
const idAt = (steps, index) => steps.vocabulary.ids[steps.token[index]];

// The alternatives of a step: [token, value of each of `names`]; undefined where a column was not recorded.
const alternativesAt = (steps, index, tokens, names) => {
  const k = steps.k[tokens] ?? 0, found = [];
  for (let i = index * k; i < (index + 1) * k; i++) if (steps[tokens][i] !== NONE) found.push([steps[tokens][i], ...names.map((name) => steps[name]?.[i])]);
  return found;
};
