"""The narrow VAE's decoder learns to turn the encoder's code back into pictures, by regression on crops."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delit_models.errors import DelitError
from delit_models.images import VAE_STRIDE
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training.heads.linear_code import LinearCode, fit_linear_code
from training.loop.average import Average
from training.loop.bounds import LEAST_RATE, MOST_BATCH, MOST_RATE, MOST_SEED, refuse_outside
from training.loop.muon import Muon
from training.loop.schedule import Schedule, check_cool_down

from .patch_code import PatchCode, prepare_decoder, set_linear_encoder

_AVERAGE = 0.995
# Renders are smooth enough to be enlarged; sharp pictures would not stay so.
_SCALES, _SHARP_SCALES = (0.6, 1.4), (0.6, 1.0)
# The loss of a crop is its squared error in decibels, down to about so much (36 dB): smooth and textured pictures count
# alike, and one that is all but done no longer.
_DONE = 1e-3
# Gradients of that loss are larger than those of the plain squared error; only outliers are cut.
_MOST_GRADIENT = 5.0
# AdamW's part of the learning rate: biases, norms and the layer of the pixels move more carefully than matrices.
_ADAM_SHARE = 0.5
# The code is fitted to so many pictures.
_FITTED = 400
# A narrower one has no room for the code; the widest is over five times Wan's.
_LEAST_WIDTH, _MOST_WIDTH = 12, 512
# In pixels; and pictures, which take 77 kB of memory each.
_MOST_CROP, _MOST_SHARP = 4096, 100_000
# The straight line of a VAE that is trained on is fitted to so many.
_LINE_FITTED = 48


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of one run that its numbers depend on, but for its length; sizes in pixels.

    Attributes:
        clips: train only what looks back in time, on clips (training.vae.clips).
        sharp: how many sharp pictures are made (training.vae.sharp_pictures); sharp_share: the share of a step's crops
            that they are.
        warm_up: steps until the full learning rate. cool_down: share of the steps in which it falls again.
    """

    width: int = 16
    batch_size: int = 4
    crop: int = 96
    sharp: int = 800
    sharp_share: float = 0.5
    clips: bool = False
    learning_rate: float = 4e-3
    warm_up: int = 100
    cool_down: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_outside(_LEAST_WIDTH, _MOST_WIDTH, width=self.width)
        refuse_outside(1, MOST_BATCH, batch_size=self.batch_size)
        refuse_outside(VAE_STRIDE, _MOST_CROP, crop=self.crop)
        if self.crop % VAE_STRIDE:
            raise DelitError(
                f"--crop is {self.crop}; it must be a multiple of {VAE_STRIDE}, as the VAE needs."
            )
        refuse_outside(0, _MOST_SHARP, sharp=self.sharp)
        refuse_outside(0, 1, sharp_share=self.sharp_share)
        refuse_outside(LEAST_RATE, MOST_RATE, learning_rate=self.learning_rate)
        refuse_outside(0, MOST_SEED, seed=self.seed)
        check_cool_down(self.cool_down)


