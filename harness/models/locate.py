"""Find a model without loading it: built in, in a folder, or on the hub; `ModelFiles` describes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.config.point import Model
from harness.config.suggest import similar_path
from harness.config.user_path import user_path
from harness.errors import ConfigError, Mistake
from harness.models.agreement import adapter_alone, contradictions
from harness.models.checkpoint_files import read_object, reading, wrong_values
from harness.models.fable import FABLE_MODELS, fable_folder
from harness.models.gguf_checkpoint import chosen_gguf, gguf_files, several_gguf
from harness.models.hub import fetch_gguf, fetch_small_files, nearest_builtin, remote_weights
from harness.models.model_files import ModelFiles
from harness.models.packaged import PACKAGED, packaged_file
from harness.models.weights import Tensor, read_header

_ENCODER_DECODERS = {
    "t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "marian", "pegasus", "pegasus_x",
    "blenderbot", "blenderbot-small", "led", "m2m_100", "nllb-moe", "prophetnet", "bigbird_pegasus",
    "whisper", "encoder-decoder", "seamless_m4t", "plbart", "t5gemma",
}  # fmt: skip


def locate(model: Model) -> ModelFiles:
    """Find a model and read its small files; no weights are loaded, and no torch is imported.

    Raises:
        ConfigError: it is not found or cannot be used; one line per reason.
    """
    with reading(model.id):
        return _locate(model)


def _locate(model: Model) -> ModelFiles:
    if model.id in PACKAGED:
        _check_local(model)
        return gguf_files(model.id, packaged_file(model.id), None, model.gguf_file)
    folder, revision = _find(model)
    if (path := _gguf(model, folder, revision)) is not None:
        return gguf_files(model.id, path, revision, model.gguf_file)
    config_path = folder / "config.json"
    if not config_path.is_file():
        missing = f"{model.id} is not a model folder: it has no config.json; give the folder that has it"
        raise ConfigError.of("model.id", adapter_alone(model.id, folder) or missing)
    config = read_object(config_path)
    if mistakes := list(wrong_values(str(config_path), config)):
        raise ConfigError(mistakes)
    if not config.get("model_type"):
        raise ConfigError.of(
            "model.id",
            f"{model.id}: its config.json names no model_type, so its architecture is unknown; choose "
            "another model",
        )
    if config.get("is_encoder_decoder") or config["model_type"] in _ENCODER_DECODERS:
        raise ConfigError.of(
            "model.id",
            f"{model.id} is an encoder-decoder model ({config['model_type']}); only decoder-only models "
            "(Llama, Qwen, Mistral, GPT-2, ...) can be used",
        )
    names, tensors = _weights(model, folder, revision)
    tokenizer = folder / "tokenizer_config.json"
    has_code = "auto_map" in config or (tokenizer.is_file() and "auto_map" in read_object(tokenizer))
    files = ModelFiles(
        id=model.id,
        folder=folder,
        revision=revision,
        config=config,
        weight_files=names,
        pickled=not names[0].endswith(".safetensors"),
        tensors=tensors,
        has_remote_code=has_code,
    )
    generation = files.folder / "generation_config.json"
    mistakes += wrong_values(str(generation), files.generation_config)
    mistakes += _refusals(model, files)
    mistakes += contradictions(files)
    if mistakes:
        raise ConfigError(mistakes)
    return files


def _find(model: Model) -> tuple[Path, str | None]:
    """Return the folder, or the GGUF file, and the commit of a hub model."""
    builtin = model.id in FABLE_MODELS
    folder = fable_folder(model.id) if builtin else user_path("model.id", model.id)
    if builtin or folder.is_dir():
        _check_local(model)
        return folder.resolve(), None
    if folder.is_file():
        if folder.suffix.lower() != ".gguf":
            problem = f"{model.id} is a file; give a GGUF file, or the folder that has config.json"
            raise ConfigError.of("model.id", problem)
        _check_local(model)
        return folder.absolute(), None  # a link of the hub's cache keeps its name
    if model.id.lower().endswith(".gguf"):
        raise ConfigError.of("model.id", _no_such_file(model.id))
    if "/" not in model.id and (hint := nearest_builtin(model.id)):
        raise ConfigError.of("model.id", f"{model.id!r} is neither a built-in model{hint} nor a folder here")
    if model.gguf_file is not None:
        return fetch_gguf(model.id, model.revision, model.gguf_file)
    snapshot = fetch_small_files(model.id, model.revision, code=model.trust_remote_code)
    return snapshot, snapshot.name


def _check_local(model: Model) -> None:
    """Refuse a revision of what is not on the hub."""
    if model.revision is not None:
        problem = f"{model.revision!r} has no effect on {model.id}, which is not a hub model; drop it"
        raise ConfigError.of("model.revision", problem)


def _no_such_file(model_id: str) -> str:
    """Return that there is no GGUF file of this name, and what may have been meant."""
    repository, _, name = model_id.replace(":", "/").rpartition("/")
    if cure := similar_path(model_id):
        return f"there is no file {model_id}{cure}"
    of_hub = f"model.id={repository} model.gguf_file={name}"
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        of_hub = f"model.id=OWNER/NAME model.gguf_file={name}"
    return f"there is no file {model_id}; check the path; one of the hub is {of_hub}"


def _gguf(model: Model, found: Path, revision: str | None) -> Path | None:
    """Return the GGUF file that is meant; None for a checkpoint of transformers."""
    if found.is_file():
        return found
    if model.gguf_file is None and (found / "config.json").is_file():
        present = [path.name for path in found.iterdir()]
        if revision is not None or _choose(found, present)[0] or not _has_gguf(present):
            return None
    if model.gguf_file is None and revision is not None:
        names = [name for name in remote_weights(model.id, revision)[0] if _has_gguf([name])]
        if names:
            raise ConfigError.of("model.id", several_gguf(model.id, names))
        return None
    return chosen_gguf(model, found)


def _has_gguf(names: Sequence[str]) -> bool:
    return any(name.endswith(".gguf") for name in names)


def _weights(model: Model, folder: Path, revision: str | None) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    """Return the names of the weight files, and the tensors that their headers declare."""
    present = sorted(path.name for path in folder.iterdir() if path.is_file())
    names, missing = _choose(folder, present)
    if names and not missing:
        readable = [name for name in names if name.endswith(".safetensors")]
        return names, tuple(tensor for name in readable for tensor in read_header(folder / name))
    if revision is None:
        problem = "has no weights (safetensors or .bin files); give a folder that has them"
        if missing:
            problem = f"lacks {len(missing)} of its weight files ({missing[0]}); fetch it again"
        raise ConfigError.of("model.id", adapter_alone(model.id, folder) or f"{model.id} {problem}")
    remote, tensors = remote_weights(model.id, revision)
    names, _ = _choose(folder, remote)
    if not names:
        missing_ones = (
            f"{model.id} has no weights on the hub that can be used (safetensors, .bin); choose another model"
        )
        raise ConfigError.of("model.id", adapter_alone(model.id, folder) or missing_ones)
    return names, tensors


def _choose(folder: Path, present: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the weight files that transformers would use, and which of them are not among `present`."""
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if single in present:
            return (single,), []
        if index in present and (folder / index).is_file():
            found = read_object(folder / index).get("weight_map")
            if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
                problem = "has no weight_map from tensors to names of files; fetch it again"
                raise ConfigError.of("model.id", f"{folder / index} {problem}")
            names = sorted(set(found.values()))
            return tuple(names), [name for name in names if name not in present]
    return (), []


def _refusals(model: Model, files: ModelFiles) -> Iterator[Mistake]:
    """Yield why the model cannot be used with this config."""
    if files.pickled and not model.allow_pickle:
        yield Mistake(
            "model.allow_pickle",
            f"{files.id} has its weights only as pickle ({files.weight_files[0]}), which can run any "
            "code when loaded; set model.allow_pickle=true if you trust it, or convert it to safetensors",
        )
    if files.has_remote_code and not model.trust_remote_code and not _is_in_transformers(files.model_type):
        yield Mistake(
            "model.trust_remote_code",
            f"{files.id} needs Python code that comes with it ({files.model_type}); read it, then set "
            "model.trust_remote_code=true",
        )


def _is_in_transformers(model_type: str) -> bool:
    # Imports torch, but only for the few checkpoints that come with code.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES
