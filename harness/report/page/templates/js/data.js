// What the page holds: `data` at once, and pieces (gzip in base64) that are opened when they are drawn.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const points = data.points;
const metricOf = new Map(data.metrics.map((metric) => [metric.key, metric]));

// The pieces stand behind this script, so that the first view need not wait for them.
const parsed = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
  else resolve();
});

const opened = async (base64) => {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

let pieces = null;
const piece = async ([start, length]) => {
  await parsed;
  pieces ??= byId("pieces").textContent;
  return opened(pieces.slice(start, start + length));
};
const readable = (bytes) => new TextDecoder().decode(bytes);
const jsonPiece = async (place) => JSON.parse(readable(await piece(place)));

// A function whose promise is made once.
const once = (make) => {
  let made = null;
  return () => (made ??= make());
};

const promptList = once(async () => {
  const list = await jsonPiece(data.prompts);
  return list.map(([id, start, disagreement, first, texts, tokens]) => ({ id, start, disagreement, first, texts, tokens }));
});
const vocabulary = once(async () => {
  const [ids, texts] = await jsonPiece(data.vocabulary);
  return { ids, texts };
});
const settingsOf = once(() => jsonPiece(data.settings));

// Texts of a prompt: kept once opened, they are what search and the differences of two points read.
const textsOf = (prompt) => (prompt.opened ??= jsonPiece(prompt.texts));

// Samples of a prompt with their steps, where the page holds them; the last few prompts stay open.
const STAY = 8;
const open = new Map();
const samplesOf = (prompt) => {
  let found = open.get(prompt.id);
  if (!found) {
    found = (async () => {
      const [texts, tokens] = await Promise.all([
        textsOf(prompt),
        prompt.tokens ? Promise.all([piece(prompt.tokens), vocabulary()]) : null,
      ]);
      const steps = tokens ? readSteps(...tokens) : new Map();
      const samples = texts.samples.map((sample) => ({ ...sample, steps: steps.get(`${sample.p}/${sample.n}`) ?? null }));
      return { ...texts, samples, own: steps.get("prompt") ?? null };
    })();
  }
  open.delete(prompt.id);
  open.set(prompt.id, found);
  if (open.size > STAY) open.delete(open.keys().next().value);
  return found;
};
