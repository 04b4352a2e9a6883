"""Training heads: the model, its optimisers, its average and its loss over a source of batches."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from delit_models.decoder_lora import DecoderLora
from delit_models.errors import DelitError
from delit_models.heads import DelitHeads
from training.loop.average import Average
from training.loop.bounds import LEAST_RATE, MOST_BATCH, MOST_COUNT, MOST_RATE, MOST_SEED, refuse_outside
from training.loop.muon import Muon
from training.loop.schedule import Schedule, check_cool_down

from .batches import LatentPair
from .decoder_loss import DecoderLoss
from .losses import HeadsLoss

if TYPE_CHECKING:
    # peft takes seconds to import, and is needed only where a LoRA is trained.
    from .lora import LoraDecoder

# Adam's part of the learning rate: first and last layers, biases and norms move more carefully than matrices.
_ADAM_SHARE = 0.5
# More than any convolution of the decoder could use.
_MOST_RANK = 1024


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run that its numbers depend on.

    Attributes:
        batch_size: pairs a step, of all processes together.
        accumulate: parts that each process takes its share of a batch in, where it does not fit in memory at once.
        learning_rate: of the matrices inside; the rest takes half.
        warm_up: steps until the full rate. cool_down: share of the steps in which it falls again.
        average: how much of the running average stays in a step.
        use_mask: learn the subject only, and not that what is behind it stays.
        lora_rank: of the LoRA on the VAE's decoder; 0 trains none.
        decoder_every: with a LoRA, steps between two in which pictures go through the decoder.
    """

    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: int = 100
    cool_down: float = 0.15
    average: float = 0.998
    use_mask: bool = False
    seed: int = 0
    lora_rank: int = 0
    decoder_every: int = 4

    def __post_init__(self) -> None:
        refuse_outside(1, MOST_BATCH, batch_size=self.batch_size, accumulate=self.accumulate)
        refuse_outside(LEAST_RATE, MOST_RATE, learning_rate=self.learning_rate)
        refuse_outside(0, MOST_SEED, seed=self.seed)
        check_cool_down(self.cool_down)
        if self.lora_rank < 0 or self.decoder_every < 1:
            raise DelitError(
                f"--lora_rank is {self.lora_rank} and --decoder_every {self.decoder_every}: give a rank of 0 (no LoRA) "
                "or more, and 1 step or more."
            )
        refuse_outside(0, _MOST_RANK, lora_rank=self.lora_rank)
        refuse_outside(1, MOST_COUNT, decoder_every=self.decoder_every)


