"""Rules across the keys of one point, checked once the values are right.

Only rules on the config itself; prompts, model files and devices are checked where they are read.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from harness.config.backend_rules import backend_rules, not_with_servers, shared_by_workers
from harness.config.decoding_rules import decoding_rules
from harness.config.device_rules import device_rules, not_with_vllm, split_rules, without_graphs
from harness.config.effective import is_beam, is_contrastive, most_samples
from harness.config.expectation import ASKED, OF_A_SAMPLE, Expectation
from harness.config.no_effect import NoEffect
from harness.config.plugins import METRICS, plugin, unknown_plugin
from harness.config.point import (
    Backend,
    Cache,
    Compare,
    Decoding,
    Drift,
    Generation,
    Model,
    Prompts,
    Quantization,
    Record,
    Speculation,
    Tracking,
)
from harness.config.quoted_value import quoted_value
from harness.config.structure import STRUCTURES
from harness.config.suggest import did_you_mean
from harness.config.timing_rules import cost_of_a_model, timing_rules
from harness.config.validation import format_value
from harness.errors import ConfigError, Mistake

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
ATTENTION = ("auto", "eager", "sdpa", "flash_attention_2")
_MOST_DIGITS = 30  # of a product of two, which 32-bit floats hold
_LONGEST_NAME = 500  # of an experiment, in MLflow
PROMPTS_REFERENCE = "reference"
"""The `drift.text` that means the prompts' column of that name."""


def check_rules(sections: Mapping[str, BaseModel]) -> list[Mistake]:
    """Return the mistakes by every rule whose sections are given; sections that are wrong are left out."""
    mistakes: list[Mistake] = []
    for rule, names in _RULES.items():
        if all(name in sections for name in names):
            mistakes += rule(*(sections[name] for name in names))
    return mistakes


def expectation_rules(expect: Sequence[Expectation], sections: Mapping[str, BaseModel]) -> Iterator[Mistake]:
    """Yield what is wrong with the entries of `expect`, alone or with what is recorded."""
    record = cast(Record | None, sections.get("record"))
    for index, one in enumerate(expect):
        key = f"expect[{index}]"
        expected = [name for name in ASKED if getattr(one, name) is not None]
        for name in ("output_start", "prompt_ids_start", "top"):
            if name in expected and not getattr(one, name):
                yield Mistake(f"{key}.{name}", "is empty, which everything meets; name what is expected")
        for name, of in (("position", ("top",)), ("tolerance", ("top",)), ("sample", OF_A_SAMPLE)):
            if expected and name in one.model_fields_set and not set(of) & set(expected):
                yield Mistake(f"{key}.{name}", f"no effect without {' or '.join(of)}; remove it")
        if not expected:
            yield Mistake(key, f"expects nothing; give one of {', '.join(ASKED)}")
        if one.metric is not None and one.min is None and one.max is None:
            yield Mistake(f"{key}.metric={one.metric}", "needs a bound: min, max or both")
        if one.min is not None and one.max is not None and one.min > one.max:
            yield Mistake(f"{key}.min={one.min:g}", f"is above max={one.max:g}; swap them")
        if one.metric is None and (one.min is not None or one.max is not None):
            yield Mistake(key, "a bound needs its metric, as in metric: text/distinct_2")
        if expected == ["metric"] and one.prompt is not None:
            yield Mistake(f"{key}.prompt={one.prompt}", "a metric is of the whole point; remove the prompt")
        if record is None:
            continue
        if (one.prompt_ids or one.prompt_ids_start) and not record.prompt_logprobs:
            yield Mistake(key, "prompt token ids are only recorded with record.prompt_logprobs=true; set it")
        if one.top is not None and len(one.top) > record.top_k:
            cure = f"but record.top_k={record.top_k}; set record.top_k={len(one.top)}"
            yield Mistake(f"{key}.top", f"names {len(one.top)} tokens, {cure}")


