"""Which points of a sweep are compared with which: each one of lower precision, and its reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.artifacts.drift_role import DriftRole
from harness.artifacts.job import Job
from harness.config.point import Point


def with_drift_roles(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with their roles in drift.

    The reference of a job is that of the same model, prompts, decoding and generation in the highest
    precision of the sweep, or in the quantization that `drift.reference` names; it has none itself.
    """
    if not jobs or not jobs[0].point.drift.enabled:
        return list(jobs)
    references = _references(jobs)
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
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, job in enumerate(jobs):
        if job.target.precision is not None:
            alike.setdefault(_shared_config(job.point), []).append(index)
    found: list[int | None] = [None] * len(jobs)
    for indices in alike.values():
        if requested is None:
            reference = max(indices, key=lambda index: (jobs[index].target.precision, -index))
            best = jobs[reference].target.precision
            lower = [index for index in indices if jobs[index].target.precision < best]  # type: ignore[operator]
        else:
            named = [index for index in indices if jobs[index].point.quantization.name == requested]
            if not named:
                continue
            reference = named[0]
            lower = [index for index in indices if jobs[index].point_id != jobs[reference].point_id]
        for index in lower:
            found[index] = reference
    return found


def _shared_config(point: Point) -> tuple[str, ...]:
    """Return what two points must share to be compared with each other."""
    sections = (point.model, point.cache, point.prompts, point.decoding, point.generation)
    return tuple(section.model_dump_json() for section in sections)


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
    return tuple(
        f"what {' and '.join(names)} cost {model} is computed once a higher "
        f"precision is in the sweep: -m quantization=none,{','.join(names)}"
        for model, names in missing.items()
    )
