"""A look at source code for what is another at each run: clocks, unseeded random numbers, the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_CHANGING = (
    "time", "datetime", "random", "secrets", "uuid", "numpy.random", "torch.random", "torch.rand",
    "torch.randn", "torch.randint", "torch.randperm", "torch.rand_like", "torch.randn_like",
    "torch.randint_like", "torch.normal", "torch.bernoulli", "torch.multinomial", "torch.poisson",
    "os.environ", "os.environb", "os.getenv", "os.urandom", "os.getpid",
)  # fmt: skip
"""Modules and functions, as they are called wherever they were imported from."""
_CHANGING_METHODS = ("uniform_", "normal_", "exponential_", "bernoulli_", "random_", "multinomial")
"""Of tensors, without a generator."""
_HARMLESS = ("datetime.timedelta", "time.sleep", "uuid.UUID", "random.Random", "torch.random.manual_seed")


def chance_in(source: bytes) -> tuple[str, int] | None:
    """Return the first use of what changes from run to run, and its line; None where none is found.

    What is drawn from a generator that is passed along (`generator=`) is taken to be seeded.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    names = dict(_imported(tree))
    seeded = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and any(keyword.arg == "generator" for keyword in node.keywords)
    }
    parts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Attribute, ast.Name)) or id(node) in seeded or id(node) in parts:
            continue
        dotted = _dotted(node, names)
        if dotted is not None and _is_in(dotted, _CHANGING) and not _is_in(dotted, _HARMLESS):
            found.append((node.lineno, dotted))
        elif isinstance(node, ast.Attribute) and dotted is None and node.attr in _CHANGING_METHODS:
            found.append((node.lineno, node.attr))
    if not found:
        return None
    line, what = min(found)
    return what, line


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that imports bind, and what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """Return the full name of what an expression names; None where it begins with no import."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        start = _dotted(node.value, names)
        return None if start is None else f"{start}.{node.attr}"
    return None


def _is_in(dotted: str, wholes: tuple[str, ...]) -> bool:
    return any(dotted == one or dotted.startswith(f"{one}.") for one in wholes)
