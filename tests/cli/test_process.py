"""Real processes: signals, completion, the layout of a wheel, and that nothing heavy is imported."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from harness.config.search_path import PACKAGE, built_in

SLOW_SWEEP = """
import sys, time, types
module = types.ModuleType("harness.run.sweep")
def run_sweep(points, name, files):
    print("running", flush=True)
    time.sleep(60)
module.run_sweep = run_sweep
sys.modules["harness.run.sweep"] = module
from harness.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def harness(*words, folder, check=True, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("words", [[], ["-m", "decoding=greedy,top_p"]])
def test_a_signal_ends_it_with_its_status(tmp_path, number, status, words):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SWEEP, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout.readline() == "running\n"
            process.send_signal(number)
            _, printed = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == status
    assert printed.strip() == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_composing_imports_nothing_heavy(tmp_path):
    code = """
import sys, types
module = types.ModuleType("harness.cli.show_plan")
module.show_check = lambda *of_the_sweep: 0
sys.modules["harness.cli.show_plan"] = module
from harness.cli.main import main
assert main(["check", "-m", "decoding=greedy,top_p"]) == 0
assert main(["help"]) == 0
heavy = {"torch", "transformers", "mlflow", "pyarrow", "bitsandbytes", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_help_takes_about_a_second(tmp_path):
    started = time.monotonic()
    assert "experiments" in harness("--help", folder=tmp_path).stdout
    # 0.8 s as measured; generous, since tests share the machine.
    assert time.monotonic() - started < 8


def test_completion(tmp_path):
    assert "complete -o nospace" in harness("-sc", "install=bash", folder=tmp_path).stdout
    for line, expected in (
        (
            "harness decoding=top_n",
            "decoding=top_n_sigma",
        ),
        ("harness plan experiments=de", "experiments=demo"),
        ("harness decoding.temperature_", "decoding.temperature_last="),
    ):
        assert (
            harness("-sc", "query=bash", folder=tmp_path, COMP_LINE=line).stdout.split() == expected.split()
        )


def test_a_closed_pipe_is_no_error(tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m harness --help | head -1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("harness:")


def test_in_the_layout_of_a_wheel_the_configs_are_found(tmp_path):
    """As in site-packages: conf and experiments inside the package, by pyproject's own mapping."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"conf": "harness/conf", "experiments": "harness/experiments"}
    site = tmp_path / "site"
    weights = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(PACKAGE, site / "harness", ignore=weights)
    for source, target in included.items():
        if not (site / target).exists():
            shutil.copytree(built_in(source), site / target)
    folder = tmp_path / "work"
    folder.mkdir()
    done = harness("--cfg", "job", "experiments=demo", folder=folder, PYTHONPATH=str(site))
    assert "max_new_tokens: 48" in done.stdout
    where = subprocess.run(
        [sys.executable, "-c", "from harness.config.search_path import conf_folder; print(conf_folder())"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(where.stdout.strip()) == site / "harness" / "conf"
    assert list(folder.iterdir()) == []