def _model(model: Model) -> Iterator[Mistake]:
    if not model.id.strip():
        yield Mistake("model.id", "must be given: model.id=HUB-ID-OR-FOLDER")
    name = model.gguf_file
    if name is not None and (not name.endswith(".gguf") or ".." in name or name.startswith(("/", "~"))):
        message = "must be the name of a .gguf file in the folder or repository of model.id"
        yield Mistake(f"model.gguf_file={name}", message)
    if not DEVICE.fullmatch(model.device):
        yield Mistake(f"model.device={model.device}", "must be auto, cpu, mps, cuda or cuda:N")
    if model.attention not in ATTENTION:
        hint = did_you_mean(model.attention, ATTENTION)
        yield Mistake(f"model.attention={model.attention}", f"must be one of {', '.join(ATTENTION)}{hint}")


def _quantization(quantization: Quantization) -> Iterator[Mistake]:
    if quantization.load_in_4bit and quantization.load_in_8bit:
        message = "cannot be combined with load_in_8bit=true; set one of them to false"
        yield Mistake("quantization.load_in_4bit=true", message)
    if quantization.torchao is not None and (quantization.load_in_4bit or quantization.load_in_8bit):
        message = "cannot be combined with load_in_4bit or load_in_8bit; set torchao=null, or those to false"
        yield Mistake(f"quantization.torchao={quantization.torchao}", message)
    if quantization.vllm is not None and (
        quantization.load_in_4bit or quantization.load_in_8bit or quantization.torchao is not None
    ):
        message = (
            "cannot be combined with another quantization; set vllm=null, or the others to their default"
        )
        yield Mistake(f"quantization.vllm={quantization.vllm}", message)
    if quantization.exported is not None and (
        quantization.load_in_4bit
        or quantization.load_in_8bit
        or quantization.torchao is not None
        or quantization.vllm is not None
    ):
        message = "cannot be combined with another quantization; set exported=null, or the others to default"
        yield Mistake(f"quantization.exported={quantization.exported}", message)
    for key, info in Quantization.model_fields.items():
        if getattr(quantization, key) == info.default:
            continue
        text = f"quantization.{key}={format_value(getattr(quantization, key))}"
        if key.startswith("bnb_4bit_") and not quantization.load_in_4bit:
            cure = "set it, or use quantization=bnb_nf4"
            yield NoEffect(text, f"no effect without quantization.load_in_4bit=true; {cure}")
        if key in ("llm_int8_threshold", "llm_int8_has_fp16_weight") and not quantization.load_in_8bit:
            cure = "set it, or use quantization=bnb_int8"
            yield NoEffect(text, f"no effect without quantization.load_in_8bit=true; {cure}")
        if key == "llm_int8_skip_modules" and not (quantization.load_in_8bit or quantization.load_in_4bit):
            yield NoEffect(text, "no effect without quantization; use quantization=bnb_int8 or bnb_nf4")
        if key == "group_size" and quantization.torchao is None:
            cure = "use quantization=torchao_int4_weight_only"
            yield NoEffect(text, f"no effect without quantization.torchao; {cure}")
        if key == "group_size" and quantization.torchao == "int8_dynamic_activation_int8_weight":
            cure = "set it to null, or use quantization=torchao_int8_weight_only"
            yield NoEffect(text, f"no effect here, a whole row shares a scale; {cure}")


def keys_without_effect(section: Quantization | Cache | Backend) -> frozenset[str]:
    """Return the keys of a section that have no effect with its other keys, whatever their value."""
    rules: dict[type, Callable[[Any], Iterator[Mistake]]] = {Cache: _cache, Backend: backend_rules}
    rule = rules.get(type(section), _quantization)
    found = set()
    for key in type(section).model_fields:
        changed = section.model_copy(update={key: "another value"})
        named = (m.key.partition("=")[0].rpartition(".")[2] for m in rule(changed) if isinstance(m, NoEffect))
        found |= {key} & set(named)
    return frozenset(found)


def _cache(cache: Cache) -> Iterator[Mistake]:
    for key, info in Cache.model_fields.items():
        value = getattr(cache, key)
        if key in ("name", "backend") or value == info.default:
            continue
        text = f"cache.{key}={format_value(value)}"
        if cache.backend is None:
            yield NoEffect(text, "no effect without cache.backend=hqq; set it, or use cache=quantized_int4")
        if cache.backend == "fp8":
            cure = "use cache.backend=hqq"
            yield NoEffect(text, f"no effect with cache.backend=fp8, where all values share a scale; {cure}")


