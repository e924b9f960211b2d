"""The frozen Point: everything one MLflow run depends on, as requested and checked.

These models are the only schema: Hydra's structured configs are made from them (`schema.py`), so that all
that is known of a key (type, default, range, neutral value) is in one place. Values are strict:
`top_p=hot` and `do_sample="yes"` are errors; an integer for a float is not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.config.base import SENSIBLE_SIZE, Choice, Listed, Natural, Positive, PositiveReal, Section, Seed
from harness.config.decoding import Decoding
from harness.config.expectation import Expectation
from harness.config.selector_names import SelectorName
from harness.config.timing_section import Timing


class Model(Choice):
    """Which model, and how it may be loaded."""

    id: str = Field(description="a built-in model's name, a hub id, a folder, or a GGUF file")
    gguf_file: str | None = Field(
        None, description="the GGUF file that is meant, of a folder or a hub repository (it is fetched)"
    )
    revision: str | None = Field(None, description="hub revision: a commit hash, a tag or a branch")
    device: str = Field("auto", description="auto (cuda, mps, cpu in this order), cpu, mps, cuda or cuda:N")
    devices: Literal["single", "auto", "tensor_parallel"] = Field(
        "single",
        description="single: the model is on one device; auto: its layers lie on all visible GPUs in turn, "
        "and on the CPU where these are too small; tensor_parallel: each layer is split over the GPUs",
    )
    tensor_parallel_size: Positive | None = Field(
        None, description="tensor_parallel: GPUs that share the model; null: all visible ones"
    )
    attention: str = Field("auto", description="auto, eager, sdpa or flash_attention_2")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the checkpoint")
    allow_pickle: bool = Field(False, description="load pickled weights (.bin)")
    chat_template: str | None = Field(None, description="a Jinja chat template, or a file that contains one")


DialectName = Literal[
    "openai", "openrouter", "vllm_server", "llama_cpp", "text_generation_webui", "ollama",
    "transformers_serve", "lm_studio",
]  # fmt: skip
"""Servers of which is known what they take, ignore and return."""


class Backend(Choice):
    """Who answers requests: a model in this process, or a server with OpenAI's API."""

    kind: str = Field(
        "hf",
        description="hf: transformers, in this process; vllm: vLLM's engine, in this process; onnx, "
        "openvino: the model as a graph, on the CPU; openai: a server with OpenAI's API; or the name of a "
        "plug-in",
    )
    native: bool = Field(False, description="vllm: its own sampler and logprobs, to measure vLLM itself")
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="vllm: part of the device's memory that it takes; null: 0.85, natively its default"
    )
    max_num_seqs: Positive | None = Field(None, description="vllm: sequences decoded in one batch; null: 256")
    max_model_len: Positive | None = Field(
        None, description="vllm: tokens of prompt and output at most; null: the model's context"
    )
    tensor_parallel_size: Positive = Field(1, description="vllm: GPUs that share the model")
    enforce_eager: bool = Field(False, description="vllm: no CUDA graphs, no compilation")
    exported: str | None = Field(
        None,
        description="onnx, openvino: a folder with a graph that was exported before; null: the model is "
        "exported once, into outputs/exports",
    )
    dialect: DialectName = Field("openai", description="which server it is: what it takes and returns")
    base_url: str | None = Field(None, description="address of the API, as http://127.0.0.1:8080/v1")
    served_model: str | None = Field(None, description="the server's name of the model; null: model.id")
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the API key; the key stays there"
    )
    concurrency: Annotated[int, Field(ge=1, le=1024)] = Field(4, description="requests at once")
    timeout: PositiveReal = Field(120.0, description="seconds without a byte after which a request failed")
    max_retries: Annotated[int, Field(ge=0, le=100)] = Field(
        4, description="how often a request is repeated that failed before its first byte"
    )
    extra_body: dict[str, Any] | None = Field(
        None, description="further keys of every request; part of the address"
    )
    headers: dict[str, str] | None = Field(None, description="further headers of every request; no secrets")
    budget_usd: PositiveReal | None = Field(
        None, description="the most that one command may spend; it stops before, and can be resumed"
    )
    usd_per_million: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = Field(
        None, description="price of a million prompt and output tokens, where the server does not tell"
    )


