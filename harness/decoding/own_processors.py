"""Logits processors of the user's own, applied to rows that move, split and vanish.

Each text has an object of its own, which sees the text's own ids, without padding, in a batch of one. Objects
are kept by what was generated so far: that of a text is the one of its prefix, one token shorter. Where texts
part it is copied; one that cannot be copied is made anew and sees every earlier step again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.config.processor_entries import ProcessorEntry
from harness.decoding.own_checks import GIVEN
from harness.decoding.own_code import load_code
from harness.decoding.texts import Texts
from harness.decoding.upload import on_device
from harness.errors import HarnessError, one_line

_Prefix = tuple[int, tuple[int, ...]]
"""The tokens of the prompt, and the ids of prompt and output."""


@dataclass
class _Object:
    """An object, and the (1, V) scores of all its steps where it may have to see them again."""

    call: Any
    steps: list[Tensor] = field(default_factory=list)


class OwnProcessor:
    """One entry of `decoding.processors` on a loaded model.

    Attributes:
        has_objects: it is a class; a function remembers nothing of a text.
    """

    def __init__(self, entry: ProcessorEntry, code: str, given: Mapping[str, Any], *, parts: bool) -> None:
        """Load the code.

        Args:
            entry: of the config.
            code: its hash or version, as planned.
            given: arguments that it gets where it takes them.
            parts: texts with the same prefix may go on with different tokens.
        """
        self._entry, self._parts = entry, parts
        target = load_code(entry, code)
        self.has_objects = inspect.isclass(target)
        self._target: Callable[..., Any] = target
        self._arguments = {**_taken(target, given), **entry.arguments}
        self._shared = _shared(given)
        self._objects: dict[_Prefix, _Object] = {}
        self._copies: bool | None = None

    def forget(self) -> None:
        """Begin all texts anew."""
        self._objects.clear()

    def __call__(self, texts: Texts, scores: Tensor) -> Tensor:
        """Return new (R, V) scores; `scores` themselves are not changed."""
        rows_of: dict[_Prefix, list[int]] = {}
        ids = texts.ids.tolist()
        for row, length in enumerate(texts.prompt_tokens):
            rows_of.setdefault((length, tuple(ids[row][texts.width - length :])), []).append(row)
        objects = self._next_objects(list(rows_of), texts.ids.device) if self.has_objects else {}
        found = torch.empty_like(scores)
        for prefix, rows in rows_of.items():
            one = scores[rows[:1]]  # a copy, which may be written to
            if prefix in objects and self._remembers_steps:
                objects[prefix].steps.append(one.clone())
            call = objects[prefix].call if prefix in objects else self._target
            found[rows] = self._checked(self._called(call, prefix, one, texts.ids.device), one)
        if not bool(found.amax(-1).isfinite().all()):
            problem = "leaves no token, or returns NaN or inf; keep one finite score at least"
            raise HarnessError(f"{self._entry.key}: {problem}")
        self._objects = objects
        return found

    def _next_objects(self, prefixes: Sequence[_Prefix], device: torch.device) -> dict[_Prefix, _Object]:
        """Return the object of each text, ready for its next step."""
        children: dict[_Prefix, list[_Prefix]] = {}
        objects: dict[_Prefix, _Object] = {}
        for prefix in prefixes:
            length, ids = prefix
            if len(ids) == length:
                objects[prefix] = self._fresh()
            else:
                children.setdefault((length, ids[:-1]), []).append(prefix)
        for parent, several in children.items():
            if parent not in self._objects:
                problem = "a text appears in the middle, whose earlier steps it has not seen"
                raise HarnessError(f"{self._entry.key}: {problem}")
            known = self._objects[parent]
            for prefix in several[1:]:
                objects[prefix] = self._copied(known, parent, device)
            objects[several[0]] = known
        return objects

    @property
    def _remembers_steps(self) -> bool:
        return self._parts and self._copies is False

    def _fresh(self) -> _Object:
        try:
            made = self._target(**self._arguments)
        except (Exception, SystemExit) as error:
            problem = f"{self._entry.name} cannot be made: {one_line(error)}"
            raise HarnessError(f"{self._entry.key}: {problem}") from error
        if self._copies is None and self._parts:
            try:
                copy.deepcopy(made, dict(self._shared))
                self._copies = True
            except Exception:
                self._copies = False
        return _Object(made)

    def _copied(self, known: _Object, prefix: _Prefix, device: torch.device) -> _Object:
        if not self._remembers_steps:
            try:
                return _Object(copy.deepcopy(known.call, dict(self._shared)))
            except Exception as error:
                problem = f"cannot be copied where texts part ({one_line(error)}); give it a __deepcopy__"
                raise HarnessError(f"{self._entry.key}: an object of {self._entry.name} {problem}") from error
        again, (length, ids) = self._fresh(), prefix
        for step, scores in enumerate(known.steps):
            self._called(again.call, (length, ids[: length + step]), scores.clone(), device)
        again.steps = list(known.steps)
        return again

    def _called(self, call: Callable[..., Any], prefix: _Prefix, scores: Tensor, device: torch.device) -> Any:
        arguments = {} if self.has_objects else self._arguments
        try:
            return call(on_device([prefix[1]], device), scores, **arguments)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            where = f"at token {len(prefix[1]) - prefix[0]}"
            problem = f"{self._entry.name} raised {one_line(error)} {where}"
            raise HarnessError(f"{self._entry.key}: {problem}") from error

    def _checked(self, result: Any, scores: Tensor) -> Tensor:
        """Return (1, V) scores that a processor returned.

        Raises:
            HarnessError: they are something else.
        """
        if isinstance(result, Tensor) and result.shape == scores.shape:
            return result
        shape = tuple(scores.shape)
        what = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        problem = f"{self._entry.name} returned {what}, not scores of shape {shape}; return the scores"
        raise HarnessError(f"{self._entry.key}: {problem}")


class OwnProcessors:
    """Those of a strategy that act at one place, one after the other."""

    def __init__(self, processors: Sequence[OwnProcessor]) -> None:
        self._processors = processors

    def __bool__(self) -> bool:
        return bool(self._processors)

    def __call__(self, texts: Texts, scores: Tensor) -> Tensor:
        """Return new (R, V) scores; `scores` themselves are not changed."""
        for processor in self._processors:
            scores = processor(texts, scores)
        return scores

    @property
    def remember(self) -> bool:
        """Whether any holds something from step to step."""
        return any(processor.has_objects for processor in self._processors)

    def forget(self) -> None:
        """Begin all texts anew."""
        for processor in self._processors:
            processor.forget()


def own_processors(
    effective: Mapping[str, Any], place: str, *, model: Any, tokenizer: Any, device: str
) -> OwnProcessors:
    """Return a strategy's own processors at a place, `before` or `after` the samplers.

    Args:
        effective: its fields, the entries as `planned_processors` returns them.
        place: of the samplers.
        model: the loaded model.
        tokenizer: of the model.
        device: where the scores are.
    """
    given = dict(zip(GIVEN, (tokenizer, model, device, 1), strict=True))
    return OwnProcessors(
        [
            OwnProcessor(
                ProcessorEntry(one["path"], one["place"], one["arguments"]),
                one["code"],
                given,
                parts=bool(effective["do_sample"]),
            )
            for one in effective.get("processors") or ()
            if one["place"] == place
        ]
    )


def _taken(target: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that a class or function names."""
    try:
        names = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in given.items() if name in names}


def _shared(given: Mapping[str, Any]) -> dict[int, Any]:
    """Return what copies share, as `deepcopy` remembers it: the tokenizer, the model and its parts."""
    model = given["model"]
    parts = [given["tokenizer"], model, getattr(model, "config", None)]
    if isinstance(model, torch.nn.Module):
        parts += [*model.modules(), *model.parameters(), *model.buffers()]
    return {id(part): part for part in parts}