class Trainer:
    """One run's model and all that changes with its steps.

    `engine` decides on device, precision and processes; heads are changed in place, and so is `lora`, the decoder that
    learns with them where there is one.
    """

    def __init__(
        self,
        config: TrainConfig,
        engine: Accelerator,
        heads: DelitHeads,
        loss: HeadsLoss,
        steps: int,
        lora: LoraDecoder | None = None,
    ) -> None:
        self.config, self.engine = config, engine
        self.heads = heads.to(engine.device).train().requires_grad_(True)
        self.average = Average(self.heads, config.average)
        self.loss = loss.to(engine.device)
        self.optimizers = _optimizers(self.heads, config)
        self.lora = lora
        if lora is not None:
            self.lora_average = Average(lora, config.average)
            self.decoder_loss = DecoderLoss(lora, config.use_mask, config.seed)
            self.optimizers += (_lora_optimizer(lora, config),)
        self.schedule = Schedule(steps, config.warm_up, config.cool_down)
        self.step = 0
        self._model = engine.prepare_model(self.heads)

    def train_step(self, batch: LatentPair) -> dict[str, Tensor]:
        """One step on this process' share of a batch; returns the parts of its loss, on the device."""
        rate = self.schedule.rate(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        pieces = _pieces(batch, self.config.accumulate)
        for number, piece in enumerate(pieces, start=1):
            piece = piece.to(self.engine.device)
            with self._synchronised(number == len(pieces)):
                with self.engine.autocast():
                    output = self._model(piece.z)
                    decoded = self._decoded(output.z_flat, piece)
                parts = self.loss(output, piece) | decoded
                parts = {name: part / len(pieces) for name, part in parts.items()}
                self.engine.backward(sum(parts.values()))
            for name, part in parts.items():
                totals[name] = totals.get(name, 0) + part.detach()
        self.engine.clip_grad_norm_(self.heads.parameters(), 1.0)
        self._gather_lora_gradients()
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.heads)
        if self.lora is not None:
            self.lora_average.update(self.lora)
        self.step += 1
        return totals

    def averaged_heads(self) -> DelitHeads:
        """The heads to keep."""
        heads = DelitHeads(self.heads.config)
        heads.load_state_dict(self.average.weights)
        return heads.to(self.engine.device).eval().requires_grad_(False)

    def averaged_lora(self) -> DecoderLora | None:
        """The LoRA to keep."""
        return None if self.lora is None else DecoderLora.from_tensors(self.lora_average.weights)

    def identity(self) -> dict[str, Any]:
        """What two runs must have in common for one to go on with the other's checkpoint, but for their data."""
        config = {name: str(value) for name, value in self.heads.config.to_dict().items()}
        settings = asdict(self.config)
        if self.lora is None:
            # So that checkpoints from before there was a LoRA go on.
            del settings["lora_rank"], settings["decoder_every"]
        return settings | {f"heads' {name}": value for name, value in config.items()}

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "steps": self.schedule.steps,
            "heads": self.heads.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            **({} if self.lora is None else self._lora_state()),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()` of a run of the same identity; its length is this run's."""
        self.step = state["step"]
        self.heads.load_state_dict(state["heads"])
        self.average.load_state_dict(state["average"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        if self.lora is not None:
            self.lora.load_state_dict(state["lora"])
            self.lora_average.load_state_dict(state["lora_average"])

    def _lora_state(self) -> dict[str, Any]:
        return {"lora": self.lora.state_dict(), "lora_average": self.lora_average.state_dict()}

    def _decoded(self, z_flat: Tensor, piece: LatentPair) -> dict[str, Tensor]:
        """The decoder's part of the loss, in the steps that have one."""
        if self.lora is None or self.step % self.config.decoder_every:
            return {}
        return self.decoder_loss(z_flat, piece, self.step)

    def _gather_lora_gradients(self) -> None:
        """Over all processes: the LoRA is no part of the model that exchanges them by itself, as most steps leave it
        out."""
        if self.lora is None:
            return
        weights = [weight for weight in self.lora.parameters() if weight.grad is not None]
        for weight in weights:
            weight.grad = self.engine.reduce(weight.grad, "mean")
        self.engine.clip_grad_norm_(weights, 1.0)

    def _synchronised(self, last: bool) -> AbstractContextManager:
        """Processes exchange gradients once a step, with the last piece."""
        return nullcontext() if last else self.engine.no_sync(self._model)


def _pieces(batch: LatentPair, count: int) -> list[LatentPair]:
    """A batch in equal parts. Raises DelitError where it cannot be shared so."""
    size = len(batch.z)
    if size % count:
        raise DelitError(
            f"A process' share of a batch, {size} pairs, cannot be taken in {count} equal parts. Choose "
            "--batch_size and --accumulate so that it can."
        )
    return [batch.rows(first, first + size // count) for first in range(0, size, size // count)]


def _optimizers(heads: DelitHeads, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside; AdamW for the layers at the ends, biases and norms, as Muon's authors advise.
    Every group remembers its peak learning rate (`_with_peak`)."""
    ends: list[nn.Module] = [heads.extractor.stem, heads.flat_projection.out, heads.env_decoder.out]
    if heads.matte_projection is not None:
        ends.append(heads.matte_projection.out)
    at_ends = {id(weight) for layer in ends for weight in layer.parameters()}
    matrices, others = [], []
    for weight in heads.parameters():
        (others if weight.ndim < 2 or id(weight) in at_ends else matrices).append(weight)
    adam_rate = _ADAM_SHARE * config.learning_rate
    muon = Muon(matrices, config.learning_rate, config.weight_decay)
    adam = torch.optim.AdamW(others, lr=adam_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    return _with_peak(muon, config.learning_rate), _with_peak(adam, adam_rate)


def _lora_optimizer(lora: LoraDecoder, config: TrainConfig) -> torch.optim.Optimizer:
    """Without decay: factors near 0 are no change at all, and need no pull there."""
    rate = config.learning_rate
    adam = torch.optim.AdamW(lora.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    return _with_peak(adam, rate)


def _with_peak(optimizer: torch.optim.Optimizer, peak: float) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        group["peak"] = peak
    return optimizer
