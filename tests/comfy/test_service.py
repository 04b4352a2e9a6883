"""A service: two clients at once, flags that few use, and no way to another machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.comfyui import REPOSITORY, Checkout
from tests.comfy.flagged_service import CLIENTS, PROMPTS_OF_EACH

# A network namespace of its own, as anybody may have it on most Linux machines.
ALONE = ("unshare", "--map-root-user", "--net")


def may_be_alone() -> bool:
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


def test_two_clients_are_served_under_flags_and_without_a_network(checkout: Checkout, tmp_path: Path) -> None:
    alone = may_be_alone()
    command = [sys.executable, "-m", "tests.comfy.flagged_service", checkout.folder, tmp_path / "comfyui"]
    run = subprocess.run(
        [*(ALONE if alone else ()), *command], cwd=REPOSITORY, capture_output=True, text=True, timeout=500
    )
    assert run.returncode == 0, run.stderr[-4000:]
    report = json.loads(run.stdout.split("REPORT ", 1)[1])
    print(json.dumps(report, indent=2))
    # Where no namespace may be had, the guard that all tests run under still sees who asks for another machine.
    assert not (alone and report["other_interfaces"])
    assert report["errors"] == [None] * len(CLIENTS) * PROMPTS_OF_EACH
    assert report["video"] is None and report["alive"]
    assert report["differences"] == [0] * len(CLIENTS) * PROMPTS_OF_EACH
    names = [f"{client}{number}" for client in CLIENTS for number in range(PROMPTS_OF_EACH)]
    saved = ("env.0001.exr", "flat_v001.exr", "png_00001_.png")
    assert report["files"] == sorted(f"{name}/{file}" for name in names for file in saved)
    assert report["tell_the_graph"] == []
    if not alone:
        pytest.skip(
            "All that was asked held, but no network namespace may be had here: only the guard watched."
        )
