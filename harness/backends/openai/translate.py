"""From an effective decoding to the keys of a request; what a server would ignore is a mistake.

Every key that a dialect knows is sent, at its neutral value where nothing sets it: what is left out, a server
fills in by itself (llama.cpp with top_k 40, top_p 0.95, min_p 0.05 and temperature 0.8).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.backends.openai.dialect import Dialect
from harness.config.effective import FIXED, acts, decoding_fields
from harness.config.sampler_order import DEFAULT_ORDER, sampler_order
from harness.config.validation import format_value
from harness.errors import Mistake

_LLAMA_CPP_NAMES = {
    "temperature": "temperature",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typ_p",
    "xtc": "xtc",
}
_WHOLE_CONTEXT = 1 << 20
"""Tokens of a window that no text fills; llama.cpp refuses -1, its own word for all."""
_MOST_BIAS = 100
_SHOWN = 8


@dataclass(frozen=True)
class Translation:
    """Keys of a request; what is wrong with the decoding for this server; lines worth knowing."""

    body: Mapping[str, Any]
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()


def translate(effective: Mapping[str, Any], dialect: Dialect, server: str = "") -> Translation:
    """Translate an effective decoding.

    Args:
        effective: as `config.effective` makes it.
        dialect: of the server.
        server: its name in messages; the dialect's when empty.
    """
    server = server or dialect.name
    active = _active(effective)
    mistakes = [_refused(name, effective, dialect, server) for name in active if name not in dialect.takes]
    body: dict[str, Any] = {**dialect.neutral, **dialect.always}
    body |= {dialect.fields[name]: effective[name] for name in active if name in dialect.fields}
    if not effective["do_sample"] and "temperature" in dialect.fields:
        body["temperature"] = 0.0
    mistakes += _values(effective, dialect, server)
    if effective["do_sample"]:
        mistakes += _forced(effective, dialect, server)
    special, wrong = _special(effective, dialect, server)
    return Translation(
        body | special, tuple(dict.fromkeys([*mistakes, *wrong])), _order_notes(effective, dialect)
    )


def _active(effective: Mapping[str, Any]) -> list[str]:
    """Return the fields that change something, but for `do_sample`; of a beam search its number of beams."""
    if effective["num_beams"] > 1:
        return ["num_beams"]
    fields = decoding_fields()

    def counts(name: str) -> bool:
        needs = fields[name].needs
        return acts(effective, name) or (needs is not None and acts(effective, needs))

    known = (name for name in fields if effective.get(name) is not None and name != "do_sample")
    return [name for name in known if counts(name)]


def _refused(name: str, effective: Mapping[str, Any], dialect: Dialect, server: str) -> Mistake:
    takes = [field for field in dialect.takes if decoding_fields()[field].needs is None]
    some = ", ".join(takes[:_SHOWN]) + (f" and {len(takes) - _SHOWN} more" if len(takes) > _SHOWN else "")
    problem = f"{server} has no {name} and would ignore it without a word (it takes {some})"
    if name == "num_beams" and dialect.name == "transformers_serve":
        problem = f"{server} does not stream the text of a beam search"
    cure = "use decoding=greedy" if name in ("num_beams", "penalty_alpha") else f"use decoding.{name}=null"
    return Mistake(_text(name, effective), f"{problem}; {cure} or backend=hf")


def _text(name: str, effective: Mapping[str, Any]) -> str:
    value = format_value(effective[name])
    return f"decoding.{name}={value}" if len(value) <= 60 else f"decoding.{name}"


def _values(effective: Mapping[str, Any], dialect: Dialect, server: str) -> Iterator[Mistake]:
    """Yield values that mean something else there."""
    both = [name for name in ("presence_penalty", "frequency_penalty") if acts(effective, name)]
    window = effective.get("penalty_last_n")
    if dialect.name == "llama_cpp" and both and window is None:
        problem = f"{server} counts the prompt too, which decoding.penalty_last_n=null does not"
        yield Mistake(
            _text(both[0], effective), f"{problem}; add decoding.penalty_last_n=-1 or use backend=hf"
        )
    for bias in (effective.get("logit_bias") or {}).values():
        if dialect.name != "llama_cpp" and abs(bias) > _MOST_BIAS:
            yield Mistake("decoding.logit_bias", f"{server} takes biases from -100 to 100; lower it")
            return


def _forced(effective: Mapping[str, Any], dialect: Dialect, server: str) -> Iterator[Mistake]:
    for name, value in dialect.forced.items():
        if effective[name] != value:
            problem = f"{server} always samples with {name}={value}, which no request changes"
            cure = f"use decoding.{name}={value}, or decoding=greedy"
            yield Mistake(_text(name, effective), f"{problem}; {cure}")


def _order_notes(effective: Mapping[str, Any], dialect: Dialect) -> tuple[str, ...]:
    """Return a line where a server's own order of samplers makes another distribution, or may make one."""
    truncations = [name for name in sampler_order(effective) if name != "temperature"]
    if not effective["do_sample"] or not dialect.fixed_order or len(truncations) < 2:
        return ()
    if dialect.name == "vllm_server" and not {"min_p", "top_p"} <= set(truncations):
        return ()  # min_p acts before the others there, which matters to top_p alone
    if dialect.name == "transformers_serve":
        return ()
    names = " and ".join(truncations)
    return (f"{dialect.name} applies {names} in an order of its own, so that they may keep other tokens",)


