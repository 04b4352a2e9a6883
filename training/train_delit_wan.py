"""Train the heads on the latents of a frozen Wan VAE.

  python -m training.train_delit_wan --wan_vae_checkpoint P --data_root D --output_dir O --batch_size 16 --num_epochs 40

Every pair is encoded a few times with different augmentations (training.latent_cache), then the heads learn from
latents alone. `O/delit_heads.safetensors` is what the nodes and the other commands load; `O/checkpoint.pt` is what
`--resume` goes on from. Held-out metrics are printed as it goes and stored in the file's own description.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.checkpoint import load_wan_vae
from delit_models.env_codec import decode_env
from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads
from delit_models.heads_file import HeadsInfo, save_heads, test_card
from delit_models.wan_vae import WanVAE

from .average import Average
from .command_line import run_command
from .latent_cache import AugmentConfig, LatentCache, LatentPair, build_latent_cache
from .losses import HeadsLoss, channel_weights
from .metrics import Evaluation, evaluate_heads, geometric_mean, spread
from .pairs import Pairs
from .photography import PhotographyConfig
from .shards import open_pairs

HEADS_FILE = "delit_heads.safetensors"
STATE_FILE = "checkpoint.pt"
EMA_DECAY = 0.998


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run."""

    batch_size: int = 16
    num_epochs: int = 40
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: int = 150
    variants: int = 4
    use_mask: bool = False
    seed: int = 0


