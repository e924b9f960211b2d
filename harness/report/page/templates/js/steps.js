// The steps of samples out of a piece of tokens; the order of the columns is that of token_data.py.

const OWN = -1; // the sample number of a prompt's own tokens
const NOTHING = 0xffffff;

const halves = once(() => {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits >> 15 ? -1 : 1;
    const power = (bits >> 10) & 31;
    const part = bits & 1023;
    table[bits] = sign * (power === 31 ? (part ? NaN : Infinity) : power ? 2 ** (power - 15) * (1 + part / 1024) : (2 ** -14 * part) / 1024);
  }
  return table;
});

// By "point/sample", and "prompt" for the prompt's own.
const readSteps = (bytes, words) => {
  const table = halves();
  const end = bytes.indexOf(10);
  const head = JSON.parse(readable(bytes.subarray(0, end)));
  let at = end + 1;
  const whole = (count) => {
    const values = new Uint32Array(count);
    for (let i = 0; i < count; i++) values[i] = bytes[at + i] | (bytes[at + count + i] << 8) | (bytes[at + 2 * count + i] << 16);
    at += 3 * count;
    return values;
  };
  const half = (count) => {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = table[bytes[at + i] | (bytes[at + count + i] << 8)];
    at += 2 * count;
    return values;
  };
  const found = new Map();
  for (const [point, sample, count, k] of head) {
    const steps = {
      count, k, words,
      token: whole(count), rank: whole(count), kept: whole(count),
      lp: half(count), wlp: half(count), ent: half(count), went: half(count), cut: half(count),
      tops: whole(count * k), tlp: half(count * k), twlp: half(count * k),
    };
    steps.warped = steps.wlp.some((value) => !Number.isNaN(value));
    found.set(sample === OWN ? "prompt" : `${point}/${sample}`, steps);
  }
  return found;
};

const textAt = (steps, index) => steps.words.texts[steps.token[index]];
const idAt = (steps, index) => steps.words.ids[steps.token[index]];
