"""The difference between a model's and the grammar's exact probabilities, where it matters."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .grammar import Grammar

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Probe:
    """A position in a text where the exact probabilities are known.

    Attributes:
        kind: `choice` (local), `copy` or `list`.
        site: which choice of the grammar it is.
        text: which of the texts it is in.
        position: number of units before it.
        probabilities: {unit: probability} of the next unit.
    """

    kind: str
    site: str
    text: int
    position: int
    probabilities: dict[str, float]


def draw_probes(grammar: Grammar, seed: str, texts: int) -> tuple[list[list[str]], list[Probe]]:
    """Draw held-out texts and probe every choice, copy and list word in them.

    Copies are remembered words themselves (names, things, places), not their pronouns.

    Returns:
        The texts, each as its units, and the probes.
    """
    rng = random.Random(seed)
    written_texts = [grammar.write(rng) for _ in range(texts)]
    probes = []
    for number, written in enumerate(written_texts):
        probabilities = grammar.walk("".join(one.unit for one in written))
        for position, one in enumerate(written):
            copied = one.kind == "copy" and "|" not in one.site
            if (one.kind in ("choice", "list") and len(probabilities[position]) > 1) or copied:
                probes.append(Probe(one.kind, one.site, number, position, probabilities[position]))
    return [[one.unit for one in written] for written in written_texts], probes


def probe_errors(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: list[list[str]], probes: list[Probe]
) -> list[float]:
    """Return for each probe the largest |model - exact| over the possible next words.

    Args:
        model: run in its own precision, one plain forward pass a text.
        tokenizer: one that has a token for each unit.
        texts: the texts' units.
        probes: positions in them.
    """
    import torch

    by_text: dict[int, list[int]] = defaultdict(list)
    for index, probe in enumerate(probes):
        by_text[probe.text].append(index)
    errors = [0.0] * len(probes)
    for number, indices in by_text.items():
        ids = torch.tensor([tokenizer.encode("".join(texts[number])).ids])
        with torch.inference_mode():
            predicted = model(input_ids=ids).logits[0].float().softmax(-1)
        for index in indices:
            probe = probes[index]
            token_ids = [tokenizer.token_to_id(_token(tokenizer, unit)) for unit in probe.probabilities]
            exact = torch.tensor(list(probe.probabilities.values()))
            errors[index] = float((predicted[probe.position, token_ids] - exact).abs().max())
    return errors


def _token(tokenizer: Tokenizer, unit: str) -> str:
    return tokenizer.encode(unit, add_special_tokens=False).tokens[0]


def summarise(probes: list[Probe], errors: list[float]) -> dict[str, float]:
    """Return the mean error by kind, and over all probes as `all`."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for probe, error in zip(probes, errors, strict=True):
        grouped[probe.kind].append(error)
        grouped["all"].append(error)
    return {kind: sum(values) / len(values) for kind, values in sorted(grouped.items())}


def by_site(probes: list[Probe], errors: list[float], at_least: int = 5) -> list[tuple[float, str]]:
    """Return the mean error of each site that was probed often enough, smallest first."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for probe, error in zip(probes, errors, strict=True):
        grouped[probe.site].append(error)
    return sorted((sum(e) / len(e), site) for site, e in grouped.items() if len(e) >= at_least)
