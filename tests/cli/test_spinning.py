"""How long OpenMP's threads wait in a loop: what the command sets, and what it leaves to its user."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")
PRINT = "import os, atexit; atexit.register(lambda: print([os.environ.get(n) for n in {names}]));"
COMMAND = "import sys; sys.argv = ['harness', '--version']; from harness.cli.main import main; main()"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["5000", "1", None]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", "1", None]),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, [None, None, "PASSIVE"]),
    ],
    ids=["nothing", "a count", "a policy"],
)
def test_the_command_bounds_what_its_user_did_not(given: dict[str, str], found: list[str | None]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | given
    code = PRINT.format(names=NAMES) + COMMAND
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(found)