class Quantization(Choice):
    """How the weights are stored; it alone decides the dtype. Field names are the quantizing library's.

    `torchao` names one of torchao's configs as transformers did: `int4_weight_only` is Int4WeightOnlyConfig.
    """

    dtype: Literal["checkpoint", "float32", "bfloat16", "float16"] = Field(
        "checkpoint", description="dtype of weights that are not quantized"
    )
    load_in_8bit: bool = Field(False, description="8 bits by bitsandbytes")
    load_in_4bit: bool = Field(False, description="4 bits by bitsandbytes")
    llm_int8_threshold: Annotated[float, Field(ge=0), SENSIBLE_SIZE] = Field(
        6.0, description="8 bits: activations above it are multiplied in 16 bits, as outliers"
    )
    llm_int8_skip_modules: tuple[str, ...] | None = Field(
        None, description="modules that stay unquantized, in 4 bits too; null: the output head"
    )
    llm_int8_has_fp16_weight: bool = Field(
        False, description="8 bits: weights stay in 16 bits until they are used"
    )
    bnb_4bit_compute_dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="4 bits: dtype of the matrix products; null: bfloat16, else what the device has"
    )
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = Field(
        "fp4", description="4 bits: floats, or levels for weights that are normally distributed (nf4)"
    )
    bnb_4bit_use_double_quant: bool = Field(False, description="4 bits: quantize the scales too")
    torchao: (
        Literal[
            "int8_weight_only",
            "int8_dynamic_activation_int8_weight",
            "int4_weight_only",
            "int8_dynamic_activation_int4_weight",
        ]
        | None
    ) = Field(None, description="quantize with this config of torchao")
    group_size: Literal[32, 64, 128, 256] | None = Field(
        None, description="weights that share a scale with torchao; null: its default"
    )
    vllm: Literal["fp8", "awq", "gptq", "bitsandbytes"] | None = Field(
        None, description="backend=vllm: quantize with this method of vLLM, or read a checkpoint with it"
    )
    exported: Literal["int8"] | None = Field(
        None,
        description="backend=onnx, openvino: weights as 8-bit integers; with onnx activations too",
    )


class Cache(Choice):
    """How the KV cache is stored while decoding. Field names are those of transformers' `cache_config`."""

    backend: Literal["hqq", "fp8"] | None = Field(None, description="what quantizes the cache; null: nothing")
    # Not 3: hqq 0.2.8 unpacks 3 bits of matrices only, and a cache has four axes.
    nbits: Literal[1, 2, 4, 8] | None = Field(None, description="bits per value")
    axis_key: Literal[0, 1] | None = Field(None, description="1: each key vector has its own scales")
    axis_value: Literal[0, 1] | None = Field(None, description="1: each value vector has its own scales")
    q_group_size: Positive | None = Field(
        None, description="values that share a scale; null: 64, or what the head dimension allows"
    )
    residual_length: Positive | None = Field(
        None, description="latest positions kept unquantized until they are quantized together"
    )

    @property
    def quantized(self) -> bool:
        """Return whether the cache is quantized."""
        return self.backend is not None


class Prompts(Choice):
    """A source of prompts, and how its rows are rendered for the model."""

    items: tuple[str | dict[str, Any], ...] | None = Field(None, description="prompts given inline")
    file: str | None = Field(None, description=".txt (one per line), .jsonl, .json, .csv, .tsv or .parquet")
    template: str | None = Field(None, description="text with {fields} of the row")
    system: str | None = Field(None, description="the system turn of chat prompts")
    chat: Literal["auto", True, False] = Field(
        "auto", description="true: through the model's chat template; auto: for rows with `messages`"
    )
    limit: Positive | None = Field(None, description="take the first N rows")
    too_long: Literal["error", "truncate_left", "split"] = Field(
        "error", description="what to do when prompt and max_new_tokens exceed the context length"
    )


class Generation(Section):
    """The token budget of a sample, and the seed of its noise."""

    max_new_tokens: Positive = Field(64, description="tokens of an output at most")
    samples: int = Field(1, ge=1, le=100_000, description="outputs per prompt")
    seed: Seed = Field(0, description="of the random numbers, which all strategies share")
    stop_strings: tuple[str, ...] = Field((), description="end a sample once its output contains one")
    ignore_eos: bool = Field(False, description="generate past the end-of-text token, up to max_new_tokens")


