"""Heads, optimisers and schedule over a cache of latents; what `training.train_delit_wan` runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.wan_vae import WanVAE
from training.evaluation.metrics import spread
from training.loop.average import Average
from training.loop.muon import Muon

from .latent_cache import LatentCache, LatentPair
from .linear_code import LinearCode
from .losses import HeadsLoss

EMA_DECAY = 0.998
# The latents' mean and deviation are known well from so many of them.
_MEASURED_LATENTS = 4000
# The line from latents to pixels, from so many.
_DECODED_LATENTS = 24
# Adam's part of the learning rate: first and last layers, biases and norms move more carefully than matrices.
_ADAM_SHARE = 0.5


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run."""

    batch_size: int = 16
    num_epochs: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: int = 150
    variants: int = 4
    use_mask: bool = False
    seed: int = 0


class Trainer:
    """Trains heads: new ones, or `start` (which it changes) where training goes on from trained ones.

    working_size: longest side of the training pictures, stored with new heads.
    """

    def __init__(
        self,
        config: TrainConfig,
        vae: WanVAE,
        cache: LatentCache,
        working_size: int,
        start: DelitHeads | None = None,
    ) -> None:
        self.config, self.cache = config, cache
        self.device = next(vae.parameters()).device
        torch.manual_seed(config.seed)
        z = cache.tensors["z"][spread(len(cache), _MEASURED_LATENTS)].float()
        heads = DelitHeads(_heads_config(z, working_size)) if start is None else start
        self.heads = heads.to(self.device).train().requires_grad_(True)
        self.average = Average(self.heads, EMA_DECAY)
        self.loss = _loss(vae, z[:_DECODED_LATENTS].to(self.device), self.heads.config, config.use_mask)
        self.optimizers = _optimizers(self.heads, config)
        self.steps_per_epoch = max(1, len(cache) // config.batch_size)
        self.steps = config.num_epochs * self.steps_per_epoch
        self.step = 0

    def train_step(self, batch: LatentPair) -> dict[str, float]:
        """One step; returns the parts of the loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self._schedule()
        batch = LatentPair(*(x.to(self.device) for x in (batch.z, batch.z_flat, batch.mask, batch.env_code)))
        parts = self.loss(self.heads(batch.z), batch)
        self.heads.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(self.heads.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.heads)
        self.step += 1
        return {name: value.item() for name, value in parts.items()}

    def batches(self, epoch: int) -> list[Tensor]:
        """The epoch's shuffled indices, the same for the same seed whenever training was resumed."""
        order = torch.randperm(
            len(self.cache), generator=torch.Generator().manual_seed(self.config.seed + epoch)
        )
        usable = self.steps_per_epoch * self.config.batch_size
        return list(order[:usable].split(self.config.batch_size))

    def averaged_heads(self) -> DelitHeads:
        heads = DelitHeads(self.heads.config)
        heads.load_state_dict(self.average.state_dict())
        return heads.to(self.device).eval().requires_grad_(False)

    def state(self) -> dict:
        return {
            "step": self.step,
            "config": self.heads.config.to_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state(self, state: dict) -> None:
        """Go on from `state()`. Raises DelitError where it is of another run."""
        if DelitConfig.from_dict(state["config"]) != self.heads.config or "optimizers" not in state:
            raise DelitError(
                "The checkpoint was made with other data, another VAE, other settings or an older Delit than this "
                "run. Resume with the same ones, or start in an empty output folder (--start_from takes its heads "
                "along)."
            )
        self.step = state["step"]
        self.heads.load_state_dict(state["heads"])
        self.average.load_state_dict(state["average"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)

    def _schedule(self) -> float:
        """Linear warm-up, then a half cosine down to 1%."""
        progress = min(1.0, self.step / self.steps)
        warm = min(1.0, (self.step + 1) / self.config.warm_up)
        return warm * (0.01 + 0.495 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def _loss(vae: WanVAE, z: Tensor, config: DelitConfig, use_mask: bool) -> HeadsLoss:
    """The loss for a VAE's latents, of which z are some."""
    pictures = torch.cat([vae.decode(latent[None]) for latent in z])
    code = LinearCode.fit(pictures.float().cpu(), z.float().cpu())
    return HeadsLoss(code, torch.tensor(config.latent_std), use_mask).to(z.device)


def _heads_config(z: Tensor, working_size: int) -> DelitConfig:
    """New heads for latents like z [N, 16, h, w]."""
    return DelitConfig(
        latent_mean=tuple(z.mean(dim=(0, 2, 3)).tolist()),
        latent_std=tuple(z.std(dim=(0, 2, 3)).tolist()),
        working_size=working_size,
    )


def _optimizers(heads: DelitHeads, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside; AdamW for the layers at the ends, biases and norms, as Muon's authors advise.
    Every group remembers its peak learning rate."""
    ends: list[nn.Module] = [heads.extractor.stem, heads.flat_projection.out, heads.env_decoder.out]
    at_ends = {id(weight) for layer in ends for weight in layer.parameters()}
    matrices, others = [], []
    for weight in heads.parameters():
        (others if weight.ndim < 2 or id(weight) in at_ends else matrices).append(weight)
    adam_rate = _ADAM_SHARE * config.learning_rate
    muon = Muon(matrices, config.learning_rate, config.weight_decay)
    adam = torch.optim.AdamW(others, lr=adam_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    for optimizer, peak in ((muon, config.learning_rate), (adam, adam_rate)):
        for group in optimizer.param_groups:
            group["peak"] = peak
    return muon, adam
