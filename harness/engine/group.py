"""Run one group: its model is loaded once, then each of its points is decoded, scored and timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from transformers import GenerationConfig

from harness.config.points import point_config
from harness.decoding.text import Detokenizer
from harness.engine.batch import Row
from harness.engine.batches import Pieces, out_of_memory
from harness.engine.beams import rows_together, search
from harness.engine.captured import capturable
from harness.engine.drift import Drift, ReferenceMissingError
from harness.engine.noise import noise_floor
from harness.engine.rescore import score_prompt
from harness.engine.sampling import decode_rows
from harness.engine.selftest import handles
from harness.engine.strategy import Strategy
from harness.engine.timing import time_strategy
from harness.engine.tree import StrategyError, Text, Work, decode_tree
from harness.errors import HarnessError, StoreError
from harness.models.caches import cache_config
from harness.models.memory import (
    available_bytes,
    kv_cache_bytes,
    peak_memory_mb,
    reset_peak_memory,
    size_told,
)
from harness.prompts.prompt import Prompt
from harness.results.distributions import forget
from harness.results.drift import what_is_approximate
from harness.results.files import clear_unfinished
from harness.results.locks import held
from harness.results.metrics.compute import add_metrics
from harness.results.noise import PROMPTS
from harness.results.partial import Partial
from harness.results.records import Repetition, Sample
from harness.results.store import StoredPoint, stored_point
from harness.results.tables import (
    Told,
    prompt_tokens_table,
    repetitions_of,
    timing_table,
)
from harness.sweep.batching import Batching, batching, families, text_cache_bytes
from harness.sweep.needs import noise_spec, timing_spec
from harness.sweep.plan import PlannedPoint, as_of_now

if TYPE_CHECKING:
    from harness.config.point import Model, Quantization
    from harness.models.load import LoadedModel


PARTS = {
    "timing": "timing",
    "prompt_logprobs": "prompt_tokens",
    "drift": "drift",
    "drift_text": "drift_text",
}
"""Parts of a point beside its samples, and the table that each is."""


class Events(Protocol):
    """What a run tells while it goes on."""

    def loading(self, what: str, fraction: float) -> None:
        """A model is being loaded; fraction from 0 to 1."""

    def waiting(self) -> None:
        """Another process is making a point that is to be made here."""

    def decoding(self, label: str, tokens: int) -> None:
        """A point begins to decode, `tokens` at most."""

    def decoded(self, tokens: int) -> None:
        """Some more tokens are there."""

    def forcing(self, label: str, tokens: int) -> None:
        """A point's texts are read again for its drift, `tokens` of them."""

    def timing(self, label: str, repetitions: int) -> None:
        """A point begins to be timed."""

    def timed(self) -> None:
        """One more repetition is done."""

    def measuring(self, label: str, texts: int) -> None:
        """A point's metrics begin to be computed."""

    def measured(self) -> None:
        """One more text has its metrics."""


