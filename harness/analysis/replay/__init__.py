"""What stored samples would be under another decoding strategy, from their recorded steps alone.

There is no model: of each step the likeliest tokens are known, the chosen one, and the mass of the rest. That
decides some choices and leaves others open. So every answer is yes, no or undecided, every number is an
interval unless it is exact, and only what is certain is claimed.
"""

from harness.analysis.replay.choices import Outcome, Reason
from harness.analysis.replay.replayer import (
    ReplayedSample,
    ReplayedSteps,
    changed_texts,
    replay_steps,
    summarize,
)
from harness.analysis.replay.stored_steps import StoredSteps, read_steps, vocabulary_of
from harness.analysis.replay.warp import Warp, supported_warp, warp_of

__all__ = [
    "Outcome",
    "Reason",
    "ReplayedSample",
    "ReplayedSteps",
    "StoredSteps",
    "Warp",
    "changed_texts",
    "read_steps",
    "replay_steps",
    "summarize",
    "supported_warp",
    "vocabulary_of",
    "warp_of",
]
