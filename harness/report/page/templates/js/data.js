// What the page contains: `data` at once, and compressed chunks (gzip in base64) that are opened when they are drawn.
// A point of the sweep, one configuration, is called a run in the page; code refers to it by its index in `points`.

const byId = (id) => document.getElementById(id);
const data = {
  baseline: null, front: null, quantization: null, answer: null, tested: "", swept: [], trends: [], interactions: [], best: {}, factors: [], effects: [], noise: {}, selfBleu: [], expectations: [], feedback: [], scores: [], preferences: [], agreement: null,
  ...JSON.parse(byId("data").textContent),
};
const points = data.points;
const pointIndices = points.map((_, point) => point);
// Ids and names of a user are keys of Maps: an object has keys of its own, such as "constructor".
const selfBleuOf = new Map(data.selfBleu);
const metricOf = new Map(data.metrics.map((metric) => [metric.key, metric]));

// The chunks come after this script, so that the first view need not wait for them.
const parsed = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
  else resolve();
});

const decompressed = async (base64) => {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

let chunks = null;
const chunk = async ([offset, length]) => {
  await parsed;
  chunks ??= byId("chunks").textContent;
  return decompressed(chunks.slice(offset, offset + length));
};
const decodeText = (bytes) => new TextDecoder().decode(bytes);
const jsonChunk = async (ref) => JSON.parse(decodeText(await chunk(ref)));

// A function that computes its result, often a promise, once.
const once = (compute) => {
  let result, done = false;
  return () => {
    if (!done) { done = true; result = compute(); }
    return result;
  };
};

const promptList = once(async () => {
  const list = await jsonChunk(data.prompts);
  return list.map(([id, title, disagreement, first, texts, tokens, ends]) => ({ id, title, disagreement, first, texts, tokens, ends }));
});
const vocabularyAt = async (ref) => {
  const [ids, texts] = await jsonChunk(ref);
  return { ids, texts };
};
const vocabulary = once(() => vocabularyAt(data.vocabulary));
const allSettings = once(() => jsonChunk(data.settings));

// Texts of a prompt; kept once opened, since search and the comparison of two runs read them again.
const textsOf = (prompt) => (prompt.opened ??= jsonChunk(prompt.texts));

// Samples of a prompt with their steps, where the page has them; the last few prompts stay open.
const MOST_OPEN = 8;
const openPrompts = new Map();
const samplesOf = (prompt) => {
  let found = openPrompts.get(prompt.id);
  if (!found) {
    found = (async () => {
      const [texts, tokens] = await Promise.all([
        textsOf(prompt),
        prompt.tokens ? Promise.all([chunk(prompt.tokens), vocabulary()]) : null,
      ]);
      const blocks = tokens ? readColumns(...tokens) : [];
      const steps = new Map(blocks.map((block) => [`${block.point}/${block.sample}`, block]));
      const samples = texts.samples.map((sample) => ({ ...sample, steps: steps.get(`${sample.point}/${sample.sample}`) ?? null }));
      return { ...texts, samples, promptSteps: blocks.find((block) => block.sample === PROMPT) ?? null };
    })();
  }
  openPrompts.delete(prompt.id);
  openPrompts.set(prompt.id, found);
  if (openPrompts.size > MOST_OPEN) openPrompts.delete(openPrompts.keys().next().value);
  return found;
};
