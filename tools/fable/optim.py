"""The optimizer: Muon for the matrices inside the blocks, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of a matrix near 1, by five Newton-Schulz steps in bf16.

    The quintic's coefficients are those of Jordan et al., "Muon" (2024).
    """
    x = matrix.bfloat16()
    tall = x.size(0) > x.size(1)
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal, for matrices.

    Args:
        matrices: parameters of two dimensions.
        lr: learning rate; an update of a square matrix has singular values near this.
        momentum: of the running mean of gradients, as in Nesterov momentum.
    """

    def __init__(self, matrices: Iterable[torch.Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for matrix in group["params"]:
                mean = self.state[matrix].setdefault("mean", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalise(matrix.grad.lerp(mean, group["momentum"]))
                scale = max(1.0, matrix.size(0) / matrix.size(1)) ** 0.5
                matrix.add_(update, alpha=-group["lr"] * scale)
