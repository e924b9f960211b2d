"""Python functions and classes as references FILE.py:NAME, under which they can be found again.

What a file holds has an address that outlives the process: its samples and metrics can be stored. A lambda, a
function in a function or in a notebook's cell has none.
"""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from harness.errors import ConfigError

_CURE = (
    "move it to a file of its own (in a notebook: %%writefile metrics.py) and import it, or try it without "
    "storing: store=False"
)
_CALLS = ("sweep", "plan", "check", "generate", "inspect", "replay", "session")


def code_reference(key: str, target: Callable[..., Any]) -> str:
    """Return FILE.py:NAME of a function or class; the file relative to the working folder if it is inside.

    Args:
        key: what it was given for, as `compare.metrics`.
        target: a function or class at the top level of a file.

    Raises:
        ConfigError: it cannot be found again under a file and a name, with the reason and the cure.
    """
    name = name_of(target)
    if reason := _no_address(target):
        raise ConfigError.of(f"{key}={name}", f"{reason}, so it cannot be found again: {_CURE}")
    path = _file_of(target)
    assert path is not None
    source = path.read_bytes()
    if reason := _not_the_same(target, source, path):
        raise ConfigError.of(f"{key}={name}", reason)
    return f"{_shown(path)}:{target.__name__}"


def name_of(target: Callable[..., Any]) -> str:
    """Return what a message calls a function."""
    return str(getattr(target, "__qualname__", type(target).__qualname__))


def _no_address(target: Callable[..., Any]) -> str | None:
    """Return why a function has no address; None where it has one."""
    name = getattr(target, "__qualname__", None)
    if name is None:
        return f"is an object of {type(target).__qualname__}, not a function"
    if "<lambda>" in name:
        return "is a lambda"
    if "<locals>" in name:
        return "is defined in a function"
    if not name.isidentifier():
        return f"is in the class {name.rpartition('.')[0]}"
    path = _file_of(target)
    if path is None or path.suffix != ".py" or not path.is_file():
        return "is in no file"
    return None


def _file_of(target: Callable[..., Any]) -> Path | None:
    try:
        file = inspect.getsourcefile(inspect.unwrap(target))
    except (OSError, TypeError):  # built in, or a class of a notebook's cell
        return None
    return Path(file).absolute() if file else None


def _not_the_same(target: Callable[..., Any], source: bytes, path: Path) -> str | None:
    """Return why running the file would not give this function; None where it would."""
    try:
        tree = ast.parse(source)
        module = compile(source, str(path), "exec")
    except (SyntaxError, ValueError):
        return f"{_shown(path)} is no longer valid Python; correct it and import it again"
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        return f"{_shown(path)} has relative imports, and a file runs by itself; import by full names there"
    if any(_runs_a_sweep(tree)):
        cure = "put what calls it under `if __name__ == '__main__':`, or the function in a file of its own"
        return f"{_shown(path)} calls the harness when it is run, and it is run again to find it; {cure}"
    if not _is_in(target, module):
        return f"{_shown(path)} was changed since it was imported; import it again (importlib.reload)"
    return None


def _is_in(target: Callable[..., Any], code: CodeType) -> bool:
    """Return whether a compiled file or class defines this function, or this class with its methods."""
    plain = inspect.unwrap(target)
    own = getattr(plain, "__code__", None)
    name = plain.__name__ if own is None else own.co_name
    alike = [found for found in code.co_consts if isinstance(found, CodeType) and found.co_name == name]
    if own is not None:
        return any(_same(own, found) for found in alike)
    # What a decorator has made, as a dataclass's `__init__`, is in no file.
    methods = [
        one
        for one in vars(plain).values()
        if inspect.isfunction(one) and os.path.abspath(one.__code__.co_filename) == code.co_filename
    ]
    return any(all(_is_in(method, found) for method in methods) for found in alike)


def _runs_a_sweep(tree: ast.Module) -> Iterator[bool]:
    """Yield whether each top-level statement that runs at an import calls a function of the API."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or _is_guard(
            statement
        ):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                name = node.func
                if isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name):
                    yield name.value.id in ("harness", "session") and name.attr in _CALLS
                elif isinstance(name, ast.Name):
                    yield name.id in ("sweep", "session")


def _is_guard(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":`."""
    names = (
        (node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name))
        if isinstance(statement, ast.If)
        else iter(())
    )
    return "__name__" in names


def _same(one: CodeType, other: CodeType) -> bool:
    """Return whether two functions do the same, wherever they stand in their files."""
    if one.co_code != other.co_code or one.co_names != other.co_names or one.co_varnames != other.co_varnames:
        return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    return all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else (type(a), a) == (type(b), b)
        for a, b in zip(one.co_consts, other.co_consts, strict=True)
    )


def _shown(path: Path) -> str:
    """Return a path relative to the working folder if it is inside."""
    resolved, here = path.resolve(), Path.cwd().resolve()
    return os.path.relpath(resolved, here) if resolved.is_relative_to(here) else str(path)
