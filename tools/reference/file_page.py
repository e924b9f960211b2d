"""The page of the files: what a run writes, and where."""

from __future__ import annotations

from harness.artifacts.registry import ARTIFACTS
from tools.reference.markdown import code, prose, sentence, table

OF_A_POINT = {
    "generations.parquet": "samples: prompt, output, and every metric of a sample",
    "requests.parquet": "of a server: what it told of each sample",
    "times.parquet": "when each sample was decoded",
    "tokens.parquet": "every generated token with its probabilities and alternatives",
    "prompt_tokens.parquet": "the prompt's own tokens, scored",
    "timing.parquet": "the timed repetitions of the latency pass",
    "cost.json": "what the model costs: latencies, memory, energy, or why there is none",
    "noise.json": "how far logprobs and latencies move when the same strategy is run again",
    "drift.parquet": "along the reference's outputs: KL divergence and the rest, token by token",
    "drift_text.parquet": "the same along a fixed text",
    "drift.json": "their summary, and the most affected tokens",
    "speculation.json": "by draft: forward passes by block length, acceptance",
    "speculation_timing.json": "by draft: what the speculative loop took",
    "config.yaml": "the config, requested beside effective",
    "environment.json": "versions, device, what was measured of the model",
    "metrics.json": "the point's metrics, also by prompt",
}
_OF_A_SWEEP = {
    "compare.html": "the comparison: one page, without a server and without a net",
    "summary.csv": "a row per point: its choices and all metrics",
    "comparison.csv": "a row per point and metric: value, interval, difference from the baseline",
    "tokens/*.html": "a token view of each point",
    "llm_perf.csv": "with `harness report --llm-perf`: what each model costs, in the leaderboard's columns",
    "plan.json": "the points and what became of them",
    "points.json": "with a launcher: the points as workers read them",
    "workers/": "with a launcher: a log of each worker",
    "selection.json, selected/": "with compare.select: the chosen samples, curves by their number; tables",
    "expectations.json": "with expect: what was found",
    "drift.json": "with several precisions: what each costs",
    "feedback.json, votes.json": "what people said of outputs, in MLflow or in blind comparisons",
    "multirun.yaml": "Hydra's record of the command; of a single point .hydra/",
}
_OF_THE_STORE = {
    "points/<point_id>/": "one folder per point, addressed by what its samples depend on",
    "sweeps/<name>-<sweep_id>/": "one folder per sweep, which refers to its points",
    "costs/": "what models cost, by what that depends on; points have copies",
    "exports/": "graphs of backend=onnx and backend=openvino, exported from checkpoints; can be removed",
    "drift/": "distributions of references (drift.budget_mb)",
    "answers/": "answers of servers that are paid for and not stored yet",
    "mlflow.db, mlartifacts/": "MLflow's store, unless tracking.uri or MLFLOW_TRACKING_URI names another",
}
_HEAD = """\
# Files of the store

Everything that a run writes is under `outputs/` of the working folder; `HARNESS_OUTPUTS` names another
folder. What an address is, and why nothing is decoded twice, is [explained
here](../explanation/storage.md).

"""


def file_page() -> str:
    """Return the page."""
    rows = []
    for artifact in ARTIFACTS:
        for name in artifact.files:
            rows.append((code(name), prose(sentence(OF_A_POINT[name])), code(artifact.name)))
    rows.append(
        (code("parts.json"), "Which artifacts are complete, what was requested of them, checksums.", "")
    )
    return _HEAD + "\n\n".join(
        [
            "## The store",
            _two(_OF_THE_STORE),
            "## A point",
            "*Artifact* is the entry of `parts.json` that the file belongs to. The tables' columns are "
            "[on a page of their own](tables.md).",
            table(("file of `points/<point_id>/`", "holds", "artifact"), rows),
            "## A sweep",
            _two(_OF_A_SWEEP),
        ]
    )


def _two(files: dict[str, str]) -> str:
    rows = ((", ".join(map(code, name.split(", "))), prose(sentence(text))) for name, text in files.items())
    return table(("file", "holds"), rows)
