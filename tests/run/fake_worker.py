"""A worker without a model: `fake_worker.py SWEEP --group K ...` does what FAKE_WORKER says of its group.

FAKE_WORKER is the path of a JSON file: `groups`, the jobs of each, and `acts`, what each start of a group, or
of a share of one (as `0/2`), does in turn (the last one again and again). Each start is noted in `starts`
beside that file.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

scenario = Path(os.environ["FAKE_WORKER"])
facts = json.loads(scenario.read_text())
sweep, number = Path(sys.argv[1]), sys.argv[3]
words = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
name = words.get("--shard", number)
without = [int(index) for index in words.get("--without", "").split(",") if index]
jobs = [index for index in facts["groups"][int(number)] if index not in without]
with scenario.with_name("starts").open("a") as starts:
    print(name, words.get("--without", "-"), os.environ.get("CUDA_VISIBLE_DEVICES", "-"), file=starts)
count = [line.split()[0] for line in scenario.with_name("starts").read_text().splitlines()].count(name)
acts = facts["acts"].get(name, ["all"])
act = acts[min(count, len(acts)) - 1]


def tell(**what):
    print(json.dumps(what), flush=True)


def done(job, status="done"):
    tell(outcome={"job": job, "status": status, "ended": 2.0, "started": 1.0, "warnings": [], "error": None,
                  "traceback": None})  # fmt: skip


def die():
    os.kill(os.getpid(), signal.SIGKILL)


print("a library that prints")
tell(stage={"label": "loading weights", "total": 100, "unit": "%"})
print("out of paper", file=sys.stderr, flush=True)
if act == "die loading":
    die()
if act == "disk":
    tell(error="outputs: /full cannot be written (No space left on device)")
    sys.exit(4)
if act == "refuse":
    tell(error="here is torch 1.0 (planned with 2.0); use one environment for all")
    sys.exit(2)
tell(stage={"label": "decoding 2 points together", "total": 10, "unit": "tokens"})
tell(done=5)
if act == "hang":
    time.sleep(60)
if act == "die":
    die()
if act == "keep and die":
    point = (
        sweep.parent.parent
        / "points"
        / json.loads((sweep / "points.json").read_text())["point_ids"][jobs[-1]]
    )
    (point / "partial").mkdir(parents=True, exist_ok=True)
    (point / "partial" / f"generations-{count:06d}.parquet").touch()
    die()
if act == "nothing":
    sys.exit()
if act == "reused":
    for job in jobs:
        done(job, "reused")
    sys.exit()
if act in ("slow", "slower"):
    time.sleep(0.5 if act == "slow" else 3)
done(jobs[0])
if act == "one and die":
    die()
for job in jobs[1:]:
    done(job)
