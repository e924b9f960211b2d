"""Prompts that fit, the three ways to treat longer ones, and prompts for a server that takes texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from small_models import CONTEXT, SENTENCES, make_tokenizer

from harness.config.point import Model, Prompts
from harness.errors import ConfigError
from harness.models.locate import locate
from harness.models.tokenizer import load_tokenizer
from harness.prompts import PreparedPrompts, Prompt, prepare_prompts
from harness.prompts.fit import split_ids

LONG = " ".join(SENTENCES * 3)


def prepare(folder: Any, *items: Any, new: int = 16, **keys: Any) -> PreparedPrompts:
    model = Model(name="m", id=str(folder))
    files = locate(model)
    return prepare_prompts(Prompts(name="p", items=items, **keys), files, load_tokenizer(model, files), new)


def test_prompts_that_fit_keep_text_ids_and_fields(small_model: Any) -> None:
    from transformers import AutoTokenizer

    folder = small_model("llama")
    done = prepare(folder, {"id": "a", "prompt": SENTENCES[0], "reference": "r"})
    (prompt,) = done.prompts
    assert done.warnings == ()
    assert (prompt.id, prompt.text, prompt.row) == ("a", SENTENCES[0], {"reference": "r"})
    assert list(prompt.ids) == AutoTokenizer.from_pretrained(folder)(SENTENCES[0])["input_ids"]


def test_exactly_the_context_fits_and_one_more_does_not(small_model: Any) -> None:
    folder = small_model("llama")
    (prompt,) = prepare(folder, "It was a dark night").prompts
    room = CONTEXT - len(prompt.ids)
    assert prepare(folder, "It was a dark night", new=room).prompts == (prompt,)
    with pytest.raises(ConfigError) as caught:
        prepare(folder, {"id": "dark", "prompt": "It was a dark night"}, new=room + 1)
    message = str(caught.value)
    assert "prompts.items[0]: prompt 'dark' does not fit" in message
    assert f"{len(prompt.ids)} tokens + {room + 1} new ones > the model's {CONTEXT}" in message
    assert "prompts.too_long=truncate_left or split" in message


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
@pytest.mark.parametrize("bos", [True, False])
def test_truncate_left_keeps_bos_and_the_end(small_model: Any, bpe: str, bos: bool) -> None:
    from transformers import AutoTokenizer

    folder = small_model("llama", bpe=bpe, bos=bos)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    full = tokenizer(LONG)["input_ids"]
    done = prepare(folder, {"id": "long", "prompt": LONG}, too_long="truncate_left")
    (prompt,) = done.prompts
    front = [tokenizer.bos_token_id] if bos else []
    assert list(prompt.ids[: len(front)]) == front
    rest = list(prompt.ids[len(front) :])
    assert full[-len(rest) :] == rest
    assert CONTEXT - 16 - 3 <= len(prompt.ids) <= CONTEXT - 16
    assert LONG.endswith(prompt.text)
    assert len(done.warnings) == 1
    assert "'long' was truncated on the left" in done.warnings[0]


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
def test_split_loses_nothing(small_model: Any, bpe: str) -> None:
    from transformers import AutoTokenizer

    folder = small_model("llama", bpe=bpe)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    done = prepare(folder, {"id": "long", "prompt": LONG, "n": 1}, "short", too_long="split")
    chunks = [prompt for prompt in done.prompts if prompt.id.startswith("long.")]
    assert [prompt.id for prompt in chunks] == [f"long.{n}" for n in range(1, len(chunks) + 1)]
    assert all(prompt.ids[0] == tokenizer.bos_token_id for prompt in chunks)
    assert all(len(prompt.ids) <= CONTEXT - 16 for prompt in chunks)
    assert all(prompt.row == {"n": 1} for prompt in chunks)
    joined = [token for prompt in chunks for token in prompt.ids[1:]]
    assert [tokenizer.bos_token_id, *joined] == tokenizer(LONG)["input_ids"]
    assert done.prompts[-1].text == "short"
    assert "was split into" in done.warnings[0]


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
def test_chunks_do_not_split_characters(bpe: Any) -> None:
    tokenizer = make_tokenizer(bpe, bos=False, pad=True, chat="none")
    text = "€漢字🎈é" * 6
    ids = tokenizer(text)["input_ids"]
    for room in (5, 7, 11):
        chunks = split_ids(ids, room, tokenizer)
        assert [token for chunk in chunks for token in chunk] == ids
        assert all(len(chunk) <= room for chunk in chunks)
        assert "\ufffd" not in "".join(tokenizer.decode(list(chunk)) for chunk in chunks)
    assert [len(chunk) for chunk in split_ids(ids, 1, tokenizer)] == [1] * len(ids)


def test_chat_prompts_are_not_split(small_model: Any) -> None:
    folder = small_model("llama", chat="bos")
    with pytest.raises(ConfigError, match="a chat prompt cannot be split"):
        prepare(folder, LONG, chat=True, too_long="split")
    (prompt,) = prepare(folder, LONG, chat=True, too_long="truncate_left").prompts
    assert prompt.text.endswith("<|assistant|>")


def test_all_mistakes_come_at_once(small_model: Any) -> None:
    folder = small_model("llama")
    with pytest.raises(ConfigError) as caught:
        prepare(folder, {"a": LONG}, {"b": "x"}, {"a": LONG}, template="{a}")
    assert [mistake.key for mistake in caught.value.mistakes] == [
        "prompts.items[1]", "prompts.items[0]", "prompts.items[2]",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"generation\.max_new_tokens: 128 leave no room"):
        prepare(folder, "a", new=CONTEXT)
    with pytest.raises(ConfigError, match=r"two prompts have the id 'x\.1'"):
        prepare(folder, {"id": "x", "prompt": LONG}, {"id": "x.1", "prompt": "a"}, too_long="split")


def test_a_tokenizer_of_another_model_is_refused(small_model: Any) -> None:
    model = Model(name="m", id=str(small_model("llama")))
    files = locate(model)
    narrow = replace(files, config={**files.config, "vocab_size": 100})
    with pytest.raises(ConfigError, match=r"which the model lacks \(it has 100\)"):
        prepare_prompts(Prompts(name="p", items=("It was",)), narrow, load_tokenizer(model, files), 8)


@dataclass(frozen=True)
class ServerModel:
    """A model behind a server: its name and nothing else."""

    id: str = "some/model"
    context_length: int | None = None
    vocab_size: int | None = None


def test_without_a_tokenizer_prompts_are_passed_on_as_texts() -> None:
    rows = ({"id": "a", "n": 1}, {"id": "b", "n": 2})
    done = prepare_prompts(Prompts(name="p", items=rows, template="No. {n}"), ServerModel(), None, 10_000)
    assert done == PreparedPrompts(
        (Prompt("a", "No. 1", (), {"n": 1}), Prompt("b", "No. 2", (), {"n": 2})), ()
    )
    with pytest.raises(ConfigError, match=r"prompts\.items\[0\]: prompts\.template names \{m\}"):
        prepare_prompts(Prompts(name="p", items=rows, template="{m}"), ServerModel(), None, 8)


@pytest.mark.parametrize("chat", [True, "auto"])
def test_without_a_tokenizer_the_turns_of_a_chat_are_kept_for_its_server(chat: Any) -> None:
    item = {"id": "hi", "messages": [{"role": "user", "content": "Hi"}]}
    prompts = Prompts(name="p", items=(item, "text"), chat=chat, system="Be kind.") if chat is True else None
    prompts = prompts or Prompts(name="p", items=(item, "text"), chat=chat)
    first, second = prepare_prompts(prompts, ServerModel(), None, 8).prompts
    system = ({"role": "system", "content": "Be kind."},) if chat is True else ()
    assert first.turns == (*system, {"role": "user", "content": "Hi"})
    assert first.text == ("system: Be kind.\n\nuser: Hi" if chat is True else "user: Hi")
    assert second.chat is (chat is True)
    assert first.ids == second.ids == ()


def test_planning_imports_no_torch(small_model: Any) -> None:
    import subprocess
    import sys

    program = """
import sys
from harness.config.point import Model, Prompts
from harness.models.locate import locate
from harness.models.tokenizer import load_tokenizer
from harness.prompts import prepare_prompts
model = Model(name="m", id=sys.argv[1])
files = locate(model)
done = prepare_prompts(Prompts(name="p", items=("It was",)), files, load_tokenizer(model, files), 8)
assert len(files.tensors) > 10 and len(done.prompts[0].ids) > 2
print("torch" in sys.modules)
"""
    folder = str(small_model("llama"))
    result = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