def _cache_of_beams(decoding: Decoding, cache: Cache) -> Iterator[Mistake]:
    if cache.quantized and is_beam(decoding):
        yield Mistake(
            f"cache.backend={cache.backend}",
            f"not with decoding.num_beams={decoding.num_beams}: outputs of beams are scored again in one "
            "forward pass, which would not read the quantized cache; use cache=default, or decoding=greedy",
        )


def _cache_of_searches(decoding: Decoding, cache: Cache) -> Iterator[Mistake]:
    if not cache.quantized:
        return
    problem = ""
    if is_contrastive(decoding):
        problem = "contrastive search, whose candidates are rows of the model's own cache"
    elif decoding.stochastic_beams:
        problem = "stochastic beam search, whose beams are rows of the model's own cache"
    elif decoding.generate is not None:
        problem = "decoding.generate, which is given the model without a cache"
    if problem:
        yield Mistake(f"cache.backend={cache.backend}", f"not with {problem}; use cache=default")


def _prompts(prompts: Prompts) -> Iterator[Mistake]:
    if prompts.items is None and prompts.file is None:
        yield Mistake("prompts", 'none are given; add prompts.file=FILE or "prompts.items=[one, two]"')
    if prompts.items is not None and prompts.file is not None:
        yield Mistake(f"prompts.file={prompts.file}", "prompts.items are given as well; remove one of them")
    if prompts.items is not None and not prompts.items:
        yield Mistake("prompts.items=[]", "contains no prompt; give at least one")
    if prompts.system is not None and prompts.chat is False:
        yield Mistake("prompts.system", "no effect with prompts.chat=false; set prompts.chat=true")


def _budget(decoding: Decoding, generation: Generation) -> Iterator[Mistake]:
    most = most_samples(decoding)
    if most is not None and generation.samples > most > 1:
        has = f"diverse beam search has num_beams={most}"
        if decoding.cot_branches is not None:
            has = f"chain-of-thought decoding has cot_branches={most}"
        message = f"{has} outputs; set generation.samples={most}"
        yield Mistake(f"generation.samples={generation.samples}", message)
    elif generation.samples > 1 and most == 1:
        method = "contrastive search" if is_contrastive(decoding) else "greedy decoding"
        method = "beam search" if is_beam(decoding) else method
        cure = "set generation.samples=1, or sample with decoding=temperature"
        if decoding.generate is not None:
            method = "decoding.generate without do_sample"
            cure = "set generation.samples=1, or add decoding.do_sample=true"
        message = f"{method} is deterministic, all samples would be equal; {cure}"
        yield Mistake(f"generation.samples={generation.samples}", message)
    if (least := decoding.min_new_tokens) is not None and least > generation.max_new_tokens:
        most = generation.max_new_tokens
        yield Mistake(f"decoding.min_new_tokens={least}", f"must be at most generation.max_new_tokens={most}")
    if (decay := decoding.exponential_decay_length_penalty) is not None:
        start, factor = decay
        steps = max(0, generation.max_new_tokens - start)
        if factor == 0 or steps * abs(math.log10(abs(factor))) > _MOST_DIGITS:
            text = f"decoding.exponential_decay_length_penalty={format_value(decay)}"
            cure = f"take a factor nearer to 1, as in [{start}, 1.05]"
            yield Mistake(text, f"{factor:g} to the power of up to {steps} is no finite size; {cure}")
    given = [name for name in STRUCTURES if getattr(decoding, name) is not None]
    if given and generation.ignore_eos:
        message = f"an output with decoding.{given[0]} ends with EOS; set generation.ignore_eos=false"
        yield Mistake("generation.ignore_eos=true", message)
    if not all(generation.stop_strings):
        text = f"generation.stop_strings={format_value(generation.stop_strings)}"
        yield Mistake(text, "contains an empty string; remove it")


def _tracking(tracking: Tracking) -> Iterator[Mistake]:
    name = tracking.experiment
    if not name.strip() or len(name) > _LONGEST_NAME:
        text = f"tracking.experiment={name[:40]}"
        yield Mistake(text, f"must be a name of 1 to {_LONGEST_NAME} characters that are not all blank")


def _plugin_metric(key: str, name: str) -> Iterator[Mistake]:
    try:
        if plugin(METRICS, name, key) is None:
            yield Mistake(key, f"must be FILE.py:FUNCTION; {unknown_plugin(METRICS, name)}")
    except ConfigError as error:
        yield from error.mistakes


