"""A stored point gets its metrics: from its tables alone, each in its column and its section."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sacrebleu

from harness.analysis.latency import repetition
from harness.analysis.metric_catalog import METRICS, in_order
from harness.analysis.metrics.custom import CustomMetric
from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.analysis.metrics.requested import RequestedMetrics
from harness.artifacts.compute_metrics import add_metrics
from harness.errors import HarnessError
from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint, stored_point
from harness.store.tables import GENERATIONS, generations_table, timing_table, tokens_table

FACTS = {"tokens": 300, "decode_seconds": 1.5, "peak_mb": None}
REFERENCES = {"a": "the cat sat on the mat", "b": "no such thing"}


def sample(
    prompt: str, number: int, logprobs: Sequence[float], output: str, reason: str = "length"
) -> Sample:
    n = len(logprobs)
    column = np.array(logprobs, dtype=np.float32)
    ones = np.ones(n, dtype=np.float32)
    steps = Steps(
        token_id=np.arange(n) + 100 * number,
        logprob=column,
        warped_logprob=column / 2,
        rank=np.array([1 if value > -1 else 3 for value in logprobs], dtype=np.int32),
        entropy=ones * 2,
        warped_entropy=ones,
        kept=np.full(n, 7, dtype=np.int32),
        kept_mass=ones * 0.5,
        top_ids=np.zeros((n, 1), dtype=np.int64),
        top_logprobs=np.zeros((n, 1), dtype=np.float32),
        top_warped_logprobs=np.zeros((n, 1), dtype=np.float32),
    )
    steps = replace(steps, token=(output, *[""] * (n - 1)), top_tokens=(("x",),) * n)
    return Sample(prompt, number, f"prompt {prompt}", output, 4, n, reason, 0, steps)  # type: ignore[arg-type]


SAMPLES = [
    sample("a", 0, [-0.5, -1.5], "x y x y", "eos"),
    sample("a", 1, [-2.0], ""),
    sample("b", 0, [-0.5, -0.5, -0.5, -6.5], "x y"),
]


@pytest.fixture
def point(tmp_path: Path) -> Callable[[Sequence[Sample]], StoredPoint]:
    """A point of these samples, each prompt's a row group of its own, as batches leave them."""

    def make(samples: Sequence[Sample]) -> StoredPoint:
        stored = stored_point(tmp_path, "abc")
        stored.folder.mkdir(parents=True, exist_ok=True)
        prompts = list(dict.fromkeys(one.prompt_id for one in samples))
        for name, table in (("generations", generations_table), ("tokens", tokens_table)):
            with pq.ParquetWriter(stored.path(f"{name}.parquet"), table(samples).schema) as writer:
                for prompt in prompts:
                    writer.write_table(table([one for one in samples if one.prompt_id == prompt]))
        stored.write_table("timing", timing_table([repetition("a", 0, 1, 0.0, [0.1, 0.2])]))
        stored.write_json("environment.json", {"model": {"memory_footprint_mb": 7.5}})
        stored.write_json("parts.json", {"record": {"top_k": 1}, "timing": {"repeats": 1}, "facts": FACTS})
        return stored

    return make


def test_a_point_by_hand(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)
    add_metrics(stored, RequestedMetrics())
    known = stored.metrics()
    assert known["metrics"] == pytest.approx(
        {
            "probability/mean_logprob": -12 / 7,
            "probability/mean_warped_logprob": -6 / 7,
            "probability/perplexity": math.exp(12 / 7),
            "probability/mean_entropy": 2,
            "probability/mean_warped_entropy": 1,
            "probability/not_top_share": 3 / 7,
            "probability/kept_mass": 0.5,
            "probability/surprise_share": 1 / 7,
            "text/output_tokens": 7 / 3,
            "text/words": 2,
            "text/eos_share": 1 / 3,
            "text/cut_share": 2 / 3,
            "text/distinct_1": (2 / 4 + 1) / 2,  # the empty text has no words
            "text/distinct_2": (2 / 3 + 1) / 2,
            "text/distinct_3": 1,
            "text/repeated_4": 0,
            "text/longest_repeat": 1,
            "text/compression_ratio": known["metrics"]["text/compression_ratio"],
            "text/looped_share": 0,
            "text/self_bleu": 0,
            "latency/ttft_p50_ms": 100,
            "latency/itl_p50_ms": 100,
            "latency/total_p50_ms": 200,
            "throughput/tokens_per_s": 10,
            "throughput/decode_tokens_per_s": 10,
            "throughput/sweep_tokens_per_s": 200,
            "memory/weights_mb": 7.5,
        }
    )
    per_prompt = known["per_prompt"]
    assert per_prompt["prompt_id"] == ["a", "b"]
    assert per_prompt["probability/mean_logprob"] == pytest.approx([-1.5, -2])
    assert per_prompt["probability/surprise_share"] == [0, 0.25]
    assert per_prompt["text/output_tokens"] == [1.5, 4]
    assert per_prompt["text/distinct_2"] == [pytest.approx(2 / 3), 1]
    assert per_prompt["text/distinct_3"] == [1, None]
    assert per_prompt["text/eos_share"] == [0.5, 0]
    of_samples = {metric.key for metric in METRICS if metric.per_sample}
    assert per_prompt.keys() - {"prompt_id"} == {
        key for key in of_samples if not key.startswith(("reference/", "quality/", "watermark/"))
    }
    assert stored.parts()["metrics"] == RequestedMetrics().spec(stored.parts())


