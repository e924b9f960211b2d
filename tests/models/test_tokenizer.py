"""Tokenizers: the generic class gives AutoTokenizer's ids, pads are left, templates can be replaced."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from changed_files import edit_json
from small_models import SENTENCES

from harness.config.point import Model
from harness.errors import ConfigError, HarnessError
from harness.models.fable import FABLE_MODELS, fable_folder
from harness.models.locate import locate
from harness.models.tokenizer import is_self_contained, load_tokenizer, tokenizer_fingerprint

TEXTS = [*SENTENCES, "  two  spaces\n\ttab", "<|user|>x<|end|>", "日本 🎈", "don't stop..."]


def load(folder: Any, **keys: Any) -> Any:
    model = Model(name="m", id=str(folder), **keys)
    return load_tokenizer(model, locate(model))


def same_as_auto(folder: Any) -> None:
    from transformers import AutoTokenizer

    ours, stock = load(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        for special in (True, False):
            ids = ours(text, add_special_tokens=special)["input_ids"]
            assert ids == stock(text, add_special_tokens=special)["input_ids"]
            assert ours.decode(ids) == stock.decode(ids)
    assert ours.get_vocab() == stock.get_vocab()
    assert (ours.bos_token_id, ours.eos_token_id) == (stock.bos_token_id, stock.eos_token_id)


@pytest.mark.parametrize("bpe", ["bytes", "metaspace"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
def test_ids_are_autotokenizers(small_model: Any, kind: str, bpe: str) -> None:
    folder = small_model(kind, bpe=bpe)
    assert is_self_contained(locate(Model(name="m", id=str(folder)))) == (kind == "llama")
    same_as_auto(folder)


@pytest.mark.parametrize("name", FABLE_MODELS)
def test_ids_of_the_builtin_models_are_autotokenizers(name: str) -> None:
    assert is_self_contained(locate(Model(name="m", id=name)))
    same_as_auto(fable_folder(name))


def test_pads_left_and_uses_eos_without_a_pad_token(small_model: Any) -> None:
    padded = load(small_model("llama"))
    assert padded.pad_token == "<|pad|>"
    without = load(small_model("llama", pad=False))
    assert without.pad_token_id == without.eos_token_id
    assert len(without) == len(padded)
    for tokenizer in (padded, without):
        batch = tokenizer(["It was a dark night", "A"], padding=True)
        short = tokenizer("A")["input_ids"]
        assert batch["input_ids"][1][-len(short) :] == short
        assert batch["attention_mask"][1] == [0] * (len(batch["input_ids"][0]) - len(short)) + [1] * len(
            short
        )


def test_a_tokenizer_without_eos_gets_no_pad_token(small_model: Any, tmp_path: Path) -> None:
    """Token 0 as the pad token would be special, and missing from the outputs."""
    folder = shutil.copytree(small_model("llama", pad=False, bos=False), tmp_path / "m")
    edit_json(folder / "tokenizer_config.json", eos_token=None, bos_token=None)
    tokenizer = load(folder)
    assert tokenizer.pad_token_id is None
    assert tokenizer.all_special_ids == []


def test_a_custom_chat_template_is_a_text_or_a_file(small_model: Any, tmp_path: Path) -> None:
    folder = small_model("llama", chat="plain")
    template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    path = tmp_path / "own.jinja"
    path.write_text(template)
    turns = [{"role": "user", "content": "hi"}]
    fingerprints = set()
    for value in (template, str(path)):
        assert load(folder, chat_template=value).apply_chat_template(turns, tokenize=False) == "[hi]"
        model = Model(name="m", id=str(folder), chat_template=value)
        fingerprints.add(tokenizer_fingerprint(model, locate(model)))
    model = Model(name="m", id=str(folder))
    assert len(fingerprints) == 1
    assert tokenizer_fingerprint(model, locate(model)) not in fingerprints


def test_invalid_templates_are_refused(small_model: Any, tmp_path: Path) -> None:
    folder = small_model("llama")
    with pytest.raises(ConfigError, match=r"^model\.chat_template: .*none\.jinja cannot be read"):
        load(folder, chat_template=str(tmp_path / "none.jinja"))
    with pytest.raises(ConfigError, match=r"^model\.chat_template: not a valid Jinja template: line 1: "):
        load(folder, chat_template="{% for %}")
    with pytest.raises(ConfigError, match=r"^model\.chat_template: .*: nested too deeply"):
        load(folder, chat_template="{{ " + "(" * 3000)
    for data, line in (("{{ 1 }}".encode("utf-16-le"), 1), (b"a\r{{ 1 }}\xff", 2)):
        (tmp_path / "t.jinja").write_bytes(data)
        with pytest.raises(ConfigError, match=rf"t\.jinja:{line}: is not UTF-8"):
            load(folder, chat_template=str(tmp_path / "t.jinja"))
    for name in ("~no-such-user-here/a", "/" + "x" * 300, "/dev/zero", str(tmp_path), "a\0b"):
        with pytest.raises(ConfigError, match=r"^model\.chat_template: [^\n]*$"):
            load(folder, chat_template=name)
    with pytest.raises(ConfigError, match=r"^model\.chat_template: not a valid Jinja template: nested"):
        load(folder, chat_template="{{" + "(" * 5000 + "1" + ")" * 5000 + "}}")
    marked = "{% generation %}{{ messages[0].content }}{% endgeneration %}{% break %}"
    assert load(folder, chat_template=marked.replace("{% break %}", "")).chat_template


def test_a_tokenizer_that_cannot_be_read(small_model: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(small_model("llama"), tmp_path / "m")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(HarnessError, match=r"^model\.id: the tokenizer of .* cannot be loaded: ") as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 1
