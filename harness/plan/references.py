"""Which points of a sweep are compared with which: each one of lower precision, and its reference."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.artifacts.drift_role import DriftRole
from harness.artifacts.job import Job
from harness.backends.backend import Target
from harness.config.point import Point
from harness.errors import ConfigError, Mistake


def with_drift_roles(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with their roles in drift.

    The reference of a job is that of the same model, prompts, decoding and generation in the highest
    precision of the sweep, or in the quantization that `drift.reference` names; it has none itself. Where
    that names a model, it is the reference of the other models too.

    Raises:
        ConfigError: a model is compared with another one whose tokens are not its own.
    """
    if not jobs or not jobs[0].point.drift.enabled:
        return list(jobs)
    references = _references(jobs)
    if mistakes := list(_incomparable(jobs, references)):
        raise ConfigError(mistakes)
    dependents: dict[int, list[str]] = {}
    for job, best in zip(jobs, references, strict=True):
        if best is not None:
            dependents.setdefault(best, []).append(job.point_id)
    together = _tokens_together(jobs, [jobs[index] for index in dependents])
    with_roles = []
    for index, (job, best) in enumerate(zip(jobs, references, strict=True)):
        reference = None if best is None else jobs[best]
        text = job.drift.fixed_text
        if text is not None and reference is not None and reference.drift.fixed_text is not None:
            text = replace(text, reference=reference.drift.fixed_text.key)
        role = DriftRole(
            reference=None if reference is None else reference.point_id,
            dependents=tuple(dict.fromkeys(dependents.get(index, ()))),
            together=together[_model_of(reference or job)],
            fixed_text=text,
        )
        with_roles.append(replace(job, drift=role))
    return with_roles


def _model_of(job: Job) -> Any:
    """Return what the jobs of one loaded model share."""
    return job.point.model, job.point.quantization


def _tokens_together(jobs: Sequence[Job], references: Sequence[Job]) -> Counter[Any]:
    """Return the scored tokens, at most, of each model's references, fixed texts included."""
    found: Counter[Any] = Counter()
    for job in {job.point_id: job for job in reversed(references)}.values():
        found[_model_of(job)] += job.tokens
    texts = {
        (_model_of(job), role.key): role.text.tokens
        for job in jobs
        if (role := job.drift.fixed_text) is not None and _model_of(job) in found
    }
    for (model, _), tokens in texts.items():
        found[model] += tokens
    return found


def _references(jobs: Sequence[Job]) -> list[int | None]:
    """Return the index of each job's reference."""
    requested = jobs[0].point.drift.reference
    across = requested is not None and not any(_is_quantization(requested, job.point) for job in jobs)
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, job in enumerate(jobs):
        if job.target.precision is not None:
            alike.setdefault(_shared_config(job.point, with_model=not across), []).append(index)
    found: list[int | None] = [None] * len(jobs)
    for indices in alike.values():
        if requested is None:
            reference = max(indices, key=lambda index: (jobs[index].target.precision, -index))
            best = jobs[reference].target.precision
            lower = [index for index in indices if jobs[index].target.precision < best]  # type: ignore[operator]
        else:
            named = [index for index in indices if names_reference(requested, jobs[index].point)]
            if not named:
                continue
            reference = max(named, key=lambda index: (jobs[index].target.precision, -index))
            lower = [index for index in indices if jobs[index].point_id != jobs[reference].point_id]
        for index in lower:
            found[index] = reference
    return found


def names_reference(requested: str, point: Point) -> bool:
    """Return whether `drift.reference` means a point: by quantization, model, or MODEL/QUANTIZATION."""
    model, quantization = point.model, point.quantization.name
    names = [name.rstrip("/") for name in (model.name, model.id, model.gguf_file) if name]
    meant = {*names, *(f"{name}/{quantization}" for name in names)}
    return _is_quantization(requested, point) or requested.rstrip("/") in meant


def _is_quantization(requested: str, point: Point) -> bool:
    return requested == point.quantization.name


def _shared_config(point: Point, *, with_model: bool) -> tuple[str, ...]:
    """Return what two points must share to be compared with each other."""
    sections = (point.cache, point.prompts, point.decoding, point.generation)
    model = (point.model.model_dump_json(),) if with_model else ()
    return (*model, *(section.model_dump_json() for section in sections))


def _incomparable(jobs: Sequence[Job], references: Sequence[int | None]) -> Iterator[Mistake]:
    """Yield models that read other tokens than their reference, which is another model."""
    seen = set()
    for job, index in zip(jobs, references, strict=True):
        reference = None if index is None else jobs[index]
        if reference is None or reference.point.model == job.point.model:
            continue
        key = f"drift.reference={job.point.drift.reference}"
        pair = f"{job.point.model.name} and {reference.point.model.name}"
        if (pair, id(job.prompts)) in seen:
            continue
        seen.add((pair, id(job.prompts)))
        if not _same_tokens(job.target, reference.target):
            cure = "take the checkpoint that it was made from, or remove this key"
            yield Mistake(key, f"{pair} have other tokens, which cannot be compared one by one; {cure}")
        elif [prompt.ids for prompt in job.prompts] != [prompt.ids for prompt in reference.prompts]:
            cure = "give both one model.chat_template, or remove this key"
            yield Mistake(key, f"{pair} read the prompts as other tokens; {cure}")


def _same_tokens(target: Target, other: Target) -> bool:
    """Return whether the tokens of two models have the same ids; one may name more, which fill it up."""
    tokenizers = target.tokenizer(), other.tokenizer()
    if target.info.vocab_size != other.info.vocab_size or None in tokenizers:
        return False
    mine, theirs = (tokenizer.get_vocab() for tokenizer in tokenizers if tokenizer is not None)
    shared = mine.keys() & theirs.keys()
    return 2 * len(shared) > max(len(mine), len(theirs)) and all(mine[one] == theirs[one] for one in shared)


def hints(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return how a reference is added to the sweep for models of low precision that have none."""
    missing: dict[str, list[str]] = {}
    for job in jobs:
        point, here, best = job.point, job.target.precision, job.target.checkpoint_precision
        alone = job.drift.reference is None and not job.drift.dependents
        if point.drift.enabled and alone and here is not None and best is not None and here < best:
            names = missing.setdefault(point.model.name, [])
            if point.quantization.name not in names:
                names.append(point.quantization.name)
    return (
        *(
            f"what {' and '.join(names)} cost {model} is computed once a higher "
            f"precision is in the sweep: -m quantization=none,{','.join(names)}"
            for model, names in missing.items()
        ),
        *_original_hints(jobs),
    )


def _original_hints(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield what compares a checkpoint of low precision with one of the same shape and higher precision."""
    models = {job.point.model: job for job in reversed(jobs)}
    if len(models) < 2 or not jobs[0].point.drift.enabled or jobs[0].point.drift.reference is not None:
        return
    best: dict[Any, Job] = {}
    for job in models.values():
        shape, here = (job.target.info.layers, job.target.info.vocab_size), job.target.checkpoint_precision
        known = best.get(shape)
        if here is not None and (known is None or here >= (known.target.checkpoint_precision or here)):
            best[shape] = job
    for job in reversed(models.values()):
        other = best.get((job.target.info.layers, job.target.info.vocab_size))
        here = job.target.checkpoint_precision
        if other and here and other.target.checkpoint_precision and here < other.target.checkpoint_precision:
            yield (
                f"if {job.point.model.name} was made from {other.point.model.name}, what that cost is "
                f"computed with drift.reference={shlex.quote(other.point.model.name)}"
            )
