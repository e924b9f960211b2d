"""Run one group: its model is loaded once, then each of its points is decoded, scored and timed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import GenerationConfig

from harness.config.points import point_config
from harness.decoding.text import Detokenizer
from harness.engine.batch import Row
from harness.engine.batches import in_batches, rows_that_fit
from harness.engine.beams import rows_together, search
from harness.engine.rescore import score_prompt
from harness.engine.sampling import decode_rows
from harness.engine.strategy import Strategy
from harness.engine.timing import time_strategy
from harness.results.metrics import point_metrics
from harness.results.records import Sample
from harness.results.store import StoredPoint, stored_point
from harness.results.tables import (
    Told,
    generations_table,
    prompt_tokens_table,
    repetitions_of,
    samples_of,
    timing_table,
    tokens_table,
)
from harness.sweep.plan import PlannedPoint, timing_spec

if TYPE_CHECKING:
    from harness.config.point import Model, Quantization
    from harness.models.load import LoadedModel


class Events(Protocol):
    """What a run tells while it goes on."""

    def loading(self, what: str, fraction: float) -> None:
        """A model is being loaded; fraction from 0 to 1."""

    def decoding(self, label: str, tokens: int) -> None:
        """A point begins to decode, `tokens` at most."""

    def decoded(self, tokens: int) -> None:
        """Some more tokens are there."""

    def timing(self, label: str, repetitions: int) -> None:
        """A point begins to be timed."""

    def timed(self) -> None:
        """One more repetition is done."""


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

    def close(self) -> None:
        """Free the model."""
        from harness.models.load import free

        free(self._loaded)

    def run(self, planned: PlannedPoint) -> StoredPoint:
        """Compute what the store lacks of a point and write it there."""
        point, needs = planned.point, planned.needs
        threads = point.engine.threads
        torch.set_num_threads((os.cpu_count() or 1) if threads == "auto" else threads)
        stored = stored_point(self._outputs, planned.point_id)
        parts = {} if needs.samples else stored.parts()
        strategy = self._strategy(planned)
        if needs.samples:
            stored.folder.mkdir(parents=True, exist_ok=True)
            # From here on the old samples do not count any more; each part counts once it is whole.
            stored.path("parts.json").unlink(missing_ok=True)
            parts = self._decode(planned, strategy, stored)
        if needs.prompt_scores:
            self._score_prompts(planned, stored)
            parts["prompt_logprobs"] = True
        if needs.timing:
            self._time(planned, strategy, stored)
            parts["timing"] = timing_spec(point)
        self._write_facts(planned, strategy, stored, parts)
        stored.write_json("parts.json", parts)
        return stored

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
        )

    def _decode(self, planned: PlannedPoint, strategy: Strategy, stored: StoredPoint) -> dict[str, Any]:
        from harness.models.memory import kv_cache_bytes, peak_memory_mb, reset_peak_memory

        point, loaded = planned.point, self._loaded
        rows = [
            Row(prompt, sample) for prompt in planned.prompts for sample in range(point.generation.samples)
        ]
        self._events.decoding(point.label, len(rows) * strategy.max_new_tokens)

        def decode(batch: Sequence[Row]) -> list[Sample]:
            run = decode_rows if strategy.beams == 1 else search
            return run(loaded, strategy, batch, self._detokenizer, on_step=self._events.decoded)

        longest = max(len(prompt.ids) for prompt in planned.prompts) + strategy.max_new_tokens
        cache = kv_cache_bytes(planned.files.config, longest, loaded.model.dtype.itemsize)
        size = rows_that_fit(loaded, cache, strategy.beams, point.engine.batch_rows)
        if strategy.beams > 1 and not rows_together(loaded, strategy):
            size = 1
        started = time.perf_counter()
        reset_peak_memory(loaded.device)
        samples = in_batches(rows, size, decode)
        seconds = time.perf_counter() - started
        told = [self._tell(row, sample) for row, sample in zip(rows, samples, strict=True)]
        stored.write_table("tokens", tokens_table(told))
        stored.write_table("generations", generations_table(told))
        return {
            "record": {"top_k": point.record.top_k},
            "facts": {
                "decode_seconds": seconds,
                "tokens": sum(len(sample.token_ids) for sample in samples),
                "batch_rows": size,
                "peak_mb": peak_memory_mb(loaded.device),
            },
        }

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

    def _time(self, planned: PlannedPoint, strategy: Strategy, stored: StoredPoint) -> None:
        timing = planned.point.timing
        batches = -(-min(timing.prompts, len(planned.prompts)) // timing.batch_size)
        self._events.timing(planned.point.label, batches * (timing.warmup + timing.repeats))
        repetitions = time_strategy(
            self._loaded,
            strategy,
            planned.prompts,
            timing,
            context_length=planned.files.context_length,
            on_repetition=self._events.timed,
        )
        stored.write_table("timing", timing_table(repetitions))

    def _write_facts(
        self, planned: PlannedPoint, strategy: Strategy, stored: StoredPoint, parts: dict[str, Any]
    ) -> None:
        """metrics.json, config.yaml and environment.json of what the store now holds."""
        from harness.models.describe import environment

        generations = stored.table("generations")
        samples = samples_of(generations, stored.table("tokens"))
        timed = repetitions_of(stored.table("timing")) if "timing" in parts else []
        metrics = point_metrics(samples, generations.column("output").to_pylist(), timed)
        facts = parts["facts"]
        metrics["metrics"] |= {
            "throughput/sweep_tokens_per_s": facts["tokens"] / max(facts["decode_seconds"], 1e-9),
            "memory/weights_mb": self._loaded.facts["memory_footprint_mb"],
        }
        if facts["peak_mb"] is not None:
            metrics["metrics"]["memory/peak_mb"] = facts["peak_mb"]
        stored.write_json("metrics.json", metrics)
        environment_facts = environment(self._loaded)
        environment_facts["batch_rows"] = facts["batch_rows"]
        stored.write_json("environment.json", environment_facts)
        requested = point_config(planned.point)
        effective = {
            "decoding": dict(planned.effective),
            "eos_token_id": list(strategy.eos_token_ids),
            "pad_token_id": strategy.pad_token_id,
            "padding_side": "left",
            "device": self._loaded.device,
            "dtype": self._loaded.dtype,
            "model_generation_config": dict(self._loaded.files_generation_config),
        }
        stored.write_config({"requested": requested, "effective": effective})


def _as_tuple(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)
