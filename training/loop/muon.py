"""Muon: the heads' optimiser. It turns each weight matrix's averaged gradient into the nearest orthogonal matrix, so
that a step changes what the matrix does in every direction alike, not only in the few that the gradient is large in."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor, nn

# Makes a step's mean square that of Adam, so that one learning rate suits both (Liu et al., "Muon is scalable for LLM
# training", 2025, section 2.2).
ADAM_STEP = 0.2
# Quintic Newton-Schulz iteration (K. Jordan et al., "Muon", 2024): singular values end up between about 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; a convolution's is a matrix of outputs by all its inputs.

    `torch.optim.Muon` takes no convolutions, and works in bfloat16, in which a processor is slower than in float32.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(
            parameters, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum}
        )
        if any(weight.ndim < 2 for group in self.param_groups for weight in group["params"]):
            raise ValueError("Muon was given a parameter of fewer than two dimensions; those go to AdamW.")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step along the gradients that are there."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["average"] = torch.zeros_like(weight)
                state["average"].lerp_(weight.grad, 1 - group["momentum"])
                # Nesterov: the gradient once more, ahead of its average.
                gradient = weight.grad.lerp(state["average"], group["momentum"])
                direction = orthogonalised(rearrange(gradient, "o ... -> o (...)"))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                size = ADAM_STEP * math.sqrt(max(direction.shape))
                weight.add_(direction.view_as(weight), alpha=-group["lr"] * size)


def orthogonalised(matrix: Tensor) -> Tensor:
    """About the orthogonal matrix nearest to `matrix` [N, M]: the same singular vectors, all singular values near 1."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    first, third, fifth = _COEFFICIENTS
    x = wide / wide.norm().clamp(min=1e-7)
    # Each iteration multiplies x by a polynomial of its Gram matrix. These all commute, so they are gathered on the
    # smaller side, and x, which convolutions make nine times as long, is multiplied once.
    gram = x @ x.T
    gathered = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(_ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        factor.diagonal().add_(first)
        gathered = factor @ gathered
        gram = factor @ gram @ factor
    x = gathered @ x
    return x if wide is matrix else x.T
