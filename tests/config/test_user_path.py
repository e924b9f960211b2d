"""Every key, flag and variable that takes a path: one that cannot be looked up is one line for that key."""

import os

import pytest

from harness.cli.main import main
from harness.config.user_path import user_path
from harness.errors import ConfigError

KEYS = {
    "prompts.file": "prompts.file='{}.csv'",
    "model.id": "model.id='{}'",
    "model.chat_template": "model.chat_template='{}'",
    "drift.text": "drift.text='{}.txt'",
    "compare.metrics": "compare.metrics=['{}.py:f']",
    "tracking.uri": "tracking.uri='sqlite:///{}'",
    "hydra.searchpath": "hydra.searchpath=['{}']",
    "--config-dir": "--config-dir={}",
    "HARNESS_OUTPUTS": "",
}
PATHS = {
    "too long": "/" + "x" * 300,
    "nobody's home": "~nouser/x",
    "a loop of links": "loop/x",
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("key", KEYS)
def test_it_is_one_line(key, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    words = [KEYS[key].format(path)] if KEYS[key] else []
    if key == "HARNESS_OUTPUTS":
        monkeypatch.setenv(key, path)
    if key != "tracking.uri":
        words.append("tracking=off")
    given = [] if key == "model.id" else ["model=fable_tiny"]
    status = main(["check", *given, *words])
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert line.startswith(key)
    assert len(line) < 500


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_file(path):
    with pytest.raises(ConfigError, match="is not a file, nor a folder"):
        user_path("prompts.file", path)


def test_what_can_be_looked_up_is_left_to_the_caller(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("a", "~/x") == tmp_path / "x"
    (tmp_path / "x").write_text("")
    assert user_path("a", "~/x").is_file()
    assert user_path("a", str(tmp_path / "x" / "y")) == tmp_path / "x" / "y"
    with pytest.raises(ConfigError, match="null"):
        user_path("a", "a\0b")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_entered(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(ConfigError, match="Permission denied"):
        user_path("a", str(tmp_path / "closed" / "x"))
