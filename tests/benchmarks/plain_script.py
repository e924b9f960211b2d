"""The script that people write: load once, `generate` per strategy, compute the numbers, log the runs.

`python -m tests.benchmarks.plain_script MODEL PROMPTS TRACKING_URI STRATEGIES NEW_TOKENS THREADS`; computes
per token what the harness records, with whole-tensor operations, and writes the same files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOP_K = 5


def token_rows(tokenizer: Any, output: Any, ids: torch.Tensor) -> list[list[dict[str, Any]]]:
    """Return the rows of each prompt's tokens: logprobs, rank, entropies, kept tokens, alternatives."""
    steps: list[list[dict[str, Any]]] = [[] for _ in ids]
    for position, (logits, scores) in enumerate(zip(output.logits, output.scores, strict=True)):
        log_p, log_q = logits.float().log_softmax(-1), scores.float().log_softmax(-1)
        p, q, kept = log_p.exp(), log_q.exp(), scores > float("-inf")
        tokens = ids[:, position, None]
        chosen = log_p.gather(1, tokens)
        top = log_p.topk(TOP_K)
        columns = {
            "token_id": tokens[:, 0],
            "logprob": chosen[:, 0],
            "warped_logprob": log_q.gather(1, tokens)[:, 0],
            "rank": (log_p > chosen).sum(-1) + 1,
            "entropy": -(p * log_p).sum(-1),
            "warped_entropy": -(q * log_q.masked_fill(~kept, 0)).sum(-1),
            "kept": kept.sum(-1),
            "kept_mass": (p * kept).sum(-1),
            "top_ids": top.indices,
            "top_logprobs": top.values,
            "top_warped_logprobs": log_q.gather(1, top.indices),
        }
        lists = {name: column.tolist() for name, column in columns.items()}
        for row, steps_of_row in enumerate(steps):
            values_of_row = {name: values[row] for name, values in lists.items()}
            values_of_row["token"] = tokenizer.decode(values_of_row["token_id"])
            values_of_row["top_tokens"] = [tokenizer.decode(token) for token in values_of_row["top_ids"]]
            steps_of_row.append({"position": position, **values_of_row})
    return steps


def main() -> None:
    """Run the script."""
    folder, prompts_file, uri, strategies_file, new_tokens, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    prompts = [json.loads(line) for line in Path(prompts_file).read_text().splitlines()]
    strategies: dict[str, dict[str, Any]] = json.loads(Path(strategies_file).read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    inputs = tokenizer([prompt["prompt"] for prompt in prompts], return_tensors="pt", padding=True)
    width = inputs["input_ids"].shape[1]
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("plain")
    with mlflow.start_run(run_name="sweep"):
        for name, fields in strategies.items():
            with mlflow.start_run(run_name=name, nested=True):
                torch.manual_seed(0)
                started = time.perf_counter()
                with torch.inference_mode():
                    output = model.generate(
                        **inputs,
                        max_new_tokens=int(new_tokens),
                        min_new_tokens=int(new_tokens),
                        return_dict_in_generate=True,
                        output_scores=True,
                        output_logits=True,
                        **{"do_sample": False, "top_k": 0 if fields.get("do_sample") else None, **fields},
                    )
                seconds = time.perf_counter() - started
                ids = output.sequences[:, width:]
                tokens = token_rows(tokenizer, output, ids)
                generations = []
                for prompt, row, steps in zip(prompts, ids, tokens, strict=True):
                    logprobs = [step["logprob"] for step in steps]
                    generations.append(
                        {
                            "prompt_id": prompt["id"],
                            "output": tokenizer.decode(row, skip_special_tokens=True),
                            "output_tokens": len(steps),
                            "mean_logprob": sum(logprobs) / len(logprobs),
                        }
                    )
                mlflow.log_params({"model": folder, "max_new_tokens": new_tokens, **fields})
                mlflow.log_metrics(
                    {
                        "seconds": seconds,
                        "tokens_per_s": ids.numel() / seconds,
                        "mean_logprob": sum(one["mean_logprob"] for one in generations) / len(generations),
                        "mean_entropy": sum(s["entropy"] for one in tokens for s in one) / ids.numel(),
                    }
                )
                for step, one in enumerate(generations):
                    mlflow.log_metric("prompt/mean_logprob", one["mean_logprob"], step=step)
                mlflow.log_table(
                    {key: [one[key] for one in generations] for key in generations[0]}, "generations.json"
                )
                with tempfile.TemporaryDirectory() as scratch:
                    rows = [
                        {"prompt_id": prompt["id"], **step}
                        for prompt, steps in zip(prompts, tokens, strict=True)
                        for step in steps
                    ]
                    pq.write_table(pa.Table.from_pylist(rows), f"{scratch}/tokens.parquet")
                    pq.write_table(pa.Table.from_pylist(generations), f"{scratch}/generations.parquet")
                    mlflow.log_artifacts(scratch)


if __name__ == "__main__":
    main()
