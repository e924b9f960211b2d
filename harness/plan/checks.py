"""Rules beyond one point's config: of the sweep as a whole, and of a point beside its model and prompts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from harness.artifacts.cost import cost_spec
from harness.artifacts.job import Job
from harness.artifacts.timing import timing_spec
from harness.config.effective import decoding_fields, draws
from harness.config.expectation import matches
from harness.config.point import Point, Speculation
from harness.config.search_path import conf_folder
from harness.config.structure import STRUCTURES
from harness.config.suggest import did_you_mean, most_similar
from harness.config.validation import format_value
from harness.errors import ConfigError, Mistake
from harness.models.model_info import ModelInfo
from harness.plan.references import names_reference
from harness.prompts.prompt import Prompt
from harness.store.mlflow_uri import tracking_uri

HIGHEST = ("fp32", "none", "fp16", "bf16", "bnb_int8", "torchao_int8_weight_only", "torchao_int8_dynamic")
"""Quantizations, the highest precision first; what is not among them is lower."""


def sweep_mistakes(points: Sequence[Point]) -> Iterator[Mistake]:
    """Yield what is wrong with a sweep as a whole."""
    if len({point.tracking for point in points}) > 1:
        yield Mistake("tracking", "differs between the points of the sweep; all are logged to one place")
    elif points[0].tracking.enabled:
        yield from _wrong_tracking_uri(points[0])
    if len({point.engine.shards for point in points}) > 1:
        yield Mistake(
            "engine.shards", "differs between the points of the sweep; all groups are run in one way"
        )
    if len({point.compare for point in points}) > 1:
        yield Mistake("compare", "differs between the points of the sweep; all are compared in one way")
        return
    yield from _nothing_to_select(points)
    yield from _nothing_to_validate(points)
    if len({point.drift for point in points}) > 1:
        yield Mistake("drift", "differs between the points of the sweep; all are compared with one reference")
    else:
        yield from _wrong_reference(points)
    yield from _several_speculations(points)
    labels = [point.label for point in points]
    for index, one in enumerate(points[0].expect):
        if one.point is not None and not any(matches(one.point, label) for label in labels):
            yield _unknown(f"expect[{index}].point", one.point, "point has this label", "points", labels)


def _nothing_to_select(points: Sequence[Point]) -> Iterator[Mistake]:
    """Yield that `compare.select` has nothing to choose from, since no point has several samples."""
    select = points[0].compare.select
    if select and all(point.generation.samples < 2 for point in points):
        cure = "generation.samples=8"
        if not any(draws(point.decoding) for point in points):
            cure = f"decoding=temperature {cure}"
        text = f"compare.select=[{','.join(select)}]"
        yield Mistake(text, f"no effect, no run has several samples per prompt; add {cure}")


def _nothing_to_validate(points: Sequence[Point]) -> Iterator[Mistake]:
    """Yield that `first_valid` knows no output that is not valid."""
    compare = points[0].compare
    if "first_valid" not in compare.select or compare.answer_pattern is not None:
        return
    if all(getattr(point.decoding, name) is None for point in points for name in STRUCTURES):
        others = [name for name in compare.select if name != "first_valid"] or ["best_of"]
        cure = shlex.quote(f"compare.select=[{','.join(others)}]")
        needs = "it needs a grammar that outputs must meet, or compare.answer_pattern"
        text = f"compare.select=[{','.join(compare.select)}]"
        yield Mistake(text, f"first_valid has no effect, {needs}; use {cure}")


def _several_speculations(points: Sequence[Point]) -> Iterator[Mistake]:
    """Yield the keys of `speculation` that differ: all runs are tried with the same drafts."""
    for key in Speculation.model_fields:
        values = list(dict.fromkeys(getattr(point.speculation, key) for point in points))
        if len(values) < 2:
            continue
        cure = f"use speculation.{key}={format_value(values[-1])}"
        if isinstance(values[0], tuple):
            every = ",".join(str(one) for one in dict.fromkeys(one for some in values for one in some))
            cure = f"use {shlex.quote(f'speculation.{key}=[{every}]')}"
        yield Mistake(f"speculation.{key}", f"differs between the points of the sweep; {cure}")


def unused_answers(jobs: Sequence[Job]) -> Iterator[Mistake]:
    """Yield that no answers are looked for: no selector needs them, and there is none to compare with."""
    compare = jobs[0].point.compare
    if compare.answer_pattern is None or {"majority", "first_valid"} & set(compare.select):
        return
    if not any(job.metrics.references for job in jobs):
        cure = shlex.quote(f"compare.select=[{','.join((*compare.select, 'majority'))}]")
        yield Mistake(
            f"compare.answer_pattern={compare.answer_pattern}",
            f"no effect, no prompt has a `reference` and no selector needs answers; use {cure}",
        )


def expected_prompts(jobs: Sequence[Job]) -> Iterator[Mistake]:
    """Yield expectations of prompts and samples that their points do not have."""
    for index, one in enumerate(jobs[0].point.expect):
        chosen = [job for job in jobs if matches(one.point, job.point.label)]
        ids = list(dict.fromkeys(prompt.id for job in chosen for prompt in job.prompts))
        if one.prompt is not None and one.prompt not in ids:
            yield _unknown(f"expect[{index}].prompt", one.prompt, "prompt has this id", "ids", ids)
        samples = max(job.point.generation.samples for job in chosen)
        if one.sample >= samples:
            cure = f"the first sample is 0 and there are generation.samples={samples}"
            yield Mistake(f"expect[{index}].sample={one.sample}", cure)
        steps = max(job.point.generation.max_new_tokens for job in chosen)
        if one.position >= steps:
            cure = f"the first step is 0 and there are generation.max_new_tokens={steps}"
            yield Mistake(f"expect[{index}].position={one.position}", cure)


def _unknown(key: str, value: str, problem: str, noun: str, known: Sequence[str]) -> Mistake:
    """Return the mistake of a value that is none of the known ones, with the nearest."""
    few = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    return Mistake(f"{key}={value}", f"no {problem}{did_you_mean(value, known)} ({noun}: {few})")


def timing_fits(point: Point, prompts: Sequence[Prompt], context: int | None) -> list[Mistake]:
    """Return a mistake where the latency pass could time no prompt, rather than an empty table."""
    timing = point.timing
    if not timing.enabled or context is None:
        return []
    if timing.prompt_tokens is not None:
        if timing.prompt_tokens + timing.new_tokens <= context:
            return []
        left = context - timing.new_tokens
        message = (
            f"with timing.new_tokens={timing.new_tokens} they are more than the context of {context}; "
            f"use {f'timing.prompt_tokens={left}' if left > 0 else 'timing=off'}"
        )
        return [Mistake(f"timing.prompt_tokens={timing.prompt_tokens}", message)]
    shortest = min(len(prompt.ids) for prompt in prompts)
    if shortest + timing.new_tokens <= context:
        return []
    message = (
        f"{timing.new_tokens} with the shortest prompt's {shortest} tokens are more than the context of "
        f"{context}; take fewer, or timing=off"
    )
    return [Mistake("timing.new_tokens", message)]


def alternatives_fit(point: Point, vocabulary: int | None) -> list[Mistake]:
    """Return a mistake where more alternatives are requested than the vocabulary has tokens."""
    asked = point.record.top_k
    if vocabulary is None or asked <= vocabulary:
        return []
    message = f"{point.model.name} has a vocabulary of {vocabulary} tokens; take at most that many"
    return [Mistake(f"record.top_k={asked}", message)]


def token_ids_fit(point: Point, vocabulary: int | None) -> list[Mistake]:
    """Return a mistake for each field with a token id that the model does not have, or with all of them."""
    if vocabulary is None:
        return []
    mistakes = []
    for name in (*decoding_fields("filter", "bias"), "top_p_reset_ids", "force_words_ids"):
        key, flat = f"decoding.{name}", set(_ids_in(getattr(point.decoding, name) or ()))
        if flat and (largest := max(flat)) >= vocabulary:
            message = f"{point.model.name} has no such token, its ids are 0 to {vocabulary - 1}; remove it"
            mistakes.append(Mistake(f"{key}: {largest}", message))
        elif key.endswith("suppress_tokens") and len(flat) >= vocabulary:
            mistakes.append(Mistake(key, f"forbids all tokens of {point.model.name}; leave some out"))
    return mistakes


def structure_fits(point: Point, tokenizer: Any) -> list[Mistake]:
    """Return a mistake where outputs must be something and the tokenizer does not tell its tokens' bytes."""
    given = [name for name in STRUCTURES if getattr(point.decoding, name) is not None]
    if not given or tokenizer is None:
        return []
    if not getattr(tokenizer, "is_fast", False):
        message = f"needs a tokenizer.json, which {point.model.name} lacks; use decoding.{given[0]}=null"
        return [Mistake(f"decoding.{given[0]}", message)]
    if tokenizer.eos_token_id is None:
        message = f"ends with EOS, which {point.model.name} lacks; use decoding.{given[0]}=null"
        return [Mistake(f"decoding.{given[0]}", message)]
    return []


