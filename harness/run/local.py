"""Run one group: its model is loaded once, then each of its points is decoded, scored and timed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import GenerationConfig

from harness.analysis.drift_summary import drift_warnings
from harness.analysis.noise_floor import PROMPTS
from harness.artifacts.compute_metrics import add_metrics
from harness.artifacts.drift.measure import Drift, ReferenceMissingError
from harness.artifacts.needs import noise_spec, timing_spec
from harness.artifacts.noise import noise_floor
from harness.backends.hf.batch import Row
from harness.backends.hf.batching import families
from harness.backends.hf.decoder import Decoder
from harness.backends.hf.latency_pass import time_strategy
from harness.backends.hf.rescore import score_prompt
from harness.backends.hf.tree import Text
from harness.config.points import point_config
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import StoreError
from harness.models.memory import kv_cache_bytes
from harness.plan.plan import PlannedPoint, as_of_now
from harness.run.events import Events
from harness.store.files import remove_unfinished
from harness.store.locks import lock
from harness.store.records import Repetition
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.tables import prompt_tokens_table, repetitions_of, timing_table

if TYPE_CHECKING:
    from harness.config.point import Model, Quantization
    from harness.models.load import LoadedModel


class Group:
    """A loaded model, ready to run points."""

    def __init__(self, model: Model, quantization: Quantization, events: Events, outputs: Path) -> None:
        """Load the model; progress goes to `events`."""
        from harness.models.load import load

        self._events = events
        self._outputs = outputs
        self._loaded: LoadedModel = load(model, quantization, events.loading)
        ids = self._loaded.model.generation_config
        eos = _as_tuple(ids.eos_token_id) or _as_tuple(self._loaded.tokenizer.eos_token_id)
        # Every id is passed explicitly: what stays in here would be filled in where None is meant.
        self._loaded.model.generation_config = GenerationConfig()
        self._detokenizer = Detokenizer(self._loaded.tokenizer)
        self._decoder = Decoder(self._loaded, self._detokenizer, outputs, events, eos)
        self._drift = Drift(self._loaded, self._detokenizer, outputs, events.forcing, events.decoded)
        self.notes: dict[str, tuple[str, ...]] = {}
        """By address, what is to be told of points once they are done."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be told of every point of this group."""
        if self._decoder.handled:
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
            with lock(self._outputs, {points[p].point_id for p in family}, self._events.waiting) as waited:
                if waited:
                    for place in family:
                        points[place] = as_of_now(points[place], self._outputs)
                for place in family:
                    remove_unfinished(stored_point(self._outputs, points[place].point_id).folder)
                failed = self._decoder.decode(
                    points, [place for place in family if points[place].needs.samples]
                )
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
        strategy = self._decoder.strategy(planned)
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
                self.notes[planned.point_id] = drift_warnings(parts)
        self._describe(planned, strategy, stored, parts["facts"])
        stored.write_json("parts.json", parts | {"described": True})
        if parts.get("metrics") != planned.metrics.spec(parts):
            self._events.measuring(planned.point.label, planned.samples)
            add_metrics(stored, planned.metrics, self._events.measured)

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
        floor = noise_floor(
            [Text(strategy, Row(prompt, 0)) for prompt in prompts],
            lambda texts: self._decoder.again(planned, texts),
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


def _as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)
