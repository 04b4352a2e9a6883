"""The commands that make data sets and weights, with odd options over odd folders: generate_toy_dataset,
train_delit_wan, train_wan_vae and verify_modules.

All of it is real but for what takes minutes: discs stand for rendered people, heads are tiny, and a run is asked to
stop after a few steps, as by Ctrl-C. What was there before stays as it was, but for a run's own files, which are whole
whenever it ends; and a pair that an index counted is counted still.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from hypothesis import strategies as st

from delit_models import pipeline
from delit_models.checkpoint import load_wan_vae
from delit_models.heads_file import load_heads
from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE
from tests.faults.generate_discs import make_disc
from tests.faults.whole_files import content_of
from training import generate_toy_dataset, train_delit_wan, train_wan_vae, verify_modules
from training.command_line import run_command
from training.data.index import INDEX_FILE, PAIR_FILES, index_lines
from training.heads import run as heads_run
from training.loop.stopping import StopRequest
from training.synth.dataset import workers
from training.vae import run as vae_run

from .command_lines import put_files, run_line
from .damage import damaged, odd_json, to_json
from .furnished_runs import furnished_runs, quick_training, shipped_weights
from .harness import Case, Fault, Kind, files_below
from .picture_files import sound

_MOST_STEPS = 2
_QUICK_CHECKS = ("Packages", "VAE", "Heads", "Light", "Files", "Data set")

_NUMBERS = [
    "0",
    "1",
    "-1",
    "2",
    "64",
    "100000000",
    "1e3",
    "nan",
    "inf",
    "-inf",
    "",
    "x",
    "1.5",
    "９",
    "9" * 30,
]
_DEVICES = ["cpu", "cuda", "cuda:99", "meta", "nonsense", ""]
_PLACES = [
    *(
        "new",
        "new/deep/er",
        "person.png",
        "person.png/below",
        "pictures",
        "",
        "x" * 300,
        "no\nwhere",
        "\udcff",
    ),
    *(
        "/proc/nothing",
        "/dev/null",
        "new ",
        "made",
        "run",
        "data",
        "shards",
        "vae.training",
        "heads.safetensors",
    ),
]
_DATA = ["data", "shards", "made", "nowhere", "", "pictures", "person.png", "\udcff", "hdris", "run"]
_FILES = [
    *("vae.safetensors", "curved.safetensors", "heads.safetensors", "run/delit_heads.safetensors"),
    *("run/checkpoint.pt", "nowhere", "", "pictures", "person.png", "data/index.jsonl", "\udcff"),
]
_HDRIS = ["hdris", "one_hdri", "pictures", "nowhere", "", "person.png", "data", "\udcff"]
_NAMES = ["", "x" * 5000, "\udcff", "<b>", "a\nb", "\0"]

_OPTIONS: dict[str, dict[str, list[str] | None]] = {
    "generate_toy_dataset": {
        "--num_subjects": ["1", "3", *_NUMBERS],
        "--num_envs": ["1", "3", *_NUMBERS],
        "--image_size": ["64", "72", "60", *_NUMBERS],
        "--seed": _NUMBERS,
        "--samples_per_pixel": _NUMBERS,
        "--no_denoise": None,
        "--hdri_dir": _HDRIS,
        "--test_fraction": ["0.5", *_NUMBERS],
        "--preview": None,
        "--shards": ["new_shards", "shards", *_PLACES],
        "--olat": ["6", *_NUMBERS],
        "--keep_olat": None,
        "--olat_captures": ["captures", "captures", *_HDRIS],
        "--workers": _NUMBERS,
        "--device": _DEVICES,
    },
    "train_delit_wan": {
        "--wan_vae_checkpoint": _FILES,
        "--start_from": ["heads.safetensors", *_FILES],
        "--name": _NAMES,
        "--licence": _NAMES,
        **{
            f"--{name}": _NUMBERS
            for name in (
                *("batch_size", "accumulate", "num_epochs", "learning_rate", "cool_down", "latent_variants"),
                *("photographed", "lora_rank", "decoder_every", "seed", "minutes", "validate_every"),
                "validation_pairs",
            )
        },
        "--workers": ["-1", "", "x", "1.5", "nan", "100000000", "9" * 30],
        "--use_mask": None,
        "--freeze_vae": None,
        "--resume": None,
        "--finish": None,
        "--device": _DEVICES,
        "--mixed_precision": ["no", "bf16", "fp16", "fp8"],
    },
    "train_wan_vae": {
        "--start_from": _FILES,
        "--clips": None,
        "--hdri_dir": _HDRIS,
        "--photographs": ["photographs", *_HDRIS],
        **{
            f"--{name}": _NUMBERS
            for name in (
                *("sharp", "sharp_share", "width", "steps", "batch_size", "crop", "learning_rate"),
                *("cool_down", "minutes", "save_every", "test_every", "seed"),
            )
        },
        "--device": _DEVICES,
    },
    "verify_modules": {"--device": _DEVICES, "--report": None, "--unknown": None},
}
_FIXED: dict[str, dict[str, list[str]]] = {
    "generate_toy_dataset": {"--output_dir": ["made", "made", "new", *_PLACES]},
    "train_delit_wan": {"--data_root": _DATA, "--output_dir": ["new", "run", "new", *_PLACES]},
    "train_wan_vae": {
        "--data_root": _DATA,
        "--output": [
            *("own.safetensors", "new.safetensors", "own.safetensors", "vae.safetensors"),
            *("heads.safetensors", "new.pth", *_PLACES),
        ],
    },
    "verify_modules": {},
}
# What makes a command cheap, and its folder's own run go on; options that are drawn come later and count.
_MEANT_WELL: dict[str, list[str]] = {
    "generate_toy_dataset": ["--num_subjects", "2", "--num_envs", "2", "--image_size", "64", "--no_denoise"],
    "train_delit_wan": [
        *("--wan_vae_checkpoint", "vae.safetensors", "--batch_size", "2", "--num_epochs", "1"),
        *("--latent_variants", "1", "--workers", "0", "--device", "cpu"),
    ],
    "train_wan_vae": [
        *("--width", "12", "--crop", "16", "--batch_size", "1", "--sharp", "0", "--steps", "1"),
        *("--device", "cpu"),
    ],
    "verify_modules": ["--device", "cpu"],
}
# The files that are damaged for a command, by how their names begin, and what makes it read them.
_READ: dict[str, dict[str, tuple[str, ...]]] = {
    "generate_toy_dataset": {
        "made/": ("--output_dir", "made"),
        "hdris/": ("--hdri_dir", "hdris", "--output_dir", "new"),
        "captures/": ("--olat_captures", "captures", "--num_subjects", "1", "--output_dir", "new"),
    },
    "train_delit_wan": {
        "data/": ("--data_root", "data"),
        "run/": ("--output_dir", "run", "--resume"),
        "vae.safetensors": (),
        "heads.safetensors": ("--start_from", "heads.safetensors", "--output_dir", "new"),
    },
    "train_wan_vae": {
        "data/": ("--data_root", "data"),
        "own.": ("--output", "own.safetensors"),
        "vae.safetensors": ("--start_from", "vae.safetensors", "--output", "new.safetensors"),
        "photographs/": ("--photographs", "photographs", "--sharp", "1", "--output", "new.safetensors"),
        "hdris/": ("--hdri_dir", "hdris", "--sharp", "1", "--output", "new.safetensors"),
    },
    "verify_modules": {"embedded/": ()},
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    command = draw(st.sampled_from([*sorted(_OPTIONS), *("generate_toy_dataset", "train_delit_wan") * 2]))
    arguments = [*_MEANT_WELL[command]]
    for flag, values in _FIXED[command].items():
        # Not 0, which is drawn more often.
        if draw(st.integers(0, 19)) != 7:
            # Most commands are meant well: the first values of each list are the usual ones.
            most = draw(st.sampled_from([0, 0, 2, len(values) - 1]))
            arguments += [flag, values[draw(st.integers(0, most))]]
    options = _OPTIONS[command]
    most = draw(st.sampled_from([0, 1, 1, 3]))
    for flag in draw(st.lists(st.sampled_from(sorted(options)), unique=True, max_size=most)):
        values = options[flag]
        arguments += [flag] if values is None else [flag, draw(st.sampled_from(values))]
    if "run" in arguments and draw(st.integers(0, 3)):
        arguments.append("--resume")
    told, changed = "", {}
    if draw(st.integers(0, 2)) == 0:
        read = draw(st.sampled_from(sorted(_READ[command])))
        arguments += _READ[command][read]
        told, changed = draw(changes(read))
    return Case(f"{command} {arguments}{told}", lambda folder: _run(command, arguments, changed, folder))


@st.composite
def changes(draw: st.DrawFn, read: str) -> tuple[str, dict[str, bytes | None]]:
    """What was done to one or two of the files whose names begin so, and their new contents; None for one that is
    gone."""
    there = furnished_runs() | shipped_weights()
    names = [name for name in sorted(there) if name.startswith(read)]
    # Indices and descriptions lead to the rest.
    names += [name for name in names if name.endswith(("jsonl", "json"))] * 8
    told, changed = "", {}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        how = draw(st.sampled_from(["odd", "odd", "damaged", "gone", "moved"]))
        if how == "odd" and name.endswith(("jsonl", "json")):
            changed[name] = draw(_odd_lines(there[name], name.endswith("l")))
            told += f"; {name} is odd: {changed[name][:300]!r}"
        elif how == "gone":
            changed[name] = None
            told += f"; {name} is gone"
        elif how == "moved":
            other = draw(st.sampled_from(sorted(there)))
            changed[name] = there[other]
            told += f"; {other} in the place of {name}"
        else:
            done, changed[name] = draw(damaged(there[name]))
            told += f"; {name}: {done}"
    return told, changed


@st.composite
def _odd_lines(draw: st.DrawFn, content: bytes, by_lines: bool) -> bytes:
    """JSON, or lines of it, with something odd in one place."""
    if not by_lines:
        return to_json(draw(odd_json(json.loads(content)))).encode()
    lines = [json.loads(line) for line in content.decode().splitlines()]
    place = draw(st.integers(0, len(lines) - 1))
    lines[place] = draw(odd_json(lines[place]))
    return "".join(to_json(line) + "\n" for line in lines).encode()


def _run(command: str, arguments: list[str], changed: dict[str, bytes | None], folder: Path) -> None:
    files = furnished_runs() | (shipped_weights() if command == "verify_modules" else {}) | changed
    put_files(folder, {name: content for name, content in files.items() if content is not None})
    before, counted = files_below(folder), _counted(folder / "made")
    with _cheap(folder):
        run_line(
            [command, *arguments],
            _STARTS[command],
            folder,
            lambda: _check_folder(command, arguments, folder, before, counted),
        )


_STARTS: dict[str, Callable[[], int | None]] = {
    "generate_toy_dataset": generate_toy_dataset.main,
    "train_delit_wan": lambda: run_command(train_delit_wan.train, train_delit_wan.parse_arguments()),
    "train_wan_vae": lambda: run_command(train_wan_vae.train, train_wan_vae.parse_arguments()),
    "verify_modules": verify_modules.main,
}


class _SoonAsked(StopRequest):
    """Asks to stop after a few steps, so that a run of any length is a short one."""

    def __init__(self) -> None:
        self._steps = 0
        super().__init__()

    @property
    def asked(self) -> bool:
        self._steps += 1
        return self._steps > _MOST_STEPS

    @asked.setter
    def asked(self, value: bool) -> None:
        """A run's own beginning sets it; when it is asked is counted here."""


