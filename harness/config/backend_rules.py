"""Rules on the keys of backends: what is wrong with them, and what has no effect with a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from harness.config.decoding_rules import NoEffect
from harness.config.plugins import BACKENDS, plugin, unknown_plugin
from harness.config.point import Backend, Cache, Engine, Model, Quantization, Timing
from harness.config.secret_text import safe_address
from harness.config.validation import format_value
from harness.errors import ConfigError, Mistake

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIKE_A_KEY = re.compile(r"(?i)(sk|hf|gsk|xai|key)[-_][a-z0-9-_]{8,}|[A-Za-z0-9]{33,}")
_SECRET_NAME = re.compile(r"(?i)auth|key|token|secret|cookie|password")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {
    "model": "model.id",
    "prompt": "prompts",
    "messages": "prompts",
    "stream": "",
    "stream_options": "",
    "n": "generation.samples",
    "best_of": "generation.samples",
    "seed": "generation.seed",
    "stop": "generation.stop_strings",
    "max_tokens": "generation.max_new_tokens",
    "max_completion_tokens": "generation.max_new_tokens",
    "logprobs": "record.top_k",
    "top_logprobs": "record.top_k",
    "n_probs": "record.top_k",
    "temperature": "decoding.temperature",
    "top_p": "decoding.top_p",
    "top_k": "decoding.top_k",
    "min_p": "decoding.min_p",
    "typical_p": "decoding.typical_p",
    "repetition_penalty": "decoding.repetition_penalty",
    "repeat_penalty": "decoding.repetition_penalty",
    "presence_penalty": "decoding.presence_penalty",
    "frequency_penalty": "decoding.frequency_penalty",
    "samplers": "decoding.sampler_order",
    "generation_config": "decoding",
}
"""Keys of a request that other keys of the config set."""

_EXAMPLE_URL = "http://127.0.0.1:8080/v1"
KINDS = ("hf", "vllm", "onnx", "openvino", "openai")
"""What answers requests, but for plug-ins."""

VLLM_KEYS = (
    "native", "gpu_memory_utilization", "max_num_seqs", "max_model_len", "tensor_parallel_size",
    "enforce_eager",
)  # fmt: skip
"""Keys of vLLM's engine in this process."""
GRAPHS = ("onnx", "openvino")
"""Kinds that run an exported graph."""
_GRAPH_KEYS = ("exported",)
"""Their keys; all others are a server's."""


def is_server(backend: Backend) -> bool:
    """Return whether a server answers, not a model in this process."""
    return backend.kind == "openai"


def backend_rules(backend: Backend) -> Iterator[Mistake]:
    """Yield what is wrong with the keys of a backend; no message repeats what may be a secret."""
    yield from _kind(backend.kind)
    for key, info in Backend.model_fields.items():
        value = getattr(backend, key)
        if key in ("name", "kind") or value == info.default:
            continue
        problem = f"no effect with backend={backend.name}"
        if key in VLLM_KEYS and backend.kind != "vllm":
            yield NoEffect(f"backend.{key}={format_value(value)}", f"{problem}; use backend=vllm")
        elif key in _GRAPH_KEYS and backend.kind not in GRAPHS:
            yield NoEffect(f"backend.{key}={format_value(value)}", f"{problem}; use backend=onnx or openvino")
        elif key not in (*VLLM_KEYS, *_GRAPH_KEYS) and not is_server(backend):
            yield NoEffect(f"backend.{key}", f"{problem}, which is no server; use backend=openai")
    if not is_server(backend):
        return
    yield from _base_url(backend)
    variable = backend.api_key_env
    if variable is not None and (not _VARIABLE.fullmatch(variable) or _LIKE_A_KEY.fullmatch(variable)):
        message = "must be the name of an environment variable, as OPENAI_API_KEY, not the key itself"
        yield Mistake("backend.api_key_env", message)
    yield from _headers(backend.headers or {})
    for key, value in (backend.extra_body or {}).items():
        if key in _OURS:
            instead = f"; use {_OURS[key]}" if _OURS[key] else "; remove it"
            yield Mistake(f"backend.extra_body.{key}", f"the harness sets it itself{instead}")
        elif _SECRET_NAME.search(key) and isinstance(value, str):
            yield Mistake(f"backend.extra_body.{key}", "would be stored; a key goes into backend.api_key_env")


