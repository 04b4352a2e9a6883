"""Train a narrow VAE in the Wan layout, for machines and tests where the full one is too heavy.

    python -m training.train_wan_vae --data_root D --output P.safetensors [--start_from V.safetensors]

The encoder is not trained but computed: it holds the best linear patch code of the data (training.vae.patch_code).
The decoder then learns to turn the code back into pictures: the data set's, and sharp ones that are made
(training.vae.sharp_pictures). `--start_from` trains the decoder of such a VAE on and keeps its encoder, so that heads
for its latents stay valid. In time the encoder keeps every fourth frame and the decoder repeats it, until `--clips` in
a second run has taught it those between (training.vae.clips). Ctrl-C and SIGTERM stop with a checkpoint in
`P.training/`, and the same command goes on from it as if nothing had happened.
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
        sharp=arguments.sharp,
        clips=arguments.clips,
        sharp_share=arguments.sharp_share,
        learning_rate=arguments.learning_rate,
        cool_down=arguments.cool_down,
        seed=arguments.seed,
    )
    settings = VAERunSettings(
        data_root=arguments.data_root,
        output=Path(arguments.output),
        hdri_dir=arguments.hdri_dir,
        photographs=arguments.photographs,
        start_from=arguments.start_from,
        steps=arguments.steps,
        minutes=arguments.minutes,
        save_every=arguments.save_every,
        test_every=arguments.test_every,
    )
    train_vae(config, settings, choose_device(arguments.device))


def parse_arguments() -> argparse.Namespace:
    default, run = DecoderConfig(), VAERunSettings("", Path("vae.safetensors"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    # fmt: off
    add("--data_root", required=True, help="data set folder, or folder of its shards (training.make_shards)")
    add("--output", required=True, help="the VAE's .safetensors file")
    add("--start_from", type=Path, metavar="V", help="narrow VAE whose encoder to keep and whose decoder to train on")
    add("--clips", action="store_true",
        help="train only what the decoder knows of the past, on clips; stills stay as they are (with --start_from)")
    add("--hdri_dir", type=Path, default=run.hdri_dir,
        help="folder of .exr or .hdr lat-longs to make sharp pictures of, test split left out (the shipped set)")
    add("--photographs", type=Path, metavar="FOLDER", help="folder of photographs for more sharp pictures (none)")
    add("--sharp", type=int, default=default.sharp,
        help="sharp pictures to make; 0 trains on the data set alone (%(default)s)")
    add("--sharp_share", type=float, default=default.sharp_share,
        help="share of a step's crops that they are (%(default)s)")
    add("--width", type=int, default=default.width, help="channels at full size of a new VAE (Wan: 96; %(default)s)")
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
        help="measure on every n-th picture of the people that are kept out (%(default)s)")
    add("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    add("--seed", type=int, default=default.seed, help="the same seed gives the same VAE (%(default)s)")
    # fmt: on
    return parser.parse_args()


if __name__ == "__main__":
    run_command(train, parse_arguments())
