"""The small JSON files of a checkpoint: damage is one line, and values are checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, Mistake, first_line

CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx",
)  # fmt: skip
_MAX_BYTES = 64 * 1024 * 1024
_MAX_DEPTH = 100
_MAX_INT = 2**31
_COUNT, _IDS, _OBJECT = "a whole number", "a token id or a list of them", "an object"
_COUNTS, _NUMBER, _FLAG = "a whole number or a list of them", "a number", "true or false"
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("vocab_size", *CONTEXT_KEYS), _COUNT),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer"), _COUNT),
    # A list has one a layer.
    **dict.fromkeys(("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"), _COUNTS),
    **dict.fromkeys(("initializer_range", "rms_norm_eps", "layer_norm_epsilon"), _NUMBER),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), _IDS),
    **dict.fromkeys(("text_config", "quantization_config", "compression_config", "auto_map"), _OBJECT),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), _OBJECT),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias", "use_cache"), _FLAG),
    "model_type": "a text",
    "dtype": "a text",
    "torch_dtype": "a text",
}
"""What a key's value must be, where it is not null; others are transformers' to check."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what reading files of a checkpoint raises into a ConfigError of one line that names `what`.

    A link that leads to itself, a name that is too long, a file that may not be read, text that is not
    UTF-8, JSON of any depth.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        reason = first_line(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        elif isinstance(error, OSError) and error.strerror:
            name = "" if error.filename is None else Path(str(error.filename)).name[:100]
            reason = f"{error.strerror} ({name!r})" if name else error.strerror
        what = what if len(what) <= 300 else f"{what[:297]}..."
        raise ConfigError.of("model.id", f"{what} cannot be read: {reason}; {_CURE}") from error


_CURE = "give a folder whose files can be read, or fetch it again"


def read_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        ConfigError: it cannot be read, is larger than 64 MiB, is no object, or is nested too deeply.
    """
    with reading(str(path)):
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are no configuration")
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ConfigError.of("model.id", f"{path} is not a JSON object; fetch it again")
    if _deeper(found, _MAX_DEPTH):
        raise ConfigError.of("model.id", f"{path} is nested more than {_MAX_DEPTH} deep; fetch it again")
    return found


def wrong_values(name: str, found: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield the values of a checkpoint's file (`name` in messages) that are of another type than theirs."""
    for key, value in found.items():
        kind = _KINDS.get(key)
        if kind is not None and value is not None and not _is(kind, value):
            shown = json.dumps(value)
            shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
            yield Mistake("model.id", f"{name}: {key} is {shown}, not {kind}; correct it, or fetch it again")
    inner = found.get("text_config")
    if isinstance(inner, dict):
        yield from wrong_values(f"{name}: text_config", inner)


def _is(kind: str, value: object) -> bool:
    if kind in (_COUNT, _COUNTS):
        counts = value if isinstance(value, list) and kind == _COUNTS else [value]
        return all(one is None or (type(one) is int and 0 <= one < _MAX_INT) for one in counts)
    if kind == _NUMBER:
        return type(value) in (int, float)
    if kind == _IDS:
        ids = value if isinstance(value, list) else [value]
        return all(type(one) is int and -_MAX_INT < one < _MAX_INT for one in ids)
    if kind == _OBJECT:
        return isinstance(value, dict)
    return isinstance(value, bool if kind == _FLAG else str)


def _deeper(value: object, depth: int) -> bool:
    """Return whether a value is nested more than `depth` deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(_deeper(one, depth - 1) for one in inner)
