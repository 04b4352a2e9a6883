"""A short version of scripts/kill: kill -9 at drawn moments of the two commands that are quickest, and of one that
breaks all promises."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.jobs import JOBS, Careless
from tests.faults.rounds import play
from tests.faults.victims import preload

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from Linux's /proc")


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    preload([JOBS[name].module for name in ("shards", "cache")])


@pytest.mark.parametrize("name", ["shards", "cache"])
def test_a_killed_command_leaves_whole_files_and_goes_on(name: str, tmp_path: Path) -> None:
    tally = play(name, JOBS[name], tmp_path, range(5))
    assert tally.rounds == 5 and tally.kills >= 3
    assert not tally.faults


def test_the_processes_of_a_killed_command_end_with_it() -> None:
    command = [sys.executable, "-m", "tests.faults.pool_of_sleepers"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as pool:
        workers = [int(pool.stdout.readline()) for _ in range(2)]
        pool.kill()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)


def test_what_is_not_written_whole_is_seen(tmp_path: Path) -> None:
    faults = " ".join(play("careless", Careless(), tmp_path, range(8)).faults)
    assert "json is not whole" in faults
    assert "counted.jsonl differs from the unbroken run's" in faults
