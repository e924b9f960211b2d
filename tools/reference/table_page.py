"""The page of the tables: every column of every file that holds rows."""

from __future__ import annotations

import pyarrow as pa

from harness.report.csv_files import COMPARISON_COLUMNS, FACTS
from harness.store.column_meanings import ADDED, TABLES, meaning
from harness.store.tables import SCHEMAS
from tools.reference.markdown import anchor, code, prose, sentence, table

_OF_SUMMARY = (
    "the sweep's points: {facts}; a column of each key that varies, `selected_from` where samples were "
    "chosen, and one of each metric"
)
_OF_COMPARISON = {
    "label": "the point",
    "metric": "key of the metric",
    "value": "the metric of the point",
    "low": "lower end of its 95% confidence interval",
    "high": "upper end of it",
    "baseline": "label of the point that it is compared with",
    "difference": "mean difference from the baseline, paired by prompt",
    "difference low": "lower end of its 95% interval, simultaneous over the points",
    "difference high": "upper end of it",
    "p": "two-sided p-value, simultaneous over the points",
    "word": "higher or lower, where the difference is significant",
    "verdict": "better or worse, where it is significant and the metric has a direction",
    "below noise": "yes where it is no larger than what the metric moves by when it is measured again",
    "prompts": "prompts that it is paired over",
}
_HEAD = """\
# Tables and their columns

Parquet files of `outputs/points/<point_id>/`, which pandas, polars, DuckDB and Arrow read. *The model's*
distribution is the softmax of its logits; the *processed* one (`warped_` in names) is what is left after
penalties, temperature and truncation, and what the token was drawn from
([more](../explanation/probabilities.md)). What a backend does not tell is empty, never made up.

"""


def table_page() -> str:
    """Return the page."""
    parts = [_HEAD.rstrip()]
    for name, schema in SCHEMAS.items():
        rows = [_row(name, field.name, _type(field.type)) for field in schema]
        rows += [_row(name, column, "text") for column in ADDED.get(name, ())]
        head = ("column", "type", "is")
        parts += [f"## {name}.parquet", prose(sentence(TABLES[name])), table(head, rows)]
    facts = ", ".join(f"`{name}`" for name in FACTS)
    compared = ((code(name), prose(sentence(_OF_COMPARISON[name]))) for name in COMPARISON_COLUMNS)
    parts += [
        "`drift_text.parquet` has the columns of `drift.parquet`, along a fixed text (`drift.text`).",
        "## summary.csv",
        prose(sentence(_OF_SUMMARY.format(facts=facts))),
        "## comparison.csv",
        "One row per point and metric.",
        table(("column", "is"), compared),
    ]
    return "\n\n".join(parts)


def _row(name: str, column: str, kind: str) -> tuple[str, ...]:
    return anchor(f"{name}.{column}") + code(column), kind, prose(sentence(meaning(name, column)))


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {kind.value_type}".replace("string", "text")
    return str(kind).replace("string", "text").replace("bool", "true or false")
