"""The Hugging Face hub: fetch a model's files, and tell in one line why it cannot be done.

Nothing here asks a question, and nothing reaches for the network when `HF_HUB_OFFLINE=1`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.models.fable import FABLE_MODELS
from harness.models.weights import Tensor

HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
CODE_FILES = ("*.py",)


@dataclass(frozen=True)
class Remote:
    """What the hub says of weights that are not here yet: file names, and their tensors where it can tell."""

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]


def nearest_builtin(name: str) -> str:
    """' (did you mean model.id=...?)' when a built-in model has nearly this name, else ''."""
    close = difflib.get_close_matches(name, FABLE_MODELS, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""


def fetch_small_files(model_id: str, revision: str | None, *, code: bool) -> Path:
    """The local snapshot folder of a hub model, its config and tokenizer fetched; its name is the commit.

    Raises:
        ConfigError: the model cannot be had; says which way and what to do.
    """
    from huggingface_hub import snapshot_download

    patterns = [*SMALL_FILES, *(CODE_FILES if code else ())]
    with told(model_id, revision), no_bars():
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=patterns))


def fetch_weights(
    model_id: str, revision: str | None, names: tuple[str, ...], on_file: Callable[[str, float], None] | None
) -> Path:
    """Fetch the named weight files, one after the other; those that are here cost nothing.

    Args:
        model_id: the hub id.
        revision: the commit.
        names: files to fetch.
        on_file: called with a file's name and the fraction of files that are here before it.

    Raises:
        ConfigError: as `fetch_small_files`.
    """
    from huggingface_hub import hf_hub_download

    folder = Path()
    with told(model_id, revision), no_bars():
        for place, name in enumerate(names):
            if on_file is not None:
                on_file(name, place / len(names))
            path = Path(hf_hub_download(model_id, name, revision=revision))
            folder = path.parents[len(Path(name).parts) - 1]
    return folder


def ask_weights(model_id: str, revision: str | None) -> Remote:
    """What weight files the hub holds of a model, and the tensors in them (from headers, nothing fetched)."""
    from huggingface_hub import HfApi

    api = HfApi()
    with told(model_id, revision), no_bars():
        siblings = api.model_info(model_id, revision=revision).siblings or []
        names = tuple(sorted(entry.rfilename for entry in siblings))
    tensors: tuple[Tensor, ...] = ()
    if any(name.endswith(".safetensors") for name in names):
        try:
            metadata = api.get_safetensors_metadata(model_id, revision=revision)
            tensors = tuple(
                Tensor(name, str(info.dtype), tuple(info.shape))
                for file in metadata.files_metadata.values()
                for name, info in file.tensors.items()
            )
        except Exception:
            # Only estimates hang on it; whatever is wrong is told when the weights are fetched.
            tensors = ()
    return Remote(names, tensors)


@contextmanager
def no_bars() -> Iterator[None]:
    """No progress bars of the hub's own meanwhile."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def told(model_id: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the hub's client raises into a ConfigError of one line."""
    from huggingface_hub import errors

    failures: tuple[type[Exception], ...] = (OSError, errors.EntryNotFoundError, *_http_errors())
    try:
        yield
    except errors.RevisionNotFoundError:
        raise ConfigError.of(
            "model.revision", f"{revision!r} is no branch, tag or commit of {model_id} on the hub"
        ) from None
    except errors.HFValidationError:
        raise ConfigError.of("model.id", f"{model_id!r} is neither a folder nor a hub id") from None
    except failures as error:
        raise ConfigError.of("model.id", _explain(model_id, error)) from None


def _explain(model_id: str, error: BaseException) -> str:
    """One line on why the hub gave nothing."""
    from huggingface_hub import errors, is_offline_mode

    causes = list(_chain(error))

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    statuses = {_status(cause) for cause in causes}
    if among(errors.GatedRepoError):
        return (
            f"{model_id} is gated: ask for access on its page on the hub, then set HF_TOKEN to a token "
            "of the account that has it"
        )
    if among(errors.DisabledRepoError):
        return f"{model_id} has been disabled on the hub; choose another model"
    if among(errors.RepositoryNotFoundError):
        return (
            f"{model_id!r} is no built-in model{nearest_builtin(model_id)}, no folder here, and the hub "
            "shows no model of that name; mind the spelling, or set HF_TOKEN if it is private"
        )
    if among(errors.OfflineModeIsEnabled) or is_offline_mode():
        return (
            f"{model_id!r} is no built-in model{nearest_builtin(model_id)} and no folder, and no complete "
            "local copy of it is in the hub's cache while HF_HUB_OFFLINE=1 forbids to fetch it; unset that, "
            "or give a folder"
        )
    if statuses & {401, 403}:
        return f"the hub refuses {model_id} with the token it was given; set HF_TOKEN to one that may read it"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{model_id} lacks a file that its index names: {_first_line(error)}"
    return (
        f"the hub does not answer and {model_id} is not (completely) in its local cache; try again, or give "
        f"a folder, or use a built-in model ({', '.join(FABLE_MODELS)}): {_first_line(causes[-1])}"
    )


def _http_errors() -> tuple[type[Exception], ...]:
    """The base errors of whichever HTTP client the installed huggingface_hub uses."""
    from huggingface_hub.errors import HfHubHTTPError

    bases = HfHubHTTPError.__mro__
    return tuple(base for base in bases if base.__name__ == "HTTPError" and issubclass(base, Exception))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
