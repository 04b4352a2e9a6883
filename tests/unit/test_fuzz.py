"""A short run of the fuzzer, the same cases every time; the full one is scripts/fuzz."""

from __future__ import annotations

import pytest


def test_a_short_run_of_every_kind_finds_no_fault():
    pytest.importorskip("resource", reason="Windows limits no process's memory")
    from tests.fuzz.workers import run_worker

    thrown, outcomes, faults = run_worker(None, seed=1)
    assert not faults, "\n".join(f"{fault}: {case}" for fault, case in faults.items())
    assert thrown > 350 and outcomes["worked"] > 80 and outcomes["refused"] > 80
