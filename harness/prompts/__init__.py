"""Prompts: rows of a source, templates, the chat template, and token ids that fit the model.

`prepare_prompts` does all of it; the modules are its steps, in the order of the data: prompt_file, source,
template, chat, render, fit. `passages` are the texts that a model is scored on.
"""

from harness.prompts.fit import PreparedPrompts, prepare_prompts
from harness.prompts.prompt import Prompt

__all__ = ["PreparedPrompts", "Prompt", "prepare_prompts"]
