"""The size of the pages, how long they take to write, and how soon a reader sees something in Chromium."""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = ((8, 100, 256), (50, 200, 256))
"""Points, prompts and tokens per output, of compare.html."""

LONG = (1, 10_000, 64)
"""The same of tokens.html."""

BUDGET_MB = 20.0
K = 5
VOCABULARY = 20_000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def words() -> list[str]:
    """Return made-up tokens, as many as a model's vocabulary has in use."""
    sounds = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "il")]
    return [f" {sounds[i % 112]}{sounds[(i // 112) % 112]}{i // 12_544 or ''}" for i in range(VOCABULARY)]


def write_points(outputs: Path, points: int, prompts: int, tokens: int) -> list[Any]:
    """Write points whose outputs share prefixes as strategies do; by column, since that is not measured."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.store.stored_point import StoredPoint

    vocabulary = np.array(words(), object)
    stored = []
    base = np.random.default_rng(0)
    common = base.zipf(1.3, (prompts, tokens)) % VOCABULARY
    count = prompts * tokens
    for index in range(points):
        rng = np.random.default_rng(index + 1)
        diverges = np.minimum(rng.geometric(0.02, prompts), tokens)
        after = rng.zipf(1.3, (prompts, tokens)) % VOCABULARY
        token = np.where(np.arange(tokens) < diverges[:, None], common, after).reshape(-1)
        tops = np.concatenate([token[:, None], rng.zipf(1.2, (count, K - 1)) % VOCABULARY], axis=1)
        chances = np.sort(rng.dirichlet(np.full(K + 1, 0.4), count), axis=1)[:, ::-1]
        logprobs = np.log(np.maximum(chances[:, :K], 1e-9)).astype(np.float32)
        warped = np.where(np.arange(K) < 3, logprobs * 1.1, -np.inf).astype(np.float32)
        offsets = np.arange(0, count * K + 1, K, dtype=np.int32)
        ids = [f"p{i:05d}" for i in range(prompts)]

        def lists(values: Any, offsets: Any = offsets) -> pa.Array:
            return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))

        steps = pa.table(
            {
                "prompt_id": np.repeat(np.array(ids, object), tokens),
                "sample": pa.array(np.zeros(count, np.int32)),
                "position": pa.array(np.tile(np.arange(tokens, dtype=np.int32), prompts)),
                "token_id": pa.array(token.astype(np.int64)),
                "token": vocabulary[token],
                "logprob": logprobs[:, 0],
                "warped_logprob": warped[:, 0],
                "rank": pa.array(np.ones(count, np.int32)),
                "entropy": rng.random(count, np.float32) * 3,
                "warped_entropy": rng.random(count, np.float32) * 2,
                "kept": pa.array(rng.integers(1, 400, count).astype(np.int32)),
                "kept_mass": rng.random(count, np.float32),
                "top_ids": lists(tops.astype(np.int64)),
                "top_tokens": lists(vocabulary[tops]),
                "top_logprobs": lists(logprobs),
                "top_warped_logprobs": lists(warped),
            }
        )
        point = StoredPoint(outputs / "points" / f"{index:012d}")
        point.write_table("tokens", steps)
        texts = ["".join(vocabulary[row]) for row in token.reshape(prompts, tokens)]
        point.write_table(
            "generations",
            pa.table(
                {
                    "prompt_id": ids,
                    "sample": pa.array(np.zeros(prompts, np.int32)),
                    "prompt": [f"Once upon a time, number {i}" for i in range(prompts)],
                    "output": texts,
                    "finish_reason": ["length"] * prompts,
                    "prompt_tokens": pa.array(np.full(prompts, 7, np.int32)),
                    "output_tokens": pa.array(np.full(prompts, tokens, np.int32)),
                    "seed": pa.array(np.zeros(prompts, np.int64)),
                    "mean_logprob": logprobs[:, 0].reshape(prompts, tokens).mean(1).astype(float),
                    "sequence_score": pa.array([None] * prompts, pa.float64()),
                }
            ),
        )
        gaps = [rng.lognormal(1, 0.2, 63).tolist() for _ in range(8)]
        pq.write_table(
            pa.table({"ttft_ms": rng.lognormal(2, 0.1, 8), "itl_ms": gaps}), point.path("timing.parquet")
        )
        values = {
            f"{section}/metric_{i}": float(rng.random()) for section in ("latency", "text") for i in range(10)
        }
        named = {"latency/itl_p50_ms": float(rng.random()), "text/distinct_2": float(rng.random())}
        point.write_json("metrics.json", {"metrics": values | named, "intervals": {}, "per_prompt": {}})
        keys = {f"key_{i}": i for i in range(60)}
        point.write_config({"requested": {"decoding": keys}, "effective": {"decoding": keys}})
        stored.append(point)
    return stored


def sweep_of(outputs: Path, stored: list[Any]) -> Any:
    """Return a sweep of these points."""
    from harness.store.sweeps import Sweep, SweepPoint

    points = tuple(
        SweepPoint(f"m/fp32/s{i}", p.point_id, "m", "fp32", "made_up", f"s{i}", {"decoding": i}, "done")
        for i, p in enumerate(stored)
    )
    return Sweep("pages", "0", outputs / "sweeps" / "pages-0", {}, points, 0.0)


def chromium() -> str | None:
    """Return the path of the system's browser."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def read(path: Path, browser: str) -> Iterator[str]:
    """Yield the seconds until the first view, and until another prompt is drawn."""
    from playwright.sync_api import sync_playwright

    drawn = (
        "async (from) => { for (;;) { const id = document.querySelector('#prompt-id').textContent;"
        " if (id && id !== from && document.querySelectorAll('#columns .text').length) return id;"
        " await new Promise(requestAnimationFrame); } }"
    )
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        page = running.new_page(viewport={"width": 1440, "height": 900})
        began = time.perf_counter()
        page.goto(path.as_uri(), wait_until="commit")
        page.wait_for_selector("#metrics tbody tr, #columns .text", state="attached")
        yield f"{time.perf_counter() - began:.2f} s to the first view"
        page.wait_for_load_state("load")
        if page.locator("#chart-entropy").count():
            page.locator("#chart-entropy").scroll_into_view_if_needed()
            page.wait_for_selector("#chart-entropy[data-drawn]")
            yield f"{time.perf_counter() - began:.2f} s to the charts"
            began = time.perf_counter()
            page.keyboard.press("2")
            shown = page.evaluate(drawn, "")
            yield f"{time.perf_counter() - began:.2f} s to the first prompt"
        else:
            shown = page.evaluate(drawn, "")
        took = []
        for _ in range(5):
            began = time.perf_counter()
            page.keyboard.press("j")
            shown = page.evaluate(drawn, shown)
            took.append(time.perf_counter() - began)
        yield f"{sorted(took)[2]:.2f} s to another prompt (the longest {max(took):.2f})"
        began = time.perf_counter()
        page.fill("#search", "nowhere-to-be-found")
        page.get_by_text("0 prompts", exact=True).wait_for(timeout=60_000)
        yield f"{time.perf_counter() - began:.2f} s to search all texts"
        running.close()


