"""Drift on a fixed text (`drift.text`): its likelihood under the model, and drift_text.parquet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.drift.along_samples import MISSING_REFERENCE, drift_table, open_reference
from harness.artifacts.drift_role import FixedTextRole
from harness.artifacts.job import Job
from harness.backends.distributions import Distributions, Reference
from harness.store.files import atomic_path, read_json, write_text
from harness.store.integrity import checked, problem_of, with_check
from harness.store.parquet_files import SHARED
from harness.store.reference_index import text_folder
from harness.store.stored_point import StoredPoint

if TYPE_CHECKING:
    import pyarrow as pa


def _score_path(outputs: Path, key: str) -> Path:
    """Return where a text's score is kept: beside the folder of distributions, which may be made anew."""
    return text_folder(outputs, f"{key}.json")


def _read_score(outputs: Path, key: str) -> dict[str, Any] | None:
    """Return a text's score; None where there is none, or it is damaged."""
    return checked(read_json(_score_path(outputs, key)), key)


class DriftOnFixedText(Artifact):
    """drift_text.parquet."""

    name = "drift_text"
    action = "drift of the fixed text"
    files = ("drift_text.parquet",)
    optional = files

    def spec(self, job: Job) -> Any:
        """Return the keys of the text under the model and under its reference."""
        role = job.drift.fixed_text
        return None if role is None else {"text": role.key, "reference": role.reference}

    def covers(self, stored: Any, requested: Any) -> bool:
        """Return whether it is of the same text and reference."""
        return all(stored[name] == requested[name] for name in ("text", "reference"))

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Score the text, and compare the model with its reference along it.

        Both depend on the model alone: points that differ in decoding only share the files.
        """
        from harness.analysis.drift_summary import drift_warnings

        role, stored = job.drift.fixed_text, bench.stored(job)
        assert role is not None
        distributions = bench.backend.distributions
        if distributions is None:
            return ("drift.text is not computed: the backend does not tell whole distributions",)
        score = self._score(job, role, distributions, bench)
        left_out = 0
        if role.reference is not None:
            reference = open_reference(distributions, text_folder(bench.outputs, role.reference), bench)
            if reference is None:
                return (MISSING_REFERENCE,)
            left_out = reference.index.left_out
            self._compare(job, role, distributions, reference, bench)
            score = score | {"reference": _read_score(bench.outputs, role.reference)}
        complete(stored, self, {
            "text": role.key, "reference": role.reference, "left_out": left_out, "score": score,
        })  # fmt: skip
        return drift_warnings(stored.parts())

    def _score(
        self, job: Job, role: FixedTextRole, distributions: Distributions, bench: Workbench
    ) -> dict[str, Any]:
        """Return the text's log-likelihood under the model, and what it is divided by."""
        path = _score_path(bench.outputs, role.key)
        score = _read_score(bench.outputs, role.key)
        if score is None or job.point.engine.fresh:
            text = role.text
            bench.progress.stage(f"drift of {job.point.label}", text.tokens, "tokens")
            logprob = distributions.log_likelihood(text.passages, bench.progress)
            score = {"logprob": logprob, "tokens": text.tokens, "bytes": text.bytes}
            write_text(path, json.dumps(with_check(score, role.key)) + "\n")
        return score

    def _compare(
        self,
        job: Job,
        role: FixedTextRole,
        distributions: Distributions,
        reference: Reference,
        bench: Workbench,
    ) -> None:
        from harness.store.tables import DRIFT

        top_k, index = job.point.record.top_k, reference.index
        shared = StoredPoint(_score_path(bench.outputs, role.key).parent, owner=SHARED)
        name = f"{role.key}-against-{role.reference}-{top_k}-{index.texts}"

        def tables() -> Iterator[pa.Table]:
            for number, passages in reference.chunks(iter(role.text.passages)):
                yield drift_table(distributions.compare(reference, number, passages, top_k))
                bench.progress.advance(sum(map(len, passages)))

        if problem_of(shared.path(f"{name}.parquet"), None, SHARED, thorough=True):
            bench.progress.stage(f"drift of {job.point.label}", index.positions, "tokens")
            shared.write_tables(name, DRIFT, tables())
        with atomic_path(bench.stored(job).path("drift_text.parquet")) as scratch:
            _link(shared.path(f"{name}.parquet"), scratch)


def _link(path: Path, new: Path) -> None:
    """Give a file a second name, where the file system allows that, else copy it."""
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)
