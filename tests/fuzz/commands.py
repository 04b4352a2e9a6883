"""The command lines with good and bad arguments, over folders with good and bad files in them.

A command ends with status 0, with 2 and argparse's usage, or with 1 and one line that begins with ✗. What was there
before stays as it was, unless --overwrite asks for another one, and no part of a file is left.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import strategies as st

from delit_models.env_map_files import read_env_map
from delit_models.image_files import read_image, write_image
from delit_models.pipeline import EMBEDDED_HEADS, DelitPipeline
from delit_models.plate_files import read_plate, write_plate
from training import check_dataset, delit, evaluate, load_wan_vae, make_shards
from training.batch import plan
from training.command_line import run_command
from training.make_shards import main as make_shards_main

from .command_lines import put_files, run_line
from .damage import damaged
from .datasets import sound_folder
from .harness import Case, Fault, Kind, files_below
from .picture_files import sound
from .tensors import cheap_pipeline
from .videos import sound_video
from .weights_files import sound_file


class _CheapWeights(DelitPipeline):
    """The shipped weights cost nothing here; others are loaded as they are."""

    @classmethod
    def load(cls, vae: Any, heads: Any, device: torch.device) -> DelitPipeline:
        if Path(heads) == EMBEDDED_HEADS and Path(vae).parent == EMBEDDED_HEADS.parent:
            return cheap_pipeline()
        return DelitPipeline.load(vae, heads, device)


@lru_cache
def furnished() -> dict[str, bytes]:
    """What lies in the folder that a command is run in, by name."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        generator = torch.Generator().manual_seed(3)
        picture = torch.rand(72, 64, 4, generator=generator)
        write_image(folder / "person.png", picture[..., :3])
        write_image(folder / "alpha.png", picture)
        write_image(folder / "person.jpg", picture[..., :3])
        write_image(folder / "small.png", picture[:20, :20, :3])
        write_image(folder / "pictures" / "one.png", picture[..., :3])
        write_image(folder / "pictures" / "two.webp", picture[..., :3])
        write_image(folder / "masks" / "one.png", picture[..., :1])
        for number in (1001, 1002):
            write_plate(folder / "shot" / f"plate.{number}.exr", picture[..., :3] * 9)
        (folder / "vae.safetensors").write_bytes(sound_file("vae"))
        (folder / "heads.safetensors").write_bytes(sound_file("heads"))
        (folder / "notes.txt").write_text("no picture")
        (folder / "fake.png").write_text("no picture")
        (folder / "fake.mp4").write_text("no video")
        (folder / "clip.mp4").write_bytes(sound_video("sound"))
        (folder / "there" / "person_flat.png").parent.mkdir()
        (folder / "there" / "person_flat.png").write_text("mine")
        (folder / "there" / "clip_flat.mp4").write_text("mine")
        (folder / "empty" / "nothing.txt").parent.mkdir()
        (folder / "empty" / "nothing.txt").touch()
        found = files_below(folder)
    data = {f"data/{name}": content for name, content in sound_folder().items()}
    shards = {f"shards/{name}": content for name, content in sound_folder(True).items()}
    return found | data | shards


_SOURCES = [
    *("person.png", "person.png", "person.jpg", "alpha.png", "small.png", "pictures", "pictures", "clip.mp4"),
    *(
        "shot/plate.####.exr",
        "shot/plate.1001.exr",
        "shot",
        ".",
        "empty",
        "notes.txt",
        "fake.png",
        "fake.mp4",
    ),
    *("nowhere", "", "no\nwhere", "shot/none.####.exr", "####", "\udcff.png", "x" * 300, "data", "/dev/null"),
]
_OUTPUTS = [
    *(
        "new",
        "new",
        "new/deep/er",
        "there",
        "person.png",
        "person.png/below",
        "pictures",
        "",
        "x" * 300,
        "no\nwhere",
    ),
    *("\udcff", "/proc/nothing", "/dev/null", "new "),
]
_NUMBERS = ["0", "1", "-1", "64", "100000000", "1e3", "nan", "inf", "", "x", "1.5", "９"]
_DEVICES = ["cpu", "cuda", "cuda:99", "meta", "nonsense", "", "mps", "cpu:1"]
_FILES = ["vae.safetensors", "heads.safetensors", "notes.txt", "nowhere", "", "pictures", "person.png"]

