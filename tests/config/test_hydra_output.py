"""The files are those that Hydra itself writes when enabled, without what is secret."""

import pytest
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from harness.config import hydra_app as app
from harness.config import overrides
from harness.config.groups import ConfigGroups
from harness.config.search_path import CONFIG_NAME


@pytest.fixture
def files(monkeypatch, tmp_path):
    """`files("decoding=greedy")`: what would be written of this command, by path."""
    monkeypatch.chdir(tmp_path)
    # The harness itself refuses the folders that Hydra must be given here.
    monkeypatch.setattr(overrides, "HYDRA_KEYS", ("hydra",))

    def of(*words):
        found = {}

        def action(points, name, files):
            found.update(files(tmp_path / "sweeps" / "it"))
            return 0

        assert app.run(words, action) == 0
        return found

    return of


@pytest.fixture
def hydra(files):
    """Hydra itself, to run the same command with a task that does nothing."""
    return Hydra("harness", ConfigGroups().loader)


def nothing(config):
    return 0


def test_of_a_single_run(files, hydra, tmp_path):
    words = ["decoding=beam", "prompts.file=x.txt", "hydra.output_subdir=.hydra", "hydra.run.dir=own"]
    found = files(*words)
    assert sorted(found) == [".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"]
    implied = ["prompts=custom", "prompts.items=null"]
    hydra.run(CONFIG_NAME, nothing, [*implied, *words, "hydra.mode=RUN"])
    for path, text in found.items():
        by_hydra = (tmp_path / "own" / path).read_text()
        assert text == by_hydra.replace(str(tmp_path / "own"), str(tmp_path / "sweeps" / "it"))
    assert OmegaConf.create(found[".hydra/config.yaml"]).decoding.num_beams == 5
    assert "prompts.file=x.txt" in OmegaConf.create(found[".hydra/overrides.yaml"])


def test_of_a_sweep(files, hydra, tmp_path):
    words = ["decoding=greedy,top_p", "hydra.sweep.dir=own"]
    found = files("-m", *words)
    hydra.multirun(CONFIG_NAME, nothing, [*words, "hydra.mode=MULTIRUN"])
    assert found == {"multirun.yaml": (tmp_path / "own" / "multirun.yaml").read_text()}
    assert "decoding=greedy,top_p" in OmegaConf.create(found["multirun.yaml"]).hydra.overrides.task


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_no_secrets(files, flags, monkeypatch):
    monkeypatch.setenv("WORD", "hush-hush")
    found = files(
        *flags,
        "tracking.uri=postgresql://ada:hush-hush@db:5432/mlflow",
        "+hydra.job.env_set.HF_TOKEN=hush-hush",
        "model.revision=${oc.env:WORD}",
    )
    assert not any("hush" in text for text in found.values())
    whole = "".join(found.values())
    assert "postgresql://***@db:5432/mlflow" in whole
    assert "${oc.env:WORD}" in whole
    assert "HF_TOKEN: '***'" in whole
