"""What another decoding strategy would have made of a stored sample, from what was recorded of its steps.

The model is not there: of each step the likeliest tokens are known, the chosen one, and the mass of the
rest. Some questions that decides and some it does not, so every answer has three values, every number is an
interval where it is not exact, and only what is certain is claimed.
"""

from harness.analysis.replay.choices import Outcome, Reason, Seeds
from harness.analysis.replay.replayer import Replayed, ReplayedSample, Replayer, summaries
from harness.analysis.replay.stored_steps import (
    StoredSteps,
    first_steps,
    read_steps,
    steps_of,
    vocabulary_of,
    whole_samples,
)
from harness.analysis.replay.taken import taken_columns
from harness.analysis.replay.warp import Warp, known_warp, unlikeness, warp_of

__all__ = [
    "Outcome",
    "Reason",
    "Replayed",
    "ReplayedSample",
    "Replayer",
    "Seeds",
    "StoredSteps",
    "Warp",
    "first_steps",
    "known_warp",
    "read_steps",
    "steps_of",
    "summaries",
    "taken_columns",
    "unlikeness",
    "vocabulary_of",
    "warp_of",
    "whole_samples",
]
