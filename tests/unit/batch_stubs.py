"""Workers for tests that other processes can import: the real work, slowed down, or ended on demand."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.unit.worker_stubs import machine, machines_seen
from training.batch.pieces import Do, Outcome, Piece
from training.batch.plan import load_weights


def load(folder: str, vae: str, heads: str, killer: str, machines: int) -> Do:
    """What does pieces as the command does, with a note of every attempt in the folder `attempts`.

    The first attempt at the piece `killer` kills its process. Nobody finishes before so many machines have begun
    something.
    """
    real = load_weights(vae, heads, "cpu")
    root = Path(folder)

    def do(piece: Piece) -> Outcome:
        (root / "attempts").mkdir(exist_ok=True)
        (root / "attempts" / f"{piece.key}-{machine()}-{os.getpid()}-{time.monotonic_ns()}").touch()
        attempts = len(list((root / "attempts").glob(f"{piece.key}-*")))
        if piece.key == killer and attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        patience = time.monotonic() + 60
        while len(machines_seen(root)) < machines and time.monotonic() < patience:
            time.sleep(0.05)
        time.sleep(0.3)
        return real(piece)

    return do
