"""The published logits-processor-zoo on the built-in model: in a tree as by stock `generate`, one by one."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
import torch

from harness.backends.backend import Request
from harness.backends.hf.tree import decode_tree
from harness.config.groups import ConfigGroups
from harness.config.point import Model, Prompts, Quantization
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.own_checks import planned_processors
from harness.errors import ConfigError

zoo = pytest.importorskip("logits_processor_zoo.transformers")
PATH = "logits_processor_zoo.transformers"
TRIED: dict[str, list[dict[str, Any]]] = {
    "zoo_cite_from_prompt": [{}, {"boost_factor": 4.0, "conditional_boost_factor": 3.0}],
    "zoo_gen_length": [{}, {"boost_factor": 20.0, "complete_sentences": True}],
    "zoo_last_phrase": [{}, {"phrase": " The end."}],
    "zoo_multiple_choice": [{}, {"choices": ["a", "b"], "boost_first_words": 1.0}],
    "zoo_trigger_phrase": [{}, {"trigger_after": False, "trigger_count": 2, "phrase": " night"}],
    "zoo_prevent_hallucination": [{}, {"minp": 0.7, "tolerate": 2, "phrase": " night."}],
}
CASES = [(name, index) for name, several in TRIED.items() for index in range(len(several))]


@pytest.fixture(scope="module")
def fable() -> Any:
    from transformers import GenerationConfig

    from harness.models.load import load
    from harness.models.locate import locate
    from harness.prompts import prepare_prompts

    choice = Model(name="fable_tiny", id="fable_tiny", device="cpu")
    loaded = load(choice, Quantization(name="fp32", dtype="float32"), None)
    loaded.model.generation_config = GenerationConfig()
    texts = ("It was a dark and stormy", "Portugal is", "A list of colors: red, blue, red, blue")
    prompts = prepare_prompts(Prompts(name="x", items=texts), locate(choice), loaded.tokenizer, 60).prompts
    return loaded, prompts


def entry_of(name: str, index: int) -> dict[str, Any]:
    """The entry of a choice, with some arguments set anew."""
    own = ConfigGroups().own_values("decoding", name)
    assert own is not None
    (entry,) = own["processors"]
    return {**entry, **TRIED[name][index]}


def stock(loaded: Any, ids: tuple[int, ...], entry: dict[str, Any], eos: int) -> tuple[int, ...]:
    module, _, name = entry["path"].rpartition(":")
    made = getattr(importlib.import_module(module), name)
    more = {"batch_size": 1} if any(word in name for word in ("Phrase", "Hallucination")) else {}
    arguments = {key: value for key, value in entry.items() if key != "path"}
    output = loaded.model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=eos,
        pad_token_id=loaded.tokenizer.pad_token_id,
        logits_processor=[made(tokenizer=loaded.tokenizer, **more, **arguments)],
    )
    generated = output[0, len(ids) :].tolist()
    return tuple(generated[: generated.index(eos) + 1] if eos in generated else generated)


@pytest.mark.parametrize(("name", "index"), CASES)
def test_it_is_stock_generate_one_prompt_at_a_time(
    name: str, index: int, fable: Any, strategy_of: Any
) -> None:
    loaded, prompts = fable
    entry = entry_of(name, index)
    plain = strategy_of(loaded, max_new_tokens=30)
    (eos,) = plain.eos_token_ids
    strategies = [
        dataclasses.replace(plain, effective={**plain.effective, **planned_processors([one]).fields})
        for one in (entry, {**entry, "place": "after"})
    ]
    detokenizer = Detokenizer(loaded.tokenizer)
    expected = [stock(loaded, prompt.ids, entry, eos) for prompt in prompts]
    requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts]
    together = decode_tree(loaded, requests, detokenizer)
    assert [sample.token_ids for sample in together] == expected * 2
    alone = [decode_tree(loaded, [request], detokenizer)[0] for request in requests]
    assert [sample.token_ids for sample in alone] == expected * 2
    if index == 1:
        neutral = decode_tree(loaded, [Request(prompt, 0, plain) for prompt in prompts], detokenizer)
        assert [sample.token_ids for sample in neutral] != expected, "it is meant to change something"


@pytest.mark.parametrize("name", TRIED)
def test_texts_that_part_are_the_same_alone(name: str, fable: Any, strategy_of: Any) -> None:
    loaded, prompts = fable
    plain = strategy_of(loaded, max_new_tokens=16, do_sample=True, top_k=20)
    fields = planned_processors([entry_of(name, 1)]).fields
    strategy = dataclasses.replace(plain, effective={**plain.effective, **fields})
    detokenizer = Detokenizer(loaded.tokenizer)
    requests = [Request(prompt, sample, strategy) for prompt in prompts for sample in range(4)]
    together = decode_tree(loaded, requests, detokenizer)
    alone = [decode_tree(loaded, [request], detokenizer)[0] for request in requests]
    assert [sample.token_ids for sample in together] == [sample.token_ids for sample in alone]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "MaxTime",
            {"max_time": 2.0},
            "ends texts by the clock: a sample must not depend on the speed of the mach",
        ),
        (
            "TriggerPhrase",
            {"phrase": "x", "trigger_time": 2.0},
            "trigger_time is by the clock: a sample must not depend on the speed of the machine; give trigg",
        ),
    ],
)
def test_what_reads_the_clock_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    path = f"{PATH}:{name}LogitsProcessor"
    with pytest.raises(ConfigError, match=message):
        planned_processors([{"path": path, **arguments}])


def test_the_others_are_not_warned_of_and_stand_for_their_version() -> None:
    for name in TRIED:
        planned = planned_processors([entry_of(name, 0)])
        assert planned.warnings == ()
        assert planned.fields["processors"][0]["code"].startswith("logits-processor-zoo 0.")
