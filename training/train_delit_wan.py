"""Train the heads on the latents of a frozen Wan VAE.

  python -m training.train_delit_wan --wan_vae_checkpoint P --data_root D --output_dir O --batch_size 16 --num_epochs 40

Every pair is encoded a few times with different augmentations (training.heads.latent_cache), then the heads learn from
latents alone. `O/delit_heads.safetensors` is what the nodes and the other commands load; `O/checkpoint.pt` is what
`--resume` goes on from. Held-out metrics are printed as it goes and stored in the file's own description.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import atomic_write
from delit_models.checkpoint import load_wan_vae
from delit_models.errors import DelitError
from delit_models.heads_file import HeadsInfo, save_heads, test_card
from delit_models.pipeline import load_heads_of
from delit_models.wan_vae import WanVAE
from training.augment.photography import PhotographyConfig
from training.augment.variants import AugmentConfig
from training.data.pairs import Pairs
from training.data.shards import open_pairs
from training.evaluation.metrics import Evaluation, evaluate_heads, mean_environment_of
from training.heads.latent_cache import build_latent_cache
from training.heads.trainer import TrainConfig, Trainer

from .command_line import run_command

HEADS_FILE = "delit_heads.safetensors"
STATE_FILE = "checkpoint.pt"


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
    start = None
    if arguments.start_from:
        files = arguments.wan_vae_checkpoint, arguments.start_from
        start = load_heads_of(vae, *files, arguments.device).heads
    pairs = open_pairs(arguments.data_root, "train")
    test_pairs = open_pairs(arguments.data_root, "test")
    augmentation = AugmentConfig(photography=PhotographyConfig(share=arguments.photographed))
    cache = build_latent_cache(vae, pairs, config.variants, augmentation, config.seed, output)
    trainer = Trainer(config, vae, cache, max(pairs[0].relit.shape[-2:]), start)
    if arguments.resume:
        trainer.load_state(_read_state(output / STATE_FILE, arguments.device))
        print(f"Going on from step {trainer.step} of {trainer.steps}")
    mean_env = mean_environment_of(pairs)
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
            **({"started_from": Path(arguments.start_from).name} if arguments.start_from else {}),
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


def parse_arguments() -> argparse.Namespace:
    default = TrainConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wan_vae_checkpoint", required=True, help="the VAE to train heads for")
    parser.add_argument(
        "--data_root",
        required=True,
        nargs="+",
        help="data set folders, or folders of their shards (training.make_shards), taken together",
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
    parser.add_argument(
        "--start_from",
        help="heads file whose heads are trained on, instead of new ones (delit_heads.safetensors)",
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
