"""The script for a machine with a graphics card, tried out without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState

from benchmarks import gpu

SMALL = (
    "--device cpu --dim 8 --size 64 --rounds 1 --batch_sizes 2 --precisions fp32 bf16 --no_compile".split()
)


@pytest.fixture(autouse=True)
def _own_precision() -> Iterator[None]:
    """accelerate knows one precision a process: another test's must not be there, nor this one's stay."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("part", ["vae", "heads", "finishing", "portrait", "training"])
def test_every_cell_is_measured(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([*SMALL, "--parts", part])
    printed = capsys.readouterr()
    rows = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert len(rows) >= 3, printed.out
    assert "fails" not in printed.out and "out of memory" not in printed.out, printed.err
    assert len({line.count("|") for line in rows}) == 1, printed.out