def _special(
    effective: Mapping[str, Any], dialect: Dialect, server: str
) -> tuple[dict[str, Any], list[Mistake]]:
    """Return keys that are not a field's value as it is, and what is wrong with them."""
    if dialect.name == "transformers_serve":
        return {"generation_config": _generation_config(effective)}, []
    body: dict[str, Any] = {}
    if "logit_bias" in dialect.special and effective.get("logit_bias"):
        body["logit_bias"] = {str(token): bias for token, bias in effective["logit_bias"].items()}
    if dialect.name == "llama_cpp":
        return _llama_cpp(effective, server)
    if dialect.name == "text_generation_webui":
        body |= _text_generation_webui(effective)
    return body, []


def _generation_config(effective: Mapping[str, Any]) -> str:
    """Return all of GenerationConfig as JSON, the form in which `transformers serve` takes it."""
    stock = {name for name, field in decoding_fields().items() if field.stock}
    known = {name: effective[name] for name in (*FIXED, *sorted(stock)) if effective.get(name) is not None}
    return json.dumps({name: value for name, value in known.items() if name != "num_return_sequences"})


def _llama_cpp(effective: Mapping[str, Any], server: str) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the samplers in the strategy's order, the windows of penalties, and biases."""
    body: dict[str, Any] = {}
    mistakes = []
    order = sampler_order(effective) if effective["do_sample"] else ("temperature",)
    if "mirostat" in order:
        others = [name for name in order if name not in ("mirostat", "temperature")]
        for name in others:
            problem = f"{server} leaves out all other samplers with mirostat"
            mistakes.append(Mistake(f"decoding.{name}", f"{problem}; use decoding.{name}=null"))
    if order and "temperature" not in order:
        order = (*order, "temperature")  # neutral; what draws is never left out
    names = [_LLAMA_CPP_NAMES[name] for name in order if name in _LLAMA_CPP_NAMES]
    body["samplers"] = ["penalties", "dry", *(names or ["temperature"])]
    window = effective.get("penalty_last_n")
    body["repeat_last_n"] = _WHOLE_CONTEXT if window in (None, -1) else window
    if acts(effective, "dry_multiplier"):
        window = effective.get("dry_penalty_last_n", -1)
        body["dry_penalty_last_n"] = _WHOLE_CONTEXT if window == -1 else window
    biases: list[list[Any]] = [[token, bias] for token, bias in (effective.get("logit_bias") or {}).items()]
    biases += [[token, False] for token in effective.get("suppress_tokens") or ()]
    return body | ({"logit_bias": biases} if biases else {}), mistakes


def _text_generation_webui(effective: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys whose units or form are others there."""
    body: dict[str, Any] = {"do_sample": bool(effective["do_sample"])}
    if not effective["do_sample"]:
        body["temperature"] = 1.0
    body |= {
        name: effective[name] * 1e4 for name in ("epsilon_cutoff", "eta_cutoff") if acts(effective, name)
    }
    window = effective.get("penalty_last_n")
    body["repetition_penalty_range"] = 0 if window in (None, -1) else window
    if acts(effective, "dry_multiplier"):
        body["dry_sequence_breakers"] = json.dumps(effective["dry_sequence_breakers"])
    if not effective.get("temperature_last"):
        body["sampler_priority"] = list(_WEBUI_ORDER)
    return body


_WEBUI_NAMES = {"smoothing": "quadratic_sampling"}
_WEBUI_ORDER = (
    "repetition_penalty", "presence_penalty", "frequency_penalty", "dry", "encoder_repetition_penalty",
    "no_repeat_ngram",
    *(
        _WEBUI_NAMES.get(name, name)
        for name in DEFAULT_ORDER
        if name not in ("top_h", "p_less", "skew", "adaptive_p")
    ),
)  # fmt: skip
