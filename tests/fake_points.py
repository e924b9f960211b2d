"""Stored points and sweeps with generated data, consistent with the columns of real ones."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.store.records import Sample, Steps
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep, SweepPoint, sweep_id_of
from harness.store.tables import generations_table, tokens_table

HOSTILE = {
    "script": "</script><script>document.title='OWNED'</script><img src=x onerror=alert(1)>",
    "comment": "<!-- <script> ]]> &lt; &#60; {{ 7*7 }} {% raw %} ${x} `${alert(1)}`",
    "bidi": "user\u202eevil\u202c \u2066inside\u2069 \u200b\u200f\ufeff\u00ad end",
    "control": "nul\x00 bell\x07 esc\x1b[31mred\x1b[0m del\x7f c1\x85 tab\t line\nnext\r ls\u2028ps\u2029",
    "replaced": "a surrogate that was \ufffd\ufffd replaced, \U000e0041 tag, \ue000 own, z\u0351\u0352algo",
    "long": "x" * 10_000,
    "scripts": "漢字かな交じり文 العربية עברית हिन्दी 👩‍👩‍👧 naïve",
    "": "",
}

TALE = """the a old lighthouse keeper counted seven grey gulls before fog came in and nobody believed him .
, when she opened letter it was already raining over harbour so they walked home slowly without speaking"""
WORDS = TALE.split()


def tokens_of(text: str, rng: random.Random) -> list[str]:
    """Split a text into token-like strings that join to it."""
    tokens, at = [], 0
    while at < len(text):
        size = rng.choice((1, 2, 3, 5, 8)) if len(text) < 5000 else 50
        tokens.append(text[at : at + size])
        at += size
    return tokens


def story(length: int, rng: random.Random) -> list[str]:
    """Return random text as token strings."""
    tokens = []
    for _ in range(length):
        word = rng.choice(WORDS)
        tokens.append(word if word in ".," else f" {word}")
        if rng.random() < 0.03:
            tokens.append("\n")
    return tokens


def step(token_id: int, token: str, rng: random.Random, k: int, greedy: bool) -> dict[str, Any]:
    """Return one step, whose columns are consistent with a distribution over twelve tokens."""
    flat = rng.random() ** 2 * 2.5
    weights = sorted((math.exp(-i * (2.8 - flat)) for i in range(12)), reverse=True)
    exact = [w / sum(weights) for w in weights]
    index = 0 if greedy else rng.choices(range(12), exact)[0]
    kept = 6 if not greedy else 12
    index = min(index, kept - 1)
    mass = sum(exact[:kept])
    warped = [p / mass if i < kept else 0.0 for i, p in enumerate(exact)]
    ids = [1000 + i for i in range(12)]
    ids[index] = token_id
    tops = [f" {rng.choice(WORDS)}" for _ in range(12)]
    tops[index] = token

    def entropy(ps: Sequence[float]) -> float:
        return -sum(p * math.log(p) for p in ps if p)

    return {
        "token_id": token_id,
        "token": token,
        "logprob": math.log(exact[index]),
        "warped_logprob": math.log(warped[index]),
        "rank": index + 1,
        "entropy": entropy(exact),
        "warped_entropy": entropy(warped),
        "kept": kept,
        "kept_mass": mass,
        "top_ids": ids[:k],
        "top_tokens": tops[:k],
        "top_logprobs": [math.log(p) for p in exact[:k]],
        "top_warped_logprobs": [math.log(p) if p else -math.inf for p in warped[:k]],
    }


def write_point(
    outputs: Path,
    point_id: str,
    texts: Mapping[str, str | None],
    *,
    samples: int = 1,
    tokens: int = 40,
    k: int = 5,
    seed: int = 0,
    greedy: bool = False,
    metrics: Mapping[str, float] | None = None,
    decoding: str = "top_p",
    scores: bool = False,
) -> StoredPoint:
    """Write a point's folder.

    Args:
        outputs: the outputs folder.
        point_id: name of the point's folder.
        texts: prompt text by prompt id; None: the prompt's text is its id and the output is `HOSTILE[id]`.
        samples: samples per prompt.
        tokens: length of random outputs.
        k: recorded alternatives per step.
        seed: of the random data.
        greedy: always take the most likely token.
        metrics: added to those that are computed.
        decoding: its name in config.yaml.
        scores: write prompt_tokens.parquet too.
    """
    rng = random.Random(f"{point_id}/{seed}")
    folder = outputs / "points" / point_id
    folder.mkdir(parents=True, exist_ok=True)
    generations, steps, prompt_rows = [], [], []
    for prompt_id, prompt in texts.items():
        for sample in range(samples):
            strings = tokens_of(HOSTILE[prompt_id], rng) if prompt is None else story(tokens, rng)
            output = "".join(strings)
            finish = rng.choice(("eos", "length"))
            rows = [step(10 + i, token, rng, k, greedy) for i, token in enumerate(strings)]
            if finish == "eos":
                rows.append(step(2, "", rng, k, greedy))
            steps += [
                {"prompt_id": prompt_id, "sample": sample, "position": i, **row} for i, row in enumerate(rows)
            ]
            logprobs = [row["logprob"] for row in rows]
            generations.append(
                {
                    "prompt_id": prompt_id,
                    "sample": sample,
                    "prompt": prompt_id if prompt is None else prompt,
                    "output": output,
                    "finish_reason": finish,
                    "prompt_tokens": 7,
                    "output_tokens": len(rows),
                    "seed": 2**60 + sample,
                    "mean_logprob": sum(logprobs) / len(logprobs) if logprobs else math.nan,
                    "sequence_score": None,
                    "distinct_2": 0.8,
                }
            )
        for position, token in enumerate(tokens_of(prompt or prompt_id, rng)):
            row = step(5 + position, token, rng, 1, greedy)
            prompt_rows.append(
                {
                    "prompt_id": prompt_id,
                    "position": position,
                    **{n: row[n] for n in ("token_id", "token", "entropy")},
                    "logprob": row["logprob"] if position else math.nan,
                    "rank": row["rank"] if position else 0,
                }
            )
    write_table(generations, folder / "generations.parquet")
    write_table(steps, folder / "tokens.parquet")
    if scores:
        write_table(prompt_rows, folder / "prompt_tokens.parquet")
    write_table(
        [
            {
                "prompt_id": next(iter(texts)),
                "repeat": 0,
                "batch_size": 1,
                "ttft_ms": 5.0,
                "decode_ms": 30.0,
                "output_tokens": 16,
                "itl_ms": [2.0] * 15,
            }
        ],
        folder / "timing.parquet",
    )
    means = [
        [
            g["mean_logprob"]
            for g in generations
            if g["prompt_id"] == prompt_id and not math.isnan(g["mean_logprob"])
        ]
        for prompt_id in texts
    ]
    all_metrics = {
        "probability/mean_logprob": sum(s["logprob"] for s in steps) / max(1, len(steps)),
        "text/distinct_2": round(rng.uniform(0.5, 0.99), 3),
        "text/output_tokens": len(steps) / len(generations),
        "latency/ttft_p50_ms": round(rng.uniform(3, 30), 2),
        "latency/itl_p50_ms": round(rng.uniform(1, 9), 2),
        "latency/itl_p95_ms": round(rng.uniform(9, 15), 2),
        "throughput/tokens_per_s": round(rng.uniform(80, 700), 1),
        "memory/process_peak_mib": 812.0,
        **(metrics or {}),
    }
    metrics_json = {
        "metrics": all_metrics,
        "intervals": {
            "latency/ttft_p50_ms": [
                all_metrics["latency/ttft_p50_ms"] * 0.9,
                all_metrics["latency/ttft_p50_ms"] * 1.2,
            ]
        },
        "per_prompt": {
            "prompt_id": list(texts),
            "probability/mean_logprob": [sum(m) / len(m) if m else None for m in means],
            "text/output_tokens": [
                float(sum(g["output_tokens"] for g in generations if g["prompt_id"] == prompt_id))
                for prompt_id in texts
            ],
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics_json), encoding="utf-8")
    (folder / "config.yaml").write_text(
        json.dumps(
            {
                "label": point_id,
                "requested": {
                    "model": {"name": "fable_small", "id": "fable_small", "revision": None},
                    "prompts": {"name": "made_up", "items": list(texts.values())},
                    "decoding": {"name": decoding, "do_sample": not greedy, "top_p": 0.9},
                    "generation": {"max_new_tokens": tokens, "seed": 0, "stop_strings": ["[end]"]},
                },
                "effective": {"top_k": 0, "top_p": 0.9, "temperature": 1.0},
            }
        ),
        encoding="utf-8",
    )
    (folder / "environment.json").write_text(
        json.dumps({"versions": {"torch": "2.13"}, "device": {"kind": "cpu"}}), encoding="utf-8"
    )
    return StoredPoint(folder)


def write_samples(outputs: Path, point_id: str, samples: Sequence[Sample]) -> StoredPoint:
    """Write a point that holds these samples, whatever is null in them; without metrics."""
    stored = StoredPoint(outputs / "points" / point_id)
    stored.write_table("generations", generations_table(samples))
    stored.write_table("tokens", tokens_table(samples))
    stored.write_config({"requested": {"decoding": {"name": "greedy"}}, "effective": {}})
    stored.write_json("environment.json", {})
    stored.write_json("metrics.json", {"metrics": {}, "intervals": {}, "per_prompt": {}})
    return stored


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a parquet file of these rows; without rows, with the columns `prompt_id` and `sample`."""
    if rows:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        pq.write_table(
            pa.table({"prompt_id": pa.array([], pa.string()), "sample": pa.array([], pa.int64())}), path
        )


