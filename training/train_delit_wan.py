"""Train the heads on the latents of a frozen Wan VAE, and with --lora_rank small changes of its decoder with them.

  python -m training.train_delit_wan --wan_vae_checkpoint P --data_root D --output_dir O --batch_size 16 --num_epochs 40

The same command trains on the processor, on one GPU, and (started with `accelerate launch -m training.train_delit_wan`)
on many GPUs and machines. `O/delit_heads.safetensors` is what the nodes and the other commands load, the best heads by
pairs of people that are not trained on; `O/log` shows curves in TensorBoard. Ctrl-C and SIGTERM stop with a checkpoint,
and `--resume` goes on as if nothing had happened.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from accelerate import Accelerator

from .command_line import choose_device, run_command
from .heads.run import train_heads
from .heads.settings import RunSettings
from .heads.trainer import TrainConfig


def train(arguments: argparse.Namespace) -> None:
    config = TrainConfig(
        batch_size=arguments.batch_size,
        accumulate=arguments.accumulate,
        learning_rate=arguments.learning_rate,
        cool_down=arguments.cool_down,
        use_mask=arguments.use_mask,
        seed=arguments.seed,
        lora_rank=arguments.lora_rank,
        decoder_every=arguments.decoder_every,
    )
    settings = RunSettings(
        vae=arguments.wan_vae_checkpoint,
        data_roots=arguments.data_root,
        output=Path(arguments.output_dir),
        epochs=arguments.num_epochs,
        variants=arguments.latent_variants,
        photographed=arguments.photographed,
        start_from=arguments.start_from,
        resume=arguments.resume,
        finish=arguments.finish,
        minutes=arguments.minutes,
        validate_every=arguments.validate_every,
        validation_pairs=arguments.validation_pairs,
        workers=arguments.workers,
        name=arguments.name,
        licence=arguments.licence,
    )
    if arguments.device:
        choose_device(arguments.device)
    engine = Accelerator(mixed_precision=arguments.mixed_precision, cpu=arguments.device == "cpu")
    print(f"The heads are in {train_heads(config, settings, engine)}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_files(parser)
    _add_training(parser)
    _add_running(parser)
    return parser.parse_args(arguments)


def _add_files(parser: argparse.ArgumentParser) -> None:
    default = RunSettings("", [], Path())
    add = parser.add_argument
    add("--wan_vae_checkpoint", required=True, help="the VAE to train heads for")
    add(
        "--data_root",
        required=True,
        nargs="+",
        help="data set folders, or folders of their shards (training.make_shards), taken together",
    )
    add("--output_dir", required=True, help="where heads, checkpoints, curves and cached latents go")
    add(
        "--start_from",
        help="heads file whose heads are trained on, instead of new ones (delit_heads.safetensors)",
    )
    add("--name", default=default.name, help="name stored in the file")
    add("--licence", default=default.licence, help="licence stored in the file")


def _add_training(parser: argparse.ArgumentParser) -> None:
    default, run = TrainConfig(), RunSettings("", [], Path())
    add = parser.add_argument
    add("--batch_size", type=int, default=default.batch_size, help="pairs a step, of all processes together")
    add(
        "--accumulate",
        type=int,
        default=default.accumulate,
        help="parts that each process takes its share of a batch in, to save memory (%(default)s)",
    )
    add("--num_epochs", type=int, default=run.epochs, help="passes over the training pairs (%(default)s)")
    add("--learning_rate", type=float, default=default.learning_rate, help="full rate (%(default)s)")
    add(
        "--cool_down",
        type=float,
        default=default.cool_down,
        help="share of the steps in which the learning rate falls at the end (%(default)s)",
    )
    add(
        "--latent_variants",
        type=int,
        default=run.variants,
        help="encodings a pair that are cached, for VAEs that are too slow to encode new variants for every step "
        "(%(default)s)",
    )
    add(
        "--photographed",
        type=float,
        default=run.photographed,
        help="share of the variants that get a camera's noise, blur, look, JPEG …, 0 to 1 (%(default)s)",
    )
    add("--use_mask", action="store_true", help="learn the subject only, not what is behind it")
    vae = parser.add_mutually_exclusive_group()
    vae.add_argument(
        "--freeze_vae", action="store_true", help="train the heads alone (so it is without --lora_rank)"
    )
    vae.add_argument(
        "--lora_rank",
        type=int,
        default=default.lora_rank,
        help="also train a LoRA of this rank on the VAE's decoder, which the heads file brings along (0: none)",
    )
    add(
        "--decoder_every",
        type=int,
        default=default.decoder_every,
        help="with --lora_rank: steps between two in which pictures go through the decoder, which costs most of such a "
        "step (%(default)s)",
    )
    add("--seed", type=int, default=default.seed, help="the same seed gives the same heads (%(default)s)")


def _add_running(parser: argparse.ArgumentParser) -> None:
    run = RunSettings("", [], Path())
    add = parser.add_argument
    add("--resume", action="store_true", help="go on from the output folder's checkpoint, exactly")
    add("--finish", action="store_true", help="with --resume: let the cool-down begin at once")
    add(
        "--minutes",
        type=float,
        default=math.inf,
        help="let the cool-down begin in time to end after about so many minutes",
    )
    add(
        "--validate_every",
        type=int,
        default=run.validate_every,
        help="steps between measurements on people that are not trained on (%(default)s)",
    )
    add(
        "--validation_pairs",
        type=int,
        default=run.validation_pairs,
        help="pairs to measure on at the most (%(default)s)",
    )
    add("--workers", type=int, default=run.workers, help="processes that draw variants ahead (%(default)s)")
    add("--device", choices=("cpu", "cuda"), help="cpu keeps GPUs out of it (all there is)")
    add(
        "--mixed_precision",
        choices=("no", "bf16", "fp16"),
        default="no",
        help="precision of the heads while training; losses and weights stay float32. bf16 is faster where the "
        "processor or GPU has units for it, and much slower where it has not: python -m benchmarks.training times both "
        "on a processor (%(default)s)",
    )


if __name__ == "__main__":
    run_command(train, parse_arguments())
