"""The running average of a model's weights, which is better than the last of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of a model's state. Early on it forgets faster, so that it starts useful."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        for name, tensor in model.state_dict().items():
            self._state[name].lerp_(tensor, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return self._state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._state = {name: tensor.clone() for name, tensor in state.items()}
        self.updates = 10**6
