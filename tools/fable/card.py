"""The model cards, with what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .grammar import fable_grammar
from .probes import by_site, draw_probes, probe_errors

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

CARD = """\
---
license: mit
language: en
library_name: transformers
tags: [llama, text-generation, tiny]
---

# {name}

A Llama with {parameters:.2f} million parameters that tells little stories. It is for trying out
decoding strategies where no large model is available: real weights, real probabilities, known answers.

- **Architecture:** Llama, {layers} layers of width {hidden}, feed-forward width {ffn}, {heads} query and
  {kv_heads} key/value heads, tied embeddings, context of 512 tokens.
- **Tokenizer:** byte-level BPE with {vocabulary} tokens; every word of the training texts is one token. It
  puts `<|begin|>` before a text. Turns of a chat end with `<|turn|>`, texts with `<|end|>`; both stop
  generation.
- **Stored as** fp16 safetensors; run it in fp32.
- **Data:** texts drawn from the seeded grammar in `tools/fable/grammar.py`: stories, lists,
  countries, questions with answers, chats.
- **Training:** {steps} steps, {tokens:.1f} million tokens, no text seen twice on purpose. The targets are the
  grammar's exact probabilities of each next word, not the one word that was drawn; copied words have more
  weight for the first {emphasis:.0%} of the steps. Muon for the matrices inside the blocks, AdamW for the
  rest, learning rates falling linearly to zero.
- **Validation loss:** {validation_loss:.3f} nats per token on held-out texts; the grammar's entropy on
  them, which is the lowest possible loss, is {floor:.3f}.

## How well it does

The grammar knows the exact probability of each next word. At {probes} positions in held-out texts, the
largest difference between the model's probability of a possible next word and the exact one is:

| where | mean | 90th percentile |
| --- | --- | --- |
| local choices | {choice_mean:.3f} | {choice_p90:.3f} |
| words copied from earlier in the text | {copy_mean:.3f} | {copy_p90:.3f} |
| words of a list without repeats | {list_mean:.3f} | {list_p90:.3f} |

By the grammar's names of its choices, it is best at {best}; worst at {worst}.

It speaks only the language of its grammar, about eight hundred words. Any other word in a prompt is read
in fragments, and the answer is arbitrary. It knows nothing of the world beyond ten countries
and ten things.

## Intended use

Tests, demonstrations and teaching of decoding: sampling, truncation, penalties, beam search, quantization.
Some of its texts loop for ever when decoded greedily; that is on purpose. Not for anything that needs a
right answer. License: MIT.
"""


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _named(sites: list[tuple[float, str]]) -> str:
    return ", ".join(f"`{site}` ({error:.3f})" for error, site in sites)


def write_card(
    name: str, figures: dict[str, Any], model: PreTrainedModel, tokenizer: Tokenizer, file: Path
) -> None:
    """Measure a model and write its card.

    Args:
        name: of the model.
        figures: numbers of its recipe and training.
        model: the stored weights, in fp32.
        tokenizer: of the model.
        file: the card.
    """
    texts, probes = draw_probes(fable_grammar(), "card", 300)
    errors = probe_errors(model, tokenizer, texts, probes)
    by_kind: dict[str, list[float]] = {}
    for probe, error in zip(probes, errors, strict=True):
        by_kind.setdefault(probe.kind, []).append(error)
    statistics = {
        f"{kind}_{what}": value
        for kind, values in by_kind.items()
        for what, value in (("mean", sum(values) / len(values)), ("p90", _quantile(values, 0.9)))
    }
    sites = by_site(probes, errors, at_least=10)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    file.write_text(
        CARD.format(
            **figures | {"tokens": figures["tokens"] / 1e6},
            **statistics,
            name=name,
            parameters=parameters,
            vocabulary=tokenizer.get_vocab_size(),
            probes=len(probes),
            best=_named(sites[:4]),
            worst=_named(sites[:-5:-1]),
        )
    )
