"""From a point to a job: its target resolved, its prompts rendered and encoded, its address known.

Nothing is loaded and no heavy library imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.metrics.custom import CustomMetric, read_custom_metrics
from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.analysis.metrics.requested import RequestedMetrics
from harness.artifacts.drift_role import DriftRole, FixedTextRole
from harness.artifacts.job import Job
from harness.backends.backend import ChatEnd, Target
from harness.backends.targets import target_of
from harness.config.effective import effective_decoding
from harness.config.guided_fields import needs_second_prompt
from harness.config.point import Compare, Point
from harness.config.structure import structure_of
from harness.decoding.own_checks import planned_loop, planned_processors
from harness.errors import ConfigError
from harness.once import Once
from harness.plan.checks import (
    alternatives_fit,
    compile_fits,
    guidance_fits,
    sample_notes,
    structure_fits,
    timing_fits,
    token_ids_fit,
)
from harness.plan.speculation_drafts import drafts_of
from harness.plan.words_in_tokens import forced_words, forced_words_fit
from harness.prompts import PreparedPrompts, prepare_prompts
from harness.prompts.passages import fixed_text
from harness.prompts.prompt import Prompt
from harness.prompts.second_prompt import second_prompts
from harness.store.address import digest, point_id
from harness.store.files import storable


def prepare(point: Point, once: Once) -> Job:
    """Return the job of a point.

    Args:
        point: the config.
        once: remembers what the points of one plan share.

    Raises:
        ConfigError: with what is wrong with the point beside its model and prompts.
    """
    custom = once(("custom", point.compare.metrics), lambda: read_custom_metrics(point.compare.metrics))
    target = target_of(point, once)
    prepared = _prompts(point, target, once)
    mistakes = timing_fits(point, prepared.prompts, target.info.context_length)
    mistakes += alternatives_fit(point, target.info.vocab_size)
    mistakes += token_ids_fit(point, target.info.vocab_size)
    mistakes += structure_fits(point, target.tokenizer())
    mistakes += compile_fits(point, target.device)
    mistakes += guidance_fits(point, target.info)
    if mistakes:
        raise ConfigError(mistakes)
    own = once(
        ("own processors", repr(point.decoding.processors)),
        lambda: planned_processors(point.decoding.processors or ()),
    )
    loop = once(("own loop", repr(point.decoding.generate)), lambda: planned_loop(point.decoding.generate))
    effective = {**effective_decoding(point.decoding), **own.fields, **loop.fields}
    words = forced_words(point, target.tokenizer())
    if words is not None:
        del effective["force_words"]
        effective["force_words_ids"] = words
    if mistakes := list(forced_words_fit(point, effective)):
        raise ConfigError(mistakes)
    if point.decoding.amateur is not None:
        effective["amateur"] = target.amateur(point.decoding.amateur, once)
    second = _second_prompts(point, target, prepared, effective, once)
    chat_end = _chat_end(point, target, prepared, once)
    return Job(
        point=point,
        point_id=_address(point, target, prepared, effective, chat_end, second, once),
        target=target,
        prompts=prepared.prompts,
        effective=effective,
        metrics=_metrics(custom, point.compare, prepared, effective, once),
        warnings=(
            *prepared.warnings,
            *target.notes,
            *chat_end.notes,
            *own.warnings,
            *loop.warnings,
            *sample_notes(point),
        ),
        drift=DriftRole(fixed_text=_fixed_text(point, target, prepared, once)),
        chat_eos=chat_end.ids,
        drafts=drafts_of(point, target, effective, once),
        second_prompts=second,
    )


def _prompts(point: Point, target: Target, once: Once) -> PreparedPrompts:
    budget = point.generation.max_new_tokens
    return once(
        ("prompts", id(target.info), point.model, point.prompts.model_dump_json(), budget),
        lambda: prepare_prompts(point.prompts, target.info, target.tokenizer(), budget),
    )


def _second_prompts(
    point: Point, target: Target, prepared: PreparedPrompts, effective: Mapping[str, Any], once: Once
) -> Mapping[str, tuple[int, ...]]:
    """Return what guidance contrasts each prompt with, by prompt id; nothing where it needs no prompts."""
    tokenizer = target.tokenizer()
    if tokenizer is None or not needs_second_prompt(effective):
        return {}
    context = target.info.context_length
    longest = None if context is None else context - point.generation.max_new_tokens
    without = "context_alpha" in effective
    key = ("second prompts", id(prepared), without, effective.get("negative_prompt"), longest)
    return once(key, lambda: second_prompts(prepared.prompts, effective, tokenizer, target.info.id, longest))


def _chat_end(point: Point, target: Target, prepared: PreparedPrompts, once: Once) -> ChatEnd:
    """Return what ends the point's chat prompts beside the model's EOS; nothing where it has none."""
    if point.generation.ignore_eos or not any(prompt.chat for prompt in prepared.prompts):
        return ChatEnd()
    return once(("chat end", id(target)), target.chat_end)


def _address(
    point: Point,
    target: Target,
    prepared: PreparedPrompts,
    effective: Mapping[str, Any],
    chat_end: ChatEnd,
    second: Mapping[str, tuple[int, ...]],
    once: Once,
) -> str:
    """Return the hash of everything that the point's samples depend on."""
    prompts = once(
        ("prompts hash", id(prepared)),
        lambda: digest([_identity(prompt) for prompt in prepared.prompts]),
    )
    generation = point.generation.model_dump(mode="json")
    return point_id(
        {
            **target.facts,
            "prompts": prompts,
            "tokenizer": target.tokenizer_facts,
            "decoding": effective,
            # The seed counts only where tokens are drawn.
            "generation": generation if effective["do_sample"] else generation | {"seed": None},
            **({} if target.cache is None else {"cache": target.cache}),
            # Only what differs from before: points without it keep their address.
            **({"chat eos": chat_end.ids} if chat_end.ids else {}),
            **({"second prompts": digest(sorted(second.items()))} if second else {}),
        }
    )