def test_columns_are_added_and_the_others_stay(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)
    before = stored.table("generations")
    add_metrics(stored, RequestedMetrics())
    after = stored.table("generations")
    assert after.select(GENERATIONS.names).equals(before)
    rows = after.to_pylist()
    assert [row["words"] for row in rows] == [4, 0, 2]
    assert [row["distinct_2"] for row in rows] == [pytest.approx(2 / 3), None, 1], "null, not NaN"
    assert [row["perplexity"] for row in rows] == pytest.approx(list(map(math.exp, (1, 2, 2))))
    assert [row["looped"] for row in rows] == [0, 0, 0]
    assert [row["eos"] for row in rows] == [1, 0, 0]
    assert [row["self_bleu"] for row in rows] == [0, None, None], "of a text, in company"
    assert "reference" not in after.column_names
    assert pq.ParquetFile(stored.path("generations.parquet")).num_row_groups == 2
    assert not list(stored.folder.glob("*.part"))


def test_one_sample_a_prompt_has_no_self_bleu(point: Callable[..., StoredPoint]) -> None:
    stored = point([SAMPLES[0], SAMPLES[2]])
    add_metrics(stored, RequestedMetrics())
    assert "self_bleu" not in stored.table("generations").column_names
    assert "text/self_bleu" not in stored.metrics()["metrics"]


def test_references(point: Callable[..., StoredPoint]) -> None:
    outputs = ["the cat sat", "the cat sat on the mat", "such a thing", "unheard of"]
    keys = (("a", 0), ("a", 1), ("b", 0), ("c", 0))
    samples = [sample(*key, [-1], output) for key, output in zip(keys, outputs, strict=True)]
    stored = point(samples)
    add_metrics(stored, RequestedMetrics(references=REFERENCES))
    rows = stored.rows("generations")
    assert [row["reference"] for row in rows] == [REFERENCES["a"], REFERENCES["a"], REFERENCES["b"], None]
    held = [(row["output"], row["reference"]) for row in rows[:3]]
    chrf = [sacrebleu.sentence_chrf(output, [reference]).score for output, reference in held]
    assert [row["chrf"] for row in rows] == [*map(pytest.approx, chrf), None]
    assert [row["exact_match"] for row in rows] == [0, 1, 0, None]
    assert [row["rouge_l"] for row in rows] == [pytest.approx(2 * 3 / 9), 1, pytest.approx(2 * 2 / 6), None]
    known = stored.metrics()
    metrics = known["metrics"]
    assert metrics["reference/chrf"] == pytest.approx(sum(chrf) / 3)
    assert metrics["reference/exact_match"] == pytest.approx(1 / 3)
    corpus = sacrebleu.corpus_bleu([output for output, _ in held], [[reference for _, reference in held]])
    assert metrics["reference/bleu"] == pytest.approx(corpus.score)
    assert known["per_prompt"]["reference/exact_match"] == [0.5, 0, None]
    add_metrics(stored, RequestedMetrics(references={"b": "such a thing"}))
    assert [row["exact_match"] for row in stored.rows("generations")] == [None, None, 1, None]
    add_metrics(stored, RequestedMetrics())
    assert not {"reference", "chrf"} & set(stored.table("generations").column_names)


