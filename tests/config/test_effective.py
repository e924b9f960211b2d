"""Every field is set, and set to what has no effect: compared with transformers itself."""

from typing import get_args

import pytest

from harness.config.decoding import Decoding
from harness.config.decoding_field import FieldKind
from harness.config.effective import (
    FIXED,
    NEUTRAL,
    decoding_fields,
    draws,
    effective_decoding,
    is_beam,
    most_samples,
    searches,
)
from harness.config.unsupported_keys import UNSUPPORTED_KEYS


def test_an_empty_decoding_is_greedy_and_neutral():
    effective = effective_decoding(Decoding(name="x"))
    assert effective["top_k"] == 0
    assert effective["do_sample"] is False
    assert effective["temperature"] == 1.0
    assert effective["top_p"] == 1.0
    assert effective["min_p"] is None


def test_every_key_of_a_decoding_has_a_neutral_value():
    assert set(NEUTRAL) == set(Decoding.model_fields) - {"name"}
    assert not set(NEUTRAL) & set(FIXED)


def test_every_fixed_field_has_advice():
    assert set(FIXED) <= set(UNSUPPORTED_KEYS)


def test_the_kinds_of_fields_partition_them():
    kinds = get_args(FieldKind)
    assert sorted(name for kind in kinds for name in decoding_fields(kind)) == sorted(NEUTRAL)
    ranked = ["length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty"]
    assert list(decoding_fields("beam")) == [*ranked, "force_words", "force_words_ids"]
    stock = {name for name, field in decoding_fields("temperature", "truncation").items() if field.stock}
    assert stock == {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "top_h",
    }


def test_requested_values_are_kept():
    requested = Decoding(name="x", do_sample=True, top_k=7, suppress_tokens=(1, 2), bad_words_ids=((3, 4),))
    effective = effective_decoding(requested)
    assert effective["top_k"] == 7
    assert effective["suppress_tokens"] == [1, 2]
    assert effective["bad_words_ids"] == [[3, 4]]
    assert effective["typical_p"] == 1.0


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "greedy"),
        ({"do_sample": False, "num_beams": 1}, "greedy"),
        ({"do_sample": True}, "draws"),
        ({"num_beams": 3}, "beam"),
        ({"num_beams": 3, "do_sample": True}, "draws and beam"),
    ],
)
def test_kinds(fields, kind):
    decoding = Decoding(name="x", **fields)
    assert draws(decoding) == ("draws" in kind)
    assert is_beam(decoding) == ("beam" in kind)


@pytest.mark.parametrize(
    ("fields", "compares"),
    [({}, False), ({"do_sample": True, "top_k": 4}, False), ({"num_beams": 2}, True)]
    + [({"penalty_alpha": alpha, "top_k": 4}, True) for alpha in (0.0, 0.6)],
)
def test_what_compares_continuations(fields, compares):
    assert searches(effective_decoding(Decoding(name="x", **fields))) is compares


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 1),
        ({"num_beams": 6}, 1),
        ({"num_beams": 6, "num_beam_groups": 1}, 1),
        ({"num_beams": 6, "num_beam_groups": 3}, 6),
        ({"num_beam_groups": 3}, 1),
        ({"penalty_alpha": 0.6, "top_k": 4}, 1),
        ({"do_sample": True, "num_beams": 6}, None),
        ({"cot_branches": 4}, 4),
        ({"num_beams": 6, "force_words": ("fox",)}, 1),
        ({"do_sample": True, "stochastic_beams": True}, None),
        ({"generate": "mine.py:loop"}, 1),
        ({"generate": "mine.py:loop", "do_sample": True}, None),
    ],
)
def test_outputs_that_can_differ(fields, most):
    assert most_samples(Decoding(name="x", **fields)) == most


def test_every_default_of_transformers_that_shapes_the_output_is_set():
    from transformers import GenerationConfig

    defaults = GenerationConfig._get_default_generation_params()
    budget_or_call = {"max_length", "output_scores", "return_dict_in_generate"}
    assistants = {name for name in defaults if "assistant" in name or "lookbehind" in name}
    missing = set(defaults) - budget_or_call - assistants - set(NEUTRAL) - set(FIXED)
    assert not missing
    known = vars(GenerationConfig()).keys()
    # Fields of strategies that transformers has moved out are kept neutral only while it knows them.
    assert {name for name, field in decoding_fields().items() if field.stock} <= known
    assert not {name for name, field in decoding_fields().items() if not field.stock} & known


def test_nothing_is_inherited_from_the_models_own_file(small_model):
    """A model whose file asks for sampling, top_k and penalties still decodes greedily when requested."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder = small_model("llama", generation={"do_sample": True, "top_k": 3, "repetition_penalty": 5.0})
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.repetition_penalty == 5.0
    prompt = torch.tensor([[5, 6, 7, 8]])
    config = GenerationConfig(max_new_tokens=12, eos_token_id=None, **effective_decoding(Decoding(name="g")))
    model.generation_config.eos_token_id = None
    generated = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), generation_config=config, pad_token_id=0
    )
    by_hand = prompt
    with torch.no_grad():
        for _ in range(12):
            by_hand = torch.cat([by_hand, model(by_hand).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert generated.tolist() == by_hand.tolist()
