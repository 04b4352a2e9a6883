"""A folder with what training starts from and goes on from: data sets, weights, and runs that were begun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import Tensor

from delit_models.env_map_files import write_env_map
from delit_models.heads import DelitConfig
from delit_models.image_files import write_image
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE, DelitPipeline
from delit_models.plate_files import write_plate
from tests.faults import generate_discs
from training import train_delit_wan, train_wan_vae
from training.heads import linear_code
from training.heads import run as heads_run
from training.heads.validation import Validation
from training.synth.dataset.captures import CAPTURE_FILE

from .command_lines import at, put_files
from .datasets import sound_folder
from .harness import files_below
from .weights_files import sound_file

TINY = {
    "feature_channels": 8,
    "extractor_widths": (8, 8, 8),
    "flat_width": 8,
    "env_token_width": 8,
    "env_query_blocks": 1,
    "env_context_grid": 4,
    "env_decoder_widths": (8, 8, 8, 8),
    "attention_heads": 2,
}
"""The shape of heads that train in a moment."""


class _WithoutPictures(Validation):
    """Measures, and draws nothing for the curves."""

    def pictures(self, pipe: DelitPipeline) -> Iterator[tuple[str, Tensor]]:
        return iter(())


@contextmanager
def quick_training() -> Iterator[None]:
    """Heads are tiny, a VAE's line is found on small pictures, and no pictures are drawn for the curves."""
    with (
        patch.object(heads_run, "DelitConfig", partial(DelitConfig, **TINY)),
        patch.object(heads_run, "Validation", _WithoutPictures),
        patch.object(linear_code, "_MADE_UP_SIZE", 40),
    ):
        yield


@lru_cache
def furnished_runs() -> dict[str, bytes]:
    """What lies in the folder that a command is run in, by name."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        put_files(folder, {f"data/{name}": content for name, content in sound_folder().items()})
        put_files(folder, {f"shards/{name}": content for name, content in sound_folder(True).items()})
        _put_pictures(folder)
        _put_captures(folder / "captures")
        put_files(folder, {"curved.safetensors": sound_file("vae")})
        with at(folder), quick_training():
            _make_runs()
        return files_below(folder)


@lru_cache
def shipped_weights() -> dict[str, bytes]:
    """The embedded VAE and heads, in a folder that verify_modules takes them from."""
    return {f"embedded/{file.name}": file.read_bytes() for file in (EMBEDDED_VAE, EMBEDDED_HEADS)}


def _put_pictures(folder: Path) -> None:
    """Pictures, photographs and folders of maps, with odd files among them."""
    generator = torch.Generator().manual_seed(3)
    picture = torch.rand(168, 164, 3, generator=generator)
    write_image(folder / "person.png", picture[:64, :64])
    write_image(folder / "pictures" / "one.png", picture[:64, :64])
    write_image(folder / "photographs" / "one.png", picture)
    for number in range(4):
        write_env_map(folder / "hdris" / f"sky{number}.exr", 2 * picture[:16, :32])
    write_env_map(folder / "one_hdri" / "sky.hdr", 2 * picture[:16, :32])
    (folder / "hdris" / "notes.txt").write_text("no map")


def _put_captures(folder: Path) -> None:
    """A person captured under six lights."""
    directions = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    lights = []
    for number, direction in enumerate(directions):
        write_plate(folder / "anna" / f"{number}.exr", torch.rand(16, 16, 3))
        lights.append({"file": f"{number}.exr", "direction": direction, "white": [1.0, 1.0, 1.0]})
    write_image(folder / "anna" / "mask.png", torch.ones(16, 16, 1))
    description = {"format_version": 1, "lights": lights, "encoding": "linear", "mask": "mask.png"}
    description |= {"field_of_view": 30.0}
    (folder / "anna" / CAPTURE_FILE).write_text(json.dumps(description))


def _make_runs() -> None:
    """In the working folder: a data set of discs, a VAE and its run, heads and theirs, each of a step or two."""
    discs = ["--output_dir", "made", "--num_subjects", "2", "--num_envs", "2", "--image_size", "64"]
    generate_discs.main([*discs, "--no_denoise", "--workers", "1"])
    vae = ["--data_root", "data", "--output", "own.safetensors", "--width", "12", "--crop", "16"]
    vae += ["--batch_size", "1", "--sharp", "0", "--steps", "1", "--device", "cpu"]
    with patch("sys.argv", ["train_wan_vae", *vae]):
        train_wan_vae.train(train_wan_vae.parse_arguments())
    Path("vae.safetensors").write_bytes(Path("own.safetensors").read_bytes())
    heads = ["--wan_vae_checkpoint", "vae.safetensors", "--data_root", "data", "--output_dir", "run"]
    heads += ["--batch_size", "2", "--num_epochs", "1", "--latent_variants", "1", "--workers", "0"]
    train_delit_wan.train(train_delit_wan.parse_arguments([*heads, "--device", "cpu"]))
    Path("heads.safetensors").write_bytes(Path("run/delit_heads.safetensors").read_bytes())