def test_answers_are_compared_with_those_of_references(point: Callable[..., StoredPoint]) -> None:
    outputs = ["3 + 4 is 7.0", "7 or 8", "The Cat", "unheard of"]
    keys = (("a", 0), ("a", 1), ("b", 0), ("c", 0))
    stored = point([sample(*key, [-1], output) for key, output in zip(keys, outputs, strict=True)])
    references = {"a": "the answer is 7", "b": "the  cat"}
    requested = RequestedMetrics(references=references, answers=AnswerPattern())
    add_metrics(stored, requested)
    assert [row["answer_match"] for row in stored.rows("generations")] == [1, 0, 1, None]
    assert stored.metrics()["metrics"]["reference/answer_match"] == pytest.approx(2 / 3)
    assert stored.parts()["metrics"] == requested.spec(stored.parts())
    other = RequestedMetrics(references=references, answers=AnswerPattern("[0-9]"))
    assert other.spec(stored.parts()) != requested.spec(stored.parts())
    # Points of sweeps without a selection, and without references, keep the metrics that they have.
    assert "answers" not in RequestedMetrics(references=references).spec({})
    assert "answers" not in RequestedMetrics(answers=AnswerPattern()).spec({})


def test_turns_of_chats_are_stored_beside_the_metrics(point: Callable[..., StoredPoint]) -> None:
    stored = point([sample("a", 0, [-1.0], "x"), sample("b", 0, [-1.0], "y")])
    requested = RequestedMetrics(messages={"b": '[{"role": "user", "content": "Hi"}]'})
    add_metrics(stored, requested)
    assert [row["messages"] for row in stored.rows("generations")] == [None, requested.messages["b"]]
    assert (
        stored.parts()["metrics"] == requested.spec(stored.parts()) != RequestedMetrics().spec(stored.parts())
    )
    assert "messages" not in RequestedMetrics().spec({})  # points without chats keep their metrics


def test_again_is_the_same_byte_for_byte(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in stored.folder.iterdir()}

    add_metrics(stored, RequestedMetrics(references=REFERENCES))
    first = files()
    add_metrics(stored, RequestedMetrics())
    assert files() != first
    add_metrics(stored, RequestedMetrics(references=REFERENCES))
    assert files() == first


def test_what_is_not_finite_stays_out(point: Callable[..., StoredPoint]) -> None:
    stored = point([sample("a", 0, [-math.inf, -1.0], "x"), sample("b", 0, [-1.0], "")])
    add_metrics(stored, RequestedMetrics())
    known = json.loads(stored.path("metrics.json").read_text(), parse_constant=pytest.fail)
    assert "probability/mean_logprob" not in known["metrics"]
    assert known["per_prompt"]["probability/mean_logprob"] == [None, -1]
    assert [row["perplexity"] for row in stored.rows("generations")] == [None, pytest.approx(math.e)]
    assert known["metrics"]["probability/surprise_share"] == pytest.approx(1 / 3)


def test_steps_are_taken_across_the_batches_of_a_table(point: Callable[..., StoredPoint]) -> None:
    """A table of 66,000 steps is read in several batches; no sample may lose a step between two."""
    lengths = [600] * 110
    stored = point([sample(f"p{at}", 0, [-at / 100] * n, "x") for at, n in enumerate(lengths)])
    add_metrics(stored, RequestedMetrics())
    known = stored.metrics()["per_prompt"]["probability/mean_warped_logprob"]
    assert known == pytest.approx([-at / 200 for at in range(110)])


def test_tables_that_do_not_belong_together(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)
    steps = stored.table("tokens")
    for broken in (steps.slice(1), steps.slice(0, 6), steps.slice(0, 0)):
        stored.write_table("tokens", broken)
        with pytest.raises(HarnessError, match=r"do not belong together; engine\.fresh=true"):
            add_metrics(stored, RequestedMetrics())
    assert not stored.has("metrics.json")


OWN = b'''
def tokens(generated):
    """How many tokens have a text.

    More of it.
    """
    assert generated.reference == {"a": "the cat"}.get(generated.prompt_id)
    assert generated.prompt == f"prompt {generated.prompt_id}"
    first = (generated.prompt_id, generated.sample) == ("a", 0)
    assert generated.finish_reason == ("eos" if first else "length")
    assert [token.logprob for token in generated.tokens][:1] in ([-0.5], [-2.0])
    assert all(token.token_id // 100 == generated.sample for token in generated.tokens)
    assert "".join(token.token for token in generated.tokens) == generated.output
    return sum(bool(token.token) for token in generated.tokens) or None

tokens.better = "higher"
'''


def test_a_metric_of_ones_own(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)
    asked = RequestedMetrics((CustomMetric("mine.py:tokens", OWN),), {"a": "the cat"})
    add_metrics(stored, asked)
    assert [row["own_tokens"] for row in stored.rows("generations")] == [1, None, 1]
    known: Mapping[str, Any] = stored.metrics()
    assert known["metrics"]["own/tokens"] == 1
    assert known["per_prompt"]["own/tokens"] == [1, 1]
    (described,) = known["own"]
    assert (described["key"], described["better"]) == ("own/tokens", "higher")
    assert described["says"] == "How many tokens have a text."
    assert in_order(known["metrics"])[-1] == "own/tokens"