def _kind(kind: str) -> Iterator[Mistake]:
    key = f"backend.kind={kind}"
    try:
        if kind not in KINDS and plugin(BACKENDS, kind, key) is None:
            yield Mistake(key, f"must be {', '.join(KINDS)}, or a plug-in; {unknown_plugin(BACKENDS, kind)}")
    except ConfigError as error:
        yield from error.mistakes


def _base_url(backend: Backend) -> Iterator[Mistake]:
    url = backend.base_url
    if url is None:
        yield Mistake("backend.base_url", f"must be given: backend.base_url={_EXAMPLE_URL}")
        return
    text = f"backend.base_url={safe_address(url)}"
    try:
        found = urlsplit(url)
        host, _ = found.hostname, found.port
    except ValueError:
        yield Mistake("backend.base_url", f"is no address; write it as {_EXAMPLE_URL}")
        return
    if found.scheme not in ("http", "https") or not host:
        yield Mistake(text if "://" in url else "backend.base_url", f"must begin as {_EXAMPLE_URL} does")
    elif "@" in found.netloc or found.query or found.fragment:
        bare = f"{found.scheme}://{found.netloc.rpartition('@')[2]}{found.path}"
        cure = f"write {bare}, and name the variable with the key in backend.api_key_env"
        yield Mistake(
            "backend.base_url", f"must have no user, password, ? or #, which would be stored; {cure}"
        )
    elif re.search(r"/(chat/)?completions/?$", found.path):
        root = re.sub(r"/(chat/)?completions/?$", "", url)
        yield Mistake(text, f"must end before /completions; use backend.base_url={root}")


def _headers(headers: Mapping[str, str]) -> Iterator[Mistake]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
            yield Mistake(f"backend.headers: {name!r}", "must be a name and a text in ASCII")
        elif _SECRET_NAME.search(name):
            message = "would be stored; put the key into a variable and name it in backend.api_key_env"
            yield Mistake(f"backend.headers.{name}", message)


def not_with_servers(
    backend: Backend, model: Model, quantization: Quantization, cache: Cache, timing: Timing
) -> Iterator[Mistake]:
    """Yield choices that a server makes itself, so that they would have no effect."""
    if not is_server(backend):
        return
    server = f"backend={backend.name}"
    if quantization.model_dump(exclude={"name"}) != _defaults(Quantization):
        message = f"no effect with {server}, which runs the weights that it has loaded; use quantization=none"
        yield Mistake(f"quantization={quantization.name}", message)
    if cache.quantized:
        yield Mistake(f"cache={cache.name}", f"no effect with {server}; use cache=default")
    for key, info in Model.model_fields.items():
        value = getattr(model, key)
        if key not in ("name", "id") and value != info.default:
            off = format_value(info.default)
            text = f"model.{key}={format_value(value)[:60]}"
            yield Mistake(text, f"no effect with {server}; use model.{key}={off}")
    if timing.enabled and timing.batch_size > 1:
        message = f"{server} batches requests as it likes; use timing.batch_size=1"
        yield Mistake(f"timing.batch_size={timing.batch_size}", message)


def shared_by_workers(engine: Engine, backend: Backend) -> Iterator[Mistake]:
    """Yield what keeps workers from sharing a group, where that is asked for."""
    if engine.shards in ("auto", 1):
        return
    text = f"engine.shards={engine.shards}"
    if backend.kind != "hf":
        cure = "use backend=hf, or leave it out"
        yield NoEffect(text, f"no effect with backend={backend.name}, whose batches are its own; {cure}")
    elif engine.fresh:
        yield NoEffect(text, "no effect with engine.fresh=true, each would decode all anew; leave one out")


def _defaults(section: type[Quantization]) -> dict[str, Any]:
    return {name: info.default for name, info in section.model_fields.items() if name != "name"}
