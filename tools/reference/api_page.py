"""The page of the Python API: every public name with its signature and what its docstring says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import harness
from tools.reference.markdown import code, prose, table

_HEAD = """\
# Python API

Everything is in the module `harness`; importing it loads nothing heavy.
[A guide](../guides/python.md) shows how it is used.

"""
_HEADINGS = {"Args": "argument", "Attributes": "attribute", "Raises": "raises", "Returns": "", "Yields": ""}


def api_page() -> str:
    """Return the page."""
    names = list(getattr(harness, "__all__", ()))
    kinds = {name: getattr(harness, name) for name in names}
    functions = [name for name in names if not inspect.isclass(kinds[name])]
    classes = [name for name in names if inspect.isclass(kinds[name])]
    errors = [name for name in classes if issubclass(kinds[name], Exception)]
    parts = [*(_function(name, kinds[name]) for name in functions)]
    parts += [_class(name, kinds[name]) for name in classes if name not in errors]
    if errors:
        rows = ((code(f"harness.{name}"), _first(kinds[name])) for name in errors)
        parts += ["## Errors and warnings", table(("name", "is"), rows)]
    return _HEAD + "\n\n".join(parts)


def _function(name: str, value: Any) -> str:
    # `harness.plan` is also a package; its call is what is meant.
    function = value if inspect.isfunction(value) else inspect.unwrap(getattr(_calls(), name, value))
    return "\n\n".join([f"## harness.{name}", _signature(f"harness.{name}", function), *_docstring(function)])


def _calls() -> Any:
    from importlib import import_module

    return import_module("harness.api.calls")


def _signature(name: str, function: Any) -> str:
    line = f"{name}{_parameters(function)}"
    if len(line) > 90:
        inner = _parameters(function)[1:-1].split(", ")
        line = "\n".join([f"{name}(", *(f"    {one}," for one in inner), ")"])
    return f"```text\n{line}\n```"


def _parameters(function: Any, method: bool = False) -> str:
    """The parameters of a function, without types, in parentheses; of a method without the object."""
    signature = inspect.signature(function)
    known = list(signature.parameters.values())[method:]
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in known]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def _class(name: str, value: type) -> str:
    rows = []
    for member, found in vars(value).items():
        if member.startswith("_") or not (inspect.isfunction(found) or isinstance(found, property)):
            continue
        parameters = _parameters(found, method=True) if inspect.isfunction(found) else ""
        rows.append((code(f"{member}{parameters}"), _first(found)))
    members = [table(("member", "is"), rows)] if rows else []
    return "\n\n".join([f"## harness.{name}", *_docstring(value), *members])


def _first(value: Any) -> str:
    """The first paragraph of a docstring."""
    text = inspect.getdoc(value) or ""
    return prose(_plain(text.split("\n\n")[0]))


def _plain(text: str) -> str:
    """One line, double backquotes of docstrings as single ones."""
    return " ".join(text.replace("``", "`").split())


def _docstring(value: Any) -> Iterator[str]:
    """Yield the paragraphs of a docstring in Google's style: sections with names become tables."""
    blocks = re.split(r"\n(?=(?:Args|Attributes|Returns|Raises|Yields):\n)", inspect.getdoc(value) or "")
    for block in blocks:
        heading, _, rest = block.partition(":\n")
        if heading not in _HEADINGS:
            for paragraph in block.strip().split("\n\n"):
                is_code = all(line.startswith("    ") for line in paragraph.splitlines())
                yield f"```python\n{dedent(paragraph)}\n```" if is_code else prose(_plain(paragraph))
        elif _HEADINGS[heading]:
            entries = re.split(r"\n(?=\S)", dedent(rest).strip())
            pairs = (entry.partition(":")[::2] for entry in entries)
            rows = ((code(name.strip()), prose(_plain(means))) for name, means in pairs)
            yield table((_HEADINGS[heading], "is" if heading != "Raises" else "when"), rows)
        else:
            yield f"**{heading}**: {prose(_plain(rest))}"