def _identity(prompt: Prompt) -> list[Any]:
    """Return what a prompt is for the model: its ids, or the turns that a server makes a text of."""
    known: list[Any] = [prompt.id, prompt.text, list(prompt.ids)]
    if prompt.ids or not prompt.chat:
        return known
    turns = [dict(turn) for turn in prompt.turns]
    return [*known, json.dumps([turns, prompt.row.get("tools")], default=str)]


def _metrics(
    custom: tuple[CustomMetric, ...],
    compare: Compare,
    prepared: PreparedPrompts,
    effective: Mapping[str, Any],
    once: Once,
) -> RequestedMetrics:
    structure = structure_of(effective)
    answers = AnswerPattern(compare.answer_pattern) if compare.select else None
    return once(
        ("metrics", custom, id(prepared), structure, answers and answers.expression, bool(answers)),
        lambda: RequestedMetrics(
            custom, dict(_references(prepared.prompts)), dict(_messages(prepared.prompts)), structure, answers
        ),
    )


def _references(prompts: Sequence[Prompt]) -> Iterator[tuple[str, str]]:
    """Yield prompt ids and the texts that outputs are compared with; an empty reference, or NaN, is none."""
    for prompt in prompts:
        value = prompt.row.get("reference")
        text = "" if value is None or value != value else storable(str(value))
        if text.strip():
            yield prompt.id, text


def _messages(prompts: Sequence[Prompt]) -> Iterator[tuple[str, str]]:
    """Yield prompt ids and the turns of chat prompts, as JSON."""
    for prompt in prompts:
        if prompt.chat:
            turns = [dict(turn) for turn in prompt.turns]
            yield prompt.id, storable(json.dumps(turns, ensure_ascii=False, default=str))


def _fixed_text(point: Point, target: Target, prepared: PreparedPrompts, once: Once) -> FixedTextRole | None:
    """Return `drift.text` for the point's model; None where it is not requested."""
    requested, tokenizer = point.drift.text, target.tokenizer()
    if not point.drift.enabled or requested is None or tokenizer is None:
        return None
    text = once(
        ("fixed text", requested, point.model, id(prepared)),
        lambda: fixed_text(requested, prepared.prompts, tokenizer, target.info.context_length),
    )
    ids = once(("fixed text ids", id(text)), lambda: digest([passage.ids for passage in text.passages]))
    return FixedTextRole(text, digest({**target.facts, "text": ids}))
