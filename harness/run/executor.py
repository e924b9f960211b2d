"""Who runs the groups of a plan: the protocol, and what a run of a job comes to."""

from __future__ import annotations

import json
import traceback
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from harness.config.secret_text import without_secrets
from harness.errors import one_line
from harness.plan.plan import Plan
from harness.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """What became of one job; plain values, so that it can come from another process.

    Attributes:
        job: index into the plan's jobs.
        status: `done` ran now; `reused` was in the store, its metrics perhaps computed now; `failed`.
        started, ended: seconds since the epoch; started is None where nothing had to be run.
        warnings: about the point, one line each.
        error: one line, of a failed job.
        traceback: of a failed job.
    """

    job: int
    status: Literal["done", "reused", "failed"]
    ended: float
    started: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    traceback: str | None = None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Outcome:
        """Read what `to_json` wrote."""
        return cls.of_facts(json.loads(line))

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Outcome:
        """Return it from its fields as JSON has them."""
        return cls(**{**facts, "warnings": tuple(facts["warnings"])})


def failure(job: int, error: BaseException, ended: float, started: float | None = None) -> Outcome:
    """Return the outcome of a job that an exception ended."""
    details = without_secrets("".join(traceback.format_exception(error)))
    reason = without_secrets(one_line(error))
    return Outcome(job, "failed", ended, started, error=reason, traceback=details)


class Executor(Protocol):
    """Runs the groups of a plan: here, in other processes, or on other machines."""

    def run(self, plan: Plan, progress: Progress) -> Generator[Outcome]:
        """Run every group, those it depends on first; yield each job's outcome once it is known.

        What a job came to is in the store when its outcome is yielded. Closing the generator ends what runs.
        """