class Group:
    """A loaded model, ready to run points."""

    def __init__(self, model: Model, quantization: Quantization, events: Events, outputs: Path) -> None:
        """Load the model; progress goes to `events`."""
        from harness.models.load import load

        self._events = events
        self._outputs = outputs
        self._loaded: LoadedModel = load(model, quantization, events.loading)
        ids = self._loaded.model.generation_config
        self._eos = _as_tuple(ids.eos_token_id) or _as_tuple(self._loaded.tokenizer.eos_token_id)
        # Every id is passed explicitly: what stays in here would be filled in where None is meant.
        self._loaded.model.generation_config = GenerationConfig()
        self._detokenizer = Detokenizer(self._loaded.tokenizer)
        self._handled = handles(self._loaded, self._detokenizer)
        self._drift = Drift(self._loaded, self._detokenizer, outputs, events.forcing, events.decoded)
        self.notes: dict[str, tuple[str, ...]] = {}
        """By address, what is to be told of points once they are done."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be told of every point of this group."""
        if self._handled:
            return ()
        return (
            "the model's cache is not one that the tree handles (a self-test at load differed from "
            "`generate`); each strategy was decoded by stock `generate`, one after the other",
        )

    def close(self) -> None:
        """Free the model."""
        from harness.models.load import free

        free(self._loaded)

    def run(self, points: Sequence[PlannedPoint]) -> Iterator[tuple[int, Exception | None]]:
        """Compute what the store lacks of each point and write it there.

        Yields:
            Each point's index once it is whole, or with the error that made it fail.
        """
        points = list(points)
        for family in families(points):
            set_threads(points[family[0]].point.engine.threads)
            with held(self._outputs, {points[p].point_id for p in family}, self._events.waiting) as waited:
                if waited:
                    for place in family:
                        points[place] = as_of_now(points[place], self._outputs)
                for place in family:
                    clear_unfinished(stored_point(self._outputs, points[place].point_id).folder)
                failed = self._decode(points, [place for place in family if points[place].needs.samples])
                for place in family:
                    error = failed.get(place)
                    if error is None and points[place].needs:
                        try:
                            self._finish(points[place])
                        except StoreError:
                            raise
                        except Exception as problem:
                            error = problem
                    yield place, error

    def _finish(self, planned: PlannedPoint) -> None:
        """Score, time, describe and measure a point whose samples are in the store."""
        stored = stored_point(self._outputs, planned.point_id)
        parts, needs = stored.parts(), planned.needs
        strategy = self._strategy(planned)
        if needs.prompt_scores:
            self._score_prompts(planned, stored)
            parts["prompt_logprobs"] = True
        if needs.timing:
            stored.write_table("timing", timing_table(self._time(planned, strategy)))
            parts["timing"] = timing_spec(planned.point)
        if needs.noise:
            stored.write_json("noise.json", self._noise(planned, strategy, stored, "timing" in parts))
            parts["noise"] = noise_spec(planned.point)
        if needs.distributions:
            self._drift.keep(planned, stored)
        if needs.drift:
            try:
                self._drift.hold(planned, stored, parts)
            except ReferenceMissingError as missing:
                self.notes[planned.point_id] = (f"drift is not told: {missing}",)
            else:
                self.notes[planned.point_id] = what_is_approximate(parts)
        self._describe(planned, strategy, stored, parts["facts"])
        stored.write_json("parts.json", parts | {"described": True})
        if parts.get("metrics") != planned.metrics.part(parts):
            self._events.measuring(planned.point.label, planned.samples)
            add_metrics(stored, planned.metrics, self._events.measured)

    def _strategy(self, planned: PlannedPoint) -> Strategy:
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

    def _decode(self, points: Sequence[PlannedPoint], places: Sequence[int]) -> dict[int, Exception]:
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

    def _decode_family(self, family: dict[int, PlannedPoint]) -> dict[int, Exception]:
        first = next(iter(family.values()))
        prompts, loaded = first.prompts, self._loaded
        strategies = {place: self._strategy(planned) for place, planned in family.items()}
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
                told = [self._tell(row, sample) for row, sample in zip(rows[place], some, strict=True)]
                partials[place].write(batch, told)
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
        strategy = self._strategy(first)
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
            f"out of memory on {loaded.device} with a single text: its cache takes up to {size_told(needed)} "
            f"(prompts of up to {longest} tokens, generation.max_new_tokens={generation.max_new_tokens}), "
            f"and {size_told(available_bytes(loaded.device))} are free beside the weights; ask for fewer "
            "tokens, shorter prompts, fewer beams or a smaller quantization"
        )
        told.__cause__ = cause
        return told

    def _decode_together(
        self, texts: Sequence[Text], note: Callable[[Work], None], capture: bool
    ) -> list[Sample]:
        strategy, on_step = texts[0].strategy, self._events.decoded
        if strategy.beams == 1 and self._handled and strategy.cache is None:
            return decode_tree(
                self._loaded, texts, self._detokenizer, capture=capture, on_work=note, on_step=on_step
            )
        run = search if strategy.beams > 1 else decode_rows
        samples: list[Sample] = []
        # A quantized cache's scales are shared over a batch: there each text stands alone.
        for alike in _runs(texts) if strategy.cache is None else [[text] for text in texts]:
            rows = [text.row for text in alike]
            samples += run(self._loaded, alike[0].strategy, rows, self._detokenizer, on_step=on_step)
        made = sum(len(sample.token_ids) for sample in samples)
        note(Work(made, made))
        return samples

    def _tell(self, row: Row, sample: Sample) -> Told:
        text = self._detokenizer.output_text(row.prompt.ids, sample.token_ids)
        tops = [
            tuple(self._detokenizer.alone(token) for token in step) for step in sample.steps.top_ids.tolist()
        ]
        return Told(sample, row.prompt.text, len(row.prompt.ids), text.output, text.pieces, tuple(tops))

    def _score_prompts(self, planned: PlannedPoint, stored: StoredPoint) -> None:
        scores = [score_prompt(self._loaded, prompt.id, prompt.ids) for prompt in planned.prompts]
        pieces = {p.id: self._detokenizer.output_text((), p.ids).pieces for p in planned.prompts}
        stored.write_table("prompt_tokens", prompt_tokens_table(scores, pieces))

    def _time(self, planned: PlannedPoint, strategy: Strategy) -> list[Repetition]:
        timing = planned.point.timing
        batches = -(-min(timing.prompts, len(planned.prompts)) // timing.batch_size)
        self._events.timing(planned.point.label, batches * (timing.warmup + timing.repeats))
        return time_strategy(
            self._loaded,
            strategy,
            planned.prompts,
            timing,
            context_length=planned.files.context_length,
            on_repetition=self._events.timed,
        )

    def _noise(
        self, planned: PlannedPoint, strategy: Strategy, stored: StoredPoint, timed: bool
    ) -> dict[str, Any]:
        """noise.json of a point."""
        prompts = planned.prompts[:PROMPTS]
        self._events.decoding(
            f"{planned.point.label} for the noise floor", 3 * len(prompts) * strategy.max_new_tokens
        )
        capture, pieces = self._captures(planned), Pieces(self._batching({0: planned}).rows)

        def decode(texts: Sequence[Text]) -> list[Told]:
            made = pieces.decode(texts, lambda some: self._decode_texts(some, lambda _: None, capture))
            return [self._tell(text.row, sample) for text, sample in zip(texts, made, strict=True)]

        floor = noise_floor(
            [Text(strategy, Row(prompt, 0)) for prompt in prompts],
            decode,
            repetitions_of(stored.table("timing")) if timed else [],
            lambda: self._time(planned, strategy),
        )
        return {"metrics": floor, "prompts": len(prompts)}

    def _describe(
        self, planned: PlannedPoint, strategy: Strategy, stored: StoredPoint, facts: Mapping[str, Any]
    ) -> None:
        """config.yaml and environment.json of what the store now holds; `facts` are those of its decoding."""
        from harness.models.describe import environment

        environment_facts = environment(self._loaded)
        if cache := kv_cache_bytes(planned.files.text_config, 1, self._loaded.model.dtype.itemsize):
            environment_facts["model"]["cache_bytes_per_token"] = cache
        how = ("batch_rows", "captured", "replayed_from")
        environment_facts |= {name: facts[name] for name in how if name in facts}
        stored.write_json("environment.json", environment_facts)
        requested = point_config(planned.point)
        effective = {
            "decoding": dict(planned.effective),
            "eos_token_id": list(strategy.eos_token_ids),
            "pad_token_id": strategy.pad_token_id,
            "padding_side": "left",
            "device": self._loaded.device,
            "dtype": self._loaded.dtype,
            "cache": strategy.cache and dict(strategy.cache),
            "quant_method": self._loaded.facts["quant_method"],
            "model_generation_config": dict(self._loaded.files_generation_config),
        }
        stored.write_config({"requested": requested, "effective": effective})


def set_threads(threads: Literal["auto"] | int) -> None:
    """CPU threads of torch; `auto` takes every core."""
    torch.set_num_threads((os.cpu_count() or 1) if threads == "auto" else threads)


def _rows_of(prompts: Sequence[Prompt], planned: PlannedPoint) -> list[Row]:
    return [Row(prompt, sample) for prompt in prompts for sample in range(planned.point.generation.samples)]


def _runs(texts: Sequence[Text]) -> list[list[Text]]:
    """Texts cut where the strategy changes."""
    return [list(some) for _, some in groupby(texts, key=lambda text: id(text.strategy))]


def _as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)
