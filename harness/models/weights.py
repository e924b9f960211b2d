"""Weights without loading them: safetensors headers, and a fingerprint of the files."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from harness.errors import ConfigError, first_line
from harness.models.checkpoint_files import reading

DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
DTYPE_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}

MAX_HEADER = 25_000_000  # bytes, of some hundred thousand tensors
MAX_FULL_HASH = 64 * 1024 * 1024
_BLOCK = 1024 * 1024
_SAMPLED_BLOCKS = 16


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: its name, its dtype as safetensors writes it (`F16`), its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        return self.numel * DTYPE_BYTES.get(self.dtype, 4)


_NOT_LINEAR = ("embed", "wte", "wpe", "norm", "ln_", "lm_head", "embed_out", "router")


def quantizable(tensor: Tensor, skipped: Sequence[str] = ()) -> bool:
    """Return whether it is quantized on load: a linear layer's weight, except the head and skipped ones."""
    return len(tensor.shape) == 2 and not any(name in tensor.name for name in (*_NOT_LINEAR, *skipped))


def read_header(path: Path) -> tuple[Tensor, ...]:
    """Return the tensors that a safetensors file declares, in the file's order.

    Raises:
        ConfigError: it is not a safetensors file, it is truncated, or it holds nothing.
    """
    try:
        with path.open("rb") as start:
            size = int.from_bytes(start.read(8), "little")
        if size > MAX_HEADER:
            raise SafetensorError(f"it begins with a header of {size:,} bytes, more than any model has")
        with safe_open(path, framework="numpy") as file:
            headers = [(name, file.get_slice(name)) for name in file.offset_keys()]
            found = tuple(Tensor(name, one.get_dtype(), tuple(one.get_shape())) for name, one in headers)
        if not found:
            raise SafetensorError("it holds no tensor")
    except (OSError, SafetensorError) as error:
        problem = f"{path} cannot be read as safetensors: {first_line(error)}; fetch it again"
        raise ConfigError.of("model.id", problem) from None
    return found


def main_dtype(tensors: Sequence[Tensor]) -> str | None:
    """Return the floating dtype of most stored values, as torch names it; None when unknown."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype in DTYPE_NAMES:
            counts[DTYPE_NAMES[tensor.dtype]] += tensor.numel
    return counts.most_common(1)[0][0] if counts else None


def fingerprint_file(path: Path) -> str:
    """Return a hash that changes when the file does.

    Up to 64 MiB all of the content is hashed. Of a larger file: its size, its modification time, its first
    MiB (the safetensors header) and 16 blocks of 1 MiB spread evenly to its end; so a copy of a large file
    counts as another file unless its modification time was preserved.
    """
    facts = path.stat()
    with path.open("rb") as file:
        if facts.st_size <= MAX_FULL_HASH:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns}".encode())
        last = facts.st_size - _BLOCK
        for index in range(_SAMPLED_BLOCKS + 1):
            file.seek(last * index // _SAMPLED_BLOCKS)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def fingerprint_files(folder: Path, names: Iterable[str], *extra: str) -> str:
    """Return sixteen hex digits of a hash of the named files that exist in `folder`, and of further texts."""
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        path = folder / name
        with reading(str(path)):
            if path.is_file():
                digest.update(f"{name}={fingerprint_file(path)}\n".encode())
    for text in extra:
        digest.update(b"\0" + text.encode("utf-8", errors="surrogatepass"))
    return digest.hexdigest()[:16]
