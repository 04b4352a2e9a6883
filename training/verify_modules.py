"""Check an installation, in under a minute: does everything that Delit is made of work on this machine?

    python -m training.verify_modules
    python -m training.verify_modules --report      for a bug report: versions, devices, weights, the last error

A line a part, with ✓ or what is wrong with it; the exit status is 1 if anything is. Nothing is downloaded, and nothing
is left behind. A report has no private names in it: home folders, users and the machine are replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from delit_models.errors import DelitError

from .bug_report import report
from .command_line import choose_device

# All that training.* and delit_models import, but for training.synth, which GENERATOR_PACKAGES are for. torchvision has
# the networks that training.evaluate's LPIPS compares by.
PACKAGES = (
    "torch",
    "torchvision",
    "torchmetrics",
    "accelerate",
    "peft",
    "einops",
    "safetensors",
    "numpy",
    "pillow",
    "OpenImageIO",
    "av",
    "tqdm",
)
GENERATOR_PACKAGES = ("mitsuba", "drjit", "anny", "pyoidn", "scipy")
# The embedded VAE gives smooth colours back at over 26 dB; their mean alone would be at 14.
SMOOTH_PSNR = 18.0
TINY_SIZE = 64


@dataclass(frozen=True)
class Bench:
    """What the checks share: a folder for files, emptied afterwards, and the device."""

    folder: Path
    device: torch.device


class Skipped(Exception):
    """A part that is optional and not installed; says how to have it."""


def check_packages(bench: Bench) -> str:
    missing = [name for name in PACKAGES if not _version(name)]
    if missing:
        raise ModuleNotFoundError(f"not installed: {', '.join(missing)}. Run scripts/set_up standalone train")
    return f"Python {sys.version.split()[0]}, torch {_version('torch')}, device {bench.device}"


def check_vae(bench: Bench) -> str:
    from delit_models.checkpoint import load_wan_vae
    from delit_models.pipeline import EMBEDDED_VAE
    from training.evaluation.metrics import psnr

    vae = load_wan_vae(EMBEDDED_VAE, bench.device)
    coarse = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(0)).to(bench.device)
    smooth = torch.nn.functional.interpolate(coarse, TINY_SIZE, mode="bilinear")
    with torch.inference_mode():
        z = vae.encode(smooth * 2 - 1)
        shown = (vae.decode(z).clamp(-1, 1) + 1) / 2
    quality = psnr(shown, smooth).item()
    _require(
        quality > SMOOTH_PSNR,
        f"smooth colours come back at {quality:.1f} dB, expected over {SMOOTH_PSNR:.0f}; fetch the weights again",
    )
    return f"{list(smooth.shape)} → {list(z.shape)} → {quality:.1f} dB"


def check_heads(bench: Bench) -> str:
    from delit_models.heads_file import load_heads
    from delit_models.pipeline import EMBEDDED_HEADS, DelitPipeline

    pipe = DelitPipeline.embedded(bench.device)
    result = pipe(torch.rand(1, 96, 64, 3))
    _require(
        bool(result.flat.isfinite().all() and result.env.isfinite().all()), "what they make is not finite"
    )
    name = load_heads(EMBEDDED_HEADS).info.name
    return f"“{name}” fit the VAE; flat {list(result.flat.shape)}, env {list(result.env.shape)}"


def check_light(bench: Bench) -> str:
    from delit_models.env_codec import decode_env, encode_env
    from delit_models.lat_long import ORIENTATIONS, from_orientation, labelled_test_map, to_orientation
    from training.heads.losses import irradiance

    radiance = 2.0 ** torch.linspace(-8, 15, 3 * 16 * 32).reshape(3, 16, 32)
    error = (decode_env(encode_env(radiance)) / radiance - 1).abs().max().item()
    _require(error < 0.01, f"the env code is off by {100 * error:.2g}%; at most 1%")
    test_map = labelled_test_map(32)
    for preset in ORIENTATIONS:
        there_and_back = from_orientation(to_orientation(test_map, preset), preset)
        _require(torch.equal(there_and_back, test_map), f"the orientation {preset} does not turn back")
    even = irradiance(torch.ones(1, 3, 128, 256))
    _require(bool((even - 1).abs().max() < 0.02), "even light of 1 does not light a surface with 1")
    return f"env code within {100 * error:.2g}%, {len(ORIENTATIONS)} orientations, irradiance"


def check_files(bench: Bench) -> str:
    from delit_models.env_map_files import read_env_map, write_env_map
    from delit_models.image_files import read_image, write_image

    picture = torch.randint(256, (16, 24, 3)) / 255
    light = torch.rand(16, 32, 3) * 1000
    for name in ("picture.png", "picture.webp", "picture.tif"):
        write_image(bench.folder / name, picture)
        _require(torch.equal(read_image(bench.folder / name), picture), f"{name} is not read as written")
    for name, tolerance in (("light.exr", 0.0), ("light.hdr", 0.01)):
        depth = "float" if name.endswith(".exr") else "half"
        write_env_map(bench.folder / name, light, bit_depth=depth)
        error = (read_env_map(bench.folder / name).radiance - light).abs() / light.amax(-1, keepdim=True)
        _require(bool(error.max() <= tolerance), f"{name} is not read as written")
    return "PNG, WebP, TIFF, OpenEXR, Radiance"


def check_data_set(bench: Bench) -> str:
    from training.data.check import check_folder
    from training.data.pairs import PairDataset
    from training.data.sphere_pairs import write_sphere_pairs

    write_sphere_pairs(bench.folder / "data", size=TINY_SIZE)
    check = check_folder(bench.folder / "data")
    _require(not check.findings, "; ".join(f"{f.name}: {f.problem}" for f in check.findings))
    splits = [len(PairDataset(bench.folder / "data", split)) for split in ("train", "test")]
    return f"{splits[0]} pairs to train on and {splits[1]} held out, all sound"


def check_training(bench: Bench) -> str:
    from accelerate import Accelerator

    from delit_models.checkpoint import load_wan_vae
    from delit_models.heads import DelitConfig, DelitHeads
    from delit_models.pipeline import EMBEDDED_VAE
    from training.heads.losses import HeadsLoss
    from training.heads.run_data import open_data
    from training.heads.settings import RunSettings
    from training.heads.trainer import TrainConfig, Trainer

    vae = load_wan_vae(EMBEDDED_VAE, bench.device)
    config = TrainConfig(batch_size=4, warm_up=1)
    engine = Accelerator(cpu=bench.device.type == "cpu")
    data = open_data(config, RunSettings("", [str(bench.folder / "data")], bench.folder), vae, engine)
    heads = DelitHeads(DelitConfig())
    loss = HeadsLoss(data.code, torch.tensor(heads.config.latent_std))
    trainer = Trainer(config, engine, heads, loss, steps=2)
    batch = data.source.batch(0)
    # Each step tells the loss that it found, so the second one's is what the first step left.
    before, after = (sum(trainer.train_step(batch).values()) for _ in range(2))
    _require(after < before, f"one step took the loss from {before:.4f} to {after:.4f}; it must fall")
    return f"one step took the loss from {before:.3f} to {after:.3f}"


def check_lora(bench: Bench) -> str:
    from delit_models.checkpoint import load_wan_vae
    from delit_models.decoder_lora import DecoderLora, with_lora
    from delit_models.heads_file import test_card
    from delit_models.pipeline import EMBEDDED_VAE
    from training.heads.lora import LoraDecoder

    vae = load_wan_vae(EMBEDDED_VAE, bench.device)
    decoder, card = LoraDecoder(vae, rank=2, seed=0), test_card().to(bench.device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3)
    z, errors = vae.encode(card), []
    for _ in range(2):
        optimizer.zero_grad()
        errors.append((decoder.decode(z) - card).square().mean())
        errors[-1].backward()
        optimizer.step()
    before, after = (error.item() for error in errors)
    _require(
        after < before, f"one step took the decoder's error from {before:.4f} to {after:.4f}; it must fall"
    )
    with torch.no_grad():
        off = with_lora(vae, DecoderLora.from_tensors(decoder.state_dict())).decode(z) - decoder.decode(z)
    _require(off.abs().max().item() < 1e-4, "the decoder is not the trained one when the LoRA is merged")
    return f"peft {_version('peft')}: one step took the decoder's error from {before:.4f} to {after:.4f}"


def check_generator(bench: Bench) -> str:
    missing = [name for name in GENERATOR_PACKAGES if not _version(name)]
    if missing:
        raise Skipped(f"{', '.join(missing)} not installed. Run scripts/set_up synth to generate data sets")
    from training.synth.render.mitsuba_runtime import start_mitsuba
    from training.synth.render.scene import scene_description

    mitsuba = start_mitsuba()
    grey = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.5}}
    ball = {"type": "sphere", "center": [0.0, 0.0, -6.0], "radius": 1.0, "bsdf": grey}
    # Its light is uniform and of radiance 1, so that the ball shows its albedo.
    scene = mitsuba.load_dict(scene_description(mitsuba, {"ball": ball}, field_of_view=24.0, image_size=16))
    shown = torch.from_numpy(np.array(mitsuba.render(scene, spp=64)))[4:12, 4:12, :3].mean().item()
    _require(abs(shown - 0.5) < 0.03, f"a ball of albedo 0.5 in even light shows {shown:.3f}")
    return (
        f"Mitsuba {_version('mitsuba')}, variant {mitsuba.variant()}: a grey ball is rendered as it must be"
    )


Check = Callable[[Bench], str]
CHECKS: dict[str, Check] = {
    "Packages": check_packages,
    "VAE": check_vae,
    "Heads": check_heads,
    "Light": check_light,
    "Files": check_files,
    "Data set": check_data_set,
    "Training": check_training,
    "LoRA": check_lora,
    "Generator": check_generator,
}


def verify(bench: Bench, checks: dict[str, Check]) -> list[str]:
    """Run the checks, print a line for each, and return the names of those that failed."""
    failed = []
    for name, check in checks.items():
        start = time.monotonic()
        try:
            # A line a part: the parts' own progress bars are kept out of it.
            with contextlib.redirect_stderr(io.StringIO()):
                told = check(bench)
            line = f"✓ {name}: {told} ({time.monotonic() - start:.1f} s)"
        except Skipped as reason:
            line = f"– {name}: {reason}"
        # Whatever is wrong with an installation is to be told, and the next part still looked at.
        except Exception as error:  # noqa: BLE001
            reason = " ".join(str(error).split()) or "no reason given"
            line = f"✗ {name}: {type(error).__name__}: {reason}"
            failed.append(name)
        print(line, flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.verify_modules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps… (cuda if there is one, else cpu)")
    parser.add_argument(
        "--report", action="store_true", help="print a bug report, in Markdown and without private names"
    )
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    if not options.report:
        return check_all(options.device)
    with contextlib.redirect_stdout(io.StringIO()) as told:
        status = check_all(options.device)
    print(report(PACKAGES + GENERATOR_PACKAGES, told.getvalue()))
    return status


def check_all(device_name: str | None) -> int:
    """Run all checks on a device and print what they find; returns the exit status."""
    start = time.monotonic()
    try:
        device = choose_device(device_name)
    except DelitError as error:
        print(f"✗ Device: {error}")
        return 1
    with tempfile.TemporaryDirectory(prefix="delit-verify-") as folder:
        failed = verify(Bench(Path(folder), device), CHECKS)
    if failed:
        print(f"\n{len(failed)} of {len(CHECKS)} parts do not work: {', '.join(failed)}.")
        return 1
    print(f"\nAll works ({time.monotonic() - start:.0f} s).")
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
