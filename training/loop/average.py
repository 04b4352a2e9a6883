"""The running average of a model's weights, which is better than the last of them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class HasState(Protocol):
    """An nn.Module, or whatever else tells its weights by name."""

    def state_dict(self) -> dict[str, Tensor]: ...


class Average:
    """Exponential moving average of a model's state. Early on it forgets faster, so that it starts useful."""

    def __init__(self, model: HasState, decay: float) -> None:
        self.decay = decay
        self._updates = 0
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: HasState) -> None:
        self._updates += 1
        decay = min(self.decay, self._updates / (self._updates + 10))
        for name, tensor in model.state_dict().items():
            self.weights[name].lerp_(tensor, 1 - decay)

    def state_dict(self) -> dict[str, object]:
        """The average and how many updates it has seen, without which it would go on at another pace."""
        return {"updates": self._updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._updates = int(state["updates"])
        weights: dict[str, Tensor] = state["weights"]
        self.weights = {name: weights[name].to(own).clone() for name, own in self.weights.items()}
