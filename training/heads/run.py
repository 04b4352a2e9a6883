"""A training run from files to heads: what `training.train_delit_wan` does.

In the output folder: `delit_heads.safetensors`, the best heads by the validation pairs (the last ones where there are
none); `delit_heads_last.safetensors`; the checkpoints that `--resume` goes on from (training.loop.checkpoints); curves
and pictures for TensorBoard under `log/`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from delit_models.atomic_write import check_folder, remove_unfinished
from delit_models.checkpoint import load_wan_vae
from delit_models.decoder_lora import with_lora
from delit_models.errors import DelitError
from delit_models.heads import DelitConfig, DelitHeads, grown_heads
from delit_models.heads_file import HeadsInfo, LoadedHeads, save_heads, test_card
from delit_models.pipeline import DelitPipeline, load_heads_of
from delit_models.presence import is_file
from delit_models.wan_vae import WanVAE
from training.loop.checkpoints import find_checkpoints, load_checkpoint, save_checkpoint, tidy_checkpoints
from training.loop.log import RunLog
from training.loop.schedule import CoolDownInTime
from training.loop.stopping import StopRequest
from training.loop.watch import LossWatch, refuse_bad

from .batches import StepsAhead
from .losses import HeadsLoss
from .run_data import RunData, open_data
from .settings import RunSettings
from .trainer import TrainConfig, Trainer
from .validation import Validation, headlines, score

if TYPE_CHECKING:
    from .lora import LoraDecoder

HEADS_FILE, LAST_HEADS_FILE = "delit_heads.safetensors", "delit_heads_last.safetensors"
# Steps between two looks at the loss, each of which waits for the device.
_LOOK_EVERY = 20


def train_heads(config: TrainConfig, settings: RunSettings, engine: Accelerator) -> Path:
    """Train, and return the path of the heads file. Raises DelitError for what a user can mend."""
    if config.batch_size % engine.num_processes:
        raise DelitError(
            f"--batch_size is {config.batch_size}, which {engine.num_processes} processes cannot share equally."
        )
    if engine.is_main_process:
        _prepare_output(settings.output, settings.resume)
    vae = load_wan_vae(settings.vae, engine.device)
    start = (
        load_heads_of(vae, settings.vae, settings.start_from, engine.device) if settings.start_from else None
    )
    lora = _first_lora(config, vae, start)
    data = open_data(config, settings, vae, engine)
    heads = first_heads(config, vae, data, start)
    loss = HeadsLoss(data.code, torch.tensor(heads.config.latent_std), config.use_mask)
    length = len(data.learned) * (1 if data.code.encodes else settings.variants)
    steps = settings.epochs * max(1, length // config.batch_size)
    trainer = Trainer(config, engine, heads, loss, steps, lora)
    run = _Run(settings, vae, data, trainer)
    with RunLog(settings.output / "log", engine.is_main_process) as log:
        run.go(log)
    return settings.output / HEADS_FILE


def _prepare_output(folder: Path, resume: bool) -> None:
    """Refuse a folder that takes no files, or another run's, before any work, and remove what a killed run had begun to
    write there."""
    check_folder(folder)
    if not resume and find_checkpoints(folder):
        raise DelitError(
            f"{folder} holds a run already, whose heads and checkpoints this one would replace: --resume goes on with "
            "it. Choose another --output_dir for another run."
        )
    tidy_checkpoints(folder)
    remove_unfinished([folder / HEADS_FILE, folder / LAST_HEADS_FILE])


def first_heads(config: TrainConfig, vae: WanVAE, data: RunData, start: LoadedHeads | None) -> DelitHeads:
    """The heads that training begins with: those to start from, or new ones for the data's latents."""
    if start is not None:
        return grown_heads(start.heads)
    torch.manual_seed(config.seed)
    z = data.latents
    return DelitHeads(
        DelitConfig(
            latent_mean=tuple(z.mean(dim=(0, 2, 3)).tolist()),
            latent_std=tuple(z.std(dim=(0, 2, 3)).clamp(min=1e-3).tolist()),
            working_size=max(data.learned[0].relit.shape[-2:]),
            temporal=vae.temporal,
        )
    )


def _first_lora(config: TrainConfig, vae: WanVAE, start: LoadedHeads | None) -> LoraDecoder | None:
    """The decoder to learn with the heads: as they bring it along, or unchanged yet."""
    brought = 0 if start is None or start.lora is None else start.lora.rank
    if brought and config.lora_rank != brought:
        raise DelitError(
            f"--lora_rank is {config.lora_rank}, but the heads to start from have learned with a LoRA of rank "
            f"{brought}: give --lora_rank {brought}."
        )
    if not config.lora_rank:
        return None
    try:
        from .lora import LoraDecoder
    except ImportError as error:
        raise DelitError(f"--lora_rank needs the library peft ({error}): pip install peft") from error
    lora = LoraDecoder(vae, config.lora_rank, config.seed)
    if brought:
        lora.load_state_dict(start.lora.tensors())
    return lora


