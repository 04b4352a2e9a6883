"""The flat-lit picture judged as the VAE's own decoder makes it: what a LoRA on that decoder learns by.

Decoding costs far more than the heads, so a window of the picture is decoded, with a margin that is not judged: there
the decoder lacks what lies beyond. The target is the picture itself, not what the VAE makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from delit_models.images import VAE_STRIDE

from .batches import LatentPair
from .losses import KNEE, HeadsLoss, charbonnier

# Cells that are judged, and those around them that are decoded besides.
JUDGED, MARGIN = 8, 2
# As much as the part “picture” of LossWeights: the same error, but of the picture that comes out.
WEIGHT = 4.0


class Decoder(Protocol):
    """What decodes latents [B, 16, h, w] to pictures in [-1, 1]."""

    def decode(self, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Span:
    """A window along one side of a picture, in cells: judged are `first` to `first + count` - 1, decoded those
    from `start` to `end` - 1."""

    first: int
    count: int
    start: int
    end: int

    @staticmethod
    def drawn(cells: int, generator: torch.Generator) -> Span:
        """A random place on a side of so many cells; all of a side that is no longer than the window."""
        count = min(JUDGED, cells)
        first = int(torch.randint(cells - count + 1, (), generator=generator))
        return Span(first, count, max(0, first - MARGIN), min(cells, first + count + MARGIN))

    def judged_of_decoded(self) -> slice:
        """The judged pixels among the decoded ones."""
        before = (self.first - self.start) * VAE_STRIDE
        return slice(before, before + self.count * VAE_STRIDE)

    def judged(self) -> slice:
        """The judged pixels among all."""
        return slice(self.first * VAE_STRIDE, (self.first + self.count) * VAE_STRIDE)


@dataclass(frozen=True)
class DecoderLoss:
    """Error of the coded picture inside the mask, in one window a step for all pairs of a batch.

    Attributes:
        decoder: the VAE's decoder with its LoRA.
        use_mask: as for HeadsLoss. seed: of the windows' places.
    """

    decoder: Decoder
    use_mask: bool
    seed: int

    def __call__(self, z_flat: Tensor, batch: LatentPair, step: int) -> dict[str, Tensor]:
        """The weighted part of the loss, by name. batch.target must be there; the error is computed in float32."""
        down, across = self._window(step, z_flat.shape[-2:])
        made = self.decoder.decode(z_flat[:, :, down.start : down.end, across.start : across.end])
        with torch.autocast(z_flat.device.type, enabled=False):
            shown = made[:, :, down.judged_of_decoded(), across.judged_of_decoded()].float() / 2 + 0.5
            truth = batch.target[:, :, down.judged(), across.judged()].float() / 255
            mask = F.interpolate(batch.mask, scale_factor=VAE_STRIDE, mode="bilinear", align_corners=False)
            weight = mask + self._background * (1 - mask)
            inside = weight[:, :, down.judged(), across.judged()]
            error = (charbonnier(shown - truth, KNEE) * inside).mean(dim=(1, 2, 3))
            # By the weight of the whole picture: windows that show little of the subject count little.
            return {"decoded": WEIGHT * (error / weight.mean(dim=(1, 2, 3)).clamp(min=1e-3)).mean()}

    @property
    def _background(self) -> float:
        return 0.0 if self.use_mask else HeadsLoss.BACKGROUND

    def _window(self, step: int, cells: torch.Size) -> tuple[Span, Span]:
        """The window's rows and columns, the same whenever a step is taken, and by whichever process."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        height, width = cells
        return Span.drawn(height, generator), Span.drawn(width, generator)
