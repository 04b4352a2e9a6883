"""A narrow VAE from pictures to its file: what `training.train_wan_vae` does, on the heads' loop.

Beside the VAE's file P.safetensors, in P.training/: the checkpoints that a run goes on from, and curves under `log/`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import check_folder, remove_unfinished
from delit_models.checkpoint import load_wan_vae, save_wan_vae
from delit_models.errors import DelitError
from delit_models.presence import is_there
from delit_models.wan_vae import WanVAE
from training.data.pairs import Pairs, SomePairs, file_stamp, fingerprint_of
from training.data.shards import open_pairs
from training.data.splits import split_subjects
from training.evaluation.metrics import psnr
from training.loop.bounds import MOST_COUNT, refuse_outside
from training.loop.checkpoints import (
    find_checkpoints,
    load_checkpoint,
    save_checkpoint,
    tidy_checkpoints,
)
from training.loop.log import RunLog
from training.loop.schedule import CoolDownInTime
from training.loop.stopping import StopRequest
from training.loop.watch import LossWatch, refuse_bad
from training.synth.light.lights import SHIPPED_HDRI_DIR, hdri_names

from .clips import ClipTrainer, decoded_both_ways, unsteadiness
from .decoder import DecoderConfig, DecoderTrainer
from .sharp_pictures import picture_files, sharp_pictures

# Steps between two looks at the loss, each of which waits for the device.
_LOOK_EVERY = 20


@dataclass(frozen=True)
class VAERunSettings:
    """What a run is asked to do besides DecoderConfig.

    Attributes:
        steps: of the decoder. minutes: let the cool-down begin in time to end after so many.
        save_every: steps between measurements and saves. test_every: measure on every so many pictures of people that
            are kept out.
        hdri_dir, photographs: folders that sharp pictures are made of; photographs may be None.
        start_from: a VAE file whose encoder is kept and whose decoder goes on, or None.
    """

    data_root: str
    output: Path
    hdri_dir: Path = SHIPPED_HDRI_DIR
    photographs: Path | None = None
    start_from: Path | None = None
    steps: int = 6000
    minutes: float = math.inf
    save_every: int = 500
    test_every: int = 8

    def __post_init__(self) -> None:
        refuse_outside(
            1, MOST_COUNT, steps=self.steps, save_every=self.save_every, test_every=self.test_every
        )
        refuse_outside(0, math.inf, minutes=self.minutes)
        if self.output.suffix != ".safetensors":
            raise DelitError(
                f"--output is {self.output}; the VAE is written as .safetensors. Change its ending."
            )

    @property
    def folder(self) -> Path:
        return self.output.with_suffix(".training")


def train_vae(config: DecoderConfig, settings: VAERunSettings, device: torch.device) -> None:
    """Train, going on from a checkpoint where there is one. Raises DelitError for what a user can mend."""
    check_folder(settings.folder)
    tidy_checkpoints(settings.folder)
    remove_unfinished([settings.output])
    if is_there(settings.output) and not find_checkpoints(settings.folder):
        raise DelitError(
            f"{settings.output} is there already, and of no run that could go on ({settings.folder} holds no "
            "checkpoint). Choose another --output."
        )
    pairs = open_pairs(settings.data_root, "train")
    split = split_subjects(pairs)
    # Of too few people to keep one out it is measured on what it learns from.
    held_out = load_pictures(SomePairs(pairs, split.validated or split.learned))[:: settings.test_every]
    sources = _sharp_sources(settings) if config.sharp else ([], [])
    trainer = (ClipTrainer if config.clips else DecoderTrainer)(
        config,
        load_pictures(SomePairs(pairs, split.learned)),
        sharp_pictures(config.sharp, *sources, config.seed),
        device,
        settings.steps,
        load_wan_vae(settings.start_from, device, torch.float32) if settings.start_from else None,
    )
    identity = (
        trainer.identity() | {"data": fingerprint_of(pairs)} | _told_sources(sources, settings.start_from)
    )
    if find_checkpoints(settings.folder):
        trainer.load_state(load_checkpoint(settings.folder, identity))
        tqdm.write(f"Going on from step {trainer.step} of {settings.folder}")

    def save(log: RunLog) -> None:
        save_checkpoint(settings.folder, identity, trainer.state())
        _write(trainer, settings.output, held_out, log)

    _train(trainer, settings, save)


def _sharp_sources(settings: VAERunSettings) -> tuple[list[Path], list[Path]]:
    """The HDRIs (those of the training split) and photographs that sharp pictures are made of."""
    photographs = [] if settings.photographs is None else picture_files(settings.photographs)
    return hdri_names(settings.hdri_dir, "train"), photographs


def _told_sources(sources: tuple[list[Path], list[Path]], start_from: Path | None) -> dict[str, str]:
    """What else two runs must have in common, as `identity` has it."""
    stamps = "".join(file_stamp(path) for files in sources for path in files)
    return {
        "sharp sources": hashlib.sha256(stamps.encode()).hexdigest()[:16],
        "start_from": file_stamp(start_from) if start_from else "nothing",
    }


def _train(trainer: DecoderTrainer, settings: VAERunSettings, save: Callable[[RunLog], None]) -> None:
    """The steps, until all are done or a stop is asked for."""
    schedule, watch = trainer.schedule, LossWatch()
    in_time = CoolDownInTime(schedule, settings.minutes)
    with (
        RunLog(settings.folder / "log") as log,
        StopRequest() as stop,
        tqdm(total=settings.steps, initial=trainer.step, desc="decoder", mininterval=5) as progress,
    ):
        while trainer.step < schedule.steps and not stop.asked:
            watch.note(trainer.step, trainer.train_step())
            progress.update()
            if trainer.step % _LOOK_EVERY == 0:
                refuse_bad(watch.first_bad_step(), [f"crops that --seed {trainer.config.seed} draws"])
                parts = watch.means()
                log.numbers("loss", trainer.step, parts)
                progress.set_postfix(loss=f"{sum(parts.values()):.5f}", refresh=False)
                in_time.look(trainer.step)
            # The last of them is saved below.
            if trainer.step % settings.save_every == 0 and trainer.step < schedule.steps:
                save(log)
        refuse_bad(watch.first_bad_step(), [f"crops that --seed {trainer.config.seed} draws"])
        save(log)
        if stop.asked:
            tqdm.write(f"Stopped after step {trainer.step}. The same command goes on.")


def _write(trainer: DecoderTrainer, output: Path, held_out: Tensor, log: RunLog) -> None:
    """Write the averaged VAE, and say how good it is."""
    vae = trainer.averaged_vae()
    quality = reconstruction_psnr(vae, held_out)
    linear = trainer.code.decode(trainer.code.encode(held_out.float() / 127.5 - 1)).clamp(-1, 1)
    ceiling = psnr((linear + 1) / 2, held_out.float() / 255).mean().item()
    log.numbers("held out", trainer.step, {"psnr": quality})
    tqdm.write(
        f"step {trainer.step}: held-out PSNR {quality:.2f} dB (its linear code alone: {ceiling:.2f} dB)"
    )
    if isinstance(trainer, ClipTrainer):
        made = (decoded_both_ways(vae, clip) for clip in trainer.clips(0)[0])
        jerks = [[unsteadiness(clip) for clip in both] for both in made]
        as_clip, as_stills = (sum(values) / len(jerks) for values in zip(*jerks, strict=True))
        tqdm.write(f"a clip jerks by {as_clip:.2f} of 255, its frames one by one by {as_stills:.2f}")
    metadata = {
        "name": f"Delit narrow VAE, width {vae.config.dim}",
        "licence": "Apache-2.0",
        "steps": str(trainer.step),
        "held_out_psnr_db": f"{quality:.2f}",
    }
    save_wan_vae(output, vae, torch.float16, metadata)


@torch.inference_mode()
def reconstruction_psnr(vae: WanVAE, pictures: Tensor) -> float:
    """Mean PSNR in dB over RGB of pictures [N, 3, H, W] (bytes, sides multiples of 8) through the VAE."""
    total = 0.0
    for picture in pictures:
        x = picture[None].float() / 127.5 - 1
        decoded = vae.decode(vae.encode(x)).clamp(-1, 1)
        total += psnr((decoded + 1) / 2, (x + 1) / 2).item()
    return total / len(pictures)


def load_pictures(dataset: Pairs) -> Tensor:
    """Every relit picture, and every subject's flat-lit one once: bytes [N, 3, H, W]."""
    pictures, flats = [], {}
    for number, record in enumerate(dataset.records):
        pair = dataset[number]
        pictures.append((pair.relit * 255).round().to(torch.uint8))
        flats[record.subject] = (pair.flat * 255).round().to(torch.uint8)
    return torch.stack([*pictures, *flats.values()])
