"""What a command has imported when it decodes its first token: nothing that only its end needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LATER = [
    "pandas",
    "scipy",
    "sklearn",
    "sacrebleu",
    "bokeh",
    "mlflow",
    "bitsandbytes",
    "torchao",
    "matplotlib",
]
CODE = f"""
import os, sys
from harness.backends.hf.target import HfTarget
honest = HfTarget.open
def generate(*_, **__):
    print(*[name for name in {LATER} if name in sys.modules], flush=True)
    os._exit(0)
def opened(*arguments):
    backend = honest(*arguments)
    type(backend).generate = generate
    return backend
HfTarget.open = opened
from harness.cli.main import main
main(sys.argv[1:])
"""


def test_nothing_of_the_report_and_of_mlflow(tmp_path: Path) -> None:
    words = ["model=fable_tiny", "quantization=fp32", "decoding=greedy", "prompts.limit=1"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == []
