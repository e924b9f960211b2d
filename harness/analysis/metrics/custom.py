"""Custom metrics: `compare.metrics=[FILE.py:FUNCTION]`, a function from a generated text to a number.

    def politeness(generated):
        "How often it says please."
        return generated.output.count("please")

    politeness.better = "higher"  # or "lower"; left out where neither is

A plug-in's name is as good (`config/plugins.py`). Each becomes a column `own_<function>` and a metric
`own/<function>`. A file is read once, when a sweep is planned; its code runs only when metrics are computed.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, SupportsFloat

from harness.analysis.metric_catalog import Metric
from harness.config.plugins import METRICS, Plugin, plugin, unknown_plugin
from harness.config.suggest import did_you_mean, similar_path
from harness.config.user_path import user_path
from harness.errors import ConfigError, HarnessError, Mistake, one_line


class Token(NamedTuple):
    """A step of a generated text: columns of tokens.parquet, nats; None where the backend reports none."""

    token: str | None
    token_id: int | None
    logprob: float | None
    warped_logprob: float | None
    rank: int | None
    entropy: float | None
    warped_entropy: float | None
    kept_mass: float | None


@dataclass(frozen=True)
class Generated:
    """The argument of a custom metric: one sample.

    Attributes:
        prompt_id, sample: the prompt's id and the index among its samples.
        prompt: the text as the model got it.
        output: the generated text.
        reference: the prompt's reference text; None without one.
        finish_reason: eos, stop_string or length; None where the backend does not report it.
        tokens: its steps, none where the backend reports only texts; those of an EOS and of unfinished
            characters have an empty `token`.
    """

    prompt_id: str
    sample: int
    prompt: str
    output: str
    reference: str | None
    finish_reason: str | None
    tokens: tuple[Token, ...]

    def __getattr__(self, name: str) -> NoReturn:
        """Tell of a name that a sample lacks, as a text's `lower`, what it has.

        Raises:
            AttributeError: always; names that it has do not come here.
        """
        text = f"; its text is generated.output: generated.output.{name}" if hasattr(str, name) else ""
        known = ", ".join(one.name for one in fields(self))
        raise AttributeError(f"a sample has no {name!r}{text or f' (it has {known})'}")


@dataclass(frozen=True)
class CustomMetric:
    """A custom metric, as its file was when it was read.

    Attributes:
        spec: FILE.py:FUNCTION, or a plug-in's name, as requested.
        source: the file's bytes; of a plug-in what stands for them.
        plugin: where it comes from one.
    """

    spec: str
    source: bytes = field(repr=False)
    plugin: Plugin | None = None

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.spec.rpartition(":")[2]

    @property
    def column(self) -> str:
        """Its column in generations.parquet."""
        return f"own_{self.name}"

    @cached_property
    def code(self) -> str:
        """A short hash of the file."""
        return hashlib.sha256(self.source).hexdigest()[:16]

    def described(self) -> Metric:
        """Return its entry: the first line of the function's docstring, and its attribute `better`.

        Raises:
            HarnessError: its file cannot be run, or `better` is something else.
        """
        function = _function(self)
        better = getattr(function, "better", None)
        if better not in (None, "higher", "lower"):
            raise HarnessError(
                f"compare.metrics={self.spec}: {self.name}.better is {better!r:.40}, not higher or lower"
            )
        description = (inspect.getdoc(function) or "").strip().partition("\n")[0]
        description = description or f"{self.name} of {self.spec}"
        return Metric(f"own/{self.name}", self.name, description, better=better, per_sample=self.column)

    def of(self, generated: Generated) -> float:
        """Return its value for one sample; NaN where the function returns None or no finite number.

        Raises:
            HarnessError: its file cannot be run, the function raises, or returns something else.
        """
        function = _function(self)
        where = f"compare.metrics={self.spec}: {self.name}"
        of = f"for prompt {generated.prompt_id!r}, sample {generated.sample}"
        advice = "the samples are kept; run the same command again to continue from them"
        try:
            value = function(generated)
            if value is None:
                return math.nan
            if isinstance(value, SupportsFloat):  # Python's numbers, NumPy's, and truth values
                return float(value)
        except (Exception, SystemExit) as error:
            raise HarnessError(f"{where} raised {one_line(error)} {of}; {advice}") from error
        kind = type(value).__name__
        raise HarnessError(f"{where} returned {value!r:.40} ({kind}), not a number or None, {of}; {advice}")


def read_custom_metrics(specs: Sequence[str]) -> tuple[CustomMetric, ...]:
    """Read custom metrics, each FILE.py:FUNCTION, the file relative to the working folder; none is run.

    Raises:
        ConfigError: names every file or function that does not exist.
    """
    mistakes: list[Mistake] = []
    found: dict[str, CustomMetric] = {}
    for spec in dict.fromkeys(specs):
        file, _, name = spec.rpartition(":")
        if not file:
            try:
                found[spec] = _of_plugin(spec)
            except ConfigError as error:
                mistakes += error.mistakes
            continue
        try:
            path = user_path("compare.metrics", file)
            looked_in = f"(looked in {path.parent.absolute()})"
            source = path.read_bytes()
            names = _top_level(ast.parse(source))
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        except FileNotFoundError:
            problem = f"{file} not found{similar_path(file)} {looked_in}"
        except OSError as error:
            problem = f"{file} cannot be read: {error.strerror} {looked_in}"
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f" in line {line}" if line else ""
            problem = f"{file} is not valid Python{where}: {getattr(error, 'msg', error)}"
        else:
            if name not in names:
                functions = ", ".join(names) or "none"
                hint = did_you_mean(name, names)
                problem = f"{file} has no function {name!r}{hint} (functions: {functions})"
            elif name in found:
                problem = f"has the same name as {found[name].spec}; rename one of the functions"
            else:
                found[name] = CustomMetric(spec, source)
                continue
        mistakes.append(Mistake(f"compare.metrics={spec}", problem))
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(found.values())


def _of_plugin(name: str) -> CustomMetric:
    """Return the metric of a plug-in.

    Raises:
        ConfigError: there is no such plug-in, or it does not work.
    """
    key = f"compare.metrics={name}"
    found = plugin(METRICS, name, key)
    if found is None:
        raise ConfigError.of(key, f"{unknown_plugin(METRICS, name)}; a file is FILE.py:FUNCTION")
    if problem := found.problem():
        raise ConfigError.of(key, problem)
    return CustomMetric(name, found.code.encode(), found)


def _top_level(tree: ast.Module) -> list[str]:
    """Return the names of a file that may be functions: what it defines, assigns or imports itself."""
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
    """Return the function, from the bytes that were read, whatever the file contains by now."""
    file, key = metric.spec.rpartition(":")[0], f"compare.metrics={metric.spec}"
    if metric.plugin is not None:
        return _callable(metric.plugin.load(), key, metric.name)
    module = ModuleType(f"{Path(file).stem}_{metric.code}")
    module.__file__ = str(Path(file).expanduser().absolute())
    sys.modules[module.__name__] = module  # where dataclasses look up their annotations
    try:
        exec(compile(metric.source, module.__file__, "exec"), vars(module))
        function = getattr(module, metric.name)
    except (Exception, SystemExit) as error:
        raise HarnessError(f"{key}: {file} cannot be run: {one_line(error)}") from error
    return _callable(function, key, metric.name)


def _callable(function: Any, key: str, name: str) -> Callable[[Generated], Any]:
    if not callable(function):
        raise HarnessError(f"{key}: {name} is not a function")
    return function  # type: ignore[no-any-return]
