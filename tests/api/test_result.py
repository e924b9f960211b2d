"""Tables, texts and pages of a sweep, compared with what is stored."""

from __future__ import annotations

import csv
import math
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import harness
from harness.api.frame import Frame
from harness.api.notebook_html import Page
from harness.api.text_view import Text, shade_of
from harness.report.page.palette import LIGHT

LABELS = [
    "fable_tiny/none/greedy",
    "fable_tiny/none/top_p temperature=0.7",
    "fable_tiny/none/top_p temperature=1.0",
]


def test_points(swept):
    assert list(swept.points) == LABELS
    point = swept[1]
    assert (point.label, point.status, point.error) == (LABELS[1], "done", None)
    assert point.varied["decoding.temperature"] == 0.7
    assert point.config()["effective"]["decoding"]["temperature"] == 0.7
    assert swept.failed == {}
    swept.raise_for_failures()
    assert [one.passed for one in swept.expectations] == [True] * 3
    assert repr(swept).startswith("<Result 'fable_tiny, 2 strategies")
    with pytest.raises(harness.HarnessError, match="no point has the label 'gredy'"):
        swept["gredy"]
    with pytest.raises(harness.HarnessError, match="point 3: there are 3"):
        swept[3]


@pytest.mark.parametrize("name", ["generations", "tokens"])
def test_a_table_has_the_rows_of_all_points(swept, name):
    table = getattr(swept, name)()
    stored = [pq.read_table(point.folder / f"{name}.parquet") for point in swept.points.values()]
    assert len(table) == sum(one.num_rows for one in stored)
    for label, one in zip(LABELS, stored, strict=True):
        rows = [row for row in table.rows() if row["point"] == label]
        assert [{key: row[key] for key in one.column_names} for row in rows] == one.to_pylist()
    for column in ("point", "model", "quantization", "prompts", "decoding", "decoding.temperature"):
        assert pa.types.is_dictionary(table.arrow.schema.field(column).type)
    by_point = dict(zip(table["point"], table["decoding.temperature"], strict=True))
    assert list(by_point.values()) == [None, 0.7, 1.0]


def test_columns(swept):
    table = swept.tokens(["token", "logprob"])
    assert table.columns[-2:] == ("token", "logprob")
    with pytest.raises(harness.HarnessError, match="tokens has no column 'tokn'"):
        swept.tokens(["tokn"])
    assert len(swept.timing()) == 0


def test_frames_of_other_libraries(swept):
    table = swept.tokens(["token", "logprob"])
    frame = table.to("pandas")
    assert frame["point"].dtype == "category"
    expected = {label: swept[label].metrics["probability/mean_logprob"] for label in LABELS}
    for label, mean in frame.groupby("point", observed=True)["logprob"].mean().items():
        assert mean == pytest.approx(expected[label], abs=1e-5)  # texts are of one length
    assert table.to("arrow") is table.arrow
    assert pa.table(table).equals(table.arrow)
    with pytest.raises(harness.HarnessError, match="use pandas, polars or arrow"):
        table.to("csv")


def test_polars(swept):
    polars = pytest.importorskip("polars")
    table = swept.tokens(["token", "logprob"])
    frame = table.to("polars")
    assert frame.height == len(table)
    assert frame.filter(polars.col("decoding") == "greedy").height == table["decoding"].count("greedy")
    assert polars.DataFrame(table).height == len(table)


def test_the_lazy_dataset_reads_the_same(swept):
    rows, table = swept.lazy("tokens"), swept.tokens()
    assert rows.count_rows() == len(table)
    assert rows.schema.names == list(table.columns)
    wanted = rows.to_table(columns=["point", "token"], filter=ds.field("decoding.temperature") == 0.7)
    assert set(wanted["point"].to_pylist()) == {LABELS[1]}
    assert wanted["token"].to_pylist() == swept[1].table("tokens")["token"]
    files = list(rows.get_fragments(filter=ds.field("point") == LABELS[0]))
    assert len(files) == 1
    with pytest.raises(harness.HarnessError, match="has the table nonsense"):
        swept.lazy("nonsense")


