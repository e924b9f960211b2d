"""What holds of every stored point, whatever the architecture: the tables of whole sweeps, read back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from unusual_models import CONFIGS, REFUSED, make_unusual_model

from harness.cli.main import main
from harness.store.stored_point import StoredPoint

FEW = ["Rwkv", "FalconMamba", "RecurrentGemma", "MiniMax", "OpenAIGPT", "Reformer", "Bamba", "Qwen3Next"]
REST = [name for name in CONFIGS if name not in {*FEW, *REFUSED}]

MAY_BE_INFINITE = {"top_warped_logprobs", "warped_logprob"}
"""Log-probabilities of tokens that the warped distribution gives no mass."""
MAY_BE_NAN = {("prompt_tokens", "logprob"), ("prompt_tokens", "entropy")}
"""Of a prompt's first token, which has no context."""


def run(folders: Sequence[Path], *more: str) -> int:
    ids = ",".join(map(str, folders))
    prompts = "prompts.items=[It was a dark and stormy,'A list of colors: red, blue',Portugal]"
    return main(
        ["-m", f"model.id={ids}", "decoding=greedy,top_p,beam", "decoding.temperature=null", prompts,
         "generation.max_new_tokens=6", "generation.ignore_eos=true", "record.prompt_logprobs=true",
         "quantization=fp32", "timing=off", "compare.noise=false", "tracking=off", "engine.threads=1", *more]
    )  # fmt: skip


def points(outputs: Path) -> dict[str, StoredPoint]:
    return {path.parent.name: StoredPoint(path.parent) for path in (outputs / "points").glob("*/parts.json")}


def numbers(table: pa.Table) -> dict[str, list[float]]:
    """Return the columns of floating-point numbers, lists flattened, nulls left out."""
    found = {}
    for name in table.column_names:
        column = table[name]
        while pa.types.is_list(column.type):
            column = pc.list_flatten(column)
        if pa.types.is_floating(column.type):
            found[name] = column.drop_null().to_pylist()
    return found


def check_point(point: StoredPoint) -> None:
    decoding = point.config()["effective"]["decoding"]
    for table in ("generations", "tokens", "prompt_tokens", "times"):
        for name, values in numbers(point.table(table)).items():
            for value in values:
                allowed = (math.isinf(value) and name in MAY_BE_INFINITE) or (table, name) in MAY_BE_NAN
                assert math.isfinite(value) or allowed, (point.folder, table, name, value)
    for value in point.metrics()["metrics"].values():
        assert math.isfinite(value)
    tokens: dict[Any, list[dict[str, Any]]] = {}
    for row in point.rows("tokens"):
        tokens.setdefault((row["prompt_id"], row["sample"]), []).append(row)
    for sample in point.rows("generations"):
        rows = tokens[sample["prompt_id"], sample["sample"]]
        assert "".join(row["token"] for row in rows) == sample["output"]
        assert len(rows) == sample["output_tokens"]
        greedy = not decoding["do_sample"] and decoding["num_beams"] == 1
        for row in rows if greedy else ():
            assert row["logprob"] == pytest.approx(row["top_logprobs"][0], abs=1e-5)
            assert row["rank"] == 1
        mean = sum(row["logprob"] for row in rows) / len(rows)
        assert sample["mean_logprob"] == pytest.approx(mean, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("names", [FEW, pytest.param(REST, marks=pytest.mark.slow)], ids=["few", "rest"])
def test_stored_points_keep_what_they_promise_whatever_the_batch(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make_unusual_model(tmp_path / name, name) for name in names]
    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / "together"))
    assert run(folders) == 0
    together = points(tmp_path / "together")
    assert len(together) == 3 * len(folders)
    for point in together.values():
        check_point(point)
    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / "alone"))
    assert run(folders, "engine.batch_rows=1") == 0
    alone = points(tmp_path / "alone")
    assert alone.keys() == together.keys()
    for name, point in together.items():
        other = alone[name]
        columns = ["prompt_id", "sample", "token_id"]
        assert point.columns("tokens", columns) == other.columns("tokens", columns)
        mine, theirs = numbers(point.table("tokens")), numbers(other.table("tokens"))
        for column in ("logprob", "entropy", "top_logprobs"):
            assert mine[column] == pytest.approx(theirs[column], abs=1e-3), column
