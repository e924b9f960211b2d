"""The rows of a comparison that hold the samples which `compare.select` chooses, one for each selector."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.analysis.metrics.extracted_answer import AnswerPattern
from harness.analysis.point_results import PointResult, point_result
from harness.analysis.selection.chosen_tables import write_chosen
from harness.analysis.selection.prompt_candidates import Candidates
from harness.analysis.selection.read_candidates import read_candidates
from harness.analysis.selection.selectors import BY_NAME
from harness.errors import HarnessError
from harness.store.stored_point import StoredPoint
from harness.store.sweeps import Sweep

FOLDER = "selected"
"""In the folder of a sweep, a folder for each run and selector."""

KEY = "compare.select"


@dataclass(frozen=True)
class Choice:
    """What was chosen of a run's samples.

    Attributes:
        candidates: the samples of each prompt, by its id.
        selectors: by name, the index of the sample that each chose of each prompt, in their order.
    """

    candidates: Mapping[str, Candidates]
    selectors: Mapping[str, tuple[int, ...]]

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return the numbers of the chosen samples by selector and prompt id."""
        return {
            name: dict(zip(self.candidates, chosen, strict=True)) for name, chosen in self.selectors.items()
        }


@dataclass(frozen=True)
class Selection:
    """What was chosen of a sweep's samples.

    Attributes:
        points: the results of the sweep's points, each followed by those of its chosen samples.
        choices: by label of the run.
        notes: what reports must say of it.
    """

    points: tuple[PointResult, ...]
    choices: Mapping[str, Choice]
    notes: tuple[str, ...] = ()


def selection_of(sweep: Sweep, points: Sequence[PointResult]) -> Selection:
    """Return the points with a row for each selector after each run that has several samples per prompt.

    What they hold is written into the sweep's folder, `selected/`; what is there of an earlier selection and
    not of this one is removed.
    """
    names = [name for name in sweep.compare.get("select") or () if name in BY_NAME]
    pattern = AnswerPattern(sweep.compare.get("answer_pattern"))
    found: list[PointResult] = []
    choices: dict[str, Choice] = {}
    notes: dict[str, list[str]] = {}
    counts: set[int] = set()
    for p in points:
        found.append(p)
        if not names or p.stored is None:
            continue
        try:
            some = dict(read_candidates(p.stored, pattern, names))
        except HarnessError as error:
            notes.setdefault(str(error), []).append(p.point.label)
            continue
        most = max(map(len, some.values()), default=0)
        if most < 2:
            continue
        counts.add(most)
        able = [name for name in names if not all(BY_NAME[name].lacks(c) for c in some.values())]
        for name in (name for name in names if name not in able):
            needs = f"{KEY}: {name} needs {BY_NAME[name].needs}; left out"
            notes.setdefault(needs, []).append(p.point.label)
        chosen = {name: tuple(BY_NAME[name].choose(c) for c in some.values()) for name in able}
        choices[p.point.label] = Choice(some, chosen)
        found += _rows(sweep, p, p.stored, choices[p.point.label], most)
    _remove_others(sweep.folder / FOLDER, [p.stored.folder for p in found if p.selected_from and p.stored])
    lines = [f"{line} ({_listed(labels)})" for line, labels in notes.items()]
    if names and not counts:
        lines.append(f"{KEY}: no run has several samples per prompt; set generation.samples=8")
    if counts:
        lines.insert(0, _cost(counts))
    return Selection(tuple(found), choices, tuple(lines))


def _rows(
    sweep: Sweep,
    p: PointResult,
    stored: StoredPoint,
    choice: Choice,
    most: int,
) -> list[PointResult]:
    """Return a row for each selector: the samples that it chose of a run."""
    folders: dict[str, tuple[Path, np.ndarray]] = {}
    for name, indices in choice.selectors.items():
        of_prompts = zip(choice.candidates.values(), indices, strict=True)
        rows = np.array([some.rows[index] for some, index in of_prompts], np.int64)
        folders[name] = (sweep.folder / FOLDER / f"{p.point.point_id}-{name}", rows)
    chosen = write_chosen(stored, folders, p.metrics, p.custom_metrics.values())
    found = []
    for name in choice.selectors:
        point = replace(
            p.point,
            label=f"{p.point.label} select={name}",
            varied={**p.point.varied, KEY: name},
            warnings=(),
        )
        result = point_result(point, chosen[name])
        found.append(replace(result, selected_from=most, selected_of=p.point.label))
    return found


def _cost(counts: set[int]) -> str:
    some = " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))
    return (
        f"Runs with select= hold one of {some} samples per prompt and cost as many, so they have no latency "
        "of their own."
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more runs" if len(labels) > 3 else "")


def _remove_others(folder: Path, keep: Sequence[Path]) -> None:
    if folder.is_dir():
        for one in folder.iterdir():
            if one not in keep:
                shutil.rmtree(one, ignore_errors=True)
        if not keep:
            folder.rmdir()
