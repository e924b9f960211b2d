"""The reader of token tables, compared with the rows of a table: `pytest tests/store/test_token_table.py`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.store import token_table
from harness.store.stored_point import StoredPoint
from harness.store.tables import PROMPT_TOKENS, TOKENS
from harness.store.token_table import PROMPT, TokenVocabulary, collect_samples, read_blocks, read_samples

LENGTHS = {("a", 0): 3, ("a", 1): 1, ("b", 0): 12, ("c", 0): 4, ("c", 1): 5}


def rows_of(lengths: Mapping[tuple[str, int], int], k: int = 2) -> list[dict[str, Any]]:
    """Rows of tokens.parquet; each number names its row, alternatives differ in number."""
    rows: list[dict[str, Any]] = []
    for (prompt_id, sample), length in lengths.items():
        for position in range(length):
            at = len(rows)
            depth = k + (at == 7)
            rows.append(
                {
                    "prompt_id": prompt_id,
                    "sample": sample,
                    "position": position,
                    "token_id": at % 4,
                    "token": f"t{at % 3}",
                    "logprob": -float(at),
                    "rank": at,
                    "top_ids": list(range(depth)),
                    "top_tokens": [f"t{i}" for i in range(depth)],
                    "top_logprobs": [-float(i) for i in range(depth)],
                }
            )
    return rows


@pytest.fixture(params=[1, 4, 100])
def batch_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(token_table, "BATCH_ROWS", request.param)
    return int(request.param)


def stored_with(folder: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema = TOKENS) -> StoredPoint:
    stored = StoredPoint(folder)
    name = "prompt_tokens" if schema is PROMPT_TOKENS else "tokens"
    stored.write_table(name, pa.Table.from_pylist(list(rows), schema=schema))
    return stored


def test_samples_are_whole_across_batches(tmp_path: Path, batch_rows: int) -> None:
    rows = rows_of(LENGTHS)
    stored = stored_with(tmp_path, rows)
    names = ("position", "logprob", "rank", "token", "top_ids", "top_logprobs")
    samples = list(read_samples(stored, "tokens", names))
    assert [(one.prompt_id, one.sample, len(one)) for one in samples] == [
        (*key, length) for key, length in LENGTHS.items()
    ]
    for name in ("position", "logprob", "rank", "token"):
        assert [value for one in samples for value in one[name].tolist()] == [row[name] for row in rows]
    found = [[int(i) for i in entry if i >= 0] for one in samples for entry in one["top_ids"]]
    assert found == [row["top_ids"] for row in rows]
    found = [entry[~np.isnan(entry)].tolist() for one in samples for entry in one["top_logprobs"]]
    assert found == [row["top_logprobs"] for row in rows]
    assert samples[0]["rank"].dtype == np.int32
    assert samples[0]["top_logprobs"].dtype == np.float32


def test_tokens_are_indices_into_a_vocabulary(tmp_path: Path, batch_rows: int) -> None:
    rows = rows_of(LENGTHS)
    vocabulary = TokenVocabulary()
    samples = read_samples(
        stored_with(tmp_path, rows), "tokens", ("token", "top_tokens"), vocabulary=vocabulary
    )
    tokens, tops = zip(*((one["token"], one["top_tokens"]) for one in samples), strict=True)
    pairs = list(zip(vocabulary.ids, vocabulary.texts, strict=True))
    assert len(set(pairs)) == len(pairs)
    assert [pairs[i] for i in np.concatenate(tokens)] == [(row["token_id"], row["token"]) for row in rows]
    named = [[pairs[i] for i in entry if i >= 0] for block in tops for entry in block]
    assert named == [list(zip(row["top_ids"], row["top_tokens"], strict=True)) for row in rows]


def test_only_samples_of_some_prompts(tmp_path: Path, batch_rows: int) -> None:
    stored = stored_with(tmp_path, rows_of(LENGTHS))
    keys = [
        (one.prompt_id, one.sample)
        for block in read_blocks(stored, "tokens", ["rank"], prompts=["c", "a"])
        for one in block
    ]
    assert keys == [("a", 0), ("a", 1), ("c", 0), ("c", 1)]
    assert list(read_blocks(stored, "tokens", ["rank"], prompts=[])) == []
    blocks = list(read_blocks(stored, "tokens", ["rank"], prompts=["a"], most=4))
    assert sum(len(block.columns["rank"]) for block in blocks) == 4


def test_scattered_rows_are_joined_by_position(tmp_path: Path, batch_rows: int) -> None:
    rows = rows_of(LENGTHS)
    expected = collect_samples(read_blocks(stored_with(tmp_path / "a", rows), "tokens", ("position", "rank")))
    random.Random(0).shuffle(rows)
    stored = stored_with(tmp_path / "b", rows)
    found = collect_samples(read_blocks(stored, "tokens", ("position", "rank", "top_ids")))
    assert {key: one["rank"].tolist() for key, one in found.items()} == {
        key: one["rank"].tolist() for key, one in expected.items()
    }
    assert all(len(one) == LENGTHS[key] for key, one in found.items())


def test_what_is_not_known_is_nan(tmp_path: Path, batch_rows: int) -> None:
    """Null and missing columns; a server names alternatives by their texts only."""
    base = {"prompt_id": "a", "sample": 0}
    rows = [
        base
        | {"position": 0, "token": "x", "rank": None, "top_tokens": ["x", "y"], "top_logprobs": [-1.0, -2.0]},
        base | {"position": 1, "token": "y", "rank": 3, "top_tokens": None, "top_logprobs": None},
    ]
    vocabulary = TokenVocabulary()
    names = ("token", "logprob", "rank", "missing", "top_tokens", "top_logprobs", "top_warped_logprobs")
    (sample,) = read_samples(stored_with(tmp_path, rows), "tokens", names, vocabulary=vocabulary)
    assert np.isnan(sample["logprob"]).all()
    assert np.isnan(sample["missing"]).all()
    assert np.isnan(sample["rank"][0])
    assert sample["rank"][1] == 3
    assert set(zip(vocabulary.ids, vocabulary.texts, strict=True)) == {(-1, "x"), (-1, "y")}
    assert [vocabulary.texts[i] for i in sample["token"]] == ["x", "y"]
    assert sample["top_tokens"].tolist()[1] == [-1, -1]
    assert sample["top_logprobs"].tolist()[0] == [-1, -2]
    assert np.isnan(sample["top_logprobs"][1]).all()
    assert sample["top_warped_logprobs"].shape == (2, 2)
    assert np.isnan(sample["top_warped_logprobs"]).all()


def test_prompt_tokens_have_a_sample_index_of_their_own(tmp_path: Path) -> None:
    rows = [{"prompt_id": "a", "position": i, "token_id": i, "token": "x", "logprob": 0.0} for i in range(3)]
    stored = stored_with(tmp_path, rows, PROMPT_TOKENS)
    found = collect_samples(read_blocks(stored, "prompt_tokens", ("position", "rank", "top_ids", "kept")))
    assert list(found) == [("a", PROMPT)]
    assert found["a", PROMPT]["top_ids"].shape == (3, 0)
    assert np.isnan(found["a", PROMPT]["kept"]).all()


def test_a_table_without_rows_and_none_at_all(tmp_path: Path) -> None:
    stored = stored_with(tmp_path, [])
    assert list(read_samples(stored, "tokens", ("token", "top_ids"))) == []
    assert list(read_samples(stored, "drift", ("token",))) == []
