"""The Hugging Face hub: fetch a model's files; every failure is a message of one line.

Nothing here prompts the user, and nothing uses the network when `HF_HUB_OFFLINE=1`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.config.suggest import similar_path
from harness.errors import ConfigError, first_line
from harness.models.fable import FABLE_MODELS
from harness.models.weights import Tensor

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
CODE_FILES = ("*.py",)


def nearest_builtin(name: str) -> str:
    """Return ' (did you mean fable_small?)' when a built-in model has nearly this name, else ''."""
    close = difflib.get_close_matches(name, FABLE_MODELS, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""


def fetch_small_files(model_id: str, revision: str | None, *, code: bool) -> Path:
    """Fetch config and tokenizer of a hub model; return the local snapshot folder, named after the commit.

    Raises:
        ConfigError: the model cannot be fetched; with the reason and the cure.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import validate_repo_id

    patterns = [*SMALL_FILES, *(CODE_FILES if code else ())]
    with _hub_errors(model_id, revision):
        validate_repo_id(model_id)
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=patterns))


def fetch_weights(
    model_id: str, revision: str | None, names: tuple[str, ...], on_file: Callable[[str, float], None]
) -> Path:
    """Fetch the named weight files that are not cached, one after the other; return their folder.

    Args:
        model_id: the hub id.
        revision: the commit.
        names: files to fetch.
        on_file: called with a file's name and the fraction of the files that are done before it.

    Raises:
        ConfigError: as `fetch_small_files`.
    """
    from huggingface_hub import hf_hub_download

    folder = Path()
    with _hub_errors(model_id, revision):
        for index, name in enumerate(names):
            on_file(name, index / len(names))
            path = Path(hf_hub_download(model_id, name, revision=revision))
            folder = path.parents[len(Path(name).parts) - 1]
    return folder


def fetch_gguf(model_id: str, revision: str | None, name: str) -> tuple[Path, str]:
    """Fetch one GGUF file of a hub repository; return it, and the commit.

    Raises:
        ConfigError: as `fetch_small_files`.
    """
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.utils import validate_repo_id

    with _hub_errors(model_id, revision):
        validate_repo_id(model_id)
        try:
            path = Path(hf_hub_download(model_id, name, revision=revision))
        except errors.RemoteEntryNotFoundError:
            problem = f"{model_id} has no such file on the hub; look at its list of files"
            raise ConfigError.of(f"model.gguf_file={name}", problem) from None
    return path, path.parents[len(Path(name).parts) - 1].name


def remote_weights(model_id: str, revision: str | None) -> tuple[list[str], tuple[Tensor, ...]]:
    """Return the files that the hub has of a model, and their tensors (from headers; no weights fetched)."""
    from huggingface_hub import HfApi

    api = HfApi()
    with _hub_errors(model_id, revision):
        siblings = api.model_info(model_id, revision=revision).siblings or []
    names = sorted(entry.rfilename for entry in siblings)
    if not any(name.endswith(".safetensors") for name in names):
        return names, ()
    try:
        metadata = api.get_safetensors_metadata(model_id, revision=revision)
    except Exception:
        # Only estimates depend on it; what is wrong is reported when the weights are fetched.
        return names, ()
    return names, tuple(
        Tensor(name, str(info.dtype), tuple(info.shape))
        for file in metadata.files_metadata.values()
        for name, info in file.tensors.items()
    )


@contextmanager
def _hub_errors(model_id: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of the hub's client into a ConfigError of one line, and its progress bars off."""
    from huggingface_hub import errors
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    failures: tuple[type[Exception], ...] = (errors.EntryNotFoundError, *errors.HfHubHTTPError.__bases__)
    try:
        yield
    except errors.RevisionNotFoundError:
        raise ConfigError.of(
            "model.revision", f"{revision!r} is not a branch, tag or commit of {model_id} on the hub"
        ) from None
    except errors.HFValidationError:
        cure = similar_path(model_id, folder=True) or "; check the path"
        problem = f"there is no folder {model_id!r}, and it is not a valid hub id{cure}"
        raise ConfigError.of("model.id", problem) from None
    except failures as error:
        raise ConfigError.of("model.id", _explain(model_id, error)) from None


def _explain(model_id: str, error: BaseException) -> str:
    """Return in one line why the hub's client failed, and the cure."""
    from huggingface_hub import errors, is_offline_mode

    near = similar_path(model_id, folder=True)
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)

    def among(kind: type[BaseException]) -> bool:
        return any(isinstance(cause, kind) for cause in causes)

    if among(errors.GatedRepoError):
        return (
            f"{model_id} is gated: request access on its page on the hub, then set HF_TOKEN to a token "
            "of the account that has it"
        )
    if among(errors.DisabledRepoError):
        return f"{model_id} has been disabled on the hub; choose another model"
    if among(errors.RepositoryNotFoundError):
        return (
            f"{model_id!r} is neither a built-in model{nearest_builtin(model_id)}, nor a folder here, nor a "
            f"model on the hub{near or '; check the spelling'}, or set HF_TOKEN if it is private"
        )
    if among(errors.OfflineModeIsEnabled) or is_offline_mode():
        return (
            f"{model_id!r} is neither a built-in model{nearest_builtin(model_id)} nor a folder, it is not "
            "complete in the hub's cache, and HF_HUB_OFFLINE=1 forbids fetching it"
            f"{near or '; unset that, or give a folder'}"
        )
    responses = [getattr(cause, "response", None) for cause in causes]
    if any(getattr(response, "status_code", None) in (401, 403) for response in responses):
        return f"the hub refuses access to {model_id} with this token; set HF_TOKEN to one that may read it"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{model_id} lacks a file that its index names ({first_line(error)}); choose another revision"
    return (
        f"the hub does not answer ({first_line(causes[-1])}) and {model_id} is not complete in the local "
        f"cache; try again, give a folder, or use a built-in model ({', '.join(FABLE_MODELS)})"
    )
