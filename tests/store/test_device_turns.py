"""Processes on one device: several work at once, one times alone, and nobody waits for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from harness.store.device_turns import SharedDevice

WORKER = """
import sys, time
from pathlib import Path
from harness.store.device_turns import SharedDevice

turns, log = SharedDevice(Path(sys.argv[1]), "cpu"), Path(sys.argv[1]) / f"log-{sys.argv[2]}"
events = []
with turns.working():
    for batch in range(12):
        turns.pause()
        start = time.monotonic()
        time.sleep(0.02)
        events.append(("work", start, time.monotonic()))
        if batch % 4 == 3:
            with turns.alone(lambda: None):
                start = time.monotonic()
                time.sleep(0.02)
                events.append(("time", start, time.monotonic()))
log.write_text("\\n".join(f"{kind} {start} {end}" for kind, start, end in events))
"""


def test_who_times_is_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WORKER, str(tmp_path)]
    running = [subprocess.Popen([*words, str(number)]) for number in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    spans = []
    for number in range(3):
        for line in (tmp_path / f"log-{number}").read_text().splitlines():
            kind, start, end = line.split()
            spans.append((kind, float(start), float(end), number))
    timed = [span for span in spans if span[0] == "time"]
    assert len(timed) == 9
    for _, start, end, number in timed:
        beside = [one for one in spans if one[3] != number and one[1] < end and start < one[2]]
        assert not beside, "somebody worked or timed meanwhile"
    work = sorted(span for span in spans if span[0] == "work")
    assert any(one[3] != two[3] and one[1] < two[2] and two[1] < one[2] for one in work for two in work), (
        "else they work side by side"
    )


def test_a_process_that_dies_frees_the_device(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from harness.store.device_turns import SharedDevice\n"
        "turns = SharedDevice(Path(sys.argv[1]), 'cpu')\n"
        "with turns.working(), turns.alone(lambda: None):\n    print('alone', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"alone\n"
        other.kill()
    started = time.monotonic()
    with SharedDevice(tmp_path, "cpu").working():
        assert time.monotonic() - started < 10
