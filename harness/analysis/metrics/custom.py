"""Metrics of one's own: `compare.metrics=[FILE.py:FUNCTION]`, a function from a generated text to a number.

    def politeness(generated):
        "How often it says please."
        return generated.output.count("please")

    politeness.better = "higher"  # or "lower"; left out where neither is

Each becomes a column `own_<function>` and a metric `own/<function>`. A file is read once, when a sweep is
planned; its code runs only when metrics are computed.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, SupportsFloat

from harness.analysis.metric_catalog import Metric
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError, HarnessError, Mistake


class Token(NamedTuple):
    """A step of a generated text; its fields are those of tokens.parquet, nats."""

    token: str
    token_id: int
    logprob: float
    warped_logprob: float
    rank: int
    entropy: float
    warped_entropy: float
    kept_mass: float


@dataclass(frozen=True)
class Generated:
    """What a metric of one's own is given: one sample.

    Attributes:
        prompt_id, sample: which one it is.
        prompt: the text as the model got it.
        output: the text made.
        reference: of the prompt's row; None without one.
        finish_reason: what ended it: eos, stop_string, length or time.
        tokens: its steps; those of an EOS and of unfinished characters have an empty `token`.
    """

    prompt_id: str
    sample: int
    prompt: str
    output: str
    reference: str | None
    finish_reason: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class CustomMetric:
    """A metric of one's own, as its file was when it was read.

    Attributes:
        spec: FILE.py:FUNCTION, as it was asked for.
        source: the file's bytes.
    """

    spec: str
    source: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The function's."""
        return self.spec.rpartition(":")[2]

    @property
    def column(self) -> str:
        """In generations.parquet."""
        return f"own_{self.name}"

    @property
    def key(self) -> str:
        """In metrics.json."""
        return f"own/{self.name}"

    @cached_property
    def code(self) -> str:
        """A short hash of the file."""
        return hashlib.sha256(self.source).hexdigest()[:16]

    def described(self) -> Metric:
        """What the function says of itself: the first line of its docstring, and its `better`.

        Raises:
            HarnessError: its file cannot be run, or `better` is something else.
        """
        function = _function(self)
        better = getattr(function, "better", None)
        if better not in (None, "higher", "lower"):
            raise HarnessError(
                f"compare.metrics={self.spec}: {self.name}.better is {better!r:.40}; say higher or lower"
            )
        says = (inspect.getdoc(function) or "").strip().partition("\n")[0]
        return Metric(
            self.key, self.name, says or f"{self.name} of {self.spec}", better=better, per_sample=self.column
        )

    def of(self, generated: Generated) -> float:
        """Its value for one sample; NaN where the function returns None or no finite number.

        Raises:
            HarnessError: its file cannot be run, the function raises, or returns something else.
        """
        function = _function(self)
        where = f"compare.metrics={self.spec}: {self.name}"
        of = f"for prompt {generated.prompt_id!r}, sample {generated.sample}"
        kept = "the samples are kept, the same command goes on from them"
        try:
            value = function(generated)
            if value is None:
                return math.nan
            if isinstance(value, SupportsFloat):  # Python's numbers, NumPy's, and truth values
                return float(value)
        except (Exception, SystemExit) as error:
            raise HarnessError(f"{where} raised {_told(error)} {of}; {kept}") from error
        kind = type(value).__name__
        raise HarnessError(f"{where} returned {value!r:.40} ({kind}), no number or None, {of}; {kept}")


def read_custom_metrics(specs: Sequence[str]) -> tuple[CustomMetric, ...]:
    """Read metrics of one's own; none of their code is run.

    Args:
        specs: each FILE.py:FUNCTION, the file as seen from the working folder.

    Raises:
        ConfigError: with every file or function that is not there.
    """
    mistakes: list[Mistake] = []
    found: list[CustomMetric] = []
    for spec in dict.fromkeys(specs):
        key = f"compare.metrics={spec}"
        file, _, name = spec.rpartition(":")
        path = Path(file).expanduser()
        try:
            source = path.read_bytes()
            names = _top_level(ast.parse(source))
        except OSError as error:
            problem = (
                "is not there"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read: {error.strerror}"
            )
            mistakes.append(Mistake(key, f"{file} {problem} (looked in {path.parent.absolute()})"))
            continue
        except (SyntaxError, ValueError) as error:
            line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            mistakes.append(Mistake(key, f"{file} is no Python{line}: {what}"))
            continue
        if name not in names:
            there = ", ".join(names) or "none"
            hint = did_you_mean(name, names)
            mistakes.append(Mistake(key, f"{file} has no function {name!r}{hint} (functions: {there})"))
            continue
        first = next((metric for metric in found if metric.name == name), None)
        if first is not None:
            mistakes.append(Mistake(key, f"is called as {first.spec} is; rename one of the functions"))
            continue
        found.append(CustomMetric(spec, source))
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(found)


def _top_level(tree: ast.Module) -> list[str]:
    """Names of a file that can be functions: what it defines, assigns or imports itself."""
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names += [alias.asname or alias.name for alias in node.names]
    return names


@cache
def _function(metric: CustomMetric) -> Callable[[Generated], Any]:
    """The function; the bytes that were read are what is run, whatever the file holds by now."""
    file = metric.spec.rpartition(":")[0]
    module = ModuleType(f"{Path(file).stem}_{metric.code}")
    module.__file__ = str(Path(file).expanduser().absolute())
    sys.modules[module.__name__] = module  # where dataclasses look up their annotations
    try:
        exec(compile(metric.source, module.__file__, "exec"), vars(module))
        function = getattr(module, metric.name)
    except (Exception, SystemExit) as error:
        raise HarnessError(f"compare.metrics={metric.spec}: {file} cannot be run: {_told(error)}") from error
    if not callable(function):
        raise HarnessError(f"compare.metrics={metric.spec}: {metric.name} is no function")
    return function


def _told(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
