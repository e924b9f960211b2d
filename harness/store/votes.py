"""Votes of blind comparisons: files that a sweep's page saves, brought home to the sweep's `votes.json`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from harness.errors import ConfigError
from harness.store.files import check_readable, read_json, write_text
from harness.store.sweeps import Sweep

log = logging.getLogger(__name__)

FILE = "votes.json"
Choice = Literal["left", "right", "tie"]
_CURE = "save it again in compare.html (Prompts, Blind, Save votes)"


@dataclass(frozen=True)
class Vote:
    """Which of two outputs of a prompt somebody found better without knowing whose they were.

    Attributes:
        prompt_id, sample: which outputs.
        left, right: labels of their points.
        choice: the better one.
    """

    prompt_id: str
    sample: int
    left: str
    right: str
    choice: Choice


@dataclass(frozen=True)
class Ballot:
    """The votes of one reader of a page; `id` tells a later version of the same file."""

    sweep_id: str
    id: str
    votes: tuple[Vote, ...]


def read_ballot(name: str) -> Ballot:
    """Read a file of votes that a page saved.

    Raises:
        ConfigError: it is not there, or is something else.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError.of("votes", f"{name}: not found; {_CURE}")
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        check_readable(path, error)
        values = None
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(
        isinstance(values.get(key), kind)
        for key, kind in (("sweep_id", str), ("ballot", str), ("votes", list))
    ):
        raise ConfigError.of("votes", f"{name} is no file of votes; {_CURE}")
    votes = []
    for number, entry in enumerate(values["votes"], 1):
        vote = _vote(entry)
        if vote is None:
            raise ConfigError.of("votes", f"{name}: vote {number} is damaged; {_CURE}")
        votes.append(vote)
    return Ballot(values["sweep_id"], values["ballot"], tuple(votes))


def add_ballot(sweep: Sweep, ballot: Ballot, name: str) -> None:
    """Add the votes of a file to those of a sweep, in place of an earlier version of the same file.

    Raises:
        ConfigError: they are of another sweep, or of points that it does not have.
    """
    if ballot.sweep_id != sweep.sweep_id:
        raise ConfigError.of(
            "votes",
            f"{name} is of sweep {ballot.sweep_id!r:.60}, not {sweep.sweep_id}; "
            f"harness report votes={name} finds its sweep by itself",
        )
    labels = {point.label for point in sweep.points}
    for vote in ballot.votes:
        for label in (vote.left, vote.right):
            if label not in labels:
                raise ConfigError.of("votes", f"{name}: {label!r:.200} is no run of this sweep; {_CURE}")
    ballots = {**_ballots(sweep.folder), ballot.id: ballot.votes}
    entries = {key: [asdict(vote) for vote in votes] for key, votes in ballots.items() if votes}
    write_text(sweep.folder / FILE, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def known_votes(folder: Path) -> tuple[Vote, ...]:
    """Return the votes that were brought home to the sweep of this folder."""
    return tuple(vote for votes in _ballots(folder).values() for vote in votes)


def _ballots(folder: Path) -> dict[str, Sequence[Vote]]:
    entries = read_json(folder / FILE)
    if isinstance(entries, dict):
        read = {key: [_vote(entry) for entry in some] for key, some in entries.items() if _is_list(some)}
        found = {key: [vote for vote in votes if vote] for key, votes in read.items()}
        if len(read) == len(entries) and all(len(found[key]) == len(read[key]) for key in read):
            return {key: tuple(votes) for key, votes in found.items()}
    if (folder / FILE).exists():
        log.warning("%s is damaged; the votes in it are left out", folder / FILE)
    return {}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _vote(entry: Any) -> Vote | None:
    """Return the vote; None where the entry is something else."""
    if not isinstance(entry, Mapping):
        return None
    texts = [entry.get(key) for key in ("prompt_id", "left", "right", "choice")]
    sample = entry.get("sample")
    if not all(isinstance(text, str) for text in texts) or not isinstance(sample, int):
        return None
    prompt_id, left, right, choice = map(str, texts)
    if choice not in get_args(Choice) or left == right:
        return None
    return Vote(prompt_id, sample, left, right, choice)  # type: ignore[arg-type]
