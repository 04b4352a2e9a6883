"""Being asked to stop: SIGTERM and Ctrl-C end a run after its current step, with a checkpoint. And not being asked:
workers end when the process that started them was killed."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from types import FrameType, TracebackType

# SIGTERM is how clusters and service managers ask; it does not exist everywhere.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]


class StopRequest:
    """While it is entered, a first signal is only noted in `asked`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def leave_stopping_to_the_main_process(_worker: int = 0) -> None:
    """For worker processes, which a terminal's Ctrl-C and a cluster's SIGTERM reach as well."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_with_the_main_process() -> None:
    """For worker processes of a pool: they would wait for work for ever where the process that started them was killed,
    and go on writing what they were at beside the run that takes over."""
    main = multiprocessing.parent_process()
    if main is not None:
        threading.Thread(target=_end_after, args=(main.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
