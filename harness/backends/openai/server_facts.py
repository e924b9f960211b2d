"""What a server says of itself: versions, the model it has, its context, its prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.backends.openai.client import Client
from harness.backends.openai.dialect import Dialect
from harness.backends.openai.spending import Price
from harness.config.suggest import did_you_mean
from harness.errors import ConfigError

_META = ("n_params", "size", "ftype", "n_vocab", "n_ctx_train", "n_embd")
_STABLE = ("root", "max_model_len", "canonical_slug", "hugging_face_id", "quantization", "arch", "owned_by")


@dataclass(frozen=True)
class ServerFacts:
    """What is known of a server and its model before anything is generated.

    Attributes:
        address: what its answers depend on, as far as it tells; part of a point's address.
        context_length: positions that prompt and output share; None where it does not tell.
        vocab_size: None where it does not tell.
        price: None where it does not tell.
        parameters: keys of a request that a provider of the model takes; None where it does not tell.
    """

    address: Mapping[str, Any]
    context_length: int | None = None
    vocab_size: int | None = None
    price: Price | None = None
    parameters: tuple[str, ...] | None = None

    @property
    def precision(self) -> str | None:
        """What its weights are stored in, in its own words; None where it does not tell."""
        found = self.address.get("ftype") or self.address.get("quantization")
        return None if found is None else str(found)


def ask_server(client: Client, dialect: Dialect, model: str) -> ServerFacts:
    """Ask a server what it is.

    Raises:
        ServerStopError: it does not answer, or refuses the key.
        ConfigError: it does not have the model.
    """
    listed = client.get("/models")
    entry = _entry(listed, dialect, model)
    address: dict[str, Any] = {name: entry[name] for name in _STABLE if entry.get(name) is not None}
    meta = entry.get("meta") or {}
    address |= {name: meta[name] for name in _META if meta.get(name) is not None}
    context = _whole(entry.get("max_model_len") or entry.get("context_length") or meta.get("n_ctx"))
    if dialect.name == "llama_cpp":
        props = client.get("//props") or {}
        address["version"] = props.get("build_info")
        context = _whole((props.get("default_generation_settings") or {}).get("n_ctx")) or context
    elif dialect.name == "vllm_server":
        address["version"] = (client.get("//version") or {}).get("version")
    elif dialect.name == "ollama":
        address |= _ollama(client, model)
    elif dialect.name == "text_generation_webui":
        info = client.get("/internal/model/info") or {}
        address |= {name: info[name] for name in ("model_name", "loader") if info.get(name) is not None}
    parameters = entry.get("supported_parameters")
    return ServerFacts(
        address={name: value for name, value in address.items() if value is not None},
        context_length=context,
        vocab_size=_whole(meta.get("n_vocab")),
        price=_price(entry.get("pricing")),
        parameters=tuple(map(str, parameters)) if isinstance(parameters, list) else None,
    )


def _entry(listed: Any, dialect: Dialect, model: str) -> Mapping[str, Any]:
    """Return the list's entry of the model, empty where the server has no list.

    Raises:
        ConfigError: the list has other models.
    """
    found = listed.get("data") if isinstance(listed, dict) else None
    entries = [one for one in found or () if isinstance(one, dict) and isinstance(one.get("id"), str)]
    for one in entries:
        names = [one["id"], *map(str, one.get("aliases") or ())]
        if model in (*names, *(_short(name) for name in names)) or f"{model}:latest" in names:
            return one
    if entries and dialect.lists_models:
        names = [_short(str(one["id"])) for one in entries]
        hint = did_you_mean(model, names) or f"; use model.id={names[0]}"
        some = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        raise ConfigError.of(f"model.id={model}", f"{dialect.name} does not have it{hint} (it has: {some})")
    return {}


def _short(name: str) -> str:
    """Return the file's name of a model that a server names by its path."""
    return name.rpartition("/")[2] if name.startswith("/") else name


def _ollama(client: Client, model: str) -> dict[str, Any]:
    tags = client.get("//api/tags") or {}
    digests = {
        str(one.get("name")): one.get("digest") for one in tags.get("models") or () if isinstance(one, dict)
    }
    version = (client.get("//api/version") or {}).get("version")
    return {"version": version, "digest": digests.get(model) or digests.get(f"{model}:latest")}


def _price(pricing: Any) -> Price | None:
    """Return the prices of OpenRouter's list, texts of dollars; None where there are none."""
    try:
        return Price(
            float(pricing["prompt"]), float(pricing["completion"]), float(pricing.get("request") or 0.0)
        )
    except (TypeError, KeyError, ValueError):
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
