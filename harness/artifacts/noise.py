"""Measure a point's noise floor: its strategy decoded again, and alone, on the model that is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.analysis.latency import latency_metrics
from harness.analysis.noise_floor import changes, mean_metrics
from harness.artifacts.compute_metrics import sample_values
from harness.backends.backend import Request
from harness.store.records import Repetition, Sample
from harness.store.tables import generations_table


def noise_floor(
    texts: Sequence[Request],
    decode: Callable[[Sequence[Request]], list[Sample]],
    timed: Sequence[Repetition],
    time_again: Callable[[], Sequence[Repetition]],
) -> dict[str, float]:
    """What running a strategy again, or alone, changes.

    Args:
        texts: some of the point's, a text a prompt.
        decode: decodes texts together.
        timed: the point's repetitions; none where it was not timed.
        time_again: the same latency pass once more.

    Returns:
        The largest absolute change by metric key.
    """
    together, again = decode(texts), decode(texts)
    alone = [sample for text in texts for sample in decode([text])]
    floor = changes(_metrics(together), [_metrics(again), _metrics(alone)])
    if timed:
        first, second = (latency_metrics(repetitions)[0] for repetitions in (timed, time_again()))
        floor |= changes(first, [second])
    return floor


def _metrics(samples: Sequence[Sample]) -> dict[str, float]:
    rows = generations_table(samples).to_pylist()
    steps = [{} if one.steps is None else one.steps.numbers() for one in samples]
    return mean_metrics([sample_values(row, known) for row, known in zip(rows, steps, strict=True)])
