"""The page of the metrics: each by its key, with its unit, direction and meaning."""

from __future__ import annotations

from itertools import groupby

from harness.analysis.goal import ALIAS
from harness.analysis.metric_catalog import METRICS, Metric
from harness.config.selector_names import DESCRIPTIONS
from tools.reference.markdown import anchor, code, prose, sentence, table

_HEAD = """\
# Metrics

Keys are the same in `metrics.json`, `summary.csv`, on the page and in MLflow, but for `{section}NAME`,
which MLflow has as `{mlflow}NAME`; `compare.goal` takes both. Those of your own are `own/NAME`
([guide](../guides/metrics.md)). *Shown as* is the head of its column; *per sample* is its column of
`generations.parquet`. In bold: what the terminal's table has too. How differences are told from noise is
[an explanation](../explanation/statistics.md).

"""


def metric_page() -> str:
    """Return the page."""
    mlflow, section = ALIAS
    parts = [_HEAD.format(mlflow=mlflow, section=section).rstrip()]
    for name, metrics in groupby(sorted(METRICS, key=_section_index), key=_section_of):
        parts += [
            f"## {name}",
            table(("key", "shown as", "measures", "better", "per sample"), map(_row, metrics)),
        ]
    rows = ((code(f"compare.select=[{way}]"), prose(sentence(text))) for way, text in DESCRIPTIONS.items())
    chosen = "A choice among the samples of a prompt is a row of its own, with all metrics."
    return "\n\n".join([*parts, "## Choosing among samples", chosen, table(("key", "takes"), rows)])


def _section_of(metric: Metric) -> str:
    return metric.key.partition("/")[0]


def _section_index(metric: Metric) -> int:
    sections = list(dict.fromkeys(map(_section_of, METRICS)))
    return sections.index(_section_of(metric))


def _row(metric: Metric) -> tuple[str, ...]:
    name = prose(metric.name)
    unit = f", {metric.unit}" if metric.unit and metric.unit not in metric.description else ""
    return (
        anchor(metric.key) + code(metric.key),
        f"**{name}**" if metric.visibility == "headline" else name,
        prose(sentence(f"{metric.description}{unit}")),
        metric.better or "",
        code(metric.per_sample) if metric.per_sample else "",
    )
