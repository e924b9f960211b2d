// Numbers as text.

const minus = (text) => text.replace(/-/g, "−");
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const nats = (value) => (!known(value) ? "–" : value === -Infinity ? "−∞" : minus(value.toFixed(3).replace(/^-0\.000$/, "0.000")));
const probability = (logprob) => (known(logprob) ? Math.exp(logprob) : 0);
const percent = (p) => {
  if (p === 0) return "0";
  if (p < 0.00001) return "<0.001%";
  const value = 100 * p;
  return (value >= 99.95 ? value.toFixed(p === 1 ? 0 : 1) : value >= 10 ? value.toFixed(1) : value >= 0.1 ? value.toFixed(2) : value.toPrecision(1)) + "%";
};
const percentOf = (logprob) => (known(logprob) ? percent(Math.exp(logprob)) : "–");
const share = (value) => (value < 0.00005 ? "0%" : value >= 0.1 ? `${Math.round(100 * value)}%` : `${Number((100 * value).toPrecision(2))}%`);
// A relative change, with its sign: "+1.2%", "−0.03%".
const changePercent = (ratio) => {
  const change = 100 * Math.abs(ratio - 1);
  return change < 0.005 ? "±0.00%" : `${ratio >= 1 ? "+" : "−"}${change >= 99.95 ? digits(change, 3) : change.toFixed(change >= 9.995 ? 1 : 2)}%`;
};
const fixed = (value, decimals) => minus(value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals, signDisplay: "negative" }));
const digits = (value, count = 4) => minus(Number(value.toPrecision(count)).toLocaleString("en", { maximumSignificantDigits: count }));
// A metric's value: with the decimals of its catalogue entry, without one with four digits.
const figure = (metric, value) => (!known(value) ? "–" : metric.known ? fixed(value, metric.decimals) : digits(value, Math.abs(value) < 1000 ? 3 : 4));
const signed = (metric, value) => {
  const small = metric.known && Math.abs(value) < 10 ** -metric.decimals;
  if (value === 0 || (small && Math.abs(value) < 0.5 * 10 ** -(metric.decimals + 2))) return "0";
  return (value > 0 ? "+" : "") + (metric.known ? fixed(value, metric.decimals + (small ? 2 : 0)) : digits(value, 3));
};
const plural = (count, word) => `${count.toLocaleString("en")} ${count === 1 ? word : word.endsWith("y") ? `${word.slice(0, -1)}ies` : `${word}s`}`;

// Numbers over many powers of ten.
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const scientific = (value, count = 2) => {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size >= 0.001 && size < 10_000) return minus(String(Number(value.toPrecision(count + 1))));
  const [mantissa, power] = value.toExponential(count - 1).split("e");
  return `${minus(mantissa)}·10${Number(power) < 0 ? "⁻" : ""}${[...power.replace(/[+-]/, "")].map((digit) => SUPERSCRIPTS[digit]).join("")}`;
};
