"""Train a narrow VAE in the Wan layout, for machines and tests where the full one is too heavy.

    python -m training.train_wan_vae --data_root D --output P.safetensors

The encoder is not trained but computed: it holds the best linear patch code of the data (training.vae.patch_code).
The decoder then learns to turn the code back into pictures. Only stills are trained; in time the encoder averages
and the decoder repeats. Training goes on from `P.training.pt` if that is there.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.checkpoint import save_wan_vae
from delit_models.wan_vae import WanVAE, WanVAEConfig
from training.data.shards import open_pairs
from training.evaluation.metrics import psnr
from training.loop.average import Average
from training.vae.patch_code import PatchCode, prepare_decoder, set_linear_encoder

from .command_line import choose_device, run_command

EMA_DECAY = 0.995
SCALES = (0.6, 1.4)


@dataclass(frozen=True)
class TrainVAEConfig:
    """Settings of one run; sizes in pixels."""

    width: int = 16
    steps: int = 6000
    batch_size: int = 16
    crop: int = 96
    learning_rate: float = 2e-3
    warm_up: int = 100
    seed: int = 0


class Trainer:
    """The decoder's regression on the encoder's fixed code."""

    def __init__(self, config: TrainVAEConfig, pictures: Tensor, device: torch.device) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        self.pictures = pictures
        self.code = PatchCode.fit(_sample(pictures, 400))
        self.vae = WanVAE(WanVAEConfig(dim=config.width))
        set_linear_encoder(self.vae, self.code)
        prepare_decoder(self.vae)
        self.vae.to(device)
        self.vae.encoder.requires_grad_(False)
        trained = [p for part in (self.vae.conv2, self.vae.decoder) for p in part.parameters()]
        self.optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.98)
        )
        self.average = Average(self.vae, EMA_DECAY)
        self.step = 0

    def train_step(self) -> float:
        """One batch of random crops. Returns the loss (mean squared error plus a little absolute error)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._schedule()
        target = self._crops()
        # The code itself, not vae.encode: they are equal, and this is a single convolution.
        z = self.code.encode(target)
        x = self.vae.decode(z.to(self.device))
        target = target.to(self.device)
        loss = F.mse_loss(x, target) + 0.05 * F.l1_loss(x, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.decoder.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.vae)
        self.step += 1
        return loss.item()

    def _schedule(self) -> float:
        """Linear warm-up, then a half cosine down to 2%."""
        progress = min(1.0, self.step / self.config.steps)
        return min(1.0, (self.step + 1) / self.config.warm_up) * (
            0.02 + 0.49 * (1 + math.cos(math.pi * progress))
        )

    def _crops(self) -> Tensor:
        """[B, 3, crop, crop] in [-1, 1]: random pictures at one random scale, flipped at random."""
        scale = float(torch.empty(()).uniform_(*SCALES))
        chosen = self.pictures[torch.randint(len(self.pictures), (self.config.batch_size,))]
        crop = self.config.crop
        size = max(crop, round(min(chosen.shape[-2:]) * scale))
        window = min(min(chosen.shape[-2:]), math.ceil(crop * min(chosen.shape[-2:]) / size))
        top, left = (int(torch.randint(side - window + 1, ())) for side in chosen.shape[-2:])
        cut = chosen[..., top : top + window, left : left + window].float() / 127.5 - 1
        crops = F.interpolate(cut, size=(crop, crop), mode="bilinear", antialias=True, align_corners=False)
        return crops.flip(-1) if torch.rand(()) < 0.5 else crops

    def state(self) -> dict:
        return {
            "step": self.step,
            "vae": self.vae.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "code": {"mean": self.code.mean, "components": self.code.components, "scale": self.code.scale},
        }

    def load_state(self, state: dict) -> None:
        self.step = state["step"]
        self.code = PatchCode(**state["code"])
        self.vae.load_state_dict(state["vae"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    def averaged_vae(self) -> WanVAE:
        """The VAE with the running average of its weights."""
        vae = WanVAE(self.vae.config)
        vae.load_state_dict(self.average.weights)
        return vae.eval().requires_grad_(False)


@torch.inference_mode()
def reconstruction_psnr(vae: WanVAE, pictures: Tensor) -> float:
    """Mean PSNR in dB over RGB of pictures [N, 3, H, W] (bytes, sides multiples of 8) through the VAE."""
    total = 0.0
    for picture in pictures:
        x = picture[None].float() / 127.5 - 1
        decoded = vae.decode(vae.encode(x)).clamp(-1, 1)
        total += psnr((decoded + 1) / 2, (x + 1) / 2).item()
    return total / len(pictures)


def load_pictures(data_root: str, split: str) -> Tensor:
    """Every relit picture of a split, and every subject's flat-lit one once: bytes [N, 3, H, W]."""
    dataset = open_pairs(data_root, split)
    pictures, flats = [], {}
    for record, pair in zip(dataset.records, dataset, strict=True):
        pictures.append((pair.relit * 255).round().to(torch.uint8))
        flats[record.subject] = (pair.flat * 255).round().to(torch.uint8)
    return torch.stack([*pictures, *flats.values()])


def _sample(pictures: Tensor, count: int) -> Tensor:
    chosen = pictures[torch.randperm(len(pictures))[:count]]
    return chosen.float() / 127.5 - 1


def train(arguments: argparse.Namespace) -> None:
    config = TrainVAEConfig(
        arguments.width, arguments.steps, arguments.batch_size, arguments.crop, arguments.learning_rate,
        seed=arguments.seed,
    )  # fmt: skip
    test_pictures = load_pictures(arguments.data_root, "test")[:: arguments.test_every]
    trainer = Trainer(config, load_pictures(arguments.data_root, "train"), choose_device(arguments.device))
    state_file = Path(arguments.output).with_suffix(".training.pt")
    if state_file.is_file():
        trainer.load_state(torch.load(state_file, weights_only=True))
        print(f"Going on from step {trainer.step} of {state_file}")
    deadline = time.monotonic() + 60 * arguments.minutes

    def done() -> bool:
        return trainer.step >= config.steps or time.monotonic() > deadline

    progress = tqdm(total=config.steps, initial=trainer.step, desc="decoder", mininterval=5)
    while not done():
        progress.set_postfix(loss=f"{trainer.train_step():.5f}", refresh=False)
        progress.update()
        # The last of them is saved below.
        if trainer.step % arguments.save_every == 0 and not done():
            save(trainer, state_file, arguments, test_pictures)
    progress.close()
    save(trainer, state_file, arguments, test_pictures)


def save(trainer: Trainer, state_file: Path, arguments: argparse.Namespace, test_pictures: Tensor) -> None:
    """Write the state to go on from and the averaged VAE, and say how good it is."""
    with atomic_write(state_file) as temporary:
        torch.save(trainer.state(), temporary)
    vae = trainer.averaged_vae()
    quality = reconstruction_psnr(vae, test_pictures)
    linear = trainer.code.decode(trainer.code.encode(test_pictures.float() / 127.5 - 1)).clamp(-1, 1)
    ceiling = psnr((linear + 1) / 2, test_pictures.float() / 255).mean().item()
    tqdm.write(
        f"step {trainer.step}: held-out PSNR {quality:.2f} dB (its linear code alone: {ceiling:.2f} dB)"
    )
    metadata = {
        "name": f"Delit narrow VAE, width {trainer.config.width}",
        "licence": "Apache-2.0",
        "steps": str(trainer.step),
        "held_out_psnr_db": f"{quality:.2f}",
    }
    save_wan_vae(arguments.output, vae, torch.float16, metadata)


def parse_arguments() -> argparse.Namespace:
    default = TrainVAEConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data_root", required=True, help="data set folder, or folder of its shards (training.make_shards)"
    )
    parser.add_argument("--output", required=True, help="the VAE's .safetensors file")
    parser.add_argument("--width", type=int, default=default.width, help="channels at full size (Wan: 96)")
    parser.add_argument("--steps", type=int, default=default.steps, help="steps in all")
    parser.add_argument("--batch_size", type=int, default=default.batch_size, help="crops a step")
    parser.add_argument("--crop", type=int, default=default.crop, help="crop side in pixels, a multiple of 8")
    parser.add_argument("--learning_rate", type=float, default=default.learning_rate)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many minutes")
    parser.add_argument("--save_every", type=int, default=500, help="steps between saves")
    parser.add_argument("--test_every", type=int, default=8, help="measure on every n-th held-out picture")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    parser.add_argument("--seed", type=int, default=default.seed)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(train, parse_arguments())