class Trainer:
    """Heads, optimiser and schedule over a cache of latents."""

    def __init__(self, config: TrainConfig, vae: WanVAE, cache: LatentCache, working_size: int) -> None:
        self.config, self.cache = config, cache
        self.device = next(vae.parameters()).device
        torch.manual_seed(config.seed)
        z = cache.tensors["z"].float()
        heads_config = DelitConfig(
            latent_mean=tuple(z.mean(dim=(0, 2, 3)).tolist()),
            latent_std=tuple(z.std(dim=(0, 2, 3)).tolist()),
            working_size=working_size,
        )
        self.heads = DelitHeads(heads_config).to(self.device)
        self.average = Average(self.heads, EMA_DECAY)
        self.loss = HeadsLoss(channel_weights(vae, z[:64].to(self.device)), config.use_mask).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.heads.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
        )
        self.steps_per_epoch = max(1, len(cache) // config.batch_size)
        self.steps = config.num_epochs * self.steps_per_epoch
        self.step = 0

    def train_step(self, batch: LatentPair) -> dict[str, float]:
        """One step; returns the parts of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._schedule()
        z, z_target, mask, code_target = (
            tensor.to(self.device) for tensor in (batch.z, batch.z_flat, batch.mask, batch.env_code)
        )
        z_flat, env_code = self.heads(z)
        parts = self.loss(z_flat, z_target, mask, env_code, code_target)
        self.optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        torch.nn.utils.clip_grad_norm_(self.heads.parameters(), 1.0)
        self.optimizer.step()
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
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict) -> None:
        if DelitConfig.from_dict(state["config"]) != self.heads.config:
            raise DelitError(
                "The checkpoint was made with other data, another VAE or other settings than this run. Resume with the "
                "same ones, or start in an empty output folder."
            )
        self.step = state["step"]
        self.heads.load_state_dict(state["heads"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _schedule(self) -> float:
        """Linear warm-up, then a half cosine down to 1%."""
        progress = min(1.0, self.step / self.steps)
        warm = min(1.0, (self.step + 1) / self.config.warm_up)
        return warm * (0.01 + 0.495 * (1 + math.cos(math.pi * progress)))


def train(arguments: argparse.Namespace) -> None:
    config = TrainConfig(
        batch_size=arguments.batch_size,
        num_epochs=arguments.num_epochs,
        learning_rate=arguments.learning_rate,
        variants=arguments.latent_variants,
        use_mask=arguments.use_mask,
        seed=arguments.seed,
    )
    output = Path(arguments.output_dir)
    vae = load_wan_vae(arguments.wan_vae_checkpoint, arguments.device)
    pairs = open_pairs(arguments.data_root, "train")
    test_pairs = open_pairs(arguments.data_root, "test")
    augmentation = AugmentConfig(photography=PhotographyConfig(share=arguments.photographed))
    cache = build_latent_cache(vae, pairs, config.variants, augmentation, config.seed, output)
    trainer = Trainer(config, vae, cache, working_size=max(pairs[0].relit.shape[-2:]))
    if arguments.resume:
        trainer.load_state(_read_state(output / STATE_FILE, arguments.device))
        print(f"Going on from step {trainer.step} of {trainer.steps}")
    mean_env = _mean_env(cache)
    deadline = time.monotonic() + 60 * arguments.minutes

    def done() -> bool:
        return trainer.step >= trainer.steps or time.monotonic() > deadline

    progress = tqdm(total=trainer.steps, initial=trainer.step, desc="heads", mininterval=5)
    while not done():
        epoch, taken = divmod(trainer.step, trainer.steps_per_epoch)
        for indices in trainer.batches(epoch)[taken:]:
            parts = trainer.train_step(cache.batch(indices))
            progress.set_postfix({name: f"{value:.4f}" for name, value in parts.items()}, refresh=False)
            progress.update()
            if done():
                break
        # The last of them is saved below.
        if (epoch + 1) % arguments.evaluate_every == 0 and not done():
            save(trainer, vae, test_pairs, mean_env, arguments)
    progress.close()
    save(trainer, vae, test_pairs, mean_env, arguments)


def save(
    trainer: Trainer, vae: WanVAE, test_pairs: Pairs, mean_env: Tensor, arguments: argparse.Namespace
) -> None:
    """Measure on held-out pairs, then write the heads and the state to go on from."""
    output = Path(arguments.output_dir)
    heads = trainer.averaged_heads()
    evaluation: Evaluation = evaluate_heads(vae, heads, test_pairs, mean_env, limit=arguments.test_pairs)
    tqdm.write(f"step {trainer.step}: {json.dumps(evaluation.rounded())}")
    info = HeadsInfo(
        name=arguments.name,
        vae_name=Path(arguments.wan_vae_checkpoint).name,
        licence=arguments.licence,
        training={
            "steps": trainer.step,
            "batch_size": trainer.config.batch_size,
            "pairs": len(trainer.cache) // trainer.config.variants,
            "latent_variants": trainer.config.variants,
            "use_mask": trainer.config.use_mask,
        },
        metrics=evaluation.rounded(),
    )
    with torch.inference_mode():
        probe = vae.encode(test_card().to(trainer.device))
    # Half precision moves the result by less than a picture's last bit, and halves the file.
    save_heads(output / HEADS_FILE, heads, probe, info, torch.float16)
    with atomic_write(output / STATE_FILE) as temporary:
        torch.save(trainer.state(), temporary)


def _read_state(path: Path, device: str) -> dict:
    if not path.is_file():
        raise DelitError(f"There is nothing to resume: {path} is not there. Leave out --resume to start.")
    return torch.load(path, map_location=device, weights_only=True)


def _mean_env(cache: LatentCache) -> Tensor:
    """The average light of the training set in log radiance, [3, 128, 256]: the baseline that knows no picture."""
    return geometric_mean(decode_env(cache.batch(torch.tensor(spread(len(cache), 400))).env_code))


def parse_arguments() -> argparse.Namespace:
    default = TrainConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wan_vae_checkpoint", required=True, help="the VAE to train heads for")
    parser.add_argument(
        "--data_root", required=True, help="data set folder, or folder of its shards (training.make_shards)"
    )
    parser.add_argument("--output_dir", required=True, help="where heads, state and cached latents go")
    parser.add_argument("--batch_size", type=int, default=default.batch_size, help="pairs a step")
    parser.add_argument(
        "--num_epochs", type=int, default=default.num_epochs, help="passes over all cached latents"
    )
    parser.add_argument("--learning_rate", type=float, default=default.learning_rate)
    parser.add_argument(
        "--latent_variants", type=int, default=default.variants, help="augmented encodings a pair"
    )
    parser.add_argument(
        "--photographed",
        type=float,
        default=PhotographyConfig().share,
        help="share of the augmented encodings that get a camera's noise, blur, tone curve, JPEG …, 0 to 1",
    )
    parser.add_argument(
        "--use_mask", action="store_true", help="learn the subject only, not what is behind it"
    )
    parser.add_argument(
        "--freeze_vae", action="store_true", default=True, help="always so: the VAE is not trained"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's checkpoint")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after so many minutes of training"
    )
    parser.add_argument("--evaluate_every", type=int, default=2, help="epochs between evaluations and saves")
    parser.add_argument("--test_pairs", type=int, default=64, help="held-out pairs to measure on")
    parser.add_argument("--name", default="Delit heads", help="name stored in the file")
    parser.add_argument("--licence", default="Apache-2.0", help="licence stored in the file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=default.seed)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(train, parse_arguments())
