"""The header of a GGUF file: its metadata and the tensors that it declares; no weights are read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import ConfigError
from harness.models.weights import Tensor


class TensorType(NamedTuple):
    """How a GGUF file stores values: its name, and in how many bytes so many of them."""

    name: str
    values: int
    size: int


TENSOR_TYPES: Mapping[int, TensorType] = {
    number: TensorType(name, values, size)
    for number, name, values, size in (
        (0, "F32", 1, 4), (1, "F16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20), (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34), (9, "Q8_1", 32, 40), (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110), (12, "Q4_K", 256, 144), (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210),
        (15, "Q8_K", 256, 292), (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98),
        (19, "IQ1_S", 256, 50), (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110), (22, "IQ2_S", 256, 82),
        (23, "IQ4_XS", 256, 136), (24, "I8", 1, 1), (25, "I16", 1, 2), (26, "I32", 1, 4), (27, "I64", 1, 8),
        (28, "F64", 1, 8), (29, "IQ1_M", 256, 56), (30, "BF16", 1, 2), (34, "TQ1_0", 256, 54),
        (35, "TQ2_0", 256, 66), (39, "MXFP4", 32, 17), (40, "NVFP4", 64, 36), (41, "Q1_0", 128, 18),
    )
}  # fmt: skip
"""By its number in the file (`ggml_type`)."""

PLAIN_TYPES = ("F32", "F16", "BF16")

_FILE_TYPES = {
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M",
    21: "Q2_K_S", 22: "IQ3_XS", 27: "IQ3_M", 29: "IQ2_M",
}  # fmt: skip
"""Mixtures of types that have a name of their own, by `general.file_type`."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_KEPT_VALUES = 4096  # of an array; what is longer is a vocabulary
_LONGEST_TEXT = 16 * 1024 * 1024
_BIG_ENDIAN_3 = 0x03000000


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of its model.

    Attributes:
        path: the file.
        metadata: by key; an array of texts, or a long one, as the number of its values.
        tensors: in the file's order, shapes as torch has them.
        bits: per value, over all tensors.
        tokenizer_digest: hash of the metadata of the tokenizer, its chat template included.
    """

    path: Path
    metadata: Mapping[str, Any] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    bits: float
    tokenizer_digest: str

    @property
    def architecture(self) -> str:
        """The model's architecture as llama.cpp names it."""
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self, key: str) -> Any:
        """Return `<architecture>.<key>`; None where the file does not have it."""
        return self.metadata.get(f"{self.architecture}.{key}")

    @property
    def quantized(self) -> bool:
        """Whether some of the values are quantized."""
        return any(tensor.dtype not in PLAIN_TYPES for tensor in self.tensors)

    @property
    def type_name(self) -> str:
        """The type of most of its values, or the name of the mixture: `Q4_1`, `Q4_K_M`, `F16`."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.dtype] += tensor.numel
        most = counts.most_common(1)[0][0]
        mixture = _FILE_TYPES.get(self.metadata.get("general.file_type", -1), "")
        return mixture if mixture.startswith(most) or (mixture and most[:2] == mixture[:2] == "IQ") else most


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        ConfigError: it is not a GGUF file, it is damaged or truncated, or of another version of the format.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
            return _Reader(path, blob).header()
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
    except _DamageError as error:
        reason = str(error)
    except (ValueError, struct.error, OverflowError):
        reason = "it ends before its header does"
    raise ConfigError.of("model.id", f"{path} cannot be read as GGUF: {reason}; {_CURE}")


_CURE = "fetch it again, or give another file"


class _DamageError(ValueError):
    """What is wrong with a file."""


class _Reader:
    """Reads values one after the other."""

    def __init__(self, path: Path, blob: mmap.mmap) -> None:
        self._path, self._blob, self._at = path, blob, 0

    def header(self) -> GgufHeader:
        if self._blob[:4] != b"GGUF":
            raise _DamageError("it does not begin with GGUF")
        self._at = 4
        version = self._scalar("I")
        if version == _BIG_ENDIAN_3:
            raise _DamageError("it is big-endian")
        if version not in (2, 3):
            raise _DamageError(f"version {version} of the format is none of 2, 3")
        tensors, keys = self._scalar("Q"), self._scalar("Q")
        metadata: dict[str, Any] = {}
        tokenizer = hashlib.sha256()
        for _ in range(keys):
            start, key = self._at, self._text()
            metadata[key] = self._value(self._scalar("I"))
            if key.startswith("tokenizer."):
                tokenizer.update(self._blob[start : self._at])
        found = [self._tensor() for _ in range(tensors)]
        if not found:
            raise _DamageError("it holds no tensor")
        self._check_extent(found, metadata.get("general.alignment", 32))
        size = sum(nbytes for *_, nbytes in found)
        values = sum(tensor.numel for tensor, *_ in found)
        return GgufHeader(
            path=self._path,
            metadata=metadata,
            tensors=tuple(tensor for tensor, *_ in found),
            bits=8 * size / max(1, values),
            tokenizer_digest=tokenizer.hexdigest()[:16],
        )

    def _check_extent(self, found: list[tuple[Tensor, int, int]], alignment: object) -> None:
        """Check that the file is as long as its tensors need."""
        if not isinstance(alignment, int) or alignment < 1:
            raise _DamageError(f"general.alignment is {alignment!r}")
        data = -(-self._at // alignment) * alignment
        end = data + max(offset + nbytes for _, offset, nbytes in found)
        if end > len(self._blob):
            raise _DamageError(f"it has {len(self._blob):,} bytes, and its tensors end at {end:,}")

    def _tensor(self) -> tuple[Tensor, int, int]:
        """Return a tensor, its offset in the data, and its bytes."""
        name, dimensions = self._text(), self._scalar("I")
        if dimensions > 8:
            raise _DamageError(f"{name[:60]!r} has {dimensions} dimensions")
        shape = tuple(reversed([self._scalar("Q") for _ in range(dimensions)]))
        number, offset = self._scalar("I"), self._scalar("Q")
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            raise _DamageError(f"{name[:60]!r} is of type {number}, which is not known here")
        values = math.prod(shape)
        return Tensor(name, kind.name, shape), offset, -(-values // kind.values) * kind.size

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _DamageError(f"a value of type {kind} is not known here")
        return self._scalar(_SCALARS[kind])

    def _array(self) -> Any:
        """Return the numbers of a short array; of others how many values there are."""
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind == _STRING:
            unpack, blob, at = struct.Struct("<Q").unpack_from, self._blob, self._at
            for _ in range(count):
                at += 8 + unpack(blob, at)[0]
            self._at = at
            return count
        if kind not in _SCALARS:
            raise _DamageError(f"an array of values of type {kind} is not known here")
        code = _SCALARS[kind]
        if count > _KEPT_VALUES:
            self._at += count * struct.calcsize(f"<{code}")
            return count
        values = struct.unpack_from(f"<{count}{code}", self._blob, self._at)
        self._at += struct.calcsize(f"<{count}{code}")
        return list(values)

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._blob, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _text(self) -> str:
        length = self._scalar("Q")
        if length > min(_LONGEST_TEXT, len(self._blob) - self._at):
            raise _DamageError("it ends before its header does")
        text = self._blob[self._at : self._at + length]
        self._at += length
        return text.decode("utf-8", errors="replace")
