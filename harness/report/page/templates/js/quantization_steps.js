// The drift of the quantizations: chunks and steps.

const quantization = data.quantization;

const driftPrompts = once(async () => (await jsonChunk(quantization.prompts)).map(([id, tokens]) => ({ id, tokens })));
const driftVocabulary = once(() => vocabularyAt(quantization.vocabulary));
const worstSteps = once(() => jsonChunk(quantization.worst));

// On a log scale from 1e-5 to 1 nat, the same for all quantizations.
const KL_TICKS = [["≤ 10⁻⁵", 0], ["10⁻⁴", 0.2], ["10⁻³", 0.4], ["0.01", 0.6], ["0.1", 0.8], ["≥ 1", 1]];
const fromKl = (kl) => (kl > 0 ? Math.max(0, Math.min(1, (Math.log10(kl) + 5) / 5)) : 0);

// The samples of a point's reference, each step with what both models made of it.
const driftSteps = (bytes, vocabulary, point) => {
  const blocks = readColumns(bytes, vocabulary);
  return blocks.filter((block) => block.kind === "drift" && block.point === point).map((block) => {
    const reference = blocks[block.reference];
    const steps = { ...reference, ...block, k: { ...reference.k, ...block.k }, reference: reference.point };
    steps.shade = (index) => Math.round(fromKl(steps.kl[index]) * (SHADES - 1));
    steps.detail = (box, index) => fillDriftDetail(box, steps, index);
    return steps;
  });
};
