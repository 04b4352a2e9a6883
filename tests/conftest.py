"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Examples are the same in every run, and a slow machine is no failure.
settings.register_profile("delit", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("delit")

NETWORK_GUARD = Path(__file__).parent / "network_guard"


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Bit for bit is promised for equal numbers of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def network_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reaches another machine, nor does a command or a server that it starts: each try is in this file."""
    log = tmp_path_factory.mktemp("network") / "asked.txt"
    log.touch()
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(NETWORK_GUARD), before))))
        patch.setenv("DELIT_NETWORK_LOG", str(log))
        spec = importlib.util.spec_from_file_location("network_guard", NETWORK_GUARD / "sitecustomize.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        yield log


@pytest.fixture(autouse=True)
def _no_other_machine(network_log: Path) -> Iterator[None]:
    start = network_log.stat().st_size
    yield
    with network_log.open(encoding="utf-8") as log:
        log.seek(start)
        asked = log.read()
    assert not asked, f"another machine was asked for:\n{asked}"
