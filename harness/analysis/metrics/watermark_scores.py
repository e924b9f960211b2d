"""The scores of watermark detectors for an output, from its token ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from harness.analysis.metrics.watermark_law import gumbel_values, kgw_values, synthid_values
from harness.config.watermark_kinds import MarkDetector
from harness.decoding.green_numpy import GreenTokens
from harness.decoding.keyed_noise import KeyedNoise
from harness.decoding.synthid_numpy import bits_of_output


def watermark_scores(detector: MarkDetector, output: Sequence[int]) -> dict[str, float]:
    """Return what a detector finds in the ids of an output, by column; nothing in one that is too short."""
    if detector.name == "kgw":
        green = _green_tokens(detector)
        size = green.window
        windows = list({tuple(output[at : at + size]) for at in range(len(output) - size + 1)})
        ratio = detector.value["kgw_greenlist_ratio"]
        return kgw_values(sum(green.are_green(windows)), len(windows), ratio)
    if detector.name == "synthid":
        return synthid_values(bits_of_output(detector.value, output))
    return gumbel_values(KeyedNoise(detector.value).detected(output))


@lru_cache(maxsize=8)
def _green_tokens(detector: MarkDetector) -> GreenTokens:
    return GreenTokens(detector.value, detector.vocabulary)
