"""The heads live under ComfyUI's model management: offloaded when another model needs the room, then reloaded; and they
need not be on the VAE's device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.comfy.comfyui import REPOSITORY, Checkout

SCRIPT = Path(__file__).parent / "offload_heads.py"


def test_heads_are_offloaded_and_reloaded_and_need_no_device_of_the_vaes(
    checkout: Checkout, tmp_path: Path
) -> None:
    pack = tmp_path / "custom_nodes" / "delit"
    pack.parent.mkdir()
    pack.symlink_to(REPOSITORY, target_is_directory=True)
    command = [sys.executable, SCRIPT, checkout.folder, tmp_path, pack]
    run = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-4000:]
    report = json.loads(run.stdout.split("REPORT ", 1)[1])
    print(json.dumps(report, indent=2))
    card, size = report["card"], report["bytes"]

    assert not report["before"]["loaded"]
    for moment in ("applied", "applied_again"):
        assert report[moment]["loaded"] and report[moment]["device"] == card
        assert report[moment]["bytes"] == size
    assert report["other_loaded"]
    assert not report["evicted"]["loaded"] and report["evicted"]["device"] == "cpu"
    assert report["evicted"]["bytes"] == 0 and report["evicted"]["weights_on"] == ["cpu"]
    assert report["difference_after_reload"] == 0

    assert 0 < report["partly"]["bytes"] < size
    assert report["difference_when_partly_offloaded"] < 1e-5
    assert report["not_offloadable"] == []

    # Tensors of two devices never met, wherever the VAE, the heads and the results were.
    assert len(report["devices"]) == 4 or card.startswith("cuda")
    for run in report["devices"]:
        assert run["used"] == run["asked"] and run["difference"] == 0
