"""What is advised for choices that do not exist: always something that exists, or a reason."""

from __future__ import annotations

import re

import pytest

from harness.config.choice_advice import _MEANT, choice_advice
from harness.config.groups import ConfigGroups

GROUPS = ConfigGroups()


@pytest.mark.parametrize(
    ("group", "wrong", "advised"),
    [
        ("decoding", "sampling", "decoding=temperature, decoding=top_p or decoding=min_p"),
        ("decoding", "nucleus", "decoding=top_p"),
        ("decoding", "beam_search", "; use decoding=beam"),
        ("decoding", "argmax", "decoding=greedy"),
        ("decoding", "guidance", "decoding=cfg"),
        ("decoding", "simctg", "decoding=contrastive_search or decoding=contrastive_decoding"),
        ("decoding", "dbs", "decoding=diverse_beam"),
        ("decoding", "group_search", "decoding=diverse_beam"),
        ("decoding", "chain_of_thought", "decoding=cot"),
        ("decoding", "context_aware_decoding", "did you mean context_aware?"),
        ("decoding", "watermark", "; use decoding=kgw, decoding=synthid or decoding=gumbel_watermark"),
        ("decoding", "speculative", "; it changes no sample: add speculation.draft=MODEL or "),
        ("decoding", "prompt_lookup", "speculation.prompt_lookup=true"),
        ("decoding", "self_consistency", "generation.samples=8 'compare.select=[majority,mbr]'"),
        ("decoding", "best_of_n", "; samples are chosen by compare.select"),
        ("quantization", "4bit", "quantization=bnb_nf4"),
        ("quantization", "int8", "did you mean bnb_int8?"),
        ("quantization", "half", "quantization=fp16 or quantization=bf16"),
        ("quantization", "off", "quantization=none"),
        ("cache", "int4", "cache=quantized_int4"),
        ("timing", "on", "timing=quick"),
        ("tracking", "none", "tracking=off"),
        ("backend", "transformers", "backend=hf"),
        ("prompts", "mine.jsonl", "prompts.file=mine.jsonl"),
        ("prompts", "my file.csv", "'prompts.file=my file.csv'"),
        ("model", "Qwen/Qwen2-0.5B", "model.id=Qwen/Qwen2-0.5B"),
        ("model", "small.Q4_0.gguf", "model.id=small.Q4_0.gguf"),
        ("quantization", "Q4_K_M", "a GGUF file is model.id=FILE.gguf, with quantization=none"),
    ],
)
def test_other_tools_words_are_understood(group: str, wrong: str, advised: str) -> None:
    assert advised in choice_advice(group, wrong, GROUPS.choices[group])


@pytest.mark.parametrize("group", list(_MEANT))
def test_all_that_is_advised_exists(group: str) -> None:
    known = GROUPS.choices[group]
    for _, meant in _MEANT[group]:
        if not isinstance(meant, str):
            assert set(meant) <= set(known)


def test_a_prompt_is_quoted_for_hydra_and_the_shell() -> None:
    advice = choice_advice("prompts", 'What\'s "up", ${HOME}?', GROUPS.choices["prompts"])
    assert re.match(r"; a prompt is '?prompts\.items=", advice)


@pytest.mark.parametrize("group", [group for group in GROUPS.choices if group != "prompts"])
def test_nothing_near_is_no_advice(group: str) -> None:
    assert choice_advice(group, "zzqqxx", GROUPS.choices[group]) == ""


def test_a_word_that_is_no_prompt_set_is_a_prompt() -> None:
    advice = choice_advice("prompts", "Hello", GROUPS.choices["prompts"])
    assert advice == """; a prompt is 'prompts.items=["Hello"]'"""


def test_a_word_of_another_tool_wins_over_a_choice_that_is_spelt_alike() -> None:
    assert choice_advice("decoding", "argmax", ["greedy", "sparsemax"]) == "; use decoding=greedy"
    assert choice_advice("decoding", "greedi", ["greedy", "sparsemax"]) == "; did you mean greedy?"
