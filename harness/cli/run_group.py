"""`harness run-group FILE`: run one group of a written plan in this process.

Executors that run groups in other processes start it. Each outcome is a line of JSON on standard output
(`run.executor.Outcome`); progress and messages go to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError
from harness.report.console import SafeConsole
from harness.run.display import Display
from harness.run.group_file import read_group
from harness.run.local import run_group as run_jobs


def run_group(words: Sequence[str]) -> int:
    """Run the group in the file that `words` name; returns the exit status, 1 when a point failed.

    Raises:
        ConfigError: no file was named, or it cannot be run here.
    """
    if len(words) != 1:
        raise ConfigError.of("run-group", "takes one file, written by an executor: harness run-group FILE")
    plan, group = read_group(Path(words[0]))
    failed = False
    with Display(SafeConsole(stderr=True), len(group.jobs)) as display:
        for outcome in run_jobs(plan, group, display):
            print(outcome.to_json(), flush=True)
            failed |= outcome.status == "failed"
    return 1 if failed else 0
