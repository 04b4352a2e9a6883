"""Train a narrow VAE in the Wan layout, for machines and tests where the full one is too heavy.

    python -m training.train_wan_vae --data_root D --output P.safetensors

The encoder is not trained but computed: it holds the best linear patch code of the data (training.vae.patch_code).
The decoder then learns to turn the code back into pictures. Only stills are trained; in time the encoder averages
and the decoder repeats. Ctrl-C and SIGTERM stop with a checkpoint in `P.training/`, and the same command goes on from
it as if nothing had happened.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .command_line import choose_device, run_command
from .vae.decoder import DecoderConfig
from .vae.run import VAERunSettings, train_vae


def train(arguments: argparse.Namespace) -> None:
    config = DecoderConfig(
        width=arguments.width,
        batch_size=arguments.batch_size,
        crop=arguments.crop,
        learning_rate=arguments.learning_rate,
        cool_down=arguments.cool_down,
        seed=arguments.seed,
    )
    settings = VAERunSettings(
        data_root=arguments.data_root,
        output=Path(arguments.output),
        steps=arguments.steps,
        minutes=arguments.minutes,
        save_every=arguments.save_every,
        test_every=arguments.test_every,
    )
    train_vae(config, settings, choose_device(arguments.device))


def parse_arguments() -> argparse.Namespace:
    default, run = DecoderConfig(), VAERunSettings("", Path("vae"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    # fmt: off
    add("--data_root", required=True, help="data set folder, or folder of its shards (training.make_shards)")
    add("--output", required=True, help="the VAE's .safetensors file")
    add("--width", type=int, default=default.width, help="channels at full size (Wan: 96; %(default)s)")
    add("--steps", type=int, default=run.steps, help="steps in all (%(default)s)")
    add("--batch_size", type=int, default=default.batch_size, help="crops a step (%(default)s)")
    add("--crop", type=int, default=default.crop, help="crop side in pixels, a multiple of 8 (%(default)s)")
    add("--learning_rate", type=float, default=default.learning_rate, help="full rate (%(default)s)")
    add("--cool_down", type=float, default=default.cool_down,
        help="share of the steps in which the learning rate falls at the end (%(default)s)")
    add("--minutes", type=float, default=run.minutes,
        help="let the cool-down begin in time to end after about so many minutes")
    add("--save_every", type=int, default=run.save_every, help="steps between saves (%(default)s)")
    add("--test_every", type=int, default=run.test_every,
        help="measure on every n-th held-out picture (%(default)s)")
    add("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    add("--seed", type=int, default=default.seed, help="the same seed gives the same VAE (%(default)s)")
    # fmt: on
    return parser.parse_args()


if __name__ == "__main__":
    run_command(train, parse_arguments())
