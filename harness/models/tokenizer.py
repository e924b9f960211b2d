"""The tokenizer of a model: it pads on the left, has a pad token, and the configured chat template."""

from __future__ import annotations

import json
import re
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.config.point import Model
from harness.config.text_file import read_text
from harness.errors import ConfigError, first_line
from harness.models.agreement import tokenizer_contradictions
from harness.models.gguf_header import GgufHeader
from harness.models.lean_imports import import_models
from harness.models.model_files import ModelFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERIC_CLASSES = {"PreTrainedTokenizerFast", "TokenizersBackend"}


def load_tokenizer(model: Model, files: ModelFiles) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a located model.

    It pads on the left. Where it has no pad token, or one that the model lacks, EOS is used: pads are always
    masked out, so the vocabulary need not grow. Torch is not imported where tokenizer.json alone decides the
    ids (see `is_self_contained`).

    Raises:
        ConfigError: the tokenizer cannot be loaded, or has ids that the model lacks; `model.chat_template`
            names a file that cannot be read, or is not a Jinja template.
    """
    template = chat_template(model)
    try:
        tokenizer = _load(model, files)
        # A wrong value of its files may show only when it is used.
        assert tokenizer.all_special_ids is not None
        tokenizer.decode(tokenizer("a")["input_ids"], skip_special_tokens=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        problem = f"the tokenizer of {files.id} cannot be loaded: {first_line(error)}; fetch its files again"
        raise ConfigError.of("model.id", problem) from error
    if mistakes := list(tokenizer_contradictions(files, tokenizer)):
        raise ConfigError(mistakes)
    tokenizer.padding_side = "left"
    if _lacks(files, tokenizer.pad_token_id):
        tokenizer.pad_token = None if _lacks(files, tokenizer.eos_token_id) else tokenizer.eos_token
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def chat_template(model: Model) -> str | None:
    """Return the text of `model.chat_template`: a Jinja template, or the content of the file it names.

    Raises:
        ConfigError: the file cannot be read, or the template does not parse.
    """
    template = model.chat_template
    if template is None:
        return None
    if "{" not in template:
        template = read_text(template, "model.chat_template")
    import jinja2

    # `{% generation %}` is a tag of transformers, which plain Jinja does not know.
    plain = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template)
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)
    except RecursionError:
        raise ConfigError.of("model.chat_template", "not a valid Jinja template: nested too deeply") from None
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError.of(
            "model.chat_template", f"not a valid Jinja template: line {error.lineno}: {error.message}"
        ) from None
    return template


def tokenizer_fingerprint(model: Model, files: ModelFiles) -> str:
    """Return a hash of what the token ids depend on: the tokenizer's files and the chat template in use."""
    return files.tokenizer_fingerprint(chat_template(model))


def is_self_contained(files: ModelFiles) -> bool:
    """Return whether tokenizer.json alone decides the ids, so that the generic class gives AutoTokenizer's.

    AutoTokenizer rebuilds the tokenizers of some architectures, whatever their files contain; of a Llama
    that names a generic class it takes the file as it is.
    """
    if files.model_type != "llama" or not (files.folder / "tokenizer.json").is_file():
        return False
    try:
        config = json.loads((files.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return config.get("tokenizer_class") in _GENERIC_CLASSES and "auto_map" not in config


def _lacks(files: ModelFiles, token_id: int | None) -> bool:
    """Return whether the model has no such token."""
    return token_id is None or (files.vocab_size is not None and token_id >= files.vocab_size)


def _load(model: Model, files: ModelFiles) -> PreTrainedTokenizerBase:
    if files.gguf is not None:
        return _load_gguf(files.gguf)
    if is_self_contained(files):
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(str(files.folder))
    import_models()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(files.folder), trust_remote_code=model.trust_remote_code)


def _load_gguf(header: GgufHeader) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a GGUF file.

    It is read from an empty folder: transformers would prefer a tokenizer.json beside the file. Of a
    byte-level BPE the generic class is AutoTokenizer's, which only reads all of the metadata to find that.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind: Any = AutoTokenizer
    if header.metadata.get("tokenizer.ggml.model") == "gpt2":
        kind = PreTrainedTokenizerFast
    with TemporaryDirectory() as empty:
        return kind.from_pretrained(empty, gguf_file=str(header.path))
