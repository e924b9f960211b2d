// Drift out of its pieces; the order of the columns is that of drift_pieces.py.

const precision = data.precision ?? null;

const driftTexts = once(async () => (await jsonPiece(precision.texts)).map(([id, at]) => ({ id, at })));
const driftWords = once(async () => {
  const [ids, texts] = await jsonPiece(precision.words);
  return { ids, texts };
});
const worstOf = once(() => jsonPiece(precision.worst));

// On a log scale from 1e-5 to 1 nat, the same for all precisions.
const KL_TICKS = [["≤ 10⁻⁵", 0], ["10⁻⁴", 0.2], ["10⁻³", 0.4], ["0.01", 0.6], ["0.1", 0.8], ["≥ 1", 1]];
const fromKl = (kl) => (kl > 0 ? Math.max(0, Math.min(1, (Math.log10(kl) + 5) / 5)) : 0);

// Numbers over many powers of ten.
const SUPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const tiny = (value, count = 2) => {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size >= 0.001 && size < 10_000) return minus(String(Number(value.toPrecision(count + 1))));
  const [mantissa, power] = value.toExponential(count - 1).split("e");
  return `${minus(mantissa)}·10${Number(power) < 0 ? "⁻" : ""}${[...power.replace(/[+-]/, "")].map((digit) => SUPER[digit]).join("")}`;
};

// Of a point, the texts of its reference with both models' view of every token.
const readDrift = (bytes, words, point) => {
  const table = halves();
  const end = bytes.indexOf(10);
  const blocks = JSON.parse(readable(bytes.subarray(0, end)));
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
  const wide = (count) => new Float32Array(whole(count).map((bits) => bits << 8).buffer);
  const references = new Map();
  const found = [];
  blocks.forEach(([kind, whose, which, count, k], place) => {
    if (kind === "reference") {
      references.set(place, {
        reference: whose, sample: which, count, words, token: whole(count), lp: half(count), rank: whole(count), ent: half(count),
        rk: k, rtops: k ? whole(count * k) : null, rtlp: k ? half(count * k) : null,
      });
      return;
    }
    const own = {
      point: whose, kl: wide(count), error: wide(count), change: wide(count), tv: half(count), drank: whole(count), dent: half(count),
      same: whole(count), dk: k, dtops: whole(count * k), dtlp: half(count * k),
    };
    if (whose !== point) return;
    const steps = { ...references.get(which), ...own };
    steps.shade = (index) => Math.round(fromKl(steps.kl[index]) * (SHADES - 1));
    steps.detail = (box, index) => fillDrift(box, steps, index);
    found.push(steps);
  });
  return found;
};
