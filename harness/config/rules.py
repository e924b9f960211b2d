"""What makes sense together: rules across the keys of one point, checked once the values are right.

Only what the config alone can tell; prompts, model files and devices are checked where they are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from pydantic import BaseModel

from harness.config.effective import draws, is_beam
from harness.config.expectation import ASKED, Expectation
from harness.config.point import (
    Cache,
    Compare,
    Decoding,
    Drift,
    Generation,
    Model,
    Prompts,
    Quantization,
    Record,
    Timing,
)
from harness.config.suggest import did_you_mean
from harness.config.validation import shown
from harness.errors import Mistake

# What only has an effect on what is drawn from.
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
BEAMS = ("length_penalty", "early_stopping")
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
PROMPTS_REFERENCE = "reference"
"""The `drift.text` that stands for the prompts' own column."""
ATTENTION = ("auto", "eager", "sdpa", "flash_attention_2")


def check_rules(parts: Mapping[str, BaseModel]) -> list[Mistake]:
    """Every rule that the given parts of a point break; parts that are not right are left out of `parts`."""
    mistakes: list[Mistake] = []
    if "model" in parts:
        mistakes += _model(cast(Model, parts["model"]))
    if "quantization" in parts:
        mistakes += _quantization(cast(Quantization, parts["quantization"]))
    if "cache" in parts:
        mistakes += _cache(cast(Cache, parts["cache"]))
    if "prompts" in parts:
        mistakes += _prompts(cast(Prompts, parts["prompts"]))
    if "decoding" in parts:
        mistakes += _decoding(cast(Decoding, parts["decoding"]))
    if "timing" in parts:
        mistakes += _timing(cast(Timing, parts["timing"]))
    if "compare" in parts:
        mistakes += _compare(cast(Compare, parts["compare"]))
    if "drift" in parts:
        mistakes += _drift(cast(Drift, parts["drift"]))
    if "decoding" in parts and "generation" in parts:
        mistakes += _budget(cast(Decoding, parts["decoding"]), cast(Generation, parts["generation"]))
    if "decoding" in parts and "cache" in parts:
        mistakes += _cache_of_beams(cast(Decoding, parts["decoding"]), cast(Cache, parts["cache"]))
    return mistakes


def expectation_rules(expect: Sequence[Expectation], parts: Mapping[str, BaseModel]) -> Iterator[Mistake]:
    """What makes no sense in `expect`, alone or beside what is recorded."""
    record = cast(Record | None, parts.get("record"))
    for place, one in enumerate(expect):
        where = f"expect[{place}]"
        if all(getattr(one, name) is None for name in ASKED):
            yield Mistake(where, f"expects nothing; give one of {', '.join(ASKED)}")
        if one.metric is not None and one.min is None and one.max is None:
            yield Mistake(f"{where}.metric={one.metric}", "needs a bound: min, max or both")
        if one.min is not None and one.max is not None and one.min > one.max:
            yield Mistake(f"{where}.min={one.min:g}", f"is above max={one.max:g}; swap them")
        if one.metric is None and (one.min is not None or one.max is not None):
            yield Mistake(where, "a bound needs its metric, as in metric: text/distinct_2")
        if one.metric is not None and one.prompt is not None and len(_asked(one)) == 1:
            yield Mistake(
                f"{where}.prompt={one.prompt}", "a metric is of the whole point; leave the prompt out"
            )
        if record is None:
            continue
        if (one.prompt_ids or one.prompt_ids_start) and not record.prompt_logprobs:
            yield Mistake(
                where, "a prompt's token ids are kept with record.prompt_logprobs=true only; set it"
            )
        if one.top is not None and len(one.top) > record.top_k:
            cure = f"but record.top_k={record.top_k}; set record.top_k={len(one.top)}"
            yield Mistake(f"{where}.top", f"names {len(one.top)} tokens, {cure}")


def _asked(one: Expectation) -> list[str]:
    return [name for name in ASKED if getattr(one, name) is not None]


def _model(model: Model) -> Iterator[Mistake]:
    if not model.id.strip():
        yield Mistake("model.id", "must be given: model.id=HUB-ID-OR-FOLDER")
    if not DEVICE.fullmatch(model.device):
        yield Mistake(f"model.device={model.device}", "must be auto, cpu, mps, cuda or cuda:N")
    if model.attention not in ATTENTION:
        hint = did_you_mean(model.attention, ATTENTION)
        yield Mistake(f"model.attention={model.attention}", f"must be one of {', '.join(ATTENTION)}{hint}")


def _quantization(quantization: Quantization) -> Iterator[Mistake]:
    if quantization.load_in_4bit and quantization.load_in_8bit:
        yield Mistake(
            "quantization.load_in_4bit=true", "excludes load_in_8bit=true; set one of them to false"
        )
    if quantization.torchao is not None and (quantization.load_in_4bit or quantization.load_in_8bit):
        yield Mistake(
            f"quantization.torchao={quantization.torchao}",
            "excludes load_in_4bit and load_in_8bit; set torchao=null, or those to false",
        )
    for key, info in Quantization.model_fields.items():
        if getattr(quantization, key) == info.default:
            continue
        text = f"quantization.{key}={shown(getattr(quantization, key))}"
        if key.startswith("bnb_4bit_") and not quantization.load_in_4bit:
            yield Mistake(
                text, "no effect without quantization.load_in_4bit=true; or use quantization=bnb_nf4"
            )
        if key in ("llm_int8_threshold", "llm_int8_has_fp16_weight") and not quantization.load_in_8bit:
            yield Mistake(
                text, "no effect without quantization.load_in_8bit=true; or use quantization=bnb_int8"
            )
        if key == "llm_int8_skip_modules" and not (quantization.load_in_8bit or quantization.load_in_4bit):
            yield Mistake(text, "no effect without quantization; use quantization=bnb_int8 or bnb_nf4")
        if key == "group_size" and quantization.torchao is None:
            yield Mistake(
                text, "no effect without quantization.torchao; use quantization=torchao_int4_weight_only"
            )
        if key == "group_size" and quantization.torchao == "int8_dynamic_activation_int8_weight":
            yield Mistake(
                text,
                "no effect here, a whole row shares a scale; or use quantization=torchao_int8_weight_only",
            )