def test_summary_and_comparison_are_the_csv_files(swept):
    summary = swept.summary()
    with (swept.folder / "summary.csv").open() as file:
        for row, stored in zip(summary.rows(), csv.DictReader(file), strict=True):
            assert row["point"] == stored["label"]
            assert row["probability/mean_logprob"] == float(stored["probability/mean_logprob"])
    comparison = swept.comparison()
    with (swept.folder / "comparison.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [(row["point"], row["metric"]) for row in comparison.rows()] == [
        (row["label"], row["metric"]) for row in stored
    ]
    assert [str(row["paired_prompts"] or "") for row in comparison.rows()] == [
        row["prompts"] for row in stored
    ]
    assert set(comparison["below_noise"]) <= {True, False, None}


class Parsed(HTMLParser):
    """The texts and the elements of a piece of HTML; unclosed elements are an error."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.elements, self.open = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_text_shows_its_tokens(swept):
    text = swept.text(1, "stormy")
    assert (text.output, text.prompt_id) == (swept[1].table()["output"][0], "stormy")
    parsed = Parsed(text._repr_html_())
    spans = [
        attributes
        for tag, attributes in parsed.elements
        if tag == "span" and "t" in attributes.get("class", "").split()
    ]
    tokens = text.tokens.rows()
    assert len(spans) == len(tokens) == 12
    for span, row in zip(spans, tokens, strict=True):
        assert span["class"].split() == ["t", f"s{shade_of(row['logprob'], row['rank'])}"]
    for row in tokens:
        assert f"{100 * math.exp(row['logprob']):.2f}%" in " ".join(parsed.texts)
        assert all(f"“{name}”" in parsed.texts for name in row["top_tokens"] if name.strip())
    with pytest.raises(harness.HarnessError, match="no prompt has the id 'storm'; did you mean stormy"):
        swept.text(0, "storm")
    with pytest.raises(harness.HarnessError, match="has no sample 7"):
        swept.text(0, 0, 7)


def test_shades():
    assert (shade_of(0.0, 1), shade_of(-7.0, 9), shade_of(-99.0, 9)) == (0, len(LIGHT) - 1, len(LIGHT) - 1)
    assert (shade_of(None, 1), shade_of(-1.0, 0), shade_of(math.nan, 1)) == (None, None, None)
    assert shade_of(-3.5, 2) == 16


HOSTILE = "</span><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e&lt;"


def test_hostile_text_stays_text():
    row = {
        "prompt_id": HOSTILE, "sample": 0, "prompt": HOSTILE, "output": HOSTILE, "finish_reason": HOSTILE,
        "mean_logprob": -1.0,
    }  # fmt: skip
    token = {
        "token": HOSTILE,
        "logprob": -1.0,
        "rank": 2,
        "top_tokens": [HOSTILE],
        "top_logprobs": [-1.0],
        "top_ids": [5],
    }
    for text in (Text(row, pa.Table.from_pylist([token]), HOSTILE), Text(row, None, HOSTILE)):
        html = text._repr_html_()
        parsed = Parsed(html)
        assert {tag for tag, _ in parsed.elements} <= {
            "style",
            "div",
            "p",
            "span",
            "i",
            "b",
            "table",
            "tr",
            "th",
            "td",
        }
        assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
        assert "\x1b" not in html
        assert "\u202e" not in html
    html = Frame(pa.table({HOSTILE: [HOSTILE]}))._repr_html_()
    assert {tag for tag, _ in Parsed(html).elements} <= {
        "style",
        "div",
        "p",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    page = Page(f"<title>\"'&amp;{HOSTILE}</title>")
    ((tag, attributes),) = Parsed(page._repr_html_()).elements
    assert tag == "iframe"
    assert attributes["srcdoc"] == page.html
    assert "allow-same-origin" not in attributes["sandbox"]


def test_a_result_shows_answer_and_table(swept):
    parsed = Parsed(swept._repr_html_())
    texts = "".join(parsed.texts)
    for line in swept.answer.splitlines():
        assert line.partition(": ")[2] in texts
    assert "top_p temperature=0.7" in texts
    assert "greedy" in str(swept)
    assert "expectations: 3 passed" in str(swept)
    assert swept.page().html == (swept.folder / "compare.html").read_text()
