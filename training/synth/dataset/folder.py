"""The dataset folder: who is rendered under what, written so that a killed run leaves only whole samples behind."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from delit_models.atomic_write import atomic_write
from delit_models.errors import DelitError
from delit_models.json_text import read_json
from delit_models.presence import is_file, is_there
from training.data.index import INDEX_FILE, index_lines
from training.synth.light.light_stage import FEWEST_LIGHTS
from training.synth.light.lights import ENV_HEIGHT, ENV_WIDTH, SHIPPED_HDRI_DIR
from training.synth.render.truth import TRUTH_CONVENTIONS

from .sources import is_listing, list_sources

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
DESCRIPTION_FILE = "dataset.json"
_FILE_KEYS = ("relit", "relit_linear", "flat", "mask", "env_map", *TRUTH_CONVENTIONS)
GENERATOR = "delit training.generate_toy_dataset 6"
MOST_SUBJECTS, MOST_ENVS = 100_000, 1000
"""What the names of folders and files have digits for."""


@dataclass(frozen=True)
class DatasetConfig:
    """One data set.

    image_size in pixels; samples_per_pixel of the relit pictures (flat-lit ones take as many again); denoise: take out
    what noise that leaves (denoise.py), which needs two equal halves: an odd number of samples is rounded up;
    test_fraction 0..1 of the subjects. olat: lights of the light stage that pictures are composed from
    (light_stage.py), 0 to render every picture by itself; keep_olat: store the pictures of the lights too, as
    subjects/<id>/olat/ (captures.py). olat_captures: folder of real captures to compose from instead of rendering.
    device: "cpu" or "cuda".
    """

    output_dir: Path
    num_subjects: int
    num_envs: int
    image_size: int = 256
    seed: int = 0
    samples_per_pixel: int = 16
    denoise: bool = True
    test_fraction: float = 0.12
    hdri_dir: Path = SHIPPED_HDRI_DIR
    olat: int = 0
    keep_olat: bool = False
    olat_captures: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("num_subjects", 1, MOST_SUBJECTS),
            ("num_envs", 1, MOST_ENVS),
            ("image_size", 64, 4096),
            ("seed", 0, 2**64 - 1),
            ("samples_per_pixel", 1, 65_536),
            ("olat", 0, 4096),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise DelitError(f"{name} is {value}; it must be {least} or more, and at most {most:,}.")
        if self.image_size % 8:
            raise DelitError(
                f"image_size is {self.image_size}; it must be a multiple of 8, as the VAE needs."
            )
        if not 0.0 <= self.test_fraction <= 1.0:
            raise DelitError(f"test_fraction is {self.test_fraction}; it must lie in 0..1.")
        if self.olat and self.olat < FEWEST_LIGHTS:
            raise DelitError(
                f"olat is {self.olat} lights; it must be {FEWEST_LIGHTS} or more, or 0 to render every "
                "picture by itself."
            )
        if self.keep_olat and not self.olat:
            raise DelitError("keep_olat keeps the pictures of the lights; say how many with olat.")
        if self.olat and self.olat_captures:
            raise DelitError("Captures bring their own lights: give olat or olat_captures, not both.")
        if self.device not in ("cpu", "cuda"):
            raise DelitError(f'device is {self.device!r}; it must be "cpu" or "cuda".')

    @property
    def samples_per_light(self) -> int:
        """Light paths per pixel and light: fewer than for a whole picture, which sums over many lights."""
        return max(4, round(self.samples_per_pixel / 4))

    @property
    def identity(self) -> dict[str, object]:
        """What must be equal for two runs to go on with the same folder. More subjects or envs may be asked for."""
        return {
            "generator": GENERATOR,
            "image_size": self.image_size,
            "seed": self.seed,
            "samples_per_pixel": self.samples_per_pixel,
            "denoise": self.denoise,
            "test_fraction": self.test_fraction,
            "olat": self.olat,
            "captured": self.olat_captures is not None,
        }


def subject_name(index: int) -> str:
    """Folder name of a subject."""
    return f"s{index:05d}"


def env_name(index: int) -> str:
    """File stem of a subject's environment."""
    return f"e{index:03d}"


def subject_split(index: int, test_fraction: float) -> str:
    """ "train" or "test"; test subjects are spread evenly, so that a run cut short has its share of them."""
    return "test" if int((index + 1) * test_fraction) > int(index * test_fraction) else "train"