class Engine(Section):
    """How a group is run; never changes the samples."""

    batch_rows: Literal["auto"] | Positive = Field("auto", description="sequences decoded in one batch")
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="CPU threads of torch; auto: as many as this process may use"
    )
    fuse: bool = Field(True, description="decode the strategies of a sweep together, as a tree")
    compile: Literal["auto", "off", "on"] = Field("auto", description="capture steps as CUDA graphs")
    fresh: bool = Field(False, description="run again what is stored already, and replace it")
    shards: Literal["auto"] | Positive = Field(
        "auto",
        description="workers that share a group's batches; auto: idle ones, where they take over 20 minutes",
    )


class Record(Section):
    """What is recorded of each step."""

    top_k: Natural = Field(5, description="alternative tokens recorded per step")
    prompt_logprobs: bool = Field(False, description="score the prompt's tokens too")


class Tracking(Choice):
    """What is logged to MLflow, and where."""

    enabled: bool = Field(True, description="log to MLflow; tracking=off does not")
    uri: str | None = Field(
        None, description="tracking URI; null: MLFLOW_TRACKING_URI, else outputs/mlflow.db"
    )
    experiment: str = Field("harness", description="name of the MLflow experiment, at most 500 characters")
    traces: bool = Field(False, description="log one MLflow trace per sample")


class Compare(Section):
    """How the points of a sweep are compared; never changes the samples."""

    baseline: str | None = Field(
        None,
        description="what the others are compared with: a point's label, its end (greedy) or a glob "
        "(*/fp32/*); null: the first point",
    )
    goal: str | None = Field(
        None,
        description="metric that the question is about, as in chrf, reference/chrf or own/NAME; null: one "
        "with a reference, where there are any",
    )
    metrics: tuple[str, ...] = Field(
        (), description="custom metrics, each FILE.py:FUNCTION or a plug-in's name"
    )
    select: tuple[SelectorName, ...] = Field(
        (),
        description="of several samples per prompt, also compare the one that each of these chooses; "
        "`harness help mbr` tells of one",
    )
    answer_pattern: str | None = Field(
        None,
        description="regular expression of the answer in an output and in its reference: the last match, or "
        "its group 1; without a match the whole text; null: the last number",
    )
    pareto: tuple[str, ...] = Field(
        ("latency/itl_p50_ms", "text/repeated_4", "probability/mean_logprob"),
        description="metrics of the Pareto front, two or more; by default, with a goal, it and its time",
    )
    noise: bool = Field(True, description="measure run-to-run noise: one strategy of each group is run again")
    budget_mb: PositiveReal = Field(20.0, description="megabytes of outputs and tokens in compare.html")


class Drift(Section):
    """How points are compared with their model's highest precision; never changes the samples."""

    enabled: bool = Field(True, description="compare points of lower precision with their reference")
    reference: str | None = Field(
        None,
        description="what to compare with: a quantization, a model (its name or id; the others must have its "
        "tokens), or MODEL/QUANTIZATION; null: each model's highest precision in the sweep",
    )
    text: str | None = Field(
        None,
        description="also compare along a fixed text: a .txt file, or `reference`, the prompts' column",
    )
    budget_mb: PositiveReal = Field(
        512.0, description="megabytes of disk for the reference distributions of a model"
    )


class Speculation(Section):
    """Speculative decoding: what drafts would propose of the samples, and how fast; never changes samples."""

    draft: Listed[str] = Field((), description="models that propose tokens, with the same tokenizer")
    prompt_lookup: bool = Field(
        False, description="propose what followed the same tokens earlier in the text"
    )
    max_matching_ngram_size: Positive = Field(2, description="tokens of the text's end that are looked up")
    early_exit: Listed[Positive] = Field((), description="propose with the model's first N layers")
    num_assistant_tokens: Listed[Annotated[int, Field(ge=1, le=64)]] = Field(
        tuple(range(1, 9)), description="tokens proposed per forward pass; the best of them is timed"
    )

    @property
    def enabled(self) -> bool:
        """Return whether anything proposes tokens."""
        return bool(self.draft or self.prompt_lookup or self.early_exit)


class Point(Section):
    """One combination of model, quantization, prompt set and decoding strategy, with its budget.

    `label` consists of its choices and every `key=value` that varies in the sweep; it is unique there.
    """

    label: str
    model: Model
    backend: Backend = Backend(name="hf")
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
    speculation: Speculation = Speculation()
    sweep_name: str | None = Field(None, description="`name` of the config: the sweep's; null: derived")
    notes: tuple[str, ...] = Field(
        (), description="what this point does not use of its command, one line each"
    )
    expect: tuple[Expectation, ...] = ()