class DecoderTrainer:
    """The decoder's regression on the encoder's fixed code.

    Attributes:
        pictures: bytes [N, 3, H, W], what crops are cut out of. sharp: the same, of any other size; may be empty.
        start_from: a VAE whose encoder is kept as it is and whose decoder goes on learning; None to start anew.
    """

    def __init__(
        self,
        config: DecoderConfig,
        pictures: Tensor,
        sharp: Tensor,
        device: torch.device,
        steps: int,
        start_from: WanVAE | None = None,
    ) -> None:
        self.config, self.device, self.pictures, self.sharp = config, device, pictures, sharp
        self.schedule = Schedule(steps, config.warm_up, config.cool_down)
        torch.manual_seed(config.seed)
        chosen = pictures[torch.randperm(len(pictures))[:_FITTED]].float() / 127.5 - 1
        self.code: PatchCode | LinearCode
        self.started = start_from is not None
        if start_from is None:
            self.code = PatchCode.fit(chosen)
            self.vae = WanVAE(WanVAEConfig(dim=config.width))
            set_linear_encoder(self.vae, self.code)
            prepare_decoder(self.vae)
        else:
            self.vae = start_from.float().train()
            self.code = _line_of(start_from, chosen[:_LINE_FITTED])
        self.vae.to(device)
        self.vae.requires_grad_(False)
        self._prepare()
        matrices, others = self._trainable()
        self.trained = [*matrices, *others]
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.optimizers = self._optimizers(matrices, others)
        self.average = Average(self.vae, _AVERAGE)
        self.step = 0

    def train_step(self) -> dict[str, Tensor]:
        """One batch of random crops; returns its mean squared error, on the device."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self.schedule.rate(self.step)
        squared = self._squared(self.step)
        loss = (squared + _DONE).log().mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, _MOST_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.vae)
        self.step += 1
        return {"squared": squared.detach().mean()}

    def _squared(self, step: int) -> Tensor:
        """The mean squared errors of a step's crops, [B]."""
        target = self.crops(step)
        # The code itself, not vae.encode: they are equal, and this is a single convolution.
        z = self.code.encode(target)
        return (self.vae.decode(z.to(self.device)) - target.to(self.device)).square().mean(dim=(1, 2, 3))

    def _prepare(self) -> None:
        """What is set in the VAE before it trains, besides what it was started from: nothing, for stills."""

    def _trainable(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What is trained: matrices inside, and the rest."""
        last = self.vae.decoder.head[2].weight
        matrices, others = [], []
        for parameter in (*self.vae.conv2.parameters(), *self.vae.decoder.parameters()):
            inside = parameter[0].numel() > 1 and parameter is not last
            (matrices if inside else others).append(parameter)
        return matrices, others

    def _optimizers(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter]
    ) -> tuple[torch.optim.Optimizer, ...]:
        """Muon for the matrices, AdamW for the rest. Every group remembers its peak learning rate."""
        rate = self.config.learning_rate
        muon = Muon(matrices, rate)
        adam = torch.optim.AdamW(others, lr=rate * _ADAM_SHARE, weight_decay=0.0, betas=(0.9, 0.98))
        for optimizer in (muon, adam):
            for group in optimizer.param_groups:
                group["peak"] = group["lr"]
        return muon, adam

    def crops(self, step: int) -> Tensor:
        """[B, 3, crop, crop] in [-1, 1]: random renders and sharp pictures, each at one random scale, flipped at
        random. A step's crops are the same whenever it is asked for them, so that a resumed run sees what an unbroken
        one does.
        """
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        sharp = round(self.config.batch_size * self.config.sharp_share) if len(self.sharp) else 0
        rendered = self._cut(self.pictures, self.config.batch_size - sharp, _SCALES, generator)
        crops = (
            torch.cat([rendered, self._cut(self.sharp, sharp, _SHARP_SCALES, generator)])
            if sharp
            else rendered
        )
        return crops.flip(-1) if bool(torch.randint(2, (), generator=generator)) else crops

    def _cut(
        self, pictures: Tensor, count: int, scales: tuple[float, float], generator: torch.Generator
    ) -> Tensor:
        """[count, 3, crop, crop] in [-1, 1]: the same part of random pictures at the same random scale."""
        scale = float(torch.empty(()).uniform_(*scales, generator=generator))
        chosen = pictures[torch.randint(len(pictures), (count,), generator=generator)]
        crop, side = self.config.crop, min(chosen.shape[-2:])
        size = max(crop, round(side * scale))
        window = min(side, math.ceil(crop * side / size))
        top, left = (
            int(torch.randint(length - window + 1, (), generator=generator)) for length in chosen.shape[-2:]
        )
        cut = chosen[..., top : top + window, left : left + window].float() / 127.5 - 1
        if window == crop:
            return cut
        return F.interpolate(cut, size=(crop, crop), mode="bilinear", antialias=True, align_corners=False)

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
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "code": vars(self.code),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()` of a run of the same identity; its length is this run's."""
        self.step = state["step"]
        self.code = type(self.code)(**state["code"])
        self.vae.load_state_dict(state["vae"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


@torch.no_grad()
def _line_of(vae: WanVAE, pictures: Tensor) -> LinearCode:
    """The VAE's encoder as one convolution. Raises DelitError where it is no linear code, as Wan's own is not."""
    line = fit_linear_code(vae, pictures)
    if not line.encodes:
        raise DelitError(
            f"The encoder of the VAE to start from is not linear (its best line is {line.encode_error:.0%} off). "
            "Give a VAE that training.train_wan_vae made."
        )
    return line
