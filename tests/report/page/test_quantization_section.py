"""The drift of quantizations in the page, read back byte by byte."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drifting_sweep import drifting_sweep
from fake_points import HOSTILE, PROMPTS, make_sweep
from read_page import Page, read_columns

from harness.analysis.point_results import point_results
from harness.report.page.columns import f24
from harness.report.page.compare_page import compare_html
from harness.store.stored_point import StoredPoint


def opened(sweep: Any, **options: Any) -> tuple[Page, dict[str, Any]]:
    page = Page(compare_html(sweep, point_results(sweep), **options))
    return page, page.data["quantization"]


def test_every_token_has_the_values_of_both_models(tmp_path: Path) -> None:
    sweep = drifting_sweep(tmp_path, tokens=6)
    page, section = opened(sweep)
    texts = page.json(section["prompts"])
    assert {name for name, _ in texts} == set(PROMPTS)
    labels = [point["label"] for point in page.data["points"]]
    assert {labels[point]: labels[reference] for point, reference, _ in section["drifted"]} == {
        f"m/{q}/{d}": f"m/fp32/{d}"
        for q in ("bnb_int8", "bnb_nf4")
        for d in ("greedy", "top_p", "temperature")
    }
    blocks = read_columns(page.chunk(dict(texts)["chat"]), page.vocabulary(section["vocabulary"]))
    assert [block["kind"] for block in blocks].count("reference") == 3, (
        "each reference's text is in the page once"
    )
    nf4 = next(b for b in blocks if b["kind"] == "drift" and labels[b["point"]] == "m/bnb_nf4/greedy")
    reference = blocks[nf4["reference"]]
    assert labels[reference["point"]] == "m/fp32/greedy"
    point_id = next(p.point_id for p in sweep.points if p.label == "m/fp32/greedy")
    rows = [r for r in StoredPoint(tmp_path / "points" / point_id).rows("tokens") if r["prompt_id"] == "chat"]
    assert reference["token"] == [(row["token_id"], row["token"]) for row in rows]
    assert reference["logprob"] == pytest.approx([row["logprob"] for row in rows], rel=1e-3)
    tops = list(zip(rows[0]["top_ids"], rows[0]["top_tokens"], strict=True))
    assert reference["top_tokens"][: reference["k"]] == tops
    assert nf4["kl"] == pytest.approx([0.01 * (i + 1) for i in range(len(rows))], rel=2e-5)
    assert nf4["logprob_change"] == pytest.approx([-0.001] * len(rows), rel=2e-3), (
        "drift.parquet has single floats"
    )
    assert nf4["drift_rank"] == [row["rank"] + 1 for row in rows]
    assert nf4["same_top"] == [int(i % 2 == 0) for i in range(len(rows))]
    assert set(nf4["total_variation"]) == {0.25}
    assert set(nf4["drift_entropy"]) == {1.25}
    assert nf4["drift_top_tokens"][:2] == [(rows[0]["token_id"], rows[0]["token"]), (77, HOSTILE["script"])]
    assert nf4["drift_top_logprobs"][:2] == pytest.approx([math.log(0.5), math.log(0.25)], rel=1e-3)


def test_costs_and_the_worst_tokens(tmp_path: Path) -> None:
    sweep = drifting_sweep(tmp_path, tokens=6)
    page, section = opened(sweep)
    costs = {cost["quantization"]: cost for cost in section["costs"]}
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
    fp32, int8, four = page.json(section["worst"])
    assert fp32 == []
    for rows, scale in ((int8, 1e-5), (four, 0.01)):
        assert len(rows) == 20
        kls = [row["kl"] for row in rows]
        assert kls == sorted(kls, reverse=True)
        assert all(row["kl"] == pytest.approx(scale * (row["at"][1] + 1)) for row in rows)
    shares = next(p for p in section["costs"] if p["quantization"] == "bnb_nf4")["shares"]
    by_id: dict[tuple[str, int], list[float]] = {}
    for p in sweep.points:
        if p.quantization == "bnb_nf4":
            for row in StoredPoint(tmp_path / "points" / p.point_id).rows("drift"):
                by_id.setdefault((row["token"], row["token_id"]), []).append(row["kl"])
    all_kl = sum(map(sum, by_id.values()))
    for text, token_id, count, share in shares:
        assert (count, share) == (
            len(by_id[text, token_id]),
            pytest.approx(sum(by_id[text, token_id]) / all_kl, rel=5e-3),
        )
    assert shares[0][3] == pytest.approx(max(map(sum, by_id.values())) / all_kl, rel=5e-3)
    assert section["notes"] == []
    assert {index for index, *_ in section["agreements"]} == {1, 2}


def test_a_bounded_divergence_says_so(tmp_path: Path) -> None:
    _, section = opened(drifting_sweep(tmp_path, tokens=4, kl_error=0.002))
    assert section["notes"][0].startswith("KL is bounded, not exact, for bnb_nf4:")
    assert section["costs"][2]["cells"]["drift/kl_error"][0] == pytest.approx(0.002)


def test_the_worst_prompts_come_first_within_the_budget(tmp_path: Path) -> None:
    sweep = drifting_sweep(tmp_path, tokens=200)
    page, section = opened(sweep, budget_mb=0.3)
    texts = page.json(section["prompts"])
    here = [at is not None for _, at in texts]
    assert True in here
    assert False in here
    assert here == sorted(here, reverse=True)
    assert sum(at[1] for _, at in texts if at) <= 300_000 / 3
    assert section["notes"] == [
        f"The drift of {here.count(False)} of 6 prompts did not fit into this page, which has the most "
        "affected ones; drift.parquet contains all."
    ]
    most = [max(m for *_, rows in section["drifted"] for n, _, m in rows if n == i) for i in range(6)]
    assert most == sorted(most, reverse=True)


def test_without_drift_there_is_no_view(tmp_path: Path) -> None:
    _, section = opened(make_sweep(tmp_path, tokens=3))
    assert section is None


def test_three_bytes_keep_a_float() -> None:
    values = np.array([0.0, 1e-9, -3.25e-5, 0.1, 2.0, -math.inf, math.inf, math.nan, 3.4e38])
    planes = np.frombuffer(f24(values), np.uint8).reshape(3, -1)
    back = [struct.unpack("<f", bytes([0, *planes[:, i]]))[0] for i in range(len(values))]
    assert back[:5] == pytest.approx(values[:5].tolist(), rel=2**-16)
    assert back[5:7] == [-math.inf, math.inf]
    assert math.isnan(back[7])