class _Run:
    """The loop around the trainer: resuming, looking at the loss, validating, saving, stopping."""

    def __init__(self, settings: RunSettings, vae: WanVAE, data: RunData, trainer: Trainer) -> None:
        self.settings, self.vae, self.data, self.trainer = settings, vae, data, trainer
        self.engine = trainer.engine
        self.identity = trainer.identity() | {
            "data": data.fingerprint,
            "VAE": hashlib.sha256(self._probe().numpy().tobytes()).hexdigest()[:16],
            "photographed": settings.photographed,
            "latent_variants": settings.variants,
        }
        self.validation = Validation(data.validated, data.learned, data.mean_env, settings.validation_pairs)
        self.best = -math.inf
        self.saved = time.monotonic()
        self.in_time = CoolDownInTime(trainer.schedule, settings.minutes)

    def go(self, log: RunLog) -> None:
        """Train to the end, or to a request to stop."""
        trainer = self.trainer
        if self.settings.resume:
            state = load_checkpoint(self.settings.output, self.identity)
            trainer.load_state(state["trainer"])
            self.best = state["best"]
            tqdm.write(f"Going on from step {trainer.step} of {trainer.schedule.steps}")
        if self.settings.finish:
            trainer.schedule.finish_from(trainer.step)
        watch = LossWatch()
        with StopRequest() as stop, self._progress() as progress:
            for batch in self._batches():
                watch.note(trainer.step, trainer.train_step(batch))
                progress.update(trainer.config.batch_size)
                if trainer.step % _LOOK_EVERY == 0 or trainer.step >= trainer.schedule.steps:
                    self._look(watch, log, progress)
                if stop.asked:
                    self._refuse_bad(watch)
                    self.save()
                    tqdm.write(f"Stopped after step {trainer.step}. The same command with --resume goes on.")
                    return
                if trainer.step >= trainer.schedule.steps:
                    break
                self._now_and_then(watch, log)
        self._refuse_bad(watch)
        self.validate(log)
        self.save()

    def _batches(self) -> Iterator[Any]:
        ahead = StepsAhead(
            self.data.source,
            self.trainer.step,
            self.trainer.schedule.steps,
            self.engine.process_index,
            self.engine.num_processes,
        )
        return ahead.stream(self.settings.workers)

    def _progress(self) -> tqdm:
        return tqdm(
            total=self.trainer.schedule.steps * self.trainer.config.batch_size,
            initial=self.trainer.step * self.trainer.config.batch_size,
            desc="heads",
            unit="pair",
            mininterval=5,
            disable=not self.engine.is_main_process,
        )

    def _look(self, watch: LossWatch, log: RunLog, progress: tqdm) -> None:
        self._refuse_bad(watch)
        parts = watch.means()
        log.numbers("loss", self.trainer.step, parts | {"all": sum(parts.values())})
        told = {"loss": f"{sum(parts.values()):.3f}"} | {
            name: f"{value:.3f}" for name, value in parts.items()
        }
        progress.set_postfix(told, refresh=False)
        self.in_time.look(self.trainer.step)

    def _refuse_bad(self, watch: LossWatch) -> None:
        step = watch.first_bad_step()
        refuse_bad(step, [] if step is None else self.data.source.names(step))

    def _now_and_then(self, watch: LossWatch, log: RunLog) -> None:
        if self.trainer.step % self.settings.validate_every == 0:
            self._refuse_bad(watch)
            self.validate(log)
            self.save()
        elif time.monotonic() - self.saved > 60 * self.settings.save_minutes:
            self._refuse_bad(watch)
            self.save()

    def save(self) -> None:
        """Write the checkpoint and the last heads, and the best where they are so."""
        self.saved = time.monotonic()
        if self.engine.is_main_process:
            state = {"trainer": self.trainer.state(), "best": self.best}
            save_checkpoint(self.settings.output, self.identity, state)
            if not is_file(self.settings.output / HEADS_FILE):
                self._write_heads(HEADS_FILE, {})
        self.engine.wait_for_everyone()

    def validate(self, log: RunLog) -> None:
        """Measure the averaged heads on the validation pairs, show a few, and write the heads."""
        if not self.engine.is_main_process:
            return
        pipe = self._pipeline()
        found = self.validation.measure(pipe)
        log.numbers("validation", self.trainer.step, found)
        for name, picture in self.validation.pictures(pipe):
            log.picture(name, self.trainer.step, picture)
        metrics = headlines(found)
        if metrics:
            tqdm.write(f"step {self.trainer.step}: {json.dumps(metrics)}")
        self._write_heads(LAST_HEADS_FILE, metrics)
        reached = score(found) if found else math.inf
        if reached >= self.best:
            self.best = reached
            self._write_heads(HEADS_FILE, metrics)

    def _pipeline(self) -> DelitPipeline:
        """What a user of the averaged heads gets."""
        heads, lora = self.trainer.averaged_heads(), self.trainer.averaged_lora()
        return DelitPipeline(self.vae, heads, flat_vae=None if lora is None else with_lora(self.vae, lora))

    def _write_heads(self, name: str, metrics: dict[str, float]) -> None:
        settings, config = self.settings, self.trainer.config
        info = HeadsInfo(
            name=settings.name,
            vae_name=Path(settings.vae).name,
            licence=settings.licence,
            training={
                "steps": self.trainer.step,
                "batch_size": config.batch_size,
                "pairs": len(self.data.learned),
                "use_mask": config.use_mask,
                **({"lora_rank": config.lora_rank} if config.lora_rank else {}),
                **({"started_from": Path(settings.start_from).name} if settings.start_from else {}),
            },
            metrics={f"validation_{key}": value for key, value in metrics.items()},
        )
        # Half precision moves the result by less than a picture's last bit, and halves the file.
        heads, lora = self.trainer.averaged_heads(), self.trainer.averaged_lora()
        save_heads(settings.output / name, heads, self._probe(), info, torch.float16, lora)

    @torch.no_grad()
    def _probe(self) -> Tensor:
        return self.vae.encode(test_card().to(next(self.vae.parameters()).device)).float().cpu()
