"""The pages of the config: every group with its choices, every key with its values, default and meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

from pydantic.fields import FieldInfo

from harness.cli.help import OF_THE_SWEEP, by_kind
from harness.config import schema
from harness.config.decoding import Decoding
from harness.config.decoding_field import DecodingField, FieldKind
from harness.config.expectation import Expectation
from harness.config.groups import ConfigGroups
from harness.config.launcher import LAUNCHERS, SERIAL, SERIAL_SUMMARY, values_of
from harness.config.launcher_section import GROUP, PREFIX, LauncherSection
from harness.config.search_path import first_comment
from harness.config.validation import describe, describe_field, format_value
from tools.reference.markdown import anchor, code, prose, sentence, table

_HEAD = """\
# Config

A config is made of groups, of which a choice is taken by name (`model=fable_small`), and of keys
(`generation.max_new_tokens=100`). `harness help GROUP`, `harness help KEY` say the same on a terminal;
`harness --cfg job` shows the composed config. The keys of a strategy have [a page of their
own](decoding.md), and so have [the strategies](strategies.md).

"""
_DECODING = """\
# Decoding keys

The fields of a strategy, by what they act on. Names are those of transformers' `GenerationConfig`; what it
does not have is called as in llama.cpp or text-generation-webui. A field that is null has its *neutral*
value, which changes nothing; nothing is inherited from the model's own `generation_config.json`.
[Strategies](strategies.md) that set them come with the harness.

"""
_KIND_TEXTS = {
    "method": "How the next token is chosen",
    "guidance": "Guidance: a second distribution that the model's is contrasted with",
    "temperature": "Temperature: the shape of the distribution",
    "truncation": "Truncation: which tokens are left",
    "penalty": "Penalties: tokens that occurred before",
    "bias": "Biases: chosen tokens",
    "order": "Order of the samplers",
    "beam": "Beams",
    "length": "Length",
    "filter": "Forbidden tokens",
    "structure": "Structured outputs",
    "watermark": "Watermarks",
    "numerics": "Numerics",
    "own": "Code of your own",
}


def config_page(groups: ConfigGroups) -> str:
    """Return the page of all groups but `decoding`."""
    names = [name for name in schema.sections() if name != "decoding"]
    sections = [_section(name, groups) for name in names]
    return _HEAD + "\n\n".join([*sections, _sweep(), _expect(), _launcher(), _experiments(groups)])


def decoding_page(groups: ConfigGroups) -> str:
    """Return the page of the keys of a strategy."""
    parts = []
    for kind in get_args(FieldKind):
        fields = {name: info for name, info in _decoding_fields() if _known(info).kind == kind}
        parts += [f"## {_KIND_TEXTS[kind]}", _decoding_table(fields, groups)]
    return _DECODING + "\n\n".join(parts)


def _section(name: str, groups: ConfigGroups) -> str:
    parts = [f"## {name}", prose(_summary(name))]
    if choices := groups.choices.get(name):
        parts.append(_choices(name, choices, groups))
    if fields := schema.section_fields(name):
        rows = (
            (
                anchor(f"{name}.{key}") + code(f"{name}.{key}"),
                prose(describe(name, key)),
                _default(info),
                prose(sentence(info.description or "")),
            )
            for key, info in fields.items()
        )
        parts.append(table(("key", "values", "default", "is"), rows))
    return "\n\n".join(parts)


def _summary(name: str) -> str:
    """The first paragraph of the section's docstring."""
    text = schema.sections()[name].__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split())


def _choices(group: str, choices: Iterable[str], groups: ConfigGroups) -> str:
    def rows() -> Iterator[tuple[str, str]]:
        for choice in choices:
            path = groups.file(group, choice)
            about = first_comment(path).partition(" Run: ")[0] if path else ""
            yield code(f"{group}={choice}"), prose(sentence(about))

    return table(("choice", "is for"), rows())


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    return "" if info.default is None else code(format_value(info.default))


def _decoding_fields() -> list[tuple[str, FieldInfo]]:
    return list(schema.section_fields("decoding").items())


def _known(info: FieldInfo) -> DecodingField:
    return next(known for known in info.metadata if isinstance(known, DecodingField))


def _decoding_table(fields: dict[str, FieldInfo], groups: ConfigGroups) -> str:
    rows = []
    for name, info in fields.items():
        known = _known(info)
        neutral = "" if known.neutral is None else f"neutral {code(format_value(known.neutral))}"
        needs = f"with {code(known.needs)}" if known.needs else ""
        stock = "transformers'" if known.stock else ""
        notes = "; ".join(note for note in (stock, neutral, needs) if note)
        means = sentence(info.description or "")
        setting = [
            f"[{code(choice)}](strategies.md#{choice})"
            for choices in by_kind("decoding", groups).values()
            for choice in choices
            if (values := groups.own_values("decoding", choice)) and values.get(name) is not None
        ]
        uses = f" In {', '.join(setting[:4])}{' and others' if len(setting) > 4 else ''}." if setting else ""
        rows.append(
            (
                anchor(f"decoding.{name}") + code(name),
                prose(describe("decoding", name)),
                notes,
                prose(means) + uses if name != "do_sample" else prose(means),
            )
        )
    assert set(fields) <= set(Decoding.model_fields)
    return table(("key", "values", "notes", "is"), rows)


def _sweep() -> str:
    rows = ((anchor(name) + code(name), prose(sentence(text))) for name, text in OF_THE_SWEEP.items())
    return "## The sweep itself\n\n" + table(("key", "is"), rows)


def _expect() -> str:
    rows = (
        (
            code(name),
            prose(describe_field(Expectation, name)),
            _default(info),
            prose(sentence(info.description or "")),
        )
        for name, info in Expectation.model_fields.items()
    )
    text = "An entry of `expect`: [what a run must show](../guides/expectations.md)."
    return f"## An expectation\n\n{text}\n\n" + table(("key", "values", "default", "is"), rows)


def _launcher() -> str:
    summaries = {SERIAL: SERIAL_SUMMARY} | {name: one.SUMMARY for name, one in LAUNCHERS.items()}
    choices = table(
        ("choice", "runs"),
        ((code(f"{GROUP}={name}"), prose(sentence(text))) for name, text in summaries.items()),
    )
    keys = "\n\n".join(_keys_of_launcher(section) for section in LAUNCHERS.values())
    return f"## Launchers\n\nWho runs the groups of a sweep.\n\n{choices}\n\n{keys}"


def _keys_of_launcher(section: type[LauncherSection]) -> str:
    rows = (
        (
            anchor(f"{section.NAME}.{key}") + code(f"{PREFIX}{key}"),
            prose(values_of(section, key)),
            _default(info),
            prose(sentence(info.description or "")),
        )
        for key, info in section.all_keys().items()
    )
    return f"### {GROUP}={section.NAME}\n\n" + table(("key", "values", "default", "is"), rows)


def _experiments(groups: ConfigGroups) -> str:
    return (
        "## experiments\n\nNamed sweeps that come with the harness; yours are in `./experiments`.\n\n"
        + _choices("experiments", groups.choices["experiments"], groups)
    )
