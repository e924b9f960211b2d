"""Measure a point's noise floor: its strategy decoded again, and alone, on the model that is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.engine.tree import Text
from harness.results.latency import latency_metrics
from harness.results.metrics.compute import sample_values
from harness.results.noise import changes, mean_metrics
from harness.results.records import Repetition
from harness.results.tables import Told, generations_table


def noise_floor(
    texts: Sequence[Text],
    decode: Callable[[Sequence[Text]], list[Told]],
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
    alone = [told for text in texts for told in decode([text])]
    floor = changes(_metrics(together), [_metrics(again), _metrics(alone)])
    if timed:
        first, second = (latency_metrics(repetitions)[0] for repetitions in (timed, time_again()))
        floor |= changes(first, [second])
    return floor


def _metrics(told: Sequence[Told]) -> dict[str, float]:
    rows = generations_table(told).to_pylist()
    return mean_metrics(
        [sample_values(row, vars(one.sample.steps)) for row, one in zip(rows, told, strict=True)]
    )