def _make_subject(config: object, variant: str, threads: int, work: workers.Work) -> list[dict]:
    make = make_disc if config.olat_captures is None else workers.make_subject
    return make(config, variant, threads, work)


@contextlib.contextmanager
def _cheap(folder: Path) -> Iterator[None]:
    # Accelerate keeps the precision of a process' first run for all later ones.
    AcceleratorState._reset_state(reset_partial_state=True)
    embedded = folder / "embedded"
    with contextlib.ExitStack() as stack:
        stack.enter_context(quick_training())
        for target, name, stand_in in (
            (generate_toy_dataset, "make_subject", _make_subject),
            (generate_toy_dataset, "local_records", lambda make, work, number: map(make, work)),
            (heads_run, "StopRequest", _SoonAsked),
            (vae_run, "StopRequest", _SoonAsked),
            (
                verify_modules,
                "CHECKS",
                {name: verify_modules.CHECKS[name] for name in _QUICK_CHECKS},
            ),
            (pipeline, "EMBEDDED_VAE", embedded / EMBEDDED_VAE.name),
            (pipeline, "EMBEDDED_HEADS", embedded / EMBEDDED_HEADS.name),
        ):
            stack.enter_context(patch.object(target, name, stand_in))
        yield


def _counted(folder: Path) -> set[tuple[str, str]]:
    """The pairs that a data set's index counts and whose files are all there."""
    if not (folder / INDEX_FILE).is_file():
        return set()
    try:
        lines = [line.entry for line in index_lines(folder) if not line.problem]
    except Exception:
        # Odd bytes: whoever reads it has to say so.
        return set()
    return {
        (line["subject"], line["env"])
        for line in lines
        if all((folder / line[key]).is_file() for key in PAIR_FILES if len(line[key]) < 200)
    }


