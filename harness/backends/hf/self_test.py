"""At load: two ragged prompts through the tree, compared with stock `generate` one prompt at a time."""

from __future__ import annotations

import torch

from harness.backends.backend import Request
from harness.backends.hf.generation_config import generation_config
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.tree import decode_tree
from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel
from harness.prompts.prompt import Prompt

_TOKENS = 4


def _tolerance(loaded: LoadedModel) -> float:
    """Return what rounding changes between a padded batch and one row; a wrong cache differs by far more."""
    return 1e-2 if loaded.model.dtype in (torch.float32, torch.float64) else 1.0


@torch.inference_mode()
def tree_handles(loaded: LoadedModel, detokenizer: Detokenizer) -> bool:
    """Return whether the tree decodes this model as stock `generate` does.

    Greedy and sampled requests of two prompts, so that rows are split, removed and moved. Where tokens
    differ, as they may in low precision, the log-probabilities of the chosen tokens decide.
    """
    vocabulary = loaded.model.config.get_text_config().vocab_size
    ids = [3 + (7 * index) % max(1, min(vocabulary, 200) - 3) for index in range(12)]
    prompts = [Prompt("a", "", tuple(ids)), Prompt("b", "", tuple(ids[:5]))]
    greedy, hot = _strategy(loaded), _strategy(loaded, do_sample=True, temperature=2.0)
    requests = [Request(prompt, 0, strategy) for strategy in (greedy, hot, greedy) for prompt in prompts]
    try:
        samples = decode_tree(loaded, requests, detokenizer)
    except Exception:
        return False
    # The second greedy request of each prompt shares the rows of the first: it is not compared again.
    if [sample.token_ids for sample in samples[:2]] != [sample.token_ids for sample in samples[4:]]:
        return False
    for request, sample in zip(requests[:4], samples[:4], strict=True):
        assert sample.token_ids is not None
        assert sample.steps is not None
        prompt, tokens = request.prompt, sample.token_ids
        inputs = pad_left([(*prompt.ids, *tokens)], 0, loaded.device)
        logits = loaded.model(**inputs, use_cache=False).logits[0, -len(tokens) - 1 : -1].float()
        chosen = torch.tensor(tokens, device=logits.device)
        expected = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0].cpu()
        if (expected - torch.from_numpy(sample.steps.logprob)).abs().max() > _tolerance(loaded):
            return False
        if request.strategy is greedy and not _equals_stock(loaded, greedy, prompt, tokens, logits):
            return False
    return True


def _equals_stock(
    loaded: LoadedModel, greedy: Strategy, prompt: Prompt, tokens: tuple[int, ...], logits: torch.Tensor
) -> bool:
    """Return whether stock `generate` gives the same tokens, or diverges only at a tie."""
    inputs = pad_left([prompt.ids], greedy.pad_token_id, loaded.device)
    output = loaded.model.generate(**inputs, generation_config=generation_config(greedy))
    stock = output[0, len(prompt.ids) :].tolist()
    for row, ours, theirs in zip(logits, tokens, stock, strict=True):
        if ours != theirs:
            return float((row[ours] - row[theirs]).abs()) < _tolerance(loaded)
    return True


def _strategy(loaded: LoadedModel, **fields: object) -> Strategy:
    return Strategy(
        effective=effective_decoding(Decoding(name="self-test", **fields)),  # type: ignore[arg-type]
        max_new_tokens=_TOKENS,
        seed=0,
        stop_strings=(),
        eos_token_ids=(),
        pad_token_id=loaded.tokenizer.pad_token_id or 0,
        top_k=1,
    )
