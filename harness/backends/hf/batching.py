"""Which points decode together, and how many texts at once: one estimate for the plan and for the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.models.caches import cache_config, quantized_cache_bytes
from harness.models.memory import kv_cache_bytes
from harness.plan.plan import PlannedPoint

# More rows than this no longer make a step cheaper a row.
_MOST_ROWS = {"cuda": 512, "mps": 128, "cpu": 128}
# Copies of a row's float32 logits alive at once: processors, both distributions, noise.
_LOGITS_COPIES = 12
_SHARE_OF_FREE = 0.6


@dataclass(frozen=True)
class Batching:
    """How a family's texts are cut into batches.

    Attributes:
        rows: texts decoded at once, at most.
        prompts: prompts whose texts make a batch.
        batches: of the family.
        cache_bytes: what the caches of a batch take, if no two texts share a beginning.
    """

    rows: int
    prompts: int
    batches: int
    cache_bytes: int


def families(points: Sequence[PlannedPoint]) -> list[list[int]]:
    """Which points are decoded together: the same prompts, engine settings, and one row a text.

    Returns:
        Indices into `points`; beams, and points that asked for it with engine.fuse=false, stand alone.
    """
    found: dict[Any, list[int]] = {}
    for place, planned in enumerate(points):
        engine = planned.point.engine
        alone = planned.effective["num_beams"] > 1 or not engine.fuse
        prompts = tuple((prompt.id, prompt.ids) for prompt in planned.prompts)
        key = place if alone else (prompts, engine, planned.point.cache)
        found.setdefault(key, []).append(place)
    return list(found.values())


def text_cache_bytes(planned: PlannedPoint, value_bytes: int) -> int:
    """The most that one text's key-value cache takes, its beams included, at `value_bytes` a value."""
    longest = max(len(prompt.ids) for prompt in planned.prompts) + planned.point.generation.max_new_tokens
    if (asked := cache_config(planned.point.cache, planned.files)) is not None:
        return quantized_cache_bytes(planned.files.text_config, longest, value_bytes, asked)
    return planned.effective["num_beams"] * kv_cache_bytes(planned.files.config, longest, value_bytes)


def batching(family: Sequence[PlannedPoint], free: int, value_bytes: int, one_by_one: bool) -> Batching:
    """Cut a family into batches that fit.

    Args:
        family: points that decode together.
        free: bytes of the device that are left beside the weights.
        value_bytes: bytes a value of the cache.
        one_by_one: its texts may not share a batch.
    """
    first = family[0]
    beams = first.effective["num_beams"]
    cache = max(text_cache_bytes(planned, value_bytes) for planned in family)
    rows = 1
    if first.point.engine.batch_rows != "auto":
        rows = first.point.engine.batch_rows
    elif not one_by_one:
        # Twice the cache: a layer that is not in a buffer is concatenated with each step's keys and values.
        text = 2 * cache + beams * (first.files.vocab_size or 0) * 4 * _LOGITS_COPIES
        most = max(1, _MOST_ROWS[first.device.partition(":")[0]] // beams)
        rows = max(1, min(int(free * _SHARE_OF_FREE / max(text, 1)), most))
    texts_a_prompt = sum(planned.point.generation.samples for planned in family)
    prompts = max(1, rows // texts_a_prompt)
    together = min(rows, prompts * texts_a_prompt, len(first.prompts) * texts_a_prompt)
    return Batching(rows, prompts, -(-len(first.prompts) // prompts), together * cache)
