"""What another decoding strategy would have made of a stored sample, from what was recorded of its steps.

The model is not there: of each step the likeliest tokens are known, the chosen one, and the mass of the
rest. Some questions that decides and some it does not, so every answer has three values, every number is an
interval where it is not exact, and only what is certain is claimed.
"""

from harness.results.replay.choice import Outcome, Reason
from harness.results.replay.steps import StoredSteps, read_steps
from harness.results.replay.taken import taken_columns
from harness.results.replay.walk import Replayed, ReplayedSample, Replayer, summaries
from harness.results.replay.warp import Warp, known_warp, warp_of

__all__ = [
    "Outcome",
    "Reason",
    "Replayed",
    "ReplayedSample",
    "Replayer",
    "StoredSteps",
    "Warp",
    "known_warp",
    "read_steps",
    "summaries",
    "taken_columns",
    "warp_of",
]