def prepare_folder(config: DatasetConfig) -> None:
    """Writes dataset.json, or checks that the one already there is of the same data set and made from the same files.

    Raises DelitError when the folder holds a data set of other settings or sources, or one that this did not make.
    """
    path = config.output_dir / DESCRIPTION_FILE
    known = None
    if is_there(path):
        present = _read_description(path)
        _refuse_other_settings(config, present["settings"])
        known = present["sources"]
    elif is_there(config.output_dir / INDEX_FILE):
        raise DelitError(
            f"{config.output_dir} has an {INDEX_FILE} and no {DESCRIPTION_FILE}: it holds a data set that was not made "
            "by this command. Choose another --output_dir; training takes several data sets together."
        )
    sources = list_sources(config.hdri_dir, config.olat_captures, known)
    description = {
        "format_version": FORMAT_VERSION,
        "generator": GENERATOR,
        "seed": config.seed,
        "image_size": [config.image_size, config.image_size],
        "env_size": [ENV_WIDTH, ENV_HEIGHT],
        "num_subjects": config.num_subjects,
        "num_envs": config.num_envs,
        "settings": config.identity,
        "sources": sources,
        "conventions": {
            "images": "8-bit sRGB PNG",
            "relit_linear": "half-float EXR, linear Rec.709: relit before it was clipped and coded",
            "flat": "lit by uniform radiance 1, black outside the mask, multiplied by coverage at its edge",
            "mask": "8-bit coverage of the subject",
            "light": "olat 0: rendered under its env; N: composed of pictures of N lights, and env is what they make",
            "env": "half-float EXR lat-long, linear Rec.709, camera frame (+X right, +Y up, looking along -Z, centre "
            "straight ahead), image-referred: a mirror that shows radiance 1 has linear pixel value 1",
            **TRUTH_CONVENTIONS,
        },
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n")


def _read_description(path: Path) -> dict[str, dict]:
    """The settings and sources of a folder that was begun. Raises DelitError for a description of another kind."""
    try:
        present = read_json(path)
    except ValueError as error:
        raise DelitError(
            f"{path} cannot be read ({error}). Repair it, or choose another --output_dir."
        ) from error
    settings, sources = (
        present.get(key) if isinstance(present, dict) else None for key in ("settings", "sources")
    )
    # Of another data set, if it says nothing of its settings.
    settings = settings if isinstance(settings, dict) else {}
    if settings and not is_listing(sources):
        raise DelitError(
            f"{path} does not list the files that the data set is made from. Repair it, or choose another --output_dir."
        )
    return {"settings": settings, "sources": sources}


def _refuse_other_settings(config: DatasetConfig, present: dict[str, object]) -> None:
    differing = {
        key: (present.get(key), value) for key, value in config.identity.items() if present.get(key) != value
    }
    if differing:
        listed = ", ".join(f"{key} is {old}, asked for {new}" for key, (old, new) in differing.items())
        raise DelitError(
            f"{config.output_dir} holds another data set ({listed}). Choose another --output_dir."
        )


def capture_of_subject(config: DatasetConfig, index: int) -> Path:
    """The lights.json of a captured subject, by the order that prepare_folder has written down."""
    sources = read_json(config.output_dir / DESCRIPTION_FILE)["sources"]
    return config.olat_captures / sources["captures"][index]


def read_index(output_dir: Path) -> list[dict]:
    """The records of index.jsonl, whole lines only; empty when there is no index."""
    if not is_there(output_dir / INDEX_FILE):
        return []
    lines = list(index_lines(output_dir))
    if any(line.problem for line in lines):
        logger.warning(
            "%s has a broken line, left by an interrupted run; its sample is made again.",
            output_dir / INDEX_FILE,
        )
    return [line.entry for line in lines if not line.problem]


def files_are_there(output_dir: Path, record: dict) -> bool:
    """Whether all files that an index line names exist. Lines from before a kind of file was written do not name it."""
    named = [record[key] for key in _FILE_KEYS if key in record]
    return all(isinstance(name, str) and is_file(output_dir / name) for name in named)


def repair_index(output_dir: Path) -> set[tuple[str, str]]:
    """Drops index lines that are broken, double, or whose files are missing; returns the (subject, env) that stay."""
    kept: dict[tuple[str, str], dict] = {}
    records = read_index(output_dir)
    for record in records:
        if files_are_there(output_dir, record):
            kept[record["subject"], record["env"]] = record
    path = output_dir / INDEX_FILE
    text = "".join(json.dumps(record) + "\n" for record in kept.values())
    if is_there(path) and path.read_text(encoding="utf-8") != text:
        with atomic_write(path) as temporary:
            temporary.write_text(text)
    return set(kept)


def append_index(output_dir: Path, records: list[dict]) -> None:
    """Adds whole lines to the index, in one write. Raises DelitError where they cannot be written; a line that was cut
    short is taken out when the run goes on (`repair_index`)."""
    path = output_dir / INDEX_FILE
    try:
        with open(path, "a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DelitError(
            f"Cannot write {path}: {error.strerror}. What was finished before is kept: make room on the disk, and the "
            "same command goes on."
        ) from error


def remove_unfinished_files(output_dir: Path, subjects: Iterable[int]) -> None:
    """Removes what a killed run had begun to write of these subjects; for the run that makes them now."""
    for subject in subjects:
        # Hidden files there are atomic_write's.
        for file in (output_dir / "subjects" / subject_name(subject)).rglob(".*"):
            file.unlink(missing_ok=True)


def missing_work(config: DatasetConfig, done: set[tuple[str, str]]) -> list[tuple[int, list[int]]]:
    """What is still to render: (subject index, its env indices), in order."""
    work = []
    # Of most, nothing is done: they share one list.
    begun, all_envs = {subject for subject, _ in done}, list(range(config.num_envs))
    for subject in range(config.num_subjects):
        name, envs = subject_name(subject), all_envs
        if name in begun:
            envs = [env for env in all_envs if (name, env_name(env)) not in done]
        if envs:
            work.append((subject, envs))
    return work
