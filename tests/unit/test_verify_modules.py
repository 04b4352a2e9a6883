"""training.verify_modules: all of it works here, and what does not work is told."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from delit_models import pipeline
from training import verify_modules
from training.data.pairs import PairDataset
from training.data.sphere_pairs import write_sphere_pairs
from training.heads.losses import irradiance
from training.verify_modules import CHECKS, GENERATOR_PACKAGES, PACKAGES, Bench, Skipped, verify

ROOT = Path(verify_modules.__file__).parent.parent
OUR_OWN = {"training", "delit_models"}
# Of the extra “ray”, for those who render on many machines.
OPTIONAL = {"ray", "upath"}


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path, torch.device("cpu"))


def test_this_installation_works(capsys):
    status = verify_modules.main(["--device", "cpu"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    # The generator is an extra; where it is not installed, that is told, and nothing is wrong.
    installed = all(importlib.util.find_spec(name) for name in ("mitsuba", "anny", "pyoidn"))
    assert printed.count("✓") == len(CHECKS) - (not installed) and "✗" not in printed


def test_a_failure_is_told_and_the_rest_still_checked(monkeypatch, capsys):
    def fails(bench: Bench) -> str:
        raise ValueError("the disk\nis gone")

    def skips(bench: Bench) -> str:
        print("a progress bar", file=sys.stderr)
        raise Skipped("not installed")

    monkeypatch.setattr(
        verify_modules, "CHECKS", {"Disk": fails, "Optional": skips, "Light": CHECKS["Light"]}
    )
    assert verify_modules.main(["--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert not printed.err
    lines = printed.out.splitlines()
    assert lines[0] == "✗ Disk: ValueError: the disk is gone"
    assert lines[1] == "– Optional: not installed"
    assert lines[2].startswith("✓ Light: ")


@pytest.mark.parametrize("part", ["VAE", "Training"])
def test_a_damaged_vae_is_found(monkeypatch, tmp_path, bench, part, capsys):
    damaged = tmp_path / "delit_narrow_vae.safetensors"
    damaged.write_bytes(pipeline.EMBEDDED_VAE.read_bytes()[:100_000])
    monkeypatch.setattr(pipeline, "EMBEDDED_VAE", damaged)
    assert verify(bench, {part: CHECKS[part]}) == [part]
    assert "delit_narrow_vae.safetensors" in capsys.readouterr().out


def test_a_step_that_does_not_lower_the_loss_is_found(monkeypatch, bench):
    from training.heads.trainer import Trainer

    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: {"flat": 1.0 + self.step})
    write_sphere_pairs(bench.folder / "data")
    with pytest.raises(RuntimeError, match="it must fall"):
        CHECKS["Training"](bench)


def test_sphere_pairs_are_lit_by_their_own_light(tmp_path):
    """The middle of a sphere faces the camera: it shows its albedo times the irradiance there."""
    write_sphere_pairs(tmp_path, train_subjects=1, test_subjects=0)
    pairs = PairDataset(tmp_path, "train")
    for pair in (pairs[0], pairs[1]):
        relit, flat = (((x[:, 32, 32] + 0.055) / 1.055) ** 2.4 for x in (pair.relit, pair.flat))
        normals_towards_camera = irradiance(pair.env[None])[0]
        # Of the 8 × 16 normals, rows 3 and 4 at the map's edges (columns 0 and 15) face the camera within 16°.
        facing = normals_towards_camera.reshape(3, 8, 16)[:, 3:5, [0, 15]].mean(dim=(1, 2))
        torch.testing.assert_close(relit / flat, facing, rtol=0.06, atol=0)


def imported(folder: str) -> set[str]:
    """Distributions that the Python files of a folder import, at the top or later, by their names in small letters."""
    distributions = importlib.metadata.packages_distributions()
    modules = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.split(".")[0])
    third_party = modules - OUR_OWN - OPTIONAL - sys.stdlib_module_names
    return {distributions.get(name, [name])[0].lower() for name in third_party}


def test_every_package_that_is_imported_is_looked_for():
    packages, generator = ({name.lower() for name in names} for names in (PACKAGES, GENERATOR_PACKAGES))
    of_generator = imported("training/synth") - packages
    assert of_generator == generator
    assert imported("training") - of_generator | imported("delit_models") == packages


def test_a_package_that_is_not_installed_is_named(monkeypatch, bench, capsys):
    real = verify_modules._version
    monkeypatch.setattr(
        verify_modules, "_version", lambda name: None if name in ("torchvision", "scipy") else real(name)
    )
    assert verify(bench, {part: CHECKS[part] for part in ("Packages", "Generator")}) == ["Packages"]
    told = capsys.readouterr().out.splitlines()
    assert "not installed: torchvision. Run scripts/set_up standalone train" in told[0]
    assert told[1].startswith("– Generator: ") and "scipy" in told[1]


def test_a_device_that_is_not_there_is_told(capsys):
    assert verify_modules.main(["--device", "abacus"]) == 1
    assert "Try --device cpu" in capsys.readouterr().out