def _compare(compare: Compare) -> Iterator[Mistake]:
    for metric in compare.metrics:
        file, colon, function = metric.rpartition(":")
        key = f"compare.metrics={metric}"
        if not colon and metric.isidentifier():
            yield from _plugin_metric(key, metric)
        elif not colon or not file.endswith(".py") or not function.isidentifier():
            yield Mistake(key, "must be FILE.py:FUNCTION")
    if len(once := dict.fromkeys(compare.select)) < len(compare.select):
        cure = shlex.quote(f"compare.select=[{','.join(once)}]")
        yield Mistake(
            f"compare.select={format_value(compare.select)}", f"names one of them twice; write {cure}"
        )
    if compare.answer_pattern is not None:
        yield from _answer_pattern(compare.answer_pattern, compare.select)
    if len(set(compare.pareto)) < 2:
        yield Mistake(f"compare.pareto={format_value(compare.pareto)}", "needs two metrics or more")


def _answer_pattern(pattern: str, select: Sequence[str]) -> Iterator[Mistake]:
    import regex

    text = f"compare.answer_pattern={pattern}"
    if not select:
        yield Mistake(text, "no effect without compare.select; add 'compare.select=[majority]'")
    try:
        regex.compile(pattern)
    except regex.error as error:
        literal = quoted_value("compare.answer_pattern", re.escape(pattern))
        cure = shlex.quote(f"compare.answer_pattern={literal}")
        yield Mistake(text, f"is no regular expression ({error}); mend it, or use {cure}")


def _drift(drift: Drift) -> Iterator[Mistake]:
    for key in ("reference", "text"):
        value = getattr(drift, key)
        if value is not None and not drift.enabled:
            yield Mistake(
                f"drift.{key}={value}", "no effect with drift.enabled=false; set drift.enabled=true"
            )
    if drift.text is not None and drift.text != PROMPTS_REFERENCE and not drift.text.endswith(".txt"):
        yield Mistake(f"drift.text={drift.text}", "must be a .txt file, or `reference`: the prompts' column")


def _speculation(speculation: Speculation) -> Iterator[Mistake]:
    for key in ("draft", "early_exit", "num_assistant_tokens"):
        value = getattr(speculation, key)
        if len(once := list(dict.fromkeys(value))) < len(value):
            cure = shlex.quote(f"speculation.{key}={format_value(once)}")
            yield Mistake(f"speculation.{key}={format_value(value)}", f"names one twice; write {cure}")
    if not speculation.num_assistant_tokens:
        beside = "" if speculation.enabled else " speculation.prompt_lookup=true"
        cure = f"leave it out, or use speculation.num_assistant_tokens=[1,2,4]{beside}"
        yield Mistake("speculation.num_assistant_tokens=[]", f"names no block length; {cure}")
    for key, needs, cure in (
        ("max_matching_ngram_size", speculation.prompt_lookup, "add speculation.prompt_lookup=true"),
        ("num_assistant_tokens", speculation.enabled, "add speculation.prompt_lookup=true"),
    ):
        value = getattr(speculation, key)
        if value and not needs and value != Speculation.model_fields[key].default:
            text = f"speculation.{key}={format_value(value)}"
            yield Mistake(text, f"no effect, nothing proposes tokens; {cure}")


_RULES: dict[Callable[..., Iterator[Mistake]], tuple[str, ...]] = {
    _model: ("model",),
    device_rules: ("model",),
    not_with_vllm: ("model", "backend"),
    split_rules: ("model", "quantization"),
    without_graphs: ("model", "engine"),
    backend_rules: ("backend",),
    not_with_servers: ("backend", "model", "quantization", "cache", "timing"),
    shared_by_workers: ("engine", "backend"),
    _quantization: ("quantization",),
    _cache: ("cache",),
    _prompts: ("prompts",),
    decoding_rules: ("decoding",),
    timing_rules: ("timing",),
    cost_of_a_model: ("timing", "backend"),
    _tracking: ("tracking",),
    _compare: ("compare",),
    _drift: ("drift",),
    _speculation: ("speculation",),
    _budget: ("decoding", "generation"),
    _cache_of_beams: ("decoding", "cache"),
    _cache_of_searches: ("decoding", "cache"),
}
"""Each rule, and the sections that it checks."""
