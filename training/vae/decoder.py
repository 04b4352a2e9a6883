"""The narrow VAE's decoder learns to turn the encoder's code back into pictures, by plain regression on crops."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from delit_models.wan_vae import WanVAE, WanVAEConfig
from training.loop.average import Average
from training.loop.schedule import Schedule

from .patch_code import PatchCode, prepare_decoder, set_linear_encoder

_AVERAGE = 0.995
_SCALES = (0.6, 1.4)
# Of the absolute error beside the squared one: it counts where the latter is all but done.
_ABSOLUTE = 0.05
# The code is fitted to so many pictures.
_FITTED = 400


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of one run that its numbers depend on, but for its length; sizes in pixels.

    Attributes:
        warm_up: steps until the full learning rate. cool_down: share of the steps in which it falls again.
    """

    width: int = 16
    batch_size: int = 16
    crop: int = 96
    learning_rate: float = 2e-3
    warm_up: int = 100
    cool_down: float = 0.4
    seed: int = 0


class DecoderTrainer:
    """The decoder's regression on the encoder's fixed code.

    Attributes:
        pictures: bytes [N, 3, H, W], what crops are cut out of.
    """

    def __init__(self, config: DecoderConfig, pictures: Tensor, device: torch.device, steps: int) -> None:
        self.config, self.device, self.pictures = config, device, pictures
        self.schedule = Schedule(steps, config.warm_up, config.cool_down)
        torch.manual_seed(config.seed)
        chosen = pictures[torch.randperm(len(pictures))[:_FITTED]]
        self.code = PatchCode.fit(chosen.float() / 127.5 - 1)
        self.vae = WanVAE(WanVAEConfig(dim=config.width))
        set_linear_encoder(self.vae, self.code)
        prepare_decoder(self.vae)
        self.vae.to(device)
        self.vae.encoder.requires_grad_(False)
        self.trained = [p for part in (self.vae.conv2, self.vae.decoder) for p in part.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.98)
        )
        self.average = Average(self.vae, _AVERAGE)
        self.step = 0

    def train_step(self) -> dict[str, Tensor]:
        """One batch of random crops; returns the parts of its loss, on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.schedule.rate(self.step)
        target = self.crops(self.step)
        # The code itself, not vae.encode: they are equal, and this is a single convolution.
        z = self.code.encode(target)
        made, target = self.vae.decode(z.to(self.device)), target.to(self.device)
        parts = {"squared": F.mse_loss(made, target), "absolute": _ABSOLUTE * F.l1_loss(made, target)}
        self.optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.average.update(self.vae)
        self.step += 1
        return {name: part.detach() for name, part in parts.items()}

    def crops(self, step: int) -> Tensor:
        """[B, 3, crop, crop] in [-1, 1]: random pictures at one random scale, flipped at random. A step's crops are
        the same whenever it is asked for them, so that a resumed run sees what an unbroken one does."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)

        def random(below: int) -> int:
            return int(torch.randint(below, (), generator=generator))

        scale = float(torch.empty(()).uniform_(*_SCALES, generator=generator))
        chosen = self.pictures[
            torch.randint(len(self.pictures), (self.config.batch_size,), generator=generator)
        ]
        crop, side = self.config.crop, min(chosen.shape[-2:])
        size = max(crop, round(side * scale))
        window = min(side, math.ceil(crop * side / size))
        top, left = (random(length - window + 1) for length in chosen.shape[-2:])
        cut = chosen[..., top : top + window, left : left + window].float() / 127.5 - 1
        crops = F.interpolate(cut, size=(crop, crop), mode="bilinear", antialias=True, align_corners=False)
        return crops.flip(-1) if random(2) else crops

    def averaged_vae(self) -> WanVAE:
        """The VAE to keep, on the processor."""
        vae = WanVAE(self.vae.config)
        vae.load_state_dict(self.average.weights)
        return vae.eval().requires_grad_(False)

    def identity(self) -> dict[str, Any]:
        """What two runs must have in common for one to go on with the other's checkpoint, but for their data."""
        return asdict(self.config)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "vae": self.vae.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "code": {"mean": self.code.mean, "components": self.code.components, "scale": self.code.scale},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()` of a run of the same identity; its length is this run's."""
        self.step = state["step"]
        self.code = PatchCode(**state["code"])
        self.vae.load_state_dict(state["vae"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
