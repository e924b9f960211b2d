"""Keys that do not make sense together are mistakes; those that do are accepted."""

import pytest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0.7),
        ("top_k", 5),
        ("top_p", 0.9),
        ("min_p", 0.1),
        ("typical_p", 0.9),
        ("epsilon_cutoff", 0.001),
        ("eta_cutoff", 0.001),
        ("top_h", 0.4),
    ],
)
def test_truncation_needs_sampling(mistakes, key, value):
    (line,) = mistakes({f"decoding.{key}": value})
    assert line.startswith(f"decoding.{key}={value}: no effect without do_sample=true; ")
    assert mistakes({f"decoding.{key}": value, "decoding.do_sample": True}) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"generation.samples": 3},
            "generation.samples=3: greedy decoding is deterministic, all samples would be equal",
        ),
        (
            {"generation.samples": 3, "decoding.num_beams": 4},
            "generation.samples=3: beam search is deterministic, all samples would be equal",
        ),
        (
            {"decoding.length_penalty": 0.5},
            "decoding.length_penalty=0.5: no effect without num_beams above 1",
        ),
        (
            {"decoding.early_stopping": True},
            "decoding.early_stopping=true: no effect without num_beams above 1",
        ),
        (
            {"decoding.min_new_tokens": 9, "generation.max_new_tokens": 8},
            "decoding.min_new_tokens=9: must be at most generation.max_new_tokens=8",
        ),
        ({"generation.stop_strings": [".", ""]}, "contains an empty string"),
        ({"decoding.bad_words_ids": []}, "decoding.bad_words_ids=[]: contains an empty list"),
        (
            {"quantization.load_in_4bit": True, "quantization.load_in_8bit": True},
            "quantization.load_in_4bit=true: cannot be combined with load_in_8bit=true",
        ),
        ({"quantization.bnb_4bit_quant_type": "nf4"}, "no effect without quantization.load_in_4bit=true"),
        (
            {"quantization.bnb_4bit_compute_dtype": "float16"},
            "no effect without quantization.load_in_4bit=true",
        ),
        ({"quantization.llm_int8_threshold": 3.0}, "no effect without quantization.load_in_8bit=true"),
        ({"quantization.llm_int8_skip_modules": ["lm_head"]}, "no effect without quantization"),
        (
            {"quantization.torchao": "int4_weight_only", "quantization.load_in_4bit": True},
            "quantization.torchao=int4_weight_only: cannot be combined with load_in_4bit or load_in_8bit",
        ),
        (
            {"quantization.group_size": 64},
            "quantization.group_size=64: no effect without quantization.torchao",
        ),
        (
            {
                "quantization.group_size": 64,
                "quantization.torchao": "int8_dynamic_activation_int8_weight",
            },
            "quantization.group_size=64: no effect here, a whole row shares a scale",
        ),
        ({"cache.nbits": 4}, "cache.nbits=4: no effect without cache.backend=hqq"),
        ({"cache.nbits": 4, "cache.backend": "fp8"}, "cache.nbits=4: no effect with cache.backend=fp8"),
        (
            {"cache.backend": "hqq", "decoding.penalty_alpha": 0.6, "decoding.top_k": 4},
            "cache.backend=hqq: not with contrastive search",
        ),
        (
            {"cache.backend": "hqq", "decoding.num_beams": 4},
            "cache.backend=hqq: not with decoding.num_beams=4",
        ),
        (
            {"decoding.cot_branches": 4, "generation.samples": 4, "decoding.do_sample": True},
            "decoding.cot_branches=4: chain-of-thought decoding takes the likeliest token after the first",
        ),
        (
            {"decoding.cot_branches": 4, "generation.samples": 4, "decoding.top_k": 5},
            "decoding.top_k=5: no effect in chain-of-thought decoding, which does not sample",
        ),
        (
            {"decoding.cot_branches": 4, "decoding.num_beams": 3},
            "decoding.cot_branches=4: beam search has transformers'",
        ),
        (
            {"decoding.cot_branches": 4, "decoding.penalty_alpha": 0.6, "decoding.top_k": 4},
            "decoding.cot_branches=4: contrastive search has one output; use decoding.cot_branches=null",
        ),
        (
            {"decoding.cot_branches": 5, "generation.samples": 6},
            "generation.samples=6: chain-of-thought decoding has cot_branches=5 outputs; "
            "set generation.samples=5",
        ),
        ({"prompts.items": None}, "prompts: none are given"),
        ({"prompts.file": "x.txt"}, "prompts.file=x.txt: prompts.items are given as well; remove one"),
        ({"prompts.items": []}, "prompts.items=[]: contains no prompt"),
        (
            {"prompts.system": "Be brief.", "prompts.chat": False},
            "prompts.system: no effect with prompts.chat=false",
        ),
        ({"timing.new_tokens": 1}, "timing.new_tokens=1: the time between tokens needs at least 2"),
        ({"model.device": "gpu"}, "model.device=gpu: must be auto, cpu, mps, cuda or cuda:N"),
        (
            {"model.devices": "auto", "model.device": "cuda:1"},
            "model.device=cuda:1: names one GPU, and model.devices=auto takes all visible",
        ),
        ({"model.devices": "balanced"}, "model.devices=balanced: must be single, auto or tensor_parallel"),
        ({"model.tensor_parallel_size": 2}, "no effect with model.devices=single; add model.devices="),
        (
            {"model.devices": "tensor_parallel", "model.tensor_parallel_size": 1},
            "model.tensor_parallel_size=1: one GPU shares nothing; use 2 or more",
        ),
        (
            {"model.devices": "tensor_parallel", "quantization.load_in_4bit": True},
            "bitsandbytes packs a weight as one block, which model.devices=tensor_parallel cannot split",
        ),
        (
            {"model.devices": "tensor_parallel", "quantization.torchao": "int8_weight_only"},
            "torchao's packed weights",
        ),
        (
            {"model.devices": "auto", "engine.compile": "on"},
            "engine.compile=on: a step of model.devices=auto cannot be captured",
        ),
        (
            {"model.attention": "flash"},
            "model.attention=flash: must be one of auto, eager, sdpa, flash_attention_2",
        ),
        ({"model.id": " "}, "model.id: must be given"),
    ],
)
def test_a_broken_rule_is_one_line(mistakes, values, expected):
    (line,) = mistakes(values)
    assert expected in line


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"generation.samples": 3, "decoding.do_sample": True},
        {"generation.samples": 3, "decoding.do_sample": True, "decoding.num_beams": 4},
        {"decoding.length_penalty": 0.5, "decoding.num_beams": 4, "decoding.early_stopping": "never"},
        {"timing.new_tokens": 1, "timing.enabled": False},
        {"model.device": "cuda:3", "model.attention": "sdpa"},
        {"model.devices": "auto", "quantization.load_in_4bit": True},
        {"model.devices": "tensor_parallel", "model.tensor_parallel_size": 4},
        {"quantization.load_in_4bit": True, "quantization.bnb_4bit_use_double_quant": True},
        {"quantization.load_in_8bit": True, "quantization.llm_int8_threshold": 3.0},
        {"quantization.torchao": "int8_weight_only", "quantization.group_size": 128},
        {"cache.backend": "hqq", "cache.nbits": 2, "cache.q_group_size": 16, "cache.residual_length": 8},
        {"cache.backend": "fp8"},
        {"prompts.items": None, "prompts.file": "x.txt", "prompts.system": "Be brief."},
        {"decoding.min_new_tokens": 8, "generation.max_new_tokens": 8},
    ],
)
def test_what_makes_sense_is_accepted(mistakes, values):
    assert mistakes(values) == []


