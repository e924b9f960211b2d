"""What `harness plan` says of the prompts once a point of the plan is stored."""

import subprocess
import sys

import pytest

from harness.cli.main import main
from harness.config.launcher import LAUNCHERS

BASE = ["model=fable_tiny", "prompts.limit=8", "generation.max_new_tokens=12", "timing=off", "tracking=off"]


def test_a_plan_says_which_differences_its_prompts_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["-m", *BASE, "decoding=greedy,top_p"]
    assert main(["plan", *sweep]) == 0
    assert "show differences" not in capsys.readouterr().out
    assert main([*BASE, "decoding=greedy"]) == 0
    capsys.readouterr()
    assert main(["plan", *sweep]) == 0
    one = " ".join(capsys.readouterr().out.split())
    assert "8 prompts show differences of " in one
    assert " and more in logprob" in one
    assert "an upper bound, by the spread of one stored run" in one
    assert main(sweep) == 0
    capsys.readouterr()
    assert main(["plan", *sweep]) == 0
    assert "by the spread of 1 pair of stored runs" in " ".join(capsys.readouterr().out.split())


def test_a_plan_of_an_empty_store_imports_no_analysis_of_results() -> None:
    code = (
        "import sys; from harness.cli.main import main; "
        f"main(['plan', *{BASE!r}]); "
        "sys.exit('harness.analysis.detectable' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plan_shows_how_groups_go_to_workers(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", *BASE, "quantization=bf16,fp16,fp32", "decoding=greedy", "hydra/launcher=local_gpus"]
    assert main(["plan", *words, "hydra.launcher.workers=4"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "4 workers (CPU): 3 groups, at most 2 at once; fable_tiny bf16 after fable_tiny fp32; "
        "fable_tiny fp16 after fable_tiny fp32; others pause while latency is measured" in shown
    )
    assert main(["plan", *words]) == 0
    assert "1 worker (CPU): 3 groups, at most 1 at once" in " ".join(capsys.readouterr().out.split())
    for command in ("plan", "check"):
        assert main([command, *words, "hydra.launcher.gpus=[99]"]) == 2
        assert "hydra.launcher.gpus: no GPU 99 here" in capsys.readouterr().err


def test_launchers_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, section in LAUNCHERS.items():
        for asked in (name, f"hydra/launcher={name}"):
            assert main(["help", asked]) == 0
            shown = capsys.readouterr().out
            for key in section.all_keys():
                assert f"hydra.launcher.{key}" in shown.split()
            assert max(map(len, shown.splitlines())) <= 110
    for asked in ("hydra/launcher", "launchers"):
        assert main(["help", asked]) == 0
        shown = capsys.readouterr().out
        assert all(f"hydra/launcher={name} " in shown for name in ("basic", *LAUNCHERS))
        assert len(shown.splitlines()) < 20
    assert main(["help", "hydra.launcher.retries"]) == 0
    assert "how often a worker that died is started again" in " ".join(capsys.readouterr().out.split())


def test_a_plan_shows_which_groups_are_shared(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", *BASE, "quantization=bf16,fp32", "decoding=greedy", "engine.shards=3"]
    launcher = ["hydra/launcher=local_gpus", "hydra.launcher.workers=2"]
    for command in ("plan", "check"):
        assert main([command, *words, *launcher]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "each group is shared by up to 2 workers, as they are idle; engine.shards=3, but" in shown
        assert main([command, *words, *launcher[:1]]) == 0
        assert "no group is shared, since there is one worker" in " ".join(capsys.readouterr().out.split())
    for changed, line in (
        ([], "engine.shards=3: no effect without a launcher; add hydra/launcher=local_gpus"),
        ([*launcher, "engine.fresh=true"], "engine.shards=3: no effect with engine.fresh=true"),
    ):
        assert main(["check", *words, *changed]) == 2
        assert line in capsys.readouterr().err
    assert main(["check", *words[:-1], "engine.shards=2,3", *launcher]) == 2
    assert "engine.shards: differs between the points" in capsys.readouterr().err
