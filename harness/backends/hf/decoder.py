"""Decode the points of one model: those that stand at the same prompts together, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.backends.backend import Failure, Request
from harness.backends.hf.backend import HfBackend
from harness.backends.hf.batching import Batching, batching
from harness.backends.hf.methods import method_of
from harness.decoding.strategy import Strategy
from harness.errors import StoreError
from harness.models.caches import cache_config
from harness.models.memory import available_bytes
from harness.plan.plan import PlannedPoint
from harness.run.events import Events
from harness.store.partial import Partial
from harness.store.records import Sample
from harness.store.reference_index import forget
from harness.store.stored_point import stored_point

PARTS = {
    "timing": "timing",
    "prompt_logprobs": "prompt_tokens",
    "drift": "drift",
    "drift_text": "drift_text",
}
"""Parts of a point beside its samples, and the table that each is."""


class Decoder:
    """A loaded model that decodes points into the store."""

    def __init__(self, backend: HfBackend, outputs: Path, events: Events) -> None:
        self._backend = backend
        self._outputs = outputs
        self._progress = _Progress(events)
        self._events = events

    def strategy(self, planned: PlannedPoint) -> Strategy:
        """What a point decodes with."""
        generation = planned.point.generation
        return Strategy(
            effective=planned.effective,
            max_new_tokens=generation.max_new_tokens,
            seed=generation.seed,
            stop_strings=generation.stop_strings,
            eos_token_ids=() if generation.ignore_eos else self._backend.token_ids.eos,
            pad_token_id=self._backend.token_ids.pad,
            top_k=planned.point.record.top_k,
            cache=cache_config(planned.point.cache, planned.files),
        )

    def decode(self, points: Sequence[PlannedPoint], places: Sequence[int]) -> dict[int, Exception]:
        """Decode the points of a family together; returns the errors of those that failed."""
        if not places:
            return {}
        # Points that differ in timing or recording only have one address: the deepest recording serves all.
        by_id: dict[str, list[int]] = {}
        for place in sorted(places, key=lambda place: -points[place].point.record.top_k):
            by_id.setdefault(points[place].point_id, []).append(place)
        family = {alike[0]: points[alike[0]] for alike in by_id.values()}
        try:
            failed = self._decode_family(dict(sorted(family.items())))
        except StoreError:
            raise
        except Exception as error:
            return dict.fromkeys(places, error)
        return {place: failed[alike[0]] for alike in by_id.values() if alike[0] in failed for place in alike}

    def again(self, planned: PlannedPoint, requests: Sequence[Request]) -> list[Sample]:
        """Decode requests of a point as its samples were, and keep nothing."""
        self._backend.configure(planned.point.engine)
        return list(self._backend.generate(requests, self._progress))  # type: ignore[arg-type]

    def _decode_family(self, family: dict[int, PlannedPoint]) -> dict[int, Exception]:
        first = next(iter(family.values()))
        prompts = first.prompts
        strategies = {place: self.strategy(planned) for place, planned in family.items()}
        partials = {
            place: Partial(stored_point(self._outputs, planned.point_id)) for place, planned in family.items()
        }
        self._backend.configure(first.point.engine)
        batch_prompts = self._batching(family).prompts
        kept: dict[int, dict[str, Any]] = {}
        for place, partial in partials.items():
            # A deeper recording makes the same samples again: what was timed and scored still holds.
            before = partial.stored.parts()
            kept[place] = {name: before[name] for name in PARTS if name in before}
            if family[place].point.engine.fresh:
                partial.clear()
                kept[place] = {}
            # From here on the old samples do not count any more; each part counts once it is whole.
            partial.stored.path("parts.json").unlink(missing_ok=True)
            forget(partial.stored)
            batch_prompts = partial.begin(batch_prompts, family[place].point.record.top_k)
        batches = -(-len(prompts) // batch_prompts)
        label = first.point.label if len(family) == 1 else f"{len(family)} points together"
        tokens = sum(planned.tokens for planned in family.values())
        self._events.decoding(label, tokens)
        failed: dict[int, Exception] = {}
        started = time.perf_counter()
        for batch in range(batches):
            chosen = prompts[batch * batch_prompts : (batch + 1) * batch_prompts]
            if all(partials[place].has(batch) for place in family if place not in failed):
                continue
            missing = [place for place in family if place not in failed]
            requests = [
                Request(prompt, sample, strategies[place])
                for place in missing
                for prompt in chosen
                for sample in range(family[place].point.generation.samples)
            ]
            answers = list(self._backend.generate(requests, self._progress))
            for place in missing:
                own = [a for a, r in zip(answers, requests, strict=True) if r.strategy is strategies[place]]
                if failures := [answer for answer in own if isinstance(answer, Failure)]:
                    failed[place] = failures[0].error
                else:
                    partials[place].write(batch, own)  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        usage = self._backend.usage()
        facts = {
            "decode_seconds": seconds,
            "tokens": usage.tokens,
            "rows": usage.rows,
            "fused_points": len(family),
            "batch_rows": usage.batch_rows,
            "captured": usage.captured,
            "peak_mb": usage.peak_mb,
        }
        for place, partial in partials.items():
            if place not in failed:
                partial.merge(batches)
                record = {"top_k": family[place].point.record.top_k}
                for part, table in PARTS.items():
                    if part not in kept[place]:
                        partial.stored.path(f"{table}.parquet").unlink(missing_ok=True)
                new = {"record": record, "facts": facts, "made": family[place].made}
                partial.stored.write_json("parts.json", kept[place] | new)
                partial.clear()
        return failed

    def _batching(self, family: dict[int, PlannedPoint]) -> Batching:
        """How the family is cut into batches, by the memory that is free now."""
        first, loaded = next(iter(family.values())), self._backend._loaded
        strategy = self.strategy(first)
        method = method_of(strategy.effective, strategy.cache)
        one_by_one = not method.batches_requests(strategy.effective, strategy.cache)
        free = available_bytes(loaded.device)
        return batching(list(family.values()), free, loaded.model.dtype.itemsize, one_by_one)


class _Progress:
    """Decoded tokens as events of the engine."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def stage(self, label: str, total: int, unit: str) -> None:
        """Ignore the stage."""

    def advance(self, amount: int = 1) -> None:
        """Report decoded tokens."""
        self._events.decoded(amount)

    def message(self, text: str) -> None:
        """Ignore the line."""