# The files that a command's runs write again.
_OWN: dict[str, tuple[str, ...]] = {
    "generate_toy_dataset": ("dataset.json", INDEX_FILE, "contact_sheet.jpg"),
    "train_delit_wan": (
        *("checkpoint.pt", "checkpoint.previous.pt", "delit_heads.safetensors"),
        "delit_heads_last.safetensors",
    ),
    "train_wan_vae": ("checkpoint.pt", "checkpoint.previous.pt", "own.safetensors"),
    "verify_modules": (),
}


def _check_folder(
    command: str, arguments: list[str], folder: Path, before: dict[str, bytes], counted: set[tuple[str, str]]
) -> None:
    after = files_below(folder)
    # A name that is a folder's: only a run's own may be written in one that was there.
    lost = [name for name in before if name not in after]
    replaced = [name for name in before if name in after and after[name] != before[name]]
    foreign = [
        name
        for name in replaced
        if Path(name).name not in _OWN[command] and not _is_made_again(command, name, counted)
    ]
    if lost or foreign:
        raise Fault(f"{command} lost or overwrote {(lost + foreign)[0]}")
    if command == "generate_toy_dataset" and counted - _counted(folder / "made"):
        raise Fault(f"{command} no longer counts a pair that is whole")
    for name in [*(after.keys() - before.keys()), *replaced]:
        path = folder / name
        if path.name.startswith(".") or "partial" in name or "checkpoint.new" in name:
            raise Fault(f"{command} left a part of a file")
        try:
            content_of(path)
        except Exception as error:
            raise Fault(f"{command} left {path.name} that is not whole: {error}") from error
        if path.suffix == ".safetensors" and "latents-" not in name:
            _check_weights(path, command)


def _is_made_again(command: str, name: str, counted: set[tuple[str, str]]) -> bool:
    """Whether a file is one of a pair that no index counted, or shared by a person's pairs."""
    parts = Path(name).parts
    own = command == "generate_toy_dataset" and parts[:2] == ("made", "subjects")
    return own and (parts[2], Path(name).stem) not in counted


def _check_weights(path: Path, command: str) -> None:
    loaded = (
        load_heads(path).heads if command == "train_delit_wan" else load_wan_vae(path, torch.device("cpu"))
    )
    for name, tensor in loaded.state_dict().items():
        sound(tensor, f"{command}'s {name}")


KIND = Kind("trainers", cases(), 400, 20)
