"""At load: two ragged prompts through the tree, held against stock `generate` one prompt at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.backends.hf.batch import Row, pad_left
from harness.backends.hf.tree import Text, decode_tree
from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

_TOKENS = 4
# Rounding differs between a padded batch and a row alone; a wrong cache differs by far more.
_TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-2}
_LOW_PRECISION = 1.0


@torch.inference_mode()
def handles(loaded: LoadedModel, detokenizer: Detokenizer) -> bool:
    """Whether the tree decodes this model as stock `generate` does.

    Greedy and one sampled text of each of two prompts, so that rows split, retire and move. Where tokens
    differ, as they may in low precision, the log-probabilities of what was chosen decide.
    """
    vocabulary = loaded.model.config.get_text_config().vocab_size
    ids = [3 + (7 * place) % max(1, min(vocabulary, 200) - 3) for place in range(12)]
    prompts = [Prompt("a", "", tuple(ids)), Prompt("b", "", tuple(ids[:5]))]
    greedy, hot = (_strategy(loaded, **fields) for fields in ({}, {"do_sample": True, "temperature": 2.0}))
    texts = [Text(strategy, Row(prompt, 0)) for strategy in (greedy, hot, greedy) for prompt in prompts]
    try:
        samples = decode_tree(loaded, texts, detokenizer)
    except Exception:
        return False
    # The second greedy text of each prompt shares the rows of the first: it is not held against stock again.
    if [sample.token_ids for sample in samples[:2]] != [sample.token_ids for sample in samples[4:]]:
        return False
    tolerance = _TOLERANCE.get(loaded.model.dtype, _LOW_PRECISION)
    for text, sample in zip(texts[:4], samples[:4], strict=True):
        assert sample.token_ids is not None
        assert sample.steps is not None
        whole = pad_left([(*text.row.prompt.ids, *sample.token_ids)], 0, loaded.device)
        logits = loaded.model(**whole, use_cache=False).logits[0, -len(sample.token_ids) - 1 : -1].float()
        chosen = torch.tensor(sample.token_ids, device=logits.device)
        true = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0].cpu()
        if (true - torch.from_numpy(sample.steps.logprob)).abs().max() > tolerance:
            return False
        if text.strategy is greedy and not _is_stock(
            loaded, greedy, text.row.prompt, sample.token_ids, logits
        ):
            return False
    return True


def _is_stock(
    loaded: LoadedModel, greedy: Strategy, prompt: Prompt, tokens: tuple[int, ...], logits: torch.Tensor
) -> bool:
    """Whether stock `generate` makes the same tokens, or parts from them only at a tie."""
    inputs = pad_left([prompt.ids], greedy.pad_token_id, loaded.device)
    stock = loaded.model.generate(**inputs, generation_config=greedy.config())[0, len(prompt.ids) :].tolist()
    for place, (ours, theirs) in enumerate(zip(tokens, stock, strict=True)):
        if ours != theirs:
            margin = float((logits[place, ours] - logits[place, theirs]).abs())
            return margin < _TOLERANCE.get(loaded.model.dtype, _LOW_PRECISION)
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