def test_one_that_fails_changes_nothing(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)
    add_metrics(stored, RequestedMetrics())
    before = {path.name: path.read_bytes() for path in stored.folder.iterdir()}
    broken = CustomMetric("mine.py:f", b"def f(generated):\n    return 1 / (generated.prompt_id != 'b')\n")
    message = (
        r"^compare\.metrics=mine\.py:f: f raised ZeroDivisionError: division by zero "
        "for prompt 'b', sample 0; the samples are kept; run the same command again to continue from them$"
    )
    with pytest.raises(HarnessError, match=message):
        add_metrics(stored, RequestedMetrics((broken,)))
    assert {path.name: path.read_bytes() for path in stored.folder.iterdir()} == before


def test_columns_of_an_older_version_give_way(point: Callable[..., StoredPoint]) -> None:
    stored = point(SAMPLES)
    table = stored.table("generations")
    stored.write_table("generations", table.append_column("distinct_9", pa.array([math.nan] * 3)))
    add_metrics(stored, RequestedMetrics())
    assert "distinct_9" not in stored.table("generations").column_names


def point_metrics_of(stored: StoredPoint, requested: RequestedMetrics | None = None) -> dict[str, Any]:
    add_metrics(stored, requested or RequestedMetrics())
    known: dict[str, Any] = json.loads(stored.path("metrics.json").read_text(), parse_constant=pytest.fail)
    return known


def of_section(known: Mapping[str, Any], section: str) -> set[str]:
    return {key.partition("/")[2] for key in known["metrics"] if key.startswith(f"{section}/")}


def test_samples_with_texts_only(point: Callable[..., StoredPoint]) -> None:
    """A backend that reports neither tokens nor why a text ended: there are metrics of the texts."""
    samples = [
        replace(one, output_tokens=None, finish_reason=None, steps=None, prompt_tokens=None)
        for one in SAMPLES
    ]
    stored = point(samples)
    count = CustomMetric("mine.py:f", b"def f(generated): return len(generated.tokens) + 1")
    known = point_metrics_of(stored, RequestedMetrics((count,)))
    full = point_metrics_of(point(SAMPLES))
    assert not of_section(known, "probability")
    assert of_section(known, "text") == of_section(full, "text") - {"output_tokens", "eos_share", "cut_share"}
    assert all(
        known["metrics"][f"text/{name}"] == full["metrics"][f"text/{name}"]
        for name in of_section(known, "text")
    )
    assert known["metrics"]["own/f"] == 1
    assert known["per_prompt"].keys() >= {"text/words"}
    assert not known["per_prompt"].keys() & {
        "probability/mean_logprob",
        "text/output_tokens",
        "text/eos_share",
    }


def test_samples_with_token_and_logprob_only(point: Callable[..., StoredPoint]) -> None:
    """Tokens without ids, ranks, entropies and warped values: metrics of those are absent."""
    samples = []
    for one in SAMPLES:
        assert one.steps is not None
        samples.append(replace(one, steps=Steps(token=one.steps.token, logprob=one.steps.logprob)))
    stored = point(samples)
    source = (
        b"def f(generated): return sum(t.rank is t.entropy is t.token_id is None for t in generated.tokens)"
    )
    known = point_metrics_of(stored, RequestedMetrics((CustomMetric("mine.py:f", source),)))
    columns = stored.table("generations").column_names
    full = point_metrics_of(point(SAMPLES))
    assert of_section(known, "probability") == {"mean_logprob", "perplexity"}
    assert known["metrics"]["probability/mean_logprob"] == full["metrics"]["probability/mean_logprob"]
    assert of_section(known, "text") == of_section(full, "text")
    assert known["metrics"]["own/f"] == 7 / 3
    assert "perplexity" in columns
    assert not {"mean_entropy", "surprise_share", "not_top_share", "kept_mass"} & set(columns)


def test_tokens_are_known_of_some_samples_only(point: Callable[..., StoredPoint]) -> None:
    blank = replace(SAMPLES[1], output_tokens=None, steps=None, output="")
    known = point_metrics_of(point([SAMPLES[0], blank, SAMPLES[2]]))
    assert known["metrics"]["probability/mean_logprob"] == pytest.approx(-10 / 6)
    assert known["metrics"]["text/output_tokens"] == 3
    assert known["per_prompt"]["text/output_tokens"] == [2, 4]