def _cache(cache: Cache) -> Iterator[Mistake]:
    for key, info in Cache.model_fields.items():
        value = getattr(cache, key)
        if key in ("name", "backend") or value == info.default:
            continue
        text = f"cache.{key}={shown(value)}"
        if cache.backend is None:
            yield Mistake(text, "no effect without cache.backend=hqq; or use cache=quantized_int4")
        if cache.backend == "fp8":
            yield Mistake(
                text, "no effect with cache.backend=fp8, where all values share a scale; use backend=hqq"
            )


def _cache_of_beams(decoding: Decoding, cache: Cache) -> Iterator[Mistake]:
    if cache.quantized and is_beam(decoding):
        yield Mistake(
            f"cache.backend={cache.backend}",
            f"not with decoding.num_beams={decoding.num_beams}: what beams say is scored again in one pass, "
            "which would not read the quantized cache; use cache=default, or decoding=greedy",
        )


def _prompts(prompts: Prompts) -> Iterator[Mistake]:
    if prompts.items is None and prompts.file is None:
        yield Mistake("prompts", 'there are none: add prompts.file=FILE or "prompts.items=[one, two]"')
    if prompts.items is not None and prompts.file is not None:
        yield Mistake(
            f"prompts.file={prompts.file}", "prompts.items are given as well; leave one of them out"
        )
    if prompts.items is not None and not prompts.items:
        yield Mistake("prompts.items=[]", "holds no prompt; give at least one")
    if prompts.system is not None and prompts.chat is False:
        yield Mistake("prompts.system", "no effect with prompts.chat=false; set prompts.chat=true")


def _decoding(decoding: Decoding) -> Iterator[Mistake]:
    for key in SAMPLING:
        value = getattr(decoding, key)
        if value is not None and not draws(decoding):
            cure = "add decoding.do_sample=true or use decoding=temperature"
            yield Mistake(f"decoding.{key}={shown(value)}", f"no effect without do_sample=true; {cure}")
    for key in BEAMS:
        value = getattr(decoding, key)
        if value is not None and not is_beam(decoding):
            cure = "add decoding.num_beams=5 or use decoding=beam"
            yield Mistake(f"decoding.{key}={shown(value)}", f"no effect without num_beams above 1; {cure}")
    for key in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"):
        value = getattr(decoding, key)
        if value is not None and (not value or any(item == () for item in value)):
            yield Mistake(f"decoding.{key}={shown(value)}", "holds an empty list; give token ids, or null")


def _budget(decoding: Decoding, generation: Generation) -> Iterator[Mistake]:
    if generation.samples > 1 and not draws(decoding):
        kind = "beam search draws nothing" if is_beam(decoding) else "greedy decoding draws nothing"
        cure = "set generation.samples=1, or sample: decoding=temperature"
        yield Mistake(f"generation.samples={generation.samples}", f"{kind}, they would be copies; {cure}")
    if (least := decoding.min_new_tokens) is not None and least > generation.max_new_tokens:
        most = generation.max_new_tokens
        yield Mistake(f"decoding.min_new_tokens={least}", f"must be at most generation.max_new_tokens={most}")
    if any(not text for text in generation.stop_strings):
        yield Mistake(
            f"generation.stop_strings={shown(generation.stop_strings)}", "holds an empty text; take it out"
        )


def _timing(timing: Timing) -> Iterator[Mistake]:
    if timing.enabled and timing.new_tokens < 2:
        cure = "the time between tokens needs at least 2, or use timing=off"
        yield Mistake(f"timing.new_tokens={timing.new_tokens}", cure)


def _compare(compare: Compare) -> Iterator[Mistake]:
    for metric in compare.metrics:
        file, colon, function = metric.rpartition(":")
        if not colon or not file.endswith(".py") or not function.isidentifier():
            yield Mistake(f"compare.metrics={metric}", "must be FILE.py:FUNCTION")
    if len(set(compare.pareto)) < 2:
        yield Mistake(f"compare.pareto={shown(compare.pareto)}", "needs two metrics or more")


def _drift(drift: Drift) -> Iterator[Mistake]:
    for key in ("reference", "text"):
        value = getattr(drift, key)
        if value is not None and not drift.enabled:
            cure = "no effect with drift.enabled=false; set drift.enabled=true"
            yield Mistake(f"drift.{key}={value}", cure)
    if drift.text is not None and drift.text != PROMPTS_REFERENCE and not drift.text.endswith(".txt"):
        yield Mistake(f"drift.text={drift.text}", "must be a .txt file, or `reference`: the prompts' column")
