"""Curves of a run for TensorBoard, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class RunLog:
    """Writes numbers and pictures to a folder that `tensorboard --logdir` shows. `active` False writes nothing."""

    def __init__(self, folder: Path, active: bool = True) -> None:
        self._writer = None
        if not active:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("tensorboard is not installed (pip install tensorboard): no curves are written.")
            return
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, step: int, picture: Tensor) -> None:
        """A picture [3, H, W] in [0, 1], sRGB-coded."""
        if self._writer is not None:
            self._writer.add_image(name, (picture.clamp(0, 1) * 255).to(torch.uint8).cpu(), step)
