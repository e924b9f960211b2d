"""A wide head multiplied in blocks gives the same products, and is restored afterwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from harness.backends.hf.wide_head import LogitsBuffer, in_blocks

WIDTH, VOCABULARY = 24, 9_001  # the last block is a short one


def _model(head: nn.Module) -> Any:
    return SimpleNamespace(get_output_embeddings=lambda: head)


def _head(bias: bool = False, vocabulary: int = VOCABULARY) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(WIDTH, vocabulary, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("shape", [(1, 1, WIDTH), (7, 1, WIDTH), (3, 5, WIDTH), (4, WIDTH)])
def test_products_equal_float64(shape: tuple[int, ...]) -> None:
    head = _head()
    # A slice of something wider, as a model's last position is.
    states = torch.randn(*shape[:-1], 2 * WIDTH, generator=torch.Generator().manual_seed(1))[..., ::2]
    with in_blocks(_model(head)):
        found = head(states)
    assert found.dtype == torch.float32
    assert found.shape == (*shape[:-1], VOCABULARY)
    torch.testing.assert_close(found.double(), states.double() @ head.weight.double().T, atol=1e-5, rtol=1e-5)


def test_a_buffer_is_written_over_and_has_room_for_so_many_rows() -> None:
    head, buffer = _head(), LogitsBuffer(4)
    states = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(1))
    expected = nn.functional.linear(states, head.weight)
    with in_blocks(_model(head), buffer):
        first = head(states[:2])
        torch.testing.assert_close(first, expected[:2])
        second = head(states[2:6])
        torch.testing.assert_close(second, expected[2:6])
        assert first.data_ptr() == second.data_ptr()
        torch.testing.assert_close(head(states), expected)  # more than there is room for
        torch.testing.assert_close(second, expected[2:6])


def test_the_head_is_restored_even_after_an_error() -> None:
    head = _head()
    with pytest.raises(ZeroDivisionError), in_blocks(_model(head)):  # noqa: PT012
        assert "forward" in vars(head)
        raise ZeroDivisionError
    assert "forward" not in vars(head)
    states = torch.randn(2, WIDTH)
    torch.testing.assert_close(head(states), nn.functional.linear(states, head.weight))


def _replaced() -> nn.Linear:
    head = _head()
    head.forward = lambda states: states  # type: ignore[method-assign,assignment]
    return head


@pytest.mark.parametrize(
    "head",
    [_head(bias=True), _head(vocabulary=500), _head().to(torch.bfloat16), _replaced(), nn.Identity(), None],
    ids=["bias", "narrow", "bf16", "replaced", "another module", "no head"],
)
def test_other_heads_are_left_alone(head: Any) -> None:
    before = dict(vars(head)) if head is not None else {}
    with in_blocks(_model(head)):
        assert head is None or dict(vars(head)) == before
    assert head is None or dict(vars(head)) == before


def test_hooks_on_the_head_are_still_called() -> None:
    head = _head()
    seen: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    states = torch.randn(2, 1, WIDTH)
    with in_blocks(_model(head)):
        head(states)
    assert seen == [states]
