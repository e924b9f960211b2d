"""The text of a chat: a model's template, which is somebody else's program, run with limits and checked."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.errors import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_SECONDS = 5.0
"""What a template may take for one chat; real ones take milliseconds."""

MOST_BYTES = 512 * 1024**2
"""What a template may allocate for one chat."""

_COMMENT = re.compile(r"{#.*?#}", re.DOTALL)
_CHANGING = {
    "writes today's date into the prompts (strftime_now)": re.compile(r"\bstrftime_now\s*\("),
    "draws at random (random)": re.compile(r"\|\s*random\b"),
    "draws at random (lipsum)": re.compile(r"\blipsum\s*\("),
}
"""What a template can do that makes another text of the same turns in another run."""

Turns = Sequence[Mapping[str, Any]]


class TemplateLimitError(ValueError):
    """The template itself is at fault, so that it fails for every chat."""


def chat_text(
    tokenizer: PreTrainedTokenizerBase, turns: Turns, model_id: str, tools: Sequence[Any] | None = None
) -> str:
    """Return the text that the model's chat template makes of turns.

    Args:
        tokenizer: with the chat template in use.
        turns: `role`, `content` and what else the template reads, such as `tool_calls`. A last turn of the
            assistant is the beginning of an answer, which the model continues.
        model_id: of the model, for messages.
        tools: what the model may call, if the row says so.

    Raises:
        TemplateLimitError: the template takes too long, or too much memory.
        ValueError: the template refuses the turns, or has no use for a part of them.
    """
    text = _applied(tokenizer, turns, model_id, tools)
    if not text.strip():
        raise ValueError(f"the chat template of {model_id} makes an empty text of these turns")
    for key in sorted({key for turn in turns for key in turn} - {"role", "content"}):
        without = [{name: value for name, value in turn.items() if name != key} for turn in turns]
        if _makes(text, tokenizer, without, model_id, tools):
            raise ValueError(_unused(model_id, f"`{key:.60}` of `messages`"))
    if tools and _makes(text, tokenizer, turns, model_id, None):
        raise ValueError(_unused(model_id, "`tools`"))
    return text


def check_system(
    tokenizer: PreTrainedTokenizerBase, turns: Turns, text: str, model_id: str, tools: Sequence[Any] | None
) -> None:
    """Raise a ValueError if the text is the same without the first turn, which `prompts.system` added."""
    if _makes(text, tokenizer, turns[1:], model_id, tools):
        raise ValueError(f"prompts.system: {_unused(model_id, 'it')}")


def changing_parts(template: Any) -> Iterator[str]:
    """Yield what the template does that makes another text of the same turns in another run."""
    if isinstance(template, str):
        code = _COMMENT.sub("", template)
        yield from (name for name, pattern in _CHANGING.items() if pattern.search(code))


def _unused(model_id: str, what: str) -> str:
    return f"the chat template of {model_id} has no use for {what}; take it out, or set model.chat_template"


def _makes(
    text: str, tokenizer: PreTrainedTokenizerBase, turns: Turns, model_id: str, tools: Sequence[Any] | None
) -> bool:
    """Return whether other turns make the same text; not where the template refuses them."""
    try:
        return _applied(tokenizer, turns, model_id, tools) == text
    except ValueError:
        return False


def _applied(
    tokenizer: PreTrainedTokenizerBase, turns: Turns, model_id: str, tools: Sequence[Any] | None
) -> str:
    import jinja2

    continued = turns[-1]["role"] == "assistant" and bool(turns[-1]["content"])
    conversation: list[Any] = [dict(turn) for turn in turns]
    ending: Any = {
        "add_generation_prompt": not continued,
        "continue_final_message": continued,
        "tools": tools,
    }
    try:
        with _limited():
            return str(tokenizer.apply_chat_template(conversation, tokenize=False, **ending))
    except (TimeoutError, MemoryError) as error:
        limit = f"{MOST_SECONDS:g} s" if isinstance(error, TimeoutError) else f"{MOST_BYTES >> 20} MB"
        problem = f"the chat template of {model_id} takes more than {limit} for one chat"
        raise TemplateLimitError(f"{problem}; set model.chat_template to another one") from None
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        problem = f"the chat template of {model_id} refuses these turns: {first_line(error)}"
        raise ValueError(problem) from None
    except Exception as error:  # a template is a program: it can divide by zero
        problem = f"the chat template of {model_id} fails: {type(error).__name__}: {first_line(error)}"
        raise ValueError(problem) from None


@contextmanager
def _limited() -> Iterator[None]:
    """Raise a TimeoutError or a MemoryError in code that takes too much.

    Jinja's sandbox forbids access, not endless loops or `'x' * 10 ** 10`. A limit that this system or thread
    cannot set is left out.
    """
    over = False

    def end(number: int, frame: FrameType | None) -> None:
        if not over:
            raise TimeoutError

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = None
    try:
        handler = signal.signal(signal.SIGALRM, end)
        # Again and again: code of the template may swallow one.
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS, 0.5)
    except ValueError:  # not the main thread
        pass
    try:
        _limit_memory(before)
        yield
    finally:
        over = True
        resource.setrlimit(resource.RLIMIT_AS, before)
        if handler is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)


def _limit_memory(before: tuple[int, int]) -> None:
    status = Path("/proc/self/statm")
    if not status.is_file():
        return
    most = int(status.read_text().split()[0]) * resource.getpagesize() + MOST_BYTES
    limits = [limit for limit in before if limit != resource.RLIM_INFINITY]
    if all(most < limit for limit in limits):
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
