"""The tokenizer of a model: padded left, with a pad token, and with the chat template that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.point import Model
from harness.errors import ConfigError, HarnessError
from harness.models.locate import ModelFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GENERIC_CLASSES = {"PreTrainedTokenizerFast", "TokenizersBackend"}


def load_tokenizer(model: Model, files: ModelFiles) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a located model.

    It pads on the left. Where it has no pad token, its end-of-text token (else any token) stands in: pads
    are always masked out, so the vocabulary need not grow. Torch is not imported where tokenizer.json alone
    decides the ids (see `reads_alone`).

    Raises:
        ConfigError: `model.chat_template` names a file that cannot be read, or is no template.
        HarnessError: the tokenizer cannot be loaded.
    """
    template = chat_template(model)
    try:
        tokenizer = _load(model, files)
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HarnessError(f"model.id: the tokenizer of {files.id} cannot be loaded: {line}") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def chat_template(model: Model) -> str | None:
    """The text of `model.chat_template`: a Jinja template as it is, or the content of the file it names.

    Raises:
        ConfigError: it names a file that is not there, or is a template that does not parse.
    """
    asked = model.chat_template
    if asked is None:
        return None
    if "{" not in asked:
        path = Path(asked).expanduser()
        try:
            asked = path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ConfigError.of("model.chat_template", f"{path} cannot be read: {reason}") from None
    import jinja2

    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_without_generation_blocks(asked))
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError.of(
            "model.chat_template", f"is no Jinja template: line {error.lineno}: {error.message}"
        ) from None
    return asked


def tokenizer_fingerprint(model: Model, files: ModelFiles) -> str:
    """What the token ids depend on: the tokenizer's files and the chat template in use."""
    return files.tokenizer_fingerprint(chat_template(model))


def reads_alone(files: ModelFiles) -> bool:
    """Whether tokenizer.json alone decides the ids, so that the generic class gives AutoTokenizer's.

    AutoTokenizer builds some architectures' tokenizers anew, whatever their files say; of a Llama that
    names a generic class it takes the file as it is.
    """
    if files.model_type != "llama" or not (files.folder / "tokenizer.json").is_file():
        return False
    path = files.folder / "tokenizer_config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return said.get("tokenizer_class") in _GENERIC_CLASSES and "auto_map" not in said


def _load(model: Model, files: ModelFiles) -> PreTrainedTokenizerBase:
    if reads_alone(files):
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(str(files.folder))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(files.folder), trust_remote_code=model.trust_remote_code)


def _without_generation_blocks(template: str) -> str:
    # `{% generation %}` is transformers' own tag; to plain Jinja it is an error.
    import re

    return re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template)