def _ids_in(value: Any) -> Iterator[int]:
    """Yield the token ids in the value of a field; a float is a bias."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, (tuple, dict)):
        for item in value:
            yield from _ids_in(item)


def compile_fits(point: Point, device: str) -> list[Mistake]:
    """Return a mistake where CUDA graphs are asked for on another device."""
    if point.engine.compile != "on" or device.startswith("cuda"):
        return []
    return [
        Mistake("engine.compile=on", f"no effect, CUDA graphs need a CUDA device, this is {device}; use auto")
    ]


def guidance_fits(point: Point, info: ModelInfo) -> list[Mistake]:
    """Return a mistake where guidance does not fit the cache, or asks for layers that the model lacks."""
    decoding = point.decoding
    guided = [name for name in decoding_fields("guidance") if getattr(decoding, name) is not None]
    if not guided:
        return []
    if point.cache.quantized:
        message = "what guidance reads beside the text has no quantized cache; use cache=default"
        return [Mistake(f"cache={point.cache.name}", message)]
    layers = decoding.dola_layers
    if isinstance(layers, tuple) and info.layers is not None and max(layers) >= info.layers:
        message = f"{point.model.name} has no such early layer; they are 0 (embeddings) to {info.layers - 1}"
        return [Mistake(f"decoding.dola_layers: {max(layers)}", f"{message}; remove it")]
    return []


def sample_notes(point: Point) -> tuple[str, ...]:
    """Return a line where the one sample of a point is the greedy one of several, or where all are equal."""
    if point.decoding.gumbel_key is not None and point.generation.samples > 1:
        problem = "samples of a prompt are equal until the last tokens are those of an earlier place"
        return (f"decoding.gumbel_key={point.decoding.gumbel_key}: {problem}; set generation.samples=1",)
    branches = point.decoding.cot_branches
    if branches is None or point.generation.samples > 1:
        return ()
    problem = "sample 0 alone is greedy decoding"
    return (f"decoding.cot_branches={branches}: {problem}; add generation.samples={branches}",)


def timings_agree(jobs: Sequence[Job]) -> list[Mistake]:
    """Return a mistake where points with the same samples, which share one address, want two timings."""
    specs: dict[Any, dict[str, Any]] = {}
    for job in jobs:
        timing = job.point.timing
        if timing.enabled:
            wanted = cost_spec(job.point) if timing.measures_cost else timing_spec(job.point)
            if specs.setdefault((job.point_id, timing.measures_cost), wanted) != wanted:
                cure = "would have the same samples and two timings; run the second one as a sweep of its own"
                return [Mistake("timing", f"{job.point.label} and another point {cure}")]
    return []


def references_agree(jobs: Sequence[Job]) -> list[Mistake]:
    """Return a mistake where such points compare their outputs with different references."""
    seen: dict[str, Job] = {}
    for job in jobs:
        first = seen.setdefault(job.point_id, job)
        if first.metrics.references != job.metrics.references:
            cure = "have the same prompts with other references; run the second one as a sweep of its own"
            return [Mistake("prompts", f"{first.point.label} and {job.point.label} {cure}")]
    return []


def _wrong_reference(points: Sequence[Point]) -> Iterator[Mistake]:
    """Yield a mistake for a `drift.reference` that is not in the sweep."""
    requested = points[0].drift.reference
    names = list(dict.fromkeys(point.quantization.name for point in points))
    if requested is not None and not any(names_reference(requested, point) for point in points):
        known = [path.stem for path in (conf_folder() / "quantization").glob("*.yaml")]
        highest = min(names, key=lambda name: HIGHEST.index(name) if name in HIGHEST else len(HIGHEST))
        near = requested if requested in known else most_similar(requested, names) or highest
        missing = "" if near in names else f" -m quantization={near},{','.join(names)}"
        cure = f"use{missing} drift.reference={near}"
        models = list(dict.fromkeys(point.model.name for point in points))
        if requested not in known and (like := most_similar(requested, models)):
            cure = f"use drift.reference={shlex.quote(like)}"
        message = f"no point of the sweep has this quantization or model; {cure}"
        yield Mistake(f"drift.reference={requested}", message)


def _wrong_tracking_uri(point: Point) -> Iterator[Mistake]:
    try:
        tracking_uri(point.tracking.model_dump())
    except ConfigError as error:
        yield from error.mistakes
