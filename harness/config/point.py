"""The frozen Point: everything one MLflow run depends on, as it was asked for and found sensible.

These models are the only schema: Hydra's structured configs are made from them (`schema.py`), so that
a key, its type, its default and its range stand in one place. Values are strict: `top_p=hot` and
`do_sample="yes"` are mistakes, an integer where a float is meant is not.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.config.base import Choice, Natural, Part, Positive
from harness.config.expectation import Expectation


class Model(Choice):
    """Which model, and what may be done to load it."""

    id: str = Field(description="a built-in model's name, a hub id, or a folder")
    revision: str | None = Field(None, description="hub revision: a commit hash, a tag or a branch")
    device: str = Field("auto", description="auto (cuda, mps, cpu in this order), cpu, mps, cuda or cuda:N")
    attention: str = Field("auto", description="auto, eager, sdpa or flash_attention_2")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the checkpoint")
    allow_pickle: bool = Field(False, description="load weights stored as pickle (.bin)")
    chat_template: str | None = Field(None, description="a Jinja chat template, or a file that holds one")


class Quantization(Choice):
    """How the weights are held; it alone decides the dtype. Field names are the quantizing library's own.

    `torchao` names one of torchao's configs as transformers did: `int4_weight_only` is Int4WeightOnlyConfig.
    """

    dtype: Literal["checkpoint", "float32", "bfloat16", "float16"] = Field(
        "checkpoint", description="dtype of what is not quantized"
    )
    load_in_8bit: bool = False
    load_in_4bit: bool = False
    llm_int8_threshold: float = Field(6.0, ge=0)
    llm_int8_skip_modules: tuple[str, ...] | None = None
    llm_int8_has_fp16_weight: bool = False
    bnb_4bit_compute_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = "fp4"
    bnb_4bit_use_double_quant: bool = False
    torchao: (
        Literal[
            "int8_weight_only",
            "int8_dynamic_activation_int8_weight",
            "int4_weight_only",
            "int8_dynamic_activation_int4_weight",
        ]
        | None
    ) = Field(None, description="quantize with torchao, so")
    group_size: Literal[32, 64, 128, 256] | None = Field(
        None, description="inputs that share a scale in torchao's weights; null: its default"
    )


class Cache(Choice):
    """How keys and values are held while decoding. Field names are those of transformers' `cache_config`."""

    backend: Literal["hqq", "fp8"] | None = Field(None, description="quantizes the cache; null: it is not")
    # Not 3: hqq 0.2.8 unpacks 3 bits of matrices only, and a cache has four axes.
    nbits: Literal[1, 2, 4, 8] | None = Field(None, description="bits a value")
    axis_key: Literal[0, 1] | None = Field(None, description="1: a key's own values share a scale")
    axis_value: Literal[0, 1] | None = Field(None, description="1: a value's own entries share a scale")
    q_group_size: Positive | None = Field(
        None, description="values that share a scale; null: 64, or what the width of a head allows"
    )
    residual_length: Positive | None = Field(
        None, description="positions left plain until they are quantized together"
    )

    @property
    def quantized(self) -> bool:
        """Whether it is another cache than the model's own."""
        return self.backend is not None


class Prompts(Choice):
    """A source of prompts and how a row becomes what the model reads."""

    items: tuple[str | dict[str, Any], ...] | None = Field(None, description="prompts given inline")
    file: str | None = Field(None, description=".txt (one a line), .jsonl, .csv or .parquet")
    template: str | None = Field(None, description="text with {fields} of the row")
    system: str | None = Field(None, description="the system turn of chat prompts")
    chat: Literal["auto", True, False] = Field(
        "auto", description="true: through the model's chat template; auto: for rows that hold `messages`"
    )
    limit: Positive | None = Field(None, description="take the first N rows")
    too_long: Literal["error", "truncate_left", "split"] = Field(
        "error", description="what to do with a prompt that does not fit the context with its budget"
    )


