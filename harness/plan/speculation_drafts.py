"""Which drafts a point's samples are tried with, and which strategies have none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.artifacts.job import Job
from harness.backends.backend import Target
from harness.backends.drafting import Draft
from harness.config.guided_fields import is_guided
from harness.config.point import Point
from harness.errors import ConfigError, Mistake
from harness.once import Once

DRAFT = "speculation.draft"


def drafts_of(point: Point, target: Target, effective: Mapping[str, Any], once: Once) -> tuple[Draft, ...]:
    """Return what proposes tokens to a point's model; nothing where its strategy is not verified in blocks.

    Raises:
        ConfigError: a draft is not found or has another tokenizer, or there are no such layers.
    """
    asked = point.speculation
    if wrong := list(_layers(point, target)):
        raise ConfigError(wrong)
    models = [
        Draft("model", name, model=name, weights=str(target.amateur(name, once, DRAFT)["weights"]))
        for name in asked.draft
    ]
    exits = [
        Draft("early_exit", "first layer" if count == 1 else f"first {count} layers", layers=count)
        for count in asked.early_exit
    ]
    lookup = Draft("prompt_lookup", "prompt lookup", ngram=asked.max_matching_ngram_size)
    if not target.shares_batches(effective) or is_guided(effective):
        return ()
    return (*models, *([lookup] if asked.prompt_lookup else []), *exits)


def _layers(point: Point, target: Target) -> Iterator[Mistake]:
    layers = target.info.layers if point.speculation.early_exit else None
    for count in point.speculation.early_exit:
        if layers is not None and count >= layers:
            few = f"use speculation.early_exit={layers - 1}" if layers > 1 else "leave it out"
            problem = f"{point.model.name} has {layers} layers, a draft needs fewer; {few}"
            yield Mistake(f"speculation.early_exit={count}", problem)


def left_out(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return, in a line, which strategies of a sweep with drafts have none."""
    names = dict.fromkeys(
        job.point.decoding.name for job in jobs if job.point.speculation.enabled and not job.drafts
    )
    if not names:
        return ()
    why = "searches, loops of one's own, guidance and quantized caches are not verified in blocks"
    return (f"speculation leaves out {', '.join(names)}: {why}",)
