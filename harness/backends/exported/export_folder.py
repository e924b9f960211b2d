"""Where the export of a checkpoint is kept: `outputs/exports/KEY`, made once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.backends.exported.runtimes import RUNTIMES, GraphRuntime
from harness.config.user_path import user_path
from harness.errors import ConfigError
from harness.models.model_files import ModelFiles
from harness.models.weights import fingerprint_files
from harness.store.files import outputs_folder

EXPORT_VERSION = 1
"""Raise it when exports are made otherwise than before."""


def export_facts(runtime: GraphRuntime, files: ModelFiles, compressed: bool) -> Mapping[str, Any]:
    """Return what an export of a checkpoint depends on, as JSON values."""
    return {
        "export": EXPORT_VERSION,
        "kind": runtime.kind,
        "weights": files.fingerprint,
        "compressed": compressed,
        "versions": dict(runtime.versions(with_export=True, compressed=compressed)),
    }


def export_folder(facts: Mapping[str, Any]) -> Path:
    """Return the folder of an export, which may not have been made yet."""
    text = json.dumps(facts, sort_keys=True)
    return outputs_folder() / "exports" / hashlib.sha256(text.encode()).hexdigest()[:16]


def given_folder(runtime: GraphRuntime, named: str) -> Path:
    """Return the folder that `backend.exported` names.

    Raises:
        ConfigError: it has no graph for the runtime.
    """
    key, folder = f"backend.exported={named}", user_path("backend.exported", named)
    if not folder.is_dir():
        raise ConfigError.of(key, "no such folder; leave it out, and the model is exported once")
    if not (folder / runtime.file).is_file():
        others = [one for one in RUNTIMES.values() if (folder / one.file).is_file()]
        cure = "give the folder that has it"
        if others:
            cure = f"it has {others[0].file}, use backend={others[0].kind}"
        raise ConfigError.of(key, f"has no {runtime.file}; {cure}")
    return folder.resolve()


def given_fingerprint(folder: Path) -> str:
    """Return a fingerprint of the graphs in a folder, and of their weights."""
    suffixes = (".onnx", ".data", ".onnx_data", ".xml", ".bin")
    return fingerprint_files(folder, sorted(one.name for one in folder.iterdir() if one.suffix in suffixes))
