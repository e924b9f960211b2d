"""Chat templates as somebody else's programs: they fail, never end, change by themselves, ignore turns."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import Any

import pytest
from small_models import CHAT_TEMPLATES, make_tokenizer

from harness.config.point import Prompts
from harness.prompts import chat
from harness.prompts.render import render_rows
from harness.prompts.source import read_rows

TURNS = [{"role": "user", "content": "What is it?"}]
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
CALLS = [*TURNS, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "a fox"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
READS_TOOLS = (
    "{{ tools | tojson if tools else '' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{{ m.tool_calls | tojson if m.tool_calls else '' }}{% endfor %}"
)
PLAIN = CHAT_TEMPLATES["plain"]


def render(chat_template: str, *items: Any, **keys: Any) -> tuple[list[str], list[str], list[str]]:
    tokenizer = make_tokenizer("bytes", bos=True, pad=True, chat="plain")
    tokenizer.chat_template = chat_template
    prompts = Prompts(name="p", items=items, **keys)
    rendered, mistakes, warnings = render_rows(prompts, read_rows(prompts), tokenizer, "model-x")
    return [entry.text for entry in rendered], [str(mistake) for mistake in mistakes], warnings


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ messages[9].role }}", "refuses these turns: list object has no element 9"),
        ("{{ messages[0].nothing.more }}", "refuses these turns: "),
        ("{{ 'a'.encode('ascii', 'x').decode('none') }}", "fails: LookupError"),
        ("{{ range(10 ** 9) }}", "fails: OverflowError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails: RecursionError"),
        ("{{ messages.clear() }}", "refuses these turns: "),
        ("{{ ''.__class__.mro() }}", "refuses these turns: "),
        ("{{ raise_exception('no\nsystem') }}", "refuses these turns: no"),
        ("{{ messages", "refuses these turns: "),
        ("  ", "makes an empty text"),
    ],
)
def test_a_template_that_fails_is_one_line(template: str, cause: str) -> None:
    _, mistakes, _ = render(template, {"messages": TURNS})
    (line,) = mistakes
    assert line.startswith("prompts.items[0]: the chat template of model-x ")
    assert cause in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 'x' | center(10 ** 10) }}",
        "{% set n = namespace(t='xxxxxxxx') %}{% for i in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    ],
    ids=["loops", "power", "repeat", "pad", "double"],
)
def test_a_template_that_takes_too_much_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all prompts, within seconds, and the process goes on as before."""
    monkeypatch.setattr(chat, "MOST_SECONDS", 0.3)
    before, handler = time.monotonic(), signal.getsignal(signal.SIGALRM)
    _, mistakes, _ = render(template, *({"id": str(n), "messages": TURNS} for n in range(50)))
    assert time.monotonic() - before < 10
    (line,) = mistakes
    assert line.startswith("prompts.items[0]: the chat template of model-x takes more than ")
    assert "set model.chat_template" in line
    assert signal.getsignal(signal.SIGALRM) == handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert render(PLAIN, {"messages": TURNS})[1] == []
    assert len("x" * (chat.MOST_BYTES + 2**20)) > chat.MOST_BYTES


def test_a_template_is_rendered_in_any_thread() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(render(PLAIN, {"messages": TURNS})))
    thread.start()
    thread.join()
    assert found[0][1] == []


def test_what_turns_say_beside_role_and_content_reaches_the_template() -> None:
    texts, mistakes, _ = render(READS_TOOLS, {"messages": CALLS, "tools": TOOLS})
    assert mistakes == []
    assert texts == [f"{json.dumps(TOOLS)}[user]What is it?[assistant]{json.dumps([CALL])}[tool]a fox"]
    # What is null or an empty list (as in the columns of a parquet file) says nothing.
    empty = [turn | {"tool_calls": [], "name": None} for turn in TURNS]
    assert render(PLAIN, {"messages": empty}) == render(PLAIN, {"messages": TURNS})


@pytest.mark.parametrize(
    ("item", "keys", "unused"),
    [
        ({"messages": CALLS}, {}, "`tool_calls` of `messages`"),
        ({"messages": [TURNS[0] | {"name": "Ann"}]}, {}, "`name` of `messages`"),
        ({"messages": TURNS, "tools": TOOLS}, {}, "`tools`"),
        ({"messages": TURNS}, {"system": "Be kind."}, "prompts.system: "),
    ],
)
def test_what_a_template_has_no_use_for_is_a_mistake(item: Any, keys: Any, unused: str) -> None:
    template = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    (line,) = render(template, item, **keys)[1]
    assert line.startswith("prompts.items[0]: ")
    assert unused in line
    assert "set model.chat_template" in line


def test_a_template_that_reads_no_turns_makes_one_text_of_all() -> None:
    other = [{"role": "user", "content": "Who is it?"}]
    (line,) = render("Hello!", {"messages": TURNS}, {"messages": other})[1]
    assert line.startswith("model.chat_template: the chat template of model-x makes one text of 2 different")
    # The same chat twice is meant so.
    assert render(PLAIN, {"messages": TURNS}, {"messages": TURNS})[1] == []


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (
            "{% set today = strftime_now('%d %b %Y') %}{{ today }}",
            "writes today's date into the prompts (strftime_now)",
        ),
        ("{{ ['a', 'b'] | random }}", "draws at random (random)"),
        ("{{ lipsum(1) }}", "draws at random (lipsum)"),
    ],
)
def test_a_template_that_changes_by_itself_is_said(part: str, source: str) -> None:
    """Its texts, and with them the point's address, are others in another run."""
    _, mistakes, (warning,) = render(part + PLAIN, {"messages": TURNS})
    assert mistakes == []
    assert warning.startswith("prompts.chat: the chat template of model-x ")
    assert source in warning
    assert "model.chat_template" in warning
    assert render(f"{{# {part[3:-3]} #}}" + PLAIN, {"messages": TURNS})[2] == []
    assert len(render(part + PLAIN, "no chat", chat=False)[2]) == 0


def test_a_template_without_a_field_is_refused() -> None:
    for template in ("Tell me a story.", "{{prompt}}"):
        (line,) = render(PLAIN, "a", "b", template=template, chat=False)[1]
        assert line.startswith(f"prompts.template: {template!r}: names no field")