_OPTIONS: dict[str, dict[str, list[str] | None]] = {
    "delit": {
        "--vae": _FILES,
        "--heads": _FILES,
        "--mask": [
            "masks",
            "masks/one.png",
            "person.png",
            "nowhere",
            "notes.txt",
            "fake.png",
            "small.png",
            "",
        ],
        "--area": ["subject", "picture", "face"],
        "--outside": ["source", "black", "transparent", "white"],
        "--coding": ["sRGB", "linear Rec.709", "ACEScg", "log"],
        "--exposure": _NUMBERS,
        "--bit_depth": ["8", "16", "half", "float", "12"],
        "--gain": None,
        "--matte": None,
        "--working_size": _NUMBERS,
        "--no_detail_transfer": None,
        "--orientation": ["delit", "blender", "unreal", "maya"],
        "--env_pooling": ["shot", "frame", "none"],
        "--overwrite": None,
        "--device": _DEVICES,
        "--unknown": None,
    },
    "evaluate": {
        "--weights": ["embedded", *_FILES],
        "--wan_vae_checkpoint": _FILES,
        "--split": ["test", "train", "all"],
        "--limit": _NUMBERS,
        "--pictures": _NUMBERS,
        "--device": _DEVICES,
    },
    "check_dataset": {"--contact_sheet": [*_OUTPUTS, "new/sheet.jpg", "person.jpg", "new/sheet.xyz"]},
    "make_shards": {"--shard_size": _NUMBERS, "--also": ["mask", "albedo", "subject", "", "../x"]},
    "load_wan_vae": {"--device": _DEVICES},
}
_DATA = ["data", "data", "data", "shards", "nowhere", "", "pictures", "person.png", "\udcff", "empty"]
_FIXED: dict[str, dict[str, list[str]]] = {
    "delit": {"": _SOURCES, "--output": _OUTPUTS},
    "evaluate": {"--data_root": _DATA, "--report": _OUTPUTS},
    "check_dataset": {"": _DATA},
    "make_shards": {"": _DATA, "--output": _OUTPUTS},
    "load_wan_vae": {"--checkpoint": [*_FILES, "vae.safetensors", "clip.mp4"]},
}
_COMMANDS: dict[str, tuple[Any, Callable[[argparse.Namespace], None]]] = {
    "delit": (delit, delit.delit),
    "evaluate": (evaluate, evaluate.evaluate),
    "check_dataset": (check_dataset, check_dataset.check_dataset),
    "make_shards": (make_shards, make_shards_main),
    "load_wan_vae": (load_wan_vae, load_wan_vae.run),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    command = draw(st.sampled_from(["delit"] * 5 + sorted(_COMMANDS)))
    arguments: list[str] = []
    for flag, values in _FIXED[command].items():
        if draw(st.integers(0, 19)):
            # Most commands are meant well: the first values of each list are the usual ones.
            most = draw(st.sampled_from([2, len(values) - 1]))
            arguments += [*([flag] if flag else []), values[draw(st.integers(0, most))]]
    options = _OPTIONS[command]
    for flag in draw(st.lists(st.sampled_from(sorted(options)), unique=True, max_size=3)):
        arguments.append(flag)
        if options[flag] is not None:
            arguments.append(draw(st.sampled_from(options[flag])))
    changed: dict[str, bytes] = {}
    if not draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(furnished())))
        changed[name] = draw(damaged(furnished()[name]))[1]
    told = "".join(f"; {name} damaged" for name in changed)
    return Case(f"{command} {arguments}{told}", lambda folder: _run(command, arguments, changed, folder))


def _run(command: str, arguments: list[str], changed: dict[str, bytes], folder: Path) -> None:
    put_files(folder, furnished() | changed)
    before = files_below(folder)
    module, function = _COMMANDS[command]
    may_replace = "--overwrite" in arguments or "--contact_sheet" in arguments
    with _cheap():
        run_line(
            [command, *arguments],
            lambda: run_command(function, module.parse_arguments()),
            folder,
            lambda: _check_folder(folder, before, may_replace),
        )


@contextlib.contextmanager
def _cheap() -> Iterator[None]:
    kept = plan.DelitPipeline
    plan.DelitPipeline = evaluate.DelitPipeline = _CheapWeights
    try:
        yield
    finally:
        plan.DelitPipeline = evaluate.DelitPipeline = kept


def _check_folder(folder: Path, before: dict[str, bytes], may_replace: bool) -> None:
    after = files_below(folder)
    lost = [name for name in before if name not in after]
    replaced = [name for name in before if name in after and after[name] != before[name]]
    if lost or (replaced and not may_replace):
        raise Fault(f"a command lost or overwrote {(lost + replaced)[0]}")
    for name in after.keys() - before.keys():
        path = folder / name
        if path.name.startswith(".") or "partial" in name:
            raise Fault("a command left a part of a file")
        if path.suffix == ".png":
            sound(read_image(path), "a command's picture", 0, 1)
            if "_flat" in path.name and read_image(path)[..., :3].max() == 0:
                raise Fault("a command wrote a black picture")
        elif path.suffix == ".exr":
            values = read_env_map(path).radiance if "_env" in path.name else read_plate(path).pixels
            sound(values, "a command's EXR")


KIND = Kind("commands", cases(), 700, 40)
