"""A second model with the same tokenizer, checked before it loads: an amateur, or a draft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from harness.config.point import Model
from harness.config.search_path import conf_folder
from harness.errors import ConfigError, HarnessError, Mistake
from harness.models.locate import locate
from harness.models.model_files import ModelFiles
from harness.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "decoding.amateur"
"""What names an amateur; a draft is named by `speculation.draft`."""


def amateur_model(name: str, model: Model) -> Model:
    """Return the model that the field names: a built-in choice of `model`, a hub id or a folder.

    It is loaded like the model beside it: on its device, with its attention.
    """
    given: Mapping[str, Any] = {"id": name}
    choices = {path.stem: path for path in (conf_folder() / "model").glob("*.yaml")}
    if name in choices:
        given = yaml.safe_load(choices[name].read_text(encoding="utf-8"))
    return Model(**{**given, "name": name, "device": model.device, "attention": model.attention})


def locate_amateur(name: str, model: Model, key: str = KEY) -> ModelFiles:
    """Find the second model of a model, which `key` names, and read its small files.

    Raises:
        ConfigError: it is not found or cannot be used.
    """
    try:
        return locate(amateur_model(name, model))
    except ConfigError as error:
        raise ConfigError(Mistake(f"{key}={name}", one.message) for one in error.mistakes) from error


def check_amateur(
    name: str, model: Model, tokenizer: PreTrainedTokenizerBase, files: ModelFiles, key: str = KEY
) -> None:
    """Check that a second model reads the same token ids as the model beside it.

    Raises:
        ConfigError: its tokenizer has other tokens, or cannot be loaded.
    """
    try:
        other = load_tokenizer(amateur_model(name, model), files)
    except HarnessError as error:
        raise ConfigError.of(f"{key}={name}", str(error)) from error
    if other.get_vocab() != tokenizer.get_vocab():
        problem = f"its tokenizer is not that of {model.name}; choose a smaller model of the same family"
        raise ConfigError.of(f"{key}={name}", problem)