def test_a_mistake_names_the_points_it_concerns_when_not_all(composed):
    from harness.config.points import make_points
    from harness.errors import ConfigError

    wrong = composed({"decoding.top_p": 0.9, "generation.max_new_tokens": 4}, decoding="greedy")
    right = composed({"decoding.top_p": 0.9, "decoding.do_sample": True}, decoding="top_p")
    with pytest.raises(ConfigError) as caught:
        make_points([right, wrong])
    assert caught.value.mistakes[0].points == ("fable_small/fp32/greedy",)
    with pytest.raises(ConfigError) as caught:
        make_points([wrong])
    assert caught.value.mistakes[0].points == ()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, "expect[0]: expects nothing; give one of prompt_ids, "),
        ({"outptu": "x"}, "expect[0].outptu: no such key; did you mean output?"),
        ({"tolerance": 0.1}, "expect[0]: expects nothing; give one of prompt_ids, "),
        ({"output_start": ""}, "expect[0].output_start: is empty, which everything meets"),
        ({"prompt_ids_start": []}, "expect[0].prompt_ids_start: is empty, which everything meets"),
        ({"top": {}}, "expect[0].top: is empty, which everything meets"),
        ({"output": "x", "position": 3}, "expect[0].position: no effect without top"),
        ({"output": "x", "tolerance": 0.1}, "expect[0].tolerance: no effect without top"),
        ({"metric": "text/distinct_2", "min": 0, "sample": 0}, "expect[0].sample: no effect without output"),
        ({"output": "\ud800"}, "expect[0].output: contains bytes that are not UTF-8"),
        ({"output": 3}, "expect[0].output=3: must be text"),
        ({"top": {"night": 1.5}}, 'expect[0].top={"night": 1.5}: '),
        ({"top": {"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.1, "e": 0.1, "f": 0.1}}, "set record.top_k=6"),
        ({"prompt_ids": [1]}, "prompt token ids are only recorded with record.prompt_logprobs=true"),
        ({"metric": "text/distinct_2"}, "needs a bound: min, max or both"),
        ({"metric": "text/distinct_2", "min": 0.9, "max": 0.1}, "expect[0].min=0.9: is above max=0.1"),
        ({"output": "x", "min": 1.0}, "a bound needs its metric"),
        ({"metric": "text/distinct_2", "min": 0.1, "prompt": "a"}, "a metric is of the whole point"),
    ],
)
def test_expectations_that_make_no_sense(composed, entry, expected):
    from harness.config.points import make_points
    from harness.errors import ConfigError

    one = composed()
    one.config["expect"] = [entry]
    with pytest.raises(ConfigError) as error:
        make_points([one])
    (line,) = [str(mistake) for mistake in error.value.mistakes]
    assert expected in line


def test_expectations_of_unknown_points_prompts_and_tokens(composed):
    from harness.config.points import make_points
    from harness.errors import ConfigError
    from harness.plan.plan import make_plan

    one = composed()
    one.config["expect"] = [{"point": "*/gredy", "output": "x"}]
    one.config["compare"]["baseline"] = "fable_small/fp32/gredy"
    with pytest.raises(ConfigError) as error:
        make_plan(make_points([one]), "sweep")
    baseline, point = sorted(str(mistake) for mistake in error.value.mistakes)
    assert baseline.startswith(
        "compare.baseline=fable_small/fp32/gredy: no point has this label; did you mean"
    )
    assert point.startswith("expect[0].point=*/gredy: no point has this label")
    one = composed()
    one.config["expect"] = [{"point": "*/greedy", "prompt": "nobody", "output": "x"}]
    with pytest.raises(ConfigError, match=r"prompt=nobody: no prompt has this id"):
        make_plan(make_points([one]), "sweep")
    one.config["expect"] = []
    one.config["decoding"]["suppress_tokens"] = list(range(2048))
    with pytest.raises(ConfigError, match="suppress_tokens: forbids all tokens of fable_small"):
        make_plan(make_points([one]), "sweep")
    del one.config["decoding"]["suppress_tokens"]
    one.config["expect"] = [{"sample": 1, "output": "x"}]
    with pytest.raises(ConfigError, match=r"sample=1: .*there are generation\.samples=1"):
        make_plan(make_points([one]), "sweep")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"compare.metrics": ["shout"]}, "compare.metrics=shout: must be FILE.py:FUNCTION"),
        ({"compare.pareto": ["text/distinct_2"]}, "needs two metrics or more"),
    ],
)
def test_comparisons_that_make_no_sense(mistakes, values, expected):
    (line,) = mistakes(values)
    assert expected in line
