"""Drift of a loaded model: keep a reference's distributions, or hold a model against those that were kept."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from harness.backends.hf.divergence import distribution, divergence
from harness.backends.hf.reference_files import Distributions, Form, Gathered, form_of, keep
from harness.backends.hf.teacher_forcing import Reader
from harness.decoding.detokenizer import Detokenizer
from harness.errors import HarnessError
from harness.plan.plan import PlannedPoint
from harness.plan.references import Text, lacks_samples, lacks_text, shares, text_share
from harness.prompts.passages import Passage
from harness.prompts.prompt import Prompt
from harness.store.drift_table import drift_rows, write_drift
from harness.store.files import atomic_path, write_text
from harness.store.reference_index import heads_folder, read_index, samples_folder, text_folder
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.token_table import read_samples

if TYPE_CHECKING:
    from harness.models.load import LoadedModel

Told = Callable[[int], None]


class ReferenceMissingError(HarnessError):
    """What a point would be held against is not there."""


class Drift:
    """What a group does about drift.

    Args:
        loaded: its model.
        detokenizer: of that model.
        outputs: folder of the store.
        begin: called with a label and a number of tokens before they are read.
        told: called with the tokens read since.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        detokenizer: Detokenizer,
        outputs: Path,
        begin: Callable[[str, int], None],
        told: Told,
    ) -> None:
        self._loaded = loaded
        self._detokenizer = detokenizer
        self._outputs = outputs
        self._begin = begin
        self._told = told

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self._loaded)

    def keep(self, planned: PlannedPoint, stored: StoredPoint) -> None:
        """Keep the distributions of a reference along its own samples, and along the sweep's fixed text."""
        drifting, heads = planned.drifting, heads_folder(self._outputs)
        vocabulary = self._loaded.model.config.get_text_config().vocab_size
        budget = int(planned.point.drift.budget_mb * 2**20)
        form = form_of(self._reader.head, vocabulary, drifting.together, budget)
        self._begin(planned.point.label, planned.tokens)
        passages = samples_of(stored, planned.prompts)
        keep(
            self._reader, passages, samples_folder(stored), heads, form,
            _limit(form, planned.tokens, drifting.together), shares(planned), self._told,
        )  # fmt: skip
        if (text := drifting.text) is not None:
            share = text_share(planned)
            found = read_index(text_folder(self._outputs, text.key))
            if found is None or (found.left_out and found.share < share):
                limit = _limit(form, text.passages.tokens, drifting.together)
                self._begin(planned.point.label, text.passages.tokens)
                folder = text_folder(self._outputs, text.key)
                pieces = iter(text.passages.passages)
                keep(self._reader, pieces, folder, heads, form, limit, share, self._told)

    def hold(self, planned: PlannedPoint, stored: StoredPoint, parts: dict[str, Any]) -> None:
        """Hold a point against its reference, and its model to the fixed text; `parts` learns what is there.

        Raises:
            ReferenceMissingError: the reference's distributions are not there.
        """
        if lacks_samples(planned, stored):
            self._hold_samples(planned, stored, parts)
        if lacks_text(planned, stored) and planned.drifting.text is not None:
            self._hold_text(planned, planned.drifting.text, stored, parts)

    def _hold_samples(self, planned: PlannedPoint, stored: StoredPoint, parts: dict[str, Any]) -> None:
        assert planned.drifting.reference is not None
        reference = stored_point(self._outputs, planned.drifting.reference)
        distributions = self._distributions(samples_folder(reference))
        found, top_k = distributions.index, planned.point.record.top_k
        self._begin(planned.point.label, found.positions)
        spec = {"reference": reference.point_id, "pieces": found.pieces, "top_k": top_k, "kind": found.kind}
        partial = stored.path("drift-partial")
        if _read(partial / "plan.json") != json.loads(json.dumps(spec)):
            shutil.rmtree(partial, ignore_errors=True)
            write_text(partial / "plan.json", json.dumps(spec) + "\n")
        count = 0
        for number, passages in distributions.pieces(samples_of(reference, planned.prompts)):
            path = partial / f"{number:06d}.parquet"
            if not path.is_file():
                table = self.compared(distributions, number, passages, top_k)
                with atomic_path(path) as scratch:
                    pq.write_table(table, scratch, compression="zstd")
            count += 1
            self._told(sum(map(len, passages)))
        tables = (pq.read_table(partial / f"{number:06d}.parquet") for number in range(count))
        write_drift(stored, "drift", tables)
        parts["drift"] = {
            "reference": reference.point_id, "top_k": top_k, "kind": found.kind, "share": found.share,
            "whole": found.exact and not found.left_out, "texts": found.texts, "left_out": found.left_out,
        }  # fmt: skip
        shutil.rmtree(partial, ignore_errors=True)

    def _distributions(self, folder: Path) -> Distributions:
        try:
            return Distributions(folder, heads_folder(self._outputs), self._loaded.device)
        except FileNotFoundError:
            raise ReferenceMissingError(
                "its reference's distributions are not there (the reference failed, or they were deleted); "
                "run the same command again"
            ) from None

    @torch.inference_mode()
    def compared(
        self, distributions: Distributions, number: int, passages: Sequence[Passage], top_k: int
    ) -> pa.Table:
        """The rows of one piece of what was kept of the reference."""
        rows = Gathered(sum(map(len, passages)))
        readings = zip(distributions.read(number, passages), self._reader.logits(passages), strict=True)
        for reference, (passage, chunks) in readings:
            tokens = torch.tensor(passage.told, device=self._loaded.device)
            for start, logits in chunks:
                end = start + len(logits)
                rows.add(divergence(reference(start, end), logits, tokens[start:end], top_k))
        values = {name: column.numpy() for name, column in rows.columns.items()}
        tables, start = [], 0
        for passage in passages:
            own = {name: column[start : start + len(passage)] for name, column in values.items()}
            tables.append(self._rows(passage, own))
            start += len(passage)
        return pa.concat_tables(tables)

    def _rows(self, passage: Passage, values: Mapping[str, np.ndarray]) -> pa.Table:
        pieces = self._detokenizer.output_text(passage.ids[: passage.first], passage.told).pieces
        tops = [[self._detokenizer.alone(token) for token in step] for step in values["top_ids"].tolist()]
        return drift_rows(passage.prompt_id, passage.sample, passage.told, pieces, tops, values)

    def _hold_text(
        self, planned: PlannedPoint, text: Text, stored: StoredPoint, parts: dict[str, Any]
    ) -> None:
        """What the fixed text comes to, once a group: points that differ in decoding only share it."""
        path = self._score_path(text.key)
        score = _read(path)
        if score is None or planned.point.engine.fresh:
            self._begin(planned.point.label, text.passages.tokens)
            score = self._score(text)
            write_text(path, json.dumps(score) + "\n")
        left_out = 0
        if text.reference is not None:
            top_k = planned.point.record.top_k
            distributions = self._distributions(text_folder(self._outputs, text.reference))
            left_out = distributions.index.left_out
            shared = StoredPoint(path.parent)
            name = f"{text.key}-against-{text.reference}-{top_k}-{distributions.index.texts}"
            if not shared.has(f"{name}.parquet"):
                self._begin(planned.point.label, distributions.index.positions)
                write_drift(shared, name, self._along(distributions, text, top_k))
            with atomic_path(stored.path("drift_text.parquet")) as scratch:
                _link(shared.path(f"{name}.parquet"), scratch)
            score = score | {"reference": _read(self._score_path(text.reference))}
        parts["drift_text"] = {
            "text": text.key, "reference": text.reference, "left_out": left_out, "score": score,
        }  # fmt: skip

    def _score_path(self, key: str) -> Path:
        """Beside the folder of what is kept, which may be made anew."""
        return text_folder(self._outputs, f"{key}.json")

    def _along(self, distributions: Distributions, text: Text, top_k: int) -> Iterator[pa.Table]:
        for number, passages in distributions.pieces(iter(text.passages.passages)):
            yield self.compared(distributions, number, passages, top_k)
            self._told(sum(map(len, passages)))

    @torch.inference_mode()
    def _score(self, text: Text) -> dict[str, Any]:
        """The text's log-likelihood under the model, and what it is divided by."""
        total = 0.0
        for passage, chunks in self._reader.logits(text.passages.passages):
            for start, logits in chunks:
                tokens = torch.tensor(passage.told[start : start + len(logits)], device=logits.device)
                log_p, _ = distribution(logits, torch.empty_like(logits), torch.empty_like(logits))
                logprobs = log_p.gather(1, tokens[:, None])
                total += math.fsum(logprobs[:, 0].tolist())
            self._told(len(passage))
        return {"logprob": total, "tokens": text.passages.tokens, "bytes": text.passages.bytes}


def samples_of(stored: StoredPoint, prompts: Sequence[Prompt]) -> Iterator[Passage]:
    """A point's samples as passages, in the order of its tables, a few steps held at a time."""
    prompt_ids = {prompt.id.encode("utf-8", "replace").decode(): prompt for prompt in prompts}
    for sample in read_samples(stored, "tokens", ["token_id"]):
        prompt = prompt_ids[sample.prompt_id]
        ids = (*prompt.ids, *sample["token_id"].tolist())
        yield Passage(prompt.id, sample.sample, ids, len(prompt.ids))


def _limit(form: Form, positions: int, together: int) -> int:
    """Positions of some texts that are kept, where all together may not fit: each set has its share."""
    if form.positions >= together:
        return positions
    return form.positions * positions // max(1, together)


def _read(path: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _link(path: Path, new: Path) -> None:
    """A second name of a file, where the file system has such, else a copy."""
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)