class Decoding(Choice):
    """A decoding strategy, in the field names of transformers' GenerationConfig.

    A field left null is neutral (`config/effective.py` tells the neutral values); nothing is inherited
    from the model's own generation_config.json.
    """

    do_sample: bool | None = None
    num_beams: Positive | None = None
    temperature: float | None = Field(None, gt=0)
    top_k: Positive | None = None
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    epsilon_cutoff: float | None = Field(None, ge=0, lt=1)
    eta_cutoff: float | None = Field(None, ge=0, lt=1)
    top_h: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)
    no_repeat_ngram_size: Natural | None = None
    length_penalty: float | None = None
    early_stopping: Literal[True, False, "never"] | None = None
    min_new_tokens: Natural | None = None
    bad_words_ids: tuple[tuple[Natural, ...], ...] | None = None
    suppress_tokens: tuple[Natural, ...] | None = None
    begin_suppress_tokens: tuple[Natural, ...] | None = None
    exponential_decay_length_penalty: tuple[Natural, float] | None = None
    renormalize_logits: bool | None = None
    remove_invalid_values: bool | None = None


class Generation(Part):
    """The budget of a sample, and its luck."""

    max_new_tokens: Positive = 64
    samples: Positive = Field(1, description="texts a prompt")
    seed: Natural = 0
    stop_strings: tuple[str, ...] = Field((), description="end a sample once its output holds one")
    ignore_eos: bool = Field(False, description="go on past end-of-text until the budget is spent")


class Engine(Part):
    """How a group is run; never changes what is sampled."""

    batch_rows: Literal["auto"] | Positive = Field("auto", description="rows decoded at once")
    threads: Literal["auto"] | Positive = Field("auto", description="CPU threads of torch")
    fuse: bool = Field(True, description="decode the strategies of a sweep together, as a tree")
    compile: Literal["auto", "off", "on"] = Field("auto", description="capture steps as CUDA graphs")
    fresh: bool = Field(False, description="run anew what the store already holds, and replace it")
    replay: bool = Field(False, description="take points that replay shows to be identical from the store")


class Record(Part):
    """How deeply each step is recorded."""

    top_k: Natural = Field(5, description="alternatives kept a step")
    prompt_logprobs: bool = Field(False, description="score the prompt's own tokens too")


class Timing(Choice):
    """The latency pass: one strategy at a time, the loop a user would deploy."""

    enabled: bool = True
    prompts: Positive = Field(3, description="how many of the prompts are timed")
    repeats: Positive = Field(3, description="timed repetitions of each")
    warmup: Natural = Field(1, description="repetitions thrown away first")
    batch_size: Positive = Field(1, description="prompts decoded together")
    new_tokens: Positive = Field(16, description="tokens a repetition, end-of-text ignored")


class Tracking(Choice):
    """What MLflow is told."""

    enabled: bool = True
    uri: str | None = Field(
        None, description="tracking URI; null: MLFLOW_TRACKING_URI, else outputs/mlflow.db"
    )
    experiment: str = "harness"
    traces: bool = Field(False, description="one MLflow trace a sample")


class Compare(Part):
    """How the points of a sweep are held against each other; never changes what is sampled."""

    baseline: str | None = Field(
        None, description="label of the point the others are held against; the first"
    )
    metrics: tuple[str, ...] = Field((), description="metrics of your own, each FILE.py:FUNCTION")
    pareto: tuple[str, ...] = Field(
        ("latency/itl_p50_ms", "text/repeated_4", "probability/mean_logprob"),
        description="metrics of the Pareto front, two or more",
    )
    noise: bool = Field(True, description="measure the noise floor: one strategy of each group is run again")
    budget_mb: float = Field(20.0, gt=0, description="megabytes of texts and tokens in compare.html")


class Drift(Part):
    """How points are held against their model's highest precision; never changes what is sampled."""

    enabled: bool = True
    reference: str | None = Field(
        None, description="name of the quantization to hold against; null: the highest precision of the sweep"
    )
    text: str | None = Field(
        None,
        description="a fixed text besides: a .txt file, or `reference`, the prompts' column of that name",
    )
    budget_mb: float = Field(
        512.0, gt=0, description="megabytes of disk for the distributions of a model's reference"
    )


class Point(Part):
    """One combination of model, quantization, prompt set and decoding strategy, with its budget.

    `label` is its choices and every `key=value` that varies in the sweep, unique in the sweep.
    """

    label: str
    model: Model
    quantization: Quantization
    cache: Cache = Cache(name="default")
    prompts: Prompts
    decoding: Decoding
    generation: Generation
    engine: Engine
    record: Record
    timing: Timing
    tracking: Tracking
    compare: Compare
    drift: Drift
    expect: tuple[Expectation, ...] = ()
