"""A comparison made up for tests of the page: every record filled in, no statistics behind it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.answer import Answer
from harness.analysis.comparison import Cell, Comparison, Difference, Effect, Front, plain_comparison
from harness.analysis.point_results import PointResult
from harness.analysis.sentence import Link, Sentence, listed


def made_up_comparison(points: Sequence[PointResult]) -> Comparison:
    """Return a comparison with the first point that has metrics; others are higher, lower or equal."""
    plain = plain_comparison(points)
    labels = [p.point.label for p in points if p.metrics]
    cells: dict[str, dict[str, Cell]] = {}
    for index, label in enumerate(labels):
        cells[label] = {}
        for metric in plain.metrics:
            if metric.key not in plain.cells[label].keys() & plain.cells[labels[0]].keys():
                cells[label] |= {k: cell for k, cell in plain.cells[label].items() if k == metric.key}
                continue
            value = plain.cells[label][metric.key].value
            mean = value - plain.cells[labels[0]][metric.key].value
            word = ("no significant difference", "higher", "lower")[index % 3]
            verdict = None
            if metric.better and word != "no significant difference":
                verdict = "better" if metric.better == word else "worse"
            difference = Difference(mean, mean - 1, mean + 1, 0.01, word, verdict, index % 2 == 1, 6)  # type: ignore[arg-type]
            constant = metric.key == "memory/process_peak_mib"
            low, high = (None, None) if constant else (value - 0.5, value + 0.5)
            cells[label][metric.key] = Cell(value, low, high, difference if index else None, constant)
    prompt_ids = list(dict.fromkeys(i for p in points for i in p.prompt_ids))
    share = {prompt_id: (i + 1) / len(prompt_ids) for i, prompt_id in enumerate(prompt_ids)}
    sentences = (
        Sentence("Best dist-2", (*listed(labels[1:2]), " with dist-2 0.91."), "0.85 to 0.95", "good"),
        Sentence("Equally good", (*listed(labels[:3]), " are not significantly worse.")),
        Sentence("Look at", ("prompt ", Link("prompt", prompt_ids[-1]), ".")),
        Sentence("Failed", ("2 of 6 runs, one of them ", Link("point", "of another sweep"), "."), tone="bad"),
    )
    models = {"fable_tiny": 2.0, "fable_small": 2.5}
    axes = ("latency/itl_p50_ms", "text/distinct_2", "probability/mean_logprob")
    return Comparison(
        baseline=labels[0],
        metrics=plain.metrics,
        cells=cells,
        effects=(
            Effect("latency/itl_p50_ms", "decoding", 0.75, 1.5, {"greedy": 2.0, "top_p": 3.5}),
            Effect("latency/itl_p50_ms", "model", 0.2, 0.5, models, ("prompts",)),
        ),
        front=Front(axes, tuple(labels[:2]), tuple(labels)),
        noise={"latency/itl_p50_ms": 0.125},
        disagreement=dict(sorted(share.items(), key=lambda pair: -pair[1])),
        self_bleu=dict.fromkeys(prompt_ids, 41.5),
        approximate=True,
        notes=("one thing could not be compared",),
        answer=Answer("text/distinct_2", labels[1], tuple(labels[:1]), sentences),
        tested="what is tested",
    )
