"""Rules on the methods of decoding: what each needs, and what it cannot be combined with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from harness.config.decoding import Decoding
from harness.config.effective import acts, draws, is_beam, is_contrastive
from harness.config.no_effect import NoEffect, typed
from harness.config.processor_entries import loop_rules, typed_value
from harness.config.structure import STRUCTURES
from harness.config.watermark_kinds import MARKED_BY
from harness.errors import Mistake

GUIDANCE = ("guidance_scale", "context_alpha", "amateur", "dola_layers")
"""The fields that guide a strategy by a second distribution; one of them at most."""

GOOD_CANDIDATES = 4
"""Candidates to begin with in contrastive search."""


def method_rules(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is wrong with the method of a strategy."""
    if decoding.generate is not None:
        yield from _of_own_loop(decoding, effective)
        return
    if decoding.stochastic_beams:
        yield from _of_stochastic_beams(decoding, effective)
        return
    yield from _of_contrastive_search(decoding, effective)
    if decoding.cot_branches is not None and draws(decoding):
        problem = "chain-of-thought decoding takes the likeliest token after the first one"
        cure = "use decoding=cot decoding.do_sample=false"
        yield Mistake(typed("cot_branches", decoding.cot_branches), f"{problem}; {cure}")
    if is_beam(decoding):
        yield from _of_beam_groups(decoding)
        yield from _of_forced_words(decoding, effective)


def deterministic_method(decoding: Decoding) -> str:
    """Return the name of a method that is not for sampling; empty for any other."""
    if is_contrastive(decoding):
        return "contrastive search"
    if is_beam(decoding) and (decoding.force_words or decoding.force_words_ids):
        return "constrained beam search"
    if is_beam(decoding) and (decoding.num_beam_groups or 1) > 1:
        return "diverse beam search"
    return "chain-of-thought decoding" if decoding.cot_branches is not None else ""


def _of_contrastive_search(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what does not go with contrastive search."""
    if not is_contrastive(decoding):
        return
    text = typed("penalty_alpha", decoding.penalty_alpha)
    if draws(decoding):
        cure = "use decoding=contrastive_search decoding.do_sample=false"
        yield Mistake(text, f"contrastive search does not sample; {cure}")
    elif is_beam(decoding):
        cure = "use decoding=contrastive_search decoding.num_beams=1"
        yield Mistake(text, f"contrastive search follows one sequence, no beams; {cure}")
    elif (decoding.top_k or 1) == 1:
        yield NoEffect(text, f"no effect without top_k above 1; add {typed('top_k', GOOD_CANDIDATES)}")
    if decoding.cot_branches is not None:
        branches = typed("cot_branches", decoding.cot_branches)
        yield Mistake(branches, "contrastive search has one output; use decoding.cot_branches=null")
    for name in GUIDANCE:
        if acts(effective, name):
            problem = "contrastive search compares the model's own distribution"
            yield Mistake(typed(name, getattr(decoding, name)), f"{problem}; use decoding.{name}=null")


def _of_beam_groups(decoding: Decoding) -> Iterator[Mistake]:
    """Yield what is wrong with the groups of diverse beam search."""
    beams, groups, penalty = decoding.num_beams or 1, decoding.num_beam_groups, decoding.diversity_penalty
    divisors = [number for number in range(2, beams + 1) if beams % number == 0]
    if penalty is not None and groups is None:
        cure = f"add {typed('num_beam_groups', divisors[0])}"
        text = typed("diversity_penalty", penalty)
        yield NoEffect(text, f"no effect without num_beam_groups above 1; {cure}")
    if groups is None or groups == 1:
        return
    text = typed("num_beam_groups", groups)
    if beams % groups:
        nearest = max((number for number in divisors if number <= groups), default=divisors[0])
        cure = f"use {typed('num_beam_groups', nearest)}"
        yield Mistake(text, f"must divide decoding.num_beams={beams}; {cure}")
    if penalty is None:
        yield NoEffect(text, "no effect without diversity_penalty; add decoding.diversity_penalty=1.0")
    if draws(decoding):
        yield Mistake(text, "diverse beam search does not sample; use decoding.do_sample=false")


def _of_forced_words(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what does not go with constrained beam search, and words that are none."""
    names = [name for name in ("force_words", "force_words_ids") if getattr(decoding, name) is not None]
    if not names:
        return
    for name in names:
        values = getattr(decoding, name)
        if not values:
            yield Mistake(typed(name, values), f"names no word; give one, or use decoding.{name}=null")
        elif name == "force_words" and not all(word.strip() for word in values):
            yield Mistake(typed(name, values), "contains an empty word; remove it")
        elif len(set(values)) < len(values):
            twice = next(value for index, value in enumerate(values) if value in values[:index])
            cure = f"use {shlex.quote(f'decoding.{name}={typed_value(tuple(dict.fromkeys(values)))}')}"
            yield Mistake(typed(name, values), f"names {twice!r} twice, which is no more than once; {cure}")
    if draws(decoding):
        value = typed(names[0], getattr(decoding, names[0]))
        cure = "use decoding=constrained_beam decoding.do_sample=false"
        yield Mistake(value, f"constrained beam search does not sample; {cure}")
    if acts(effective, "num_beam_groups"):
        value = typed("num_beam_groups", decoding.num_beam_groups)
        cure = "use decoding.num_beam_groups=null decoding.diversity_penalty=null"
        yield Mistake(value, f"constrained beam search has no groups; {cure}")


def _of_stochastic_beams(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what does not go with stochastic beam search."""
    if not draws(decoding):
        cure = "add decoding.do_sample=true"
        yield NoEffect("decoding.stochastic_beams=true", f"no effect without do_sample=true; {cure}")
    others: dict[str, str] = {
        **dict.fromkeys(("num_beams",) if is_beam(decoding) else (), "it has a beam for each sample"),
        **dict.fromkeys(("penalty_alpha", "cot_branches"), "it is a search of its own"),
        **dict.fromkeys(
            ("mirostat_mode", "adaptive_target"), "it follows the draws of one text, and here texts compete"
        ),
        **dict.fromkeys(GUIDANCE, "stochastic beam search reads the model's own distribution"),
        **dict.fromkeys(MARKED_BY.values(), "a watermark marks what one text draws"),
    }
    for name, problem in others.items():
        if acts(effective, name):
            cure = f"use decoding.{name}=null"
            yield Mistake(
                typed(name, getattr(decoding, name)), f"not with stochastic_beams: {problem}; {cure}"
            )


def _of_own_loop(decoding: Decoding, effective: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what does not go with a loop of one's own, and an entry of the wrong form."""
    yield from loop_rules(decoding.generate)
    taken = ("num_beams", "penalty_alpha", "cot_branches", "stochastic_beams", "processors")
    for name in (*taken, *GUIDANCE, *STRUCTURES, *MARKED_BY.values()):
        if acts(effective, name):
            problem = "decoding.generate chooses the tokens by itself"
            # A choice of beams has more fields that need them.
            cure = f"use {'decoding=greedy ' if name == 'num_beams' else ''}decoding.{name}=null"
            yield Mistake(typed(name, getattr(decoding, name)), f"{problem}; {cure}")