def report(name: str, html: str, seconds: float, folder: Path) -> None:
    """Print the lines of one page."""
    data = html[html.index('id="chunks">') :]
    megabytes = len(html) / 1e6
    print(f"{name}: {megabytes:.1f} MB, {megabytes - len(data) / 1e6:.2f} of them besides the data; ", end="")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"written in {seconds:.1f} s, {peak:.0f} MB peak memory so far")
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8", errors="replace")
    browser = chromium()
    if browser is None:
        print("  no Chromium here: how soon it is drawn was not measured")
        return
    for line in read(path, browser):
        print(f"  {line}")


def main() -> None:
    """Print the lines."""
    from harness.analysis.comparison import plain_comparison
    from harness.analysis.point_results import point_results
    from harness.report.page.compare_page import compare_html
    from harness.report.page.tokens_page import tokens_html

    print("\nPages")
    for points, prompts, tokens in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sweep = sweep_of(Path(folder), write_points(Path(folder), points, prompts, tokens))
            began = time.perf_counter()
            found = point_results(sweep)
            html = compare_html(sweep, found, budget_mb=BUDGET_MB, comparison=plain_comparison(found))
            seconds = time.perf_counter() - began
            report(
                f"compare.html, {points} points x {prompts} prompts x {tokens} tokens",
                html,
                seconds,
                Path(folder),
            )
    points, prompts, tokens = LONG
    with tempfile.TemporaryDirectory() as folder:
        (stored,) = write_points(Path(folder), points, prompts, tokens)
        began = time.perf_counter()
        html = tokens_html(stored, json.dumps({"prompts": prompts}))
        report(
            f"tokens.html, {prompts:,} prompts x {tokens} tokens",
            html,
            time.perf_counter() - began,
            Path(folder),
        )
