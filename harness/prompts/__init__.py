"""Prompts: a source of rows, templates, rendering through a chat template, token ids that fit the model.

`prepare_prompts` is the whole way; the modules are its stations, in the order of the data.
"""

from harness.prompts.fit import PreparedPrompts, prepare_prompts
from harness.prompts.prompt import Prompt

__all__ = ["PreparedPrompts", "Prompt", "prepare_prompts"]
