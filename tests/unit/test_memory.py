"""Free memory goes back to the system, and only then is it looked for when there is much of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from delit_models import memory

REPOSITORY = Path(__file__).parents[2]
# A process of its own: others have used this one's heap. Every tenth block stays, so that the heap cannot shrink.
HOLES = """
import torch
from delit_models import memory
# glibc takes blocks up to the size of the largest that was freed so far (and 32 MB) from its heap.
torch.ones(7_000_000)
memory.give_back_memory()
blocks = [torch.ones(250_000) for _ in range(600)]
kept = blocks[::10]
del blocks
before = memory.resident_memory()
assert memory.give_back_memory()
print((before - memory.resident_memory()) // 1_000_000)
assert not memory.give_back_memory(), "nothing has grown since"
assert all(block.sum() == 250_000 for block in kept)
"""


def needs_glibc() -> None:
    if memory._malloc_trim() is None:
        pytest.skip("only glibc keeps free memory so")


def test_holes_between_blocks_go_back() -> None:
    needs_glibc()
    run = subprocess.run([sys.executable, "-c", HOLES], cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 400


def test_little_growth_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed, held = [], [1_000_000_000]
    monkeypatch.setattr(memory, "_malloc_trim", lambda: trimmed.append)
    monkeypatch.setattr(memory, "resident_memory", lambda: held[0])
    monkeypatch.setattr(memory, "_held_after_last", 0)
    told = []
    for held[0] in (1_000_000_000, 1_150_000_000, 1_250_000_000, 700_000_000, 899_000_000, 901_000_000):
        told.append(memory.give_back_memory())
    assert told == [True, False, True, False, False, True] and len(trimmed) == 3


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._malloc_trim.cache_clear()
    monkeypatch.setattr(memory.sys, "platform", "win32")
    assert memory.give_back_memory() is False
    memory._malloc_trim.cache_clear()


def test_the_decorator_gives_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(memory, "give_back_memory", lambda: calls.append(1))

    @memory.gives_back_memory
    def work(x: int, *, y: int = 1) -> int:
        """Told."""
        return x // y

    assert work(4, y=2) == 2 and work.__doc__ == "Told."
    with pytest.raises(ZeroDivisionError):
        work(1, y=0)
    assert len(calls) == 2
