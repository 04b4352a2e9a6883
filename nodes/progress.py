"""A node's progress bar."""

from __future__ import annotations

from collections.abc import Callable

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar


def show_progress() -> Callable[[int, int], None]:
    """For what reports (steps done, steps in all): moves the bar; between two steps the user can stop the run."""
    bar = ProgressBar(1)

    def show(done: int, total: int) -> None:
        throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return show
