"""Numbers on their way to a device become the tensors that torch would make of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.decoding.upload import on_device


@pytest.mark.parametrize(
    "values",
    [[3, -1], [[1], [2]], [(1, 2), (3, 4)], [0.1, -2.5], [1, 0.5], [True, False], [], [2**62 + 1]],
)
@pytest.mark.parametrize("dtype", [None, torch.long, torch.float64])
def test_numbers_become_what_torch_makes_of_them(values: list[Any], dtype: torch.dtype | None) -> None:
    found, expected = on_device(values, "cpu", dtype), torch.tensor(values, dtype=dtype)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
