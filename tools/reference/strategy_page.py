"""The page of the strategies: each with its formula, its source, good values, and when to use it."""

from __future__ import annotations

from harness.cli.help import by_kind
from harness.config import schema
from harness.config.groups import ConfigGroups
from harness.config.search_path import comments
from harness.config.validation import format_value
from tools.reference.markdown import code, prose, sentence

_HEAD = """\
# Strategies

Each is a file of `conf/decoding/`; what it sets are [decoding keys](decoding.md), which a command may
change: `harness decoding=top_p decoding.top_p=0.8`. In the formulas p(x) is the probability of token x,
l(x) its logit, H the entropy of the distribution. `harness help top_p` says the same on a terminal; how to
choose among them is [a guide](../guides/strategies.md).

"""


def strategy_page(groups: ConfigGroups) -> str:
    """Return the page."""
    parts = []
    for kind, choices in by_kind("decoding", groups).items():
        listed = ", ".join(f"[{code(choice)}](#{choice})" for choice in choices)
        parts += [f"## {kind.capitalize()}", listed, *(_strategy(choice, groups) for choice in choices)]
    return _HEAD + "\n\n".join(parts)


def _strategy(choice: str, groups: ConfigGroups) -> str:
    path = groups.file("decoding", choice)
    first, *others = comments(path) if path else [""]
    lines = [f"### {choice}", "", prose(sentence(first.partition(" Run: ")[0])), ""]
    for text in others:
        name, colon, value = text.partition(": ")
        if name == "Kind":
            continue
        is_formula = name == "Formula" and colon
        lines.append(
            f"- **{name}**: {code(value.rstrip('.')) if is_formula else prose(value)}"
            if colon
            else f"- {prose(text)}"
        )
    lines += [f"- **Sets**: {_settings(choice, groups)}"]
    return "\n".join(lines)


def _settings(choice: str, groups: ConfigGroups) -> str:
    own = groups.own_values("decoding", choice) or {}
    fields = schema.section_fields("decoding")
    shown = [
        f"[{code(f'{key}: {format_value(own[key])}')}](decoding.md#decoding.{key})"
        for key in fields
        if own.get(key) is not None
    ]
    return ", ".join(shown) or "nothing"
