"""Votes of blind comparisons: read from a page's file, kept with the sweep, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_points import make_sweep

from harness.errors import ConfigError
from harness.store.sweeps import Sweep
from harness.store.votes import FILE, Vote, add_ballot, known_votes, read_ballot


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return make_sweep(tmp_path / "outputs", models=("m",))


def vote(**changes: Any) -> dict[str, Any]:
    made = {"prompt_id": "chat", "sample": 0, "left": "m/fp32/greedy", "right": "m/fp32/top_p"}
    return made | {"choice": "left"} | changes


def saved(sweep: Sweep, votes: Any, path: Path, **changes: Any) -> str:
    content = {"sweep_id": sweep.sweep_id, "ballot": "b1", "votes": votes} | changes
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_a_later_version_of_a_file_replaces_the_earlier_one(sweep: Sweep, tmp_path: Path) -> None:
    for votes in ([vote()], [vote(), vote(prompt_id="email", choice="tie")]):
        name = saved(sweep, votes, tmp_path / "v.json")
        add_ballot(sweep, read_ballot(name), name)
    other = saved(sweep, [vote(choice="right")], tmp_path / "w.json", ballot="b2")
    add_ballot(sweep, read_ballot(other), other)
    assert known_votes(sweep.folder) == (
        Vote("chat", 0, "m/fp32/greedy", "m/fp32/top_p", "left"),
        Vote("email", 0, "m/fp32/greedy", "m/fp32/top_p", "tie"),
        Vote("chat", 0, "m/fp32/greedy", "m/fp32/top_p", "right"),
    )
    emptied = saved(sweep, [], tmp_path / "v.json")
    add_ballot(sweep, read_ballot(emptied), emptied)
    assert [one.choice for one in known_votes(sweep.folder)] == ["right"]


@pytest.mark.parametrize(
    "entry",
    [
        vote(choice="both"), vote(left=1), vote(sample="0"), vote(right="m/fp32/greedy"), "text", None,
        {k: v for k, v in vote().items() if k != "prompt_id"},
    ],
)  # fmt: skip
def test_a_damaged_vote_is_named_and_nothing_is_kept(sweep: Sweep, tmp_path: Path, entry: Any) -> None:
    name = saved(sweep, [vote(), entry], tmp_path / "v.json")
    with pytest.raises(ConfigError, match="vote 2 is damaged"):
        read_ballot(name)
    assert known_votes(sweep.folder) == ()


def test_files_that_do_not_fit_are_refused_in_one_line(sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    with pytest.raises(ConfigError, match="not found"):
        read_ballot(str(path))
    for text in ("no JSON", "[]", '{"votes": []}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="no file of votes"):
            read_ballot(str(path))
    name = saved(sweep, [vote(left="x\x1b[2J/y")], path)
    with pytest.raises(ConfigError, match="no run of this sweep"):
        add_ballot(sweep, read_ballot(name), name)
    name = saved(sweep, [vote()], path, sweep_id="0123456789")
    with pytest.raises(ConfigError, match="is of sweep '0123456789'"):
        add_ballot(sweep, read_ballot(name), name)


def test_damaged_votes_are_left_out(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    assert known_votes(sweep.folder) == ()
    (sweep.folder / FILE).write_text('{"b1": [3]}', encoding="utf-8")
    assert known_votes(sweep.folder) == ()
    assert "is damaged" in caplog.text
