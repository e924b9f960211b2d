"""What MLflow gets of a sweep as a whole: the command, best and spread, and the prompts as a dataset."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.comparison import Comparison
from harness.analysis.metric_catalog import Metric
from harness.analysis.point_results import PointResult
from harness.config.secret_text import without_secrets
from harness.report.key_metrics import key_metrics
from harness.store.stored_point import StoredPoint
from harness.tracking.facts import MAX_TAG, mlflow_key, rounded

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

COMMAND = "command"
"""The tag with the sweep's command line."""


def command_of(folder: Path) -> str:
    """Return the command line of a sweep, from the files of Hydra in its folder; empty without them."""
    import yaml

    sweep, single = folder / "multirun.yaml", folder / ".hydra" / "overrides.yaml"
    try:
        if sweep.is_file():
            words = ["-m", *yaml.safe_load(sweep.read_text("utf-8"))["hydra"]["overrides"]["task"]]
        else:
            words = yaml.safe_load(single.read_text("utf-8")) or []
        text = shlex.join(["harness", *map(str, words)])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return ""
    return without_secrets(text)[:MAX_TAG]


def parent_metrics(points: Sequence[PointResult], comparison: Comparison) -> dict[str, float]:
    """Return `best/<metric>` and `spread/<metric>` of the key metrics, over the points of a sweep.

    The spread is the largest less the smallest value. A metric without a better direction has no best.
    """
    goal = comparison.answer.goal if comparison.answer else None
    found: dict[str, float] = {}
    for metric in key_metrics(points, goal):
        values = [p.metrics[metric.key] for p in points if metric.key in p.metrics]
        name = metric.key.rpartition("/")[2]
        if metric.better:
            best = max(values) if metric.better == "higher" else min(values)
            found[mlflow_key(f"best/{name}")] = rounded(metric, best)
        if len(values) > 1:
            found[mlflow_key(f"spread/{name}")] = rounded(metric, max(values) - min(values))
    return found


def charted(metric: Metric, points: Sequence[PointResult]) -> bool:
    """Return whether a metric, as it is shown, differs between points, and no completed point lacks it.

    MLflow's charts leave out a run that lacks one of their metrics.
    """
    completed = [p for p in points if p.stored]
    shown = {metric.format(p.metrics[metric.key]) for p in completed if metric.key in p.metrics}
    return len(shown) > 1 and all(metric.key in p.metrics for p in completed)


@dataclass(frozen=True)
class PromptSet:
    """The prompts that points read.

    Attributes:
        name: of the choice.
        digest: hash of the rendered prompts and their references.
        source: the file, or the choice in the config.
        referenced: whether prompts have reference answers.
        rows: number of prompts.
    """

    name: str
    digest: str
    source: str
    referenced: bool
    rows: int


def prompt_sets(points: Sequence[PointResult]) -> Iterator[PromptSet]:
    """Yield the different prompt sets of a sweep."""
    seen: set[tuple[str, str]] = set()
    by_prompts: dict[tuple[str, tuple[str, ...]], PointResult] = {}
    for p in points:
        if p.stored:
            by_prompts.setdefault((p.point.prompts, p.prompt_ids), p)
    for (name, prompt_ids), p in by_prompts.items():
        assert p.stored is not None
        digest, referenced = _prompts_digest(p.stored)
        if (name, digest) not in seen:
            seen.add((name, digest))
            yield PromptSet(name, digest, _source(p.stored, name), referenced, len(prompt_ids))


def dataset_input(prompts: PromptSet) -> DatasetInput:
    """Return a prompt set as MLflow's dataset: name, digest and number of prompts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = ["prompt", *(["reference"] if prompts.referenced else [])]
    schema = {"mlflow_colspec": [{"type": "string", "name": column} for column in columns]}
    return DatasetInput(
        Dataset(
            name=prompts.name[:500] or "prompts",
            digest=prompts.digest,
            source_type="local",
            source=json.dumps({"uri": prompts.source})[:60_000],
            schema=json.dumps(schema),
            profile=json.dumps({"num_rows": prompts.rows}),
        ),
        tags=[InputTag("mlflow.data.context", "prompts")],
    )


def _prompts_digest(stored: StoredPoint) -> tuple[str, bool]:
    """Return a hash of the rendered prompts and their references, and whether there are any references."""
    wanted = ["prompt_id", "sample", "prompt", "reference"]
    digest, referenced = hashlib.sha256(), False
    for rows in stored.row_batches("generations", 1000):
        for row in rows:
            if row["sample"] == 0:
                facts = [row.get(key) for key in wanted]
                referenced |= facts[-1] is not None
                digest.update(json.dumps(facts).encode())
    return digest.hexdigest()[:16], referenced


def _source(stored: StoredPoint, name: str) -> str:
    """Return where the prompts are from: their file as it was given, else their name in the config."""
    config: Any = stored.config() if stored.has("config.yaml") else {}
    prompts = (config.get("requested") or {}).get("prompts") or {}
    return str(prompts.get("file") or f"prompts={name}")
