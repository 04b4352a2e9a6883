"""Curves of a run for TensorBoard, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from delit_models.atomic_write import check_folder
from delit_models.errors import DelitError

logger = logging.getLogger(__name__)


class RunLog:
    """Writes numbers and pictures to a folder that `tensorboard --logdir` shows. `active` False writes nothing.

    Of a run that was killed and goes on from a checkpoint, what it had told of later steps is not shown twice. A disk
    that takes no more ends the curves, not the run.
    """

    def __init__(self, folder: Path, active: bool = True) -> None:
        self._folder = folder
        self._active = active and _is_installed()
        self._writer: Any = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._unless_the_disk_is_full(self._writer.close)

    def numbers(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """One point on each curve."""
        for name, value in values.items():
            self._write(step, "add_scalar", f"{group}/{name}", value)

    def picture(self, name: str, step: int, picture: Tensor) -> None:
        """A picture [3, H, W] in [0, 1], sRGB-coded."""
        self._write(step, "add_image", name, (picture.clamp(0, 1) * 255).to(torch.uint8).cpu())

    def _write(self, step: int, method: str, name: str, value: object) -> None:
        if self._active and self._writer is None:
            self._unless_the_disk_is_full(lambda: self._begin(step))
        if self._active:
            self._unless_the_disk_is_full(lambda: getattr(self._writer, method)(name, value, step))

    def _begin(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Its own thread would find out, and print a traceback.
        check_folder(self._folder)
        # Where a first word about a step comes, earlier words about it and later ones are of a run that was killed.
        self._writer = SummaryWriter(str(self._folder), purge_step=step)

    def _unless_the_disk_is_full(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, DelitError) as error:
            self._active = False
            logger.warning("No more curves are written to %s: %s", self._folder, error)


def _is_installed() -> bool:
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        logger.info("tensorboard is not installed (pip install tensorboard): no curves are written.")
        return False
    return True
