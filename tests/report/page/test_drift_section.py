"""What the page holds of precision, read back byte by byte."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drifting_sweep import drifting_sweep
from fake_points import HOSTILE, PROMPTS, make_sweep
from read_page import Page

from harness.analysis.point_results import point_results
from harness.report.page.compare_page import compare_html
from harness.report.page.drift_columns import wide
from harness.store.stored_point import StoredPoint


def opened(sweep: Any, **options: Any) -> tuple[Page, dict[str, Any]]:
    page = Page(compare_html(sweep, point_results(sweep), **options))
    return page, page.data["precision"]


def read_piece(raw: bytes, words: list[tuple[int, str]]) -> list[dict[str, Any]]:
    """The blocks of a piece of drift."""
    line, _, rest = raw.partition(b"\n")
    at = 0

    def take(count: int, width: int) -> list[bytes]:
        nonlocal at
        planes = [rest[at + i * count : at + (i + 1) * count] for i in range(width)]
        at += count * width
        return [bytes(plane[i] for plane in planes) for i in range(count)]

    def whole(count: int) -> list[int]:
        return [int.from_bytes(value, "little") for value in take(count, 3)]

    def half(count: int) -> list[float]:
        return [struct.unpack("<e", value)[0] for value in take(count, 2)]

    def float3(count: int) -> list[float]:
        return [struct.unpack("<f", b"\0" + value)[0] for value in take(count, 3)]

    def named(count: int) -> list[tuple[int, str] | None]:
        return [None if place == 0xFFFFFF else words[place] for place in whole(count)]

    found = []
    for kind, whose, which, count, k in json.loads(line):
        block: dict[str, Any] = {"kind": kind, "point": whose, "which": which, "k": k}
        if kind == "reference":
            block |= {"token": named(count), "logprob": half(count), "rank": whole(count)}
            block["entropy"] = half(count)
            if k:
                block |= {"tops": named(count * k), "top_logprobs": half(count * k)}
        else:
            block |= {"kl": float3(count), "kl_error": float3(count), "change": float3(count)}
            block |= {"tv": half(count), "rank": whole(count), "entropy": half(count), "same": whole(count)}
            block |= {"tops": named(count * k), "top_logprobs": half(count * k)}
        found.append(block)
    assert at == len(rest)
    return found


def test_both_models_are_told_of_every_token(tmp_path: Path) -> None:
    sweep = drifting_sweep(tmp_path, tokens=6)
    page, told = opened(sweep)
    words = list(zip(*page.json(told["words"]), strict=True))
    texts = page.json(told["texts"])
    assert {name for name, _ in texts} == set(PROMPTS)
    labels = [point["label"] for point in page.data["points"]]
    assert {labels[place]: labels[reference] for place, reference, _ in told["drifted"]} == {
        f"m/{q}/{d}": f"m/fp32/{d}"
        for q in ("bnb_int8", "bnb_nf4")
        for d in ("greedy", "top_p", "temperature")
    }
    blocks = read_piece(page.piece(dict(texts)["chat"]), words)
    assert [block["kind"] for block in blocks].count("reference") == 3, "each reference's text is told once"
    nf4 = next(b for b in blocks if b["kind"] == "drift" and labels[b["point"]] == "m/bnb_nf4/greedy")
    own = blocks[nf4["which"]]
    assert labels[own["point"]] == "m/fp32/greedy"
    point_id = next(p.point_id for p in sweep.points if p.label == "m/fp32/greedy")
    rows = [r for r in StoredPoint(tmp_path / "points" / point_id).rows("tokens") if r["prompt_id"] == "chat"]
    assert own["token"] == [(row["token_id"], row["token"]) for row in rows]
    assert own["logprob"] == pytest.approx([row["logprob"] for row in rows], rel=1e-3)
    assert own["tops"][: own["k"]] == list(zip(rows[0]["top_ids"], rows[0]["top_tokens"], strict=True))
    assert nf4["kl"] == pytest.approx([0.01 * (i + 1) for i in range(len(rows))], rel=2e-5)
    assert nf4["change"] == pytest.approx([-0.001] * len(rows), rel=2e-3), "drift.parquet has single floats"
    assert nf4["rank"] == [row["rank"] + 1 for row in rows]
    assert nf4["same"] == [int(i % 2 == 0) for i in range(len(rows))]
    assert set(nf4["tv"]) == {0.25}
    assert set(nf4["entropy"]) == {1.25}
    assert nf4["tops"][:2] == [(rows[0]["token_id"], rows[0]["token"]), (77, HOSTILE["script"])]
    assert nf4["top_logprobs"][:2] == pytest.approx([math.log(0.5), math.log(0.25)], rel=1e-3)


def test_costs_and_the_worst_tokens(tmp_path: Path) -> None:
    sweep = drifting_sweep(tmp_path, tokens=6)
    page, told = opened(sweep)
    costs = {cost["quantization"]: cost for cost in told["costs"]}
    assert list(costs) == ["fp32", "bnb_int8", "bnb_nf4"]
    assert costs["fp32"]["reference"] is None
    nf4 = costs["bnb_nf4"]["cells"]
    assert nf4["memory/weights_mb"] == [2, None, None]
    means = [p.metrics["drift/kl_mean"] for p in point_results(sweep) if p.point.quantization == "bnb_nf4"]
    lows = [
        p.intervals["drift/kl_mean"][0] for p in point_results(sweep) if p.point.quantization == "bnb_nf4"
    ]
    assert nf4["drift/kl_mean"][0] == pytest.approx(sum(means) / 3, rel=1e-5)
    assert nf4["drift/kl_mean"][1] == pytest.approx(sum(lows) / 3, rel=1e-3)
    value, low, high = nf4["drift/perplexity_ratio"]
    assert value == pytest.approx(math.exp(0.001), rel=1e-5)
    assert low <= value <= high
    fp32, int8, four = page.json(told["worst"])
    assert fp32 == []
    for rows, scale in ((int8, 1e-5), (four, 0.01)):
        assert len(rows) == 20
        kls = [row["kl"] for row in rows]
        assert kls == sorted(kls, reverse=True)
        assert all(row["kl"] == pytest.approx(scale * (row["at"][1] + 1)) for row in rows)
    parts = next(p for p in told["costs"] if p["quantization"] == "bnb_nf4")["shares"]
    by_id: dict[tuple[str, int], list[float]] = {}
    for p in sweep.points:
        if p.quantization == "bnb_nf4":
            for row in StoredPoint(tmp_path / "points" / p.point_id).rows("drift"):
                by_id.setdefault((row["token"], row["token_id"]), []).append(row["kl"])
    whole = sum(map(sum, by_id.values()))
    for text, token_id, count, share in parts:
        assert (count, share) == (
            len(by_id[text, token_id]),
            pytest.approx(sum(by_id[text, token_id]) / whole, rel=5e-3),
        )
    assert parts[0][3] == pytest.approx(max(map(sum, by_id.values())) / whole, rel=5e-3)
    assert told["notes"] == []
    assert {place for place, *_ in told["agreements"]} == {1, 2}


def test_a_bounded_divergence_says_so(tmp_path: Path) -> None:
    _, told = opened(drifting_sweep(tmp_path, tokens=4, kl_error=0.002))
    assert told["notes"][0].startswith("KL is bounded, not exact, at bnb_nf4:")
    assert told["costs"][2]["cells"]["drift/kl_error"][0] == pytest.approx(0.002)


def test_the_worst_prompts_come_first_within_the_budget(tmp_path: Path) -> None:
    sweep = drifting_sweep(tmp_path, tokens=200)
    page, told = opened(sweep, budget_mb=0.3)
    texts = page.json(told["texts"])
    here = [at is not None for _, at in texts]
    assert True in here
    assert False in here
    assert here == sorted(here, reverse=True)
    assert sum(at[1] for _, at in texts if at) <= 300_000 / 3
    assert told["notes"] == [
        f"The drift of {here.count(False)} of 6 prompts did not fit this page; those that suffer most are "
        "here, drift.parquet holds all."
    ]
    most = [max(m for *_, rows in told["drifted"] for n, _, m in rows if n == i) for i in range(6)]
    assert most == sorted(most, reverse=True)


def test_without_drift_there_is_no_view(tmp_path: Path) -> None:
    _, told = opened(make_sweep(tmp_path, tokens=3))
    assert told is None


def test_three_bytes_keep_a_float() -> None:
    values = np.array([0.0, 1e-9, -3.25e-5, 0.1, 2.0, -math.inf, math.inf, math.nan, 3.4e38])
    planes = np.frombuffer(wide(values), np.uint8).reshape(3, -1)
    back = [struct.unpack("<f", bytes([0, *planes[:, i]]))[0] for i in range(len(values))]
    assert back[:5] == pytest.approx(values[:5].tolist(), rel=2**-16)
    assert back[5:7] == [-math.inf, math.inf]
    assert math.isnan(back[7])
