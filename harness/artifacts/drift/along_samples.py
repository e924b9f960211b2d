"""Drift along a reference's own samples: drift.parquet, a row a token, both models in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.backends.distributions import Distributions, PassageDrift, Reference
from harness.prompts.passages import Passage
from harness.prompts.prompt import Prompt
from harness.store.files import read_json, storable
from harness.store.integrity import problem_of
from harness.store.reference_index import heads_folder, samples_folder
from harness.store.stored_point import StoredPoint, stored_point

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_REFERENCE = (
    "drift is not computed: its reference's distributions are not there (the reference failed, or they were "
    "deleted); run the same command again"
)


def share_of_budget(job: Job, tokens: int) -> int:
    """Return the bytes of a reference's budget that are for this many scored tokens."""
    return int(job.point.drift.budget_mb * 2**20 * tokens / max(1, job.drift.together))


def sample_passages(stored: StoredPoint, prompts: Sequence[Prompt]) -> Iterator[Passage]:
    """Yield a point's samples as passages, in the order of its tables."""
    from harness.store.token_table import read_samples

    by_id = {storable(prompt.id): prompt for prompt in prompts}
    for sample in read_samples(stored, "tokens", ["token_id"]):
        prompt = by_id[sample.prompt_id]
        ids = (*prompt.ids, *sample["token_id"].tolist())
        yield Passage(prompt.id, sample.sample, ids, len(prompt.ids))


def drift_table(compared: Iterable[PassageDrift]) -> pa.Table:
    """Return the rows of drift.parquet of some passages."""
    import pyarrow as pa

    from harness.store.tables import drift_rows

    return pa.concat_tables(
        drift_rows(p.prompt_id, p.sample, p.target_ids, one.token_texts, one.top_tokens, one.values)
        for one in compared
        for p in [one.passage]
    )


def open_reference(distributions: Distributions, folder: Path, bench: Workbench) -> Reference | None:
    """Return what was kept of a reference; None where it is not there."""
    try:
        return distributions.open_reference(folder, heads_folder(bench.outputs))
    except FileNotFoundError:
        return None


class DriftAlongSamples(Artifact):
    """drift.parquet."""

    name = "drift"
    action = "drift"
    files = ("drift.parquet",)

    def spec(self, job: Job) -> Any:
        """Return the reference, how many alternatives are recorded, and the budget of distributions."""
        if job.drift.reference is None:
            return None
        share = share_of_budget(job, job.tokens)
        return {"reference": job.drift.reference, "top_k": job.point.record.top_k, "share": share}

    def covers(self, stored: Any, requested: Any) -> bool:
        """Return whether it is of the same reference, as deep, and as much as the budget allows."""
        return bool(
            stored["reference"] == requested["reference"]
            and stored["top_k"] >= requested["top_k"]
            and (stored["whole"] or stored["share"] >= requested["share"])
        )

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Compare the model with its reference along the reference's samples."""
        from harness.analysis.drift_summary import drift_warnings
        from harness.store.tables import DRIFT

        assert job.drift.reference is not None
        stored = bench.stored(job)
        source = stored_point(bench.outputs, job.drift.reference)
        distributions = bench.backend.distributions
        if distributions is None:
            return ("drift is not computed: the backend does not tell whole distributions",)
        reference = open_reference(distributions, samples_folder(source), bench)
        if reference is None:
            return (MISSING_REFERENCE,)
        index, top_k = reference.index, job.point.record.top_k
        bench.progress.stage(f"drift of {job.point.label}", index.positions, "tokens")
        spec = {"reference": source.point_id, "pieces": index.pieces, "top_k": top_k, "kind": index.kind}
        # Chunks that a process which died has compared are kept.
        partial = StoredPoint(stored.path("drift-partial"), owner=stored.point_id)
        if read_json(partial.path("plan.json")) != json.loads(json.dumps(spec)):
            shutil.rmtree(partial.folder, ignore_errors=True)
            partial.write_json("plan.json", spec)
        chunks = []
        for number, passages in reference.chunks(sample_passages(source, job.prompts)):
            chunks.append(f"{number:06d}")
            path = partial.path(f"{number:06d}.parquet")
            if problem_of(path, None, stored.point_id, thorough=True):
                table = drift_table(distributions.compare(reference, number, passages, top_k))
                partial.write_table(chunks[-1], table)
            bench.progress.advance(sum(map(len, passages)))
        stored.write_tables("drift", DRIFT, map(partial.table, chunks))
        complete(stored, self, {
            "reference": source.point_id, "top_k": top_k, "kind": index.kind, "share": index.share,
            "whole": index.exact and not index.left_out, "texts": index.texts, "left_out": index.left_out,
        })  # fmt: skip
        shutil.rmtree(partial.folder, ignore_errors=True)
        return drift_warnings(stored.parts())
