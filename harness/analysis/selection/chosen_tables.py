"""The tables of the samples that a selector chose of a stored point, as a point of their own.

They are written into the sweep's folder, in the form of every point's, so that whatever reads points reads
them. Each prompt's chosen sample is its sample 0 there; `chosen_sample` says which one it was.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analysis.metric_catalog import METRICS, Metric
from harness.analysis.metrics.bleu import bleu_counts
from harness.analysis.metrics.point_metrics import SampleMetrics, point_metrics
from harness.analysis.metrics.probability import STEP_COLUMNS, step_sums
from harness.store.address import digest
from harness.store.files import finite_or_null
from harness.store.stored_point import StoredPoint
from harness.store.token_table import numpy_of

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
"""Raise it when the tables are made otherwise."""

_OF_ALL = ("self_bleu",)  # columns that say something of all samples of a prompt together
_COPIED = ("config.yaml", "environment.json")
_OF_THE_MODEL = ("memory/weights_mb", "memory/cache_bytes_per_token")


def write_chosen(
    stored: StoredPoint,
    folders: Mapping[str, tuple[Path, np.ndarray]],
    metrics: Mapping[str, float],
    custom: Iterable[Metric],
) -> dict[str, StoredPoint]:
    """Write the points of chosen samples, those that are not written yet; return them by selector.

    Args:
        stored: the point with all samples.
        folders: by selector, where to write, and the rows of generations.parquet that it chose.
        metrics: those of `stored`, of which those of its model are taken.
        custom: the custom metrics among its columns.
    """
    found = {name: StoredPoint(folder, owner=stored.point_id) for name, (folder, _) in folders.items()}
    specs = {name: _spec(stored, rows) for name, (_, rows) in folders.items()}
    due = [
        name
        for name, point in found.items()
        if point.parts().get("selection") != specs[name] or point.damage() is not None
    ]
    if not due:
        return found
    samples = stored.table("generations")
    steps = _steps_of(stored, samples, {name: folders[name][1] for name in due})
    shared = {key: metrics[key] for key in _OF_THE_MODEL if key in metrics}
    for name in due:
        chosen, point = samples.take(folders[name][1]), found[name]
        own = list(custom)
        values = point_metrics(_sample_metrics(chosen, steps[name], own), [], shared, own)
        point.write_table("generations", _renumbered(chosen))
        point.write_table("tokens", steps[name])
        point.write_json("metrics.json", finite_or_null(values))
        for file in _COPIED:
            if stored.has(file):
                shutil.copyfile(stored.path(file), point.path(file))
        files = ("generations.parquet", "tokens.parquet", "metrics.json", *_COPIED)
        point.write_parts({"selection": specs[name]}, sealed=files)
    return found


def _spec(stored: StoredPoint, rows: np.ndarray) -> dict[str, Any]:
    """Return what the tables of chosen samples depend on."""
    seals = stored.seals()
    return {
        "version": VERSION,
        "of": [stored.point_id, stored.parts().get("metrics"), digest(seals.get("generations.parquet"))],
        "rows": digest(rows.tolist()),
    }


def _renumbered(chosen: pa.Table) -> pa.Table:
    """Return the rows as sample 0 of their prompts, and which samples they were."""
    import pyarrow as pa

    at = chosen.schema.get_field_index("sample")
    numbers = chosen["sample"]
    chosen = chosen.set_column(at, chosen.schema.field(at), pa.array([0] * len(chosen), numbers.type))
    known = [name for name in chosen.column_names if name not in _OF_ALL]
    return chosen.select(known).append_column("chosen_sample", numbers)


def _steps_of(stored: StoredPoint, samples: pa.Table, rows: Mapping[str, np.ndarray]) -> dict[str, pa.Table]:
    """Return the rows of tokens.parquet of chosen samples, as sample 0; the table is read in pieces."""
    import pyarrow as pa

    prompts, numbers = samples["prompt_id"].to_pylist(), samples["sample"].to_pylist()
    wanted = {name: {prompts[row]: numbers[row] for row in some} for name, some in rows.items()}
    columns = stored.schema("tokens").names
    found: dict[str, list[pa.Table]] = {name: [] for name in rows}
    for table in stored.row_groups("tokens", columns):
        keys = table["prompt_id"].combine_chunks().dictionary_encode()
        codes, sample = numpy_of(keys.indices), numpy_of(table["sample"].combine_chunks())
        for name, chosen in wanted.items():
            of_prompt = np.array([chosen.get(prompt, -1) for prompt in keys.dictionary.to_pylist()])
            where = np.flatnonzero(sample == of_prompt[codes]) if len(of_prompt) else np.empty(0, np.int64)
            found[name].append(table.take(where))
    zero = {
        name: pa.concat_tables(some or [stored.schema("tokens").empty_table()])
        for name, some in found.items()
    }
    at = columns.index("sample")
    return {
        name: table.set_column(at, table.schema.field(at), pa.array([0] * len(table), table["sample"].type))
        for name, table in zero.items()
    }


def _sample_metrics(chosen: pa.Table, steps: pa.Table, custom: Iterable[Metric]) -> SampleMetrics:
    """Return the metrics of the chosen samples from their columns, and the sums over their steps."""
    known = set(chosen.column_names) - set(_OF_ALL)
    found = SampleMetrics()
    columns = [m.per_sample for m in (*METRICS, *custom) if m.per_sample in known]
    values = {str(name): chosen[name].to_pylist() for name in columns}
    for row, prompt_id in enumerate(chosen["prompt_id"].to_pylist()):
        of_row = {name: some[row] for name, some in values.items()}
        found.add(prompt_id, {n: math.nan if v is None else float(v) for n, v in of_row.items()})
    present = [name for name in STEP_COLUMNS if name in steps.column_names]
    found.steps = step_sums({name: numpy_of(steps[name].combine_chunks()) for name in present})
    if "sentence_bleu" in known and "reference" in known:
        texts = zip(chosen["output"].to_pylist(), chosen["reference"].to_pylist(), strict=True)
        for output, reference in texts:
            if reference is not None:
                found.bleu += bleu_counts(output or "", reference)
    return found
