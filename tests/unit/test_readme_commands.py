"""The README's small training commands, run one after another as they are printed, leave heads that the nodes load."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from delit_models.pipeline import EMBEDDED_VAE, DelitPipeline

REPOSITORY = Path(__file__).parents[2]
PYTHON = ".venv/bin/python"
TRAIN = "training.train_delit_wan"


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> tuple[list[list[str]], Path]:
    """The block after “Small first”, its folders moved to a fresh place."""
    pytest.importorskip("mitsuba", reason="the generator renders with Mitsuba (scripts/set_up synth)")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = re.search(r"Small first.*?```\n(.*?)```", readme, re.DOTALL).group(1)
    folder = tmp_path_factory.mktemp("small")
    lines = block.replace("\\\n", " ").strip().splitlines()
    moved = {"toy": str(folder / "toy"), "runs/toy": str(folder / "runs" / "toy")}
    words = [[moved.get(word, word) for word in shlex.split(line)] for line in lines]
    assert [line[0] for line in words] == [PYTHON] * 3
    return [[sys.executable, *line[1:]] for line in words], folder


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_one_after_another(commands):
    lines, folder = commands
    for line in lines:
        told = run(line)
        if TRAIN in line:
            assert "no pair" in told or "split" in told, "an empty split is done without, and said so"
    heads = folder / "runs" / "toy" / "delit_heads.safetensors"
    result = DelitPipeline.load(EMBEDDED_VAE, heads)(torch.rand(1, 64, 96, 3))
    assert result.flat.shape == (1, 64, 96, 3) and torch.isfinite(result.env).all()
    # The seed's other line: --freeze_vae, another batch size.
    again = [word for word in lines[-1] if word != "--use_mask"]
    again[again.index("--output_dir") + 1] = str(folder / "frozen")
    again[again.index("--batch_size") + 1] = "4"
    again[again.index("--num_epochs") + 1] = "2"
    run([*again, "--freeze_vae"])
    assert (folder / "frozen" / "delit_heads.safetensors").exists()