TEXTS_ONLY = Sample(
    "texts", 0, "It was", " a dark night", prompt_tokens=None, output_tokens=None, finish_reason=None, seed=0
)
"""A sample of a backend that gives texts only."""

CHOSEN_ONLY = Sample(
    "chosen", 0, "It was", " dark", prompt_tokens=None, output_tokens=2, finish_reason="length", seed=0,
    steps=Steps(logprob=np.array([-0.5, -1.5], np.float32), token=(" da", "rk")),
)  # fmt: skip
"""A sample of a backend that gives the chosen tokens' texts and logprobs only."""

PROMPTS = {
    "seed-1": "It was a dark and stormy",
    "seed-2": "A list of colors: red, blue",
    "seed-3": "Portugal is",
    "seed-4": "The science lecture",
    "email": "Can you write an email explaining what an LLM is?",
    "chat": "<|user|>How many helicopters can a human eat in one sitting?<|assistant|>",
}


def make_sweep(
    outputs: Path,
    models: Sequence[str] = ("fable_tiny", "fable_small"),
    quantizations: Sequence[str] = ("fp32",),
    decodings: Sequence[str] = ("greedy", "top_p", "temperature"),
    failed: str | None = None,
    texts: Mapping[str, str | None] = PROMPTS,
    tracking: Mapping[str, Any] | None = None,
    **options: Any,
) -> Sweep:
    """Save a sweep over a product and its points; `failed` names the decoding whose points failed."""
    points, clock = [], 1_790_000_000.0
    for model in models:
        for quantization in quantizations:
            for decoding in decodings:
                point_id = f"{model}{quantization}{decoding}".replace("_", "")[:24].ljust(12, "0")
                varied: dict[str, Any] = {"model": model} if len(models) > 1 else {}
                varied |= {"decoding": decoding} if len(decodings) > 1 else {}
                is_failed = decoding == failed
                if not is_failed:
                    write_point(
                        outputs, point_id, texts, greedy=decoding == "greedy", decoding=decoding, **options
                    )
                points.append(
                    SweepPoint(
                        label=f"{model}/{quantization}/{decoding}",
                        point_id=point_id,
                        model=model,
                        quantization=quantization,
                        prompts="made_up",
                        decoding=decoding,
                        varied=varied,
                        status="failed" if is_failed else "done",
                        error="decoding.top_h: [red]no[/red] such \x1b[31mthing" if is_failed else None,
                        traceback="Traceback (most recent call last):\n  ...\nValueError: no"
                        if is_failed
                        else None,
                        warnings=("prompts.chat: the model has a template that is not used",)
                        if model == models[0]
                        else (),
                        started=clock,
                        ended=clock + 2.5,
                    )
                )
                clock += 3
    sweep_id = sweep_id_of(p.point_id for p in points)
    sweep = Sweep(
        name="demo",
        sweep_id=sweep_id,
        folder=outputs / "sweeps" / f"demo-{sweep_id}",
        tracking=dict(tracking or {"enabled": True, "uri": None, "experiment": "harness", "traces": False}),
        points=tuple(points),
        started=1_790_000_000.0,
    )
    sweep.save()
    return sweep
