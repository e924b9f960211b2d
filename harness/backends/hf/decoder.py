"""Decode the points of one model: those that stand at the same prompts together, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.hf.adaptive_batches import Pieces, out_of_memory
from harness.backends.hf.batch import Row
from harness.backends.hf.batching import Batching, batching, text_cache_bytes
from harness.backends.hf.beams import rows_together, search
from harness.backends.hf.cuda_graphs import capturable
from harness.backends.hf.self_test import handles
from harness.backends.hf.stock_generate import decode_rows
from harness.backends.hf.tree import StrategyError, Text, Work, decode_tree
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError, StoreError
from harness.models.caches import cache_config
from harness.models.memory import available_bytes, format_bytes, peak_memory_mb, reset_peak_memory
from harness.plan.plan import PlannedPoint
from harness.prompts.prompt import Prompt
from harness.run.events import Events
from harness.store.partial import Partial
from harness.store.records import Sample
from harness.store.reference_index import forget
from harness.store.stored_point import stored_point

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


PARTS = {
    "timing": "timing",
    "prompt_logprobs": "prompt_tokens",
    "drift": "drift",
    "drift_text": "drift_text",
}
"""Parts of a point beside its samples, and the table that each is."""


class Decoder:
    """A loaded model that decodes points into the store."""

    def __init__(
        self,
        loaded: LoadedModel,
        detokenizer: Detokenizer,
        outputs: Path,
        events: Events,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        """Test whether the tree handles the model's cache; the ids end a text."""
        self._loaded = loaded
        self._detokenizer = detokenizer
        self._outputs = outputs
        self._events = events
        self._eos = eos_token_ids
        self.handled = handles(loaded, detokenizer)

    def strategy(self, planned: PlannedPoint) -> Strategy:
        """What a point decodes with."""
        generation = planned.point.generation
        return Strategy(
            effective=planned.effective,
            max_new_tokens=generation.max_new_tokens,
            seed=generation.seed,
            stop_strings=generation.stop_strings,
            eos_token_ids=() if generation.ignore_eos else self._eos,
            pad_token_id=self._loaded.tokenizer.pad_token_id or 0,
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

    def again(self, planned: PlannedPoint, texts: Sequence[Text]) -> list[Sample]:
        """Decode texts of a point as its own were, and keep nothing."""
        capture, pieces = self._captures(planned), Pieces(self._batching({0: planned}).rows)
        made = pieces.decode(texts, lambda some: self._decode_texts(some, lambda _: None, capture))
        return list(made)

    def _decode_family(self, family: dict[int, PlannedPoint]) -> dict[int, Exception]:
        first = next(iter(family.values()))
        prompts, loaded = first.prompts, self._loaded
        strategies = {place: self.strategy(planned) for place, planned in family.items()}
        partials = {
            place: Partial(stored_point(self._outputs, planned.point_id)) for place, planned in family.items()
        }
        planned_batches = self._batching(family)
        size, batch_prompts = planned_batches.rows, planned_batches.prompts
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
        capture, pieces = self._captures(first), Pieces(size)
        label = first.point.label if len(family) == 1 else f"{len(family)} points together"
        tokens = sum(planned.tokens for planned in family.values())
        self._events.decoding(label, tokens)
        failed: dict[int, Exception] = {}
        work = Work(0, 0)

        def note(done: Work) -> None:
            nonlocal work
            work = Work(work.rows + done.rows, work.texts + done.texts)

        reset_peak_memory(loaded.device)
        started = time.perf_counter()
        for batch in range(batches):
            chosen = prompts[batch * batch_prompts : (batch + 1) * batch_prompts]
            if all(partials[place].has(batch) for place in family if place not in failed):
                continue
            samples: dict[int, list[Sample]] = {}
            while missing := [place for place in family if place not in failed and place not in samples]:
                rows = {place: _rows_of(chosen, family[place]) for place in missing}
                texts = [Text(strategies[place], row) for place in missing for row in rows[place]]
                try:
                    made = iter(pieces.decode(texts, lambda some: self._decode_texts(some, note, capture)))
                except StrategyError as error:
                    for place in (p for p in missing if strategies[p] is error.strategy):
                        failed[place] = self._named(error.cause, family[place])
                    continue
                samples = {place: [next(made) for _ in rows[place]] for place in missing}
            for place, some in samples.items():
                partials[place].write(batch, some)
        seconds = time.perf_counter() - started
        facts = {
            "decode_seconds": seconds,
            "tokens": work.texts,
            "rows": work.rows,
            "fused_points": len(family),
            "batch_rows": pieces.size,
            "captured": capture,
            "peak_mb": peak_memory_mb(loaded.device),
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
        first = next(iter(family.values()))
        free = available_bytes(self._loaded.device)
        beams = first.effective["num_beams"] > 1
        strategy = self.strategy(first)
        one_by_one = strategy.cache is not None or (beams and not rows_together(self._loaded, strategy))
        return batching(list(family.values()), free, self._loaded.model.dtype.itemsize, one_by_one)

    def _captures(self, planned: PlannedPoint) -> bool:
        """Whether steps are captured: where that is sure to work, or where it was asked for on CUDA."""
        asked = planned.point.engine.compile
        if asked == "on":
            return self._loaded.device.startswith("cuda")
        return asked == "auto" and capturable(self._loaded)

    def _decode_texts(
        self, texts: Sequence[Text], note: Callable[[Work], None], capture: bool
    ) -> list[Sample]:
        try:
            return self._decode_together(texts, note, capture)
        except RuntimeError as error:
            if not out_of_memory(error) or len(texts) > 1:
                raise
            raise StrategyError(texts[0].strategy, error) from error

    def _named(self, cause: Exception, planned: PlannedPoint) -> Exception:
        """What made a point fail; running out of memory says what was needed."""
        if not out_of_memory(cause):
            return cause
        loaded, generation = self._loaded, planned.point.generation
        needed = text_cache_bytes(planned, loaded.model.dtype.itemsize)
        longest = max(len(prompt.ids) for prompt in planned.prompts)
        told = HarnessError(
            f"out of memory on {loaded.device} with a single text: "
            f"its cache takes up to {format_bytes(needed)} "
            f"(prompts of up to {longest} tokens, generation.max_new_tokens={generation.max_new_tokens}), "
            f"and {format_bytes(available_bytes(loaded.device))} are free beside the weights; ask for fewer "
            "tokens, shorter prompts, fewer beams or a smaller quantization"
        )
        told.__cause__ = cause
        return told

    def _decode_together(
        self, texts: Sequence[Text], note: Callable[[Work], None], capture: bool
    ) -> list[Sample]:
        strategy, on_step = texts[0].strategy, self._events.decoded
        if strategy.beams == 1 and self.handled and strategy.cache is None:
            return decode_tree(
                self._loaded, texts, self._detokenizer, capture=capture, on_work=note, on_step=on_step
            )
        run = search if strategy.beams > 1 else decode_rows
        samples: list[Sample] = []
        # A quantized cache's scales are shared over a batch: there each text stands alone.
        for alike in _runs(texts) if strategy.cache is None else [[text] for text in texts]:
            rows = [text.row for text in alike]
            samples += run(self._loaded, alike[0].strategy, rows, self._detokenizer, on_step=on_step)
        made = sum(sample.output_tokens or 0 for sample in samples)
        note(Work(made, made))
        return samples


def _rows_of(prompts: Sequence[Prompt], planned: PlannedPoint) -> list[Row]:
    return [Row(prompt, sample) for prompt in prompts for sample in range(planned.point.generation.samples)]


def _runs(texts: Sequence[Text]) -> list[list[Text]]:
    """Texts cut where the strategy changes."""
    return [list(some) for _, some in groupby(texts, key=lambda text: id(text.strategy))]
