"""Code that a user names, `FILE.py:CLASS` or `package.module:CLASS`: found, hashed and loaded.

A file runs as it was when the sweep was planned, whatever it contains by now. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.config.processor_entries import ProcessorEntry
from harness.config.suggest import most_similar, similar_path
from harness.config.user_path import user_path
from harness.errors import ConfigError, HarnessError, one_line

ZOO = "logits_processor_zoo"
_read: dict[tuple[str, str], bytes] = {}
"""Files that were read, by path as written and hash."""


def read_code(entry: ProcessorEntry) -> str:
    """Return what stands for the code in an address: the hash of its file, or the version of its package.

    Raises:
        ConfigError: there is no such file or module, or it cannot be read.
    """
    if not entry.is_file:
        return _module_code(_module(entry))
    path = user_path(entry.key, entry.source)
    looked_in = f"(looked in {path.parent.absolute()})"
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        similar = similar_path(entry.source).removeprefix("; did you mean ").removesuffix("?")
        hint = entry.meant(path=f"{similar}:{entry.name}") if similar else ""
        problem = f"{entry.source} not found{hint} {looked_in}"
        raise ConfigError.of(entry.key, problem) from None
    except OSError as error:
        problem = f"{entry.source} cannot be read: {error.strerror} {looked_in}"
        raise ConfigError.of(entry.key, problem) from None
    code = hashlib.sha256(source).hexdigest()[:16]
    _read[entry.source, code] = source
    return code


def load_code(entry: ProcessorEntry, code: str) -> Any:
    """Return the class or function of an entry whose code is known from `read_code`.

    Raises:
        ConfigError: the code cannot be run, or has nothing of this name.
        HarnessError: the file is another one by now.
    """
    if not entry.is_file:
        module = _module(entry)
    else:
        if (entry.source, code) not in _read and read_code(entry) != code:
            problem = f"{entry.source} was changed since the sweep was planned"
            raise HarnessError(f"{entry.key}: {problem}; run the same command again")
        module = _run(entry.source, code, entry.key)
    if not hasattr(module, entry.name):
        names = list(_callables(module))
        shown = f" (it has {', '.join(names[:8])})" if names else ""
        similar = most_similar(entry.name, names)
        hint = entry.meant(path=f"{entry.source}:{similar}") if similar else ""
        raise ConfigError.of(entry.key, f"{entry.source} has nothing named {entry.name}{hint}{shown}")
    return getattr(module, entry.name)


def source_of(entry: ProcessorEntry, code: str, target: Any) -> bytes:
    """Return the source in which a class or function stands; empty where there is none."""
    if entry.is_file:
        return _read[entry.source, code]
    try:
        file = inspect.getsourcefile(inspect.unwrap(target))
        return Path(file).read_bytes() if file else b""
    except (OSError, TypeError):
        return b""


@cache
def _run(file: str, code: str, key: str) -> ModuleType:
    """Return the module that a file makes."""
    module = ModuleType(f"{Path(file).stem}_{code}")
    module.__file__ = str(Path(file).expanduser().absolute())
    sys.modules[module.__name__] = module  # where dataclasses look up their annotations
    try:
        exec(compile(_read[file, code], module.__file__, "exec"), vars(module))
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        raise ConfigError.of(key, f"{file} is not valid Python{where}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError.of(key, f"{file} cannot be run: {one_line(error)}") from error
    return module


def _module(entry: ProcessorEntry) -> ModuleType:
    try:
        return importlib.import_module(entry.source)
    except ModuleNotFoundError as error:
        missing = error.name or entry.source
        if missing == ZOO:
            cure = "pip install 'decoding-harness[zoo]'"
            raise ConfigError.of(entry.key, f"{ZOO} is not installed: {cure}") from None
        if entry.source == missing or entry.source.startswith(f"{missing}."):
            advice = "install it, or name a file: FILE.py:CLASS"
            raise ConfigError.of(entry.key, f"there is no module {missing}; {advice}") from None
        raise ConfigError.of(entry.key, f"{entry.source} needs {missing}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise ConfigError.of(entry.key, f"{entry.source} cannot be imported: {one_line(error)}") from error


def _callables(module: ModuleType) -> Iterator[str]:
    """Yield what a module offers to call, its own before what it imported."""
    own, imported = list[str](), list[str]()
    for name, value in vars(module).items():
        if callable(value) and not name.startswith("_"):
            (own if getattr(value, "__module__", None) == module.__name__ else imported).append(name)
    yield from own or imported


@cache
def _distributions(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Return the distributions of each package; of a process that installs some, `sys.path` is another."""
    return metadata.packages_distributions()


def _module_code(module: ModuleType) -> str:
    """Return a package's name and version; a hash of its files where it is not an installed release."""
    top = module.__name__.partition(".")[0]
    file = getattr(module, "__file__", None)
    if file is None:
        return f"python {platform.python_version()}"
    for name in _distributions(tuple(sys.path)).get(top, []):
        found = metadata.distribution(name)
        if found.read_text("RECORD") and Path(file).is_relative_to(str(found.locate_file(""))):
            return f"{name} {found.version}"
    folders = getattr(sys.modules[top], "__path__", None)
    files = [Path(file)] if folders is None else sorted(p for one in folders for p in Path(one).rglob("*.py"))
    content = hashlib.sha256()
    for path in files:
        content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:16]
