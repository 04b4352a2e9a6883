"""Is a data set folder what training takes it for? Every file, every pair, and the splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from einops import rearrange
from torch import Tensor

from delit_models.color import luminance, srgb_to_linear
from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.image_files import read_image
from delit_models.images import MIN_SIDE, VAE_STRIDE
from delit_models.lat_long import direction_grid, resample_env
from delit_models.oiio_files import HDR_FORMATS, read_pixels
from delit_models.presence import is_file
from training.heads.losses import ENV_HEIGHT, ENV_WIDTH, NORMALS_HEIGHT, irradiance

from .index import INDEX_FILE, PAIR_FILES, index_lines
from .truth_check import TRUTH_FILES, TruthCheck, check_truth

SPLITS = ("train", "test")
SMALLEST_SUBJECT = 0.01
"""Share of the picture that a mask must cover for a subject to be there."""

DARKEST, BRIGHTEST = 0.002, 0.98
"""Mean linear luminance of a subject that can be worked with: less is black, more is burnt out."""

UNITS_TOLERANCE = 3.0
"""Stops by which a subject may be off its flat-lit picture times the light from the front. Good pairs are within one;
another unit (nits, 0–255, an env of another exposure) is off by far more."""


@dataclass(frozen=True)
class Finding:
    """Something wrong: with what (subject/env, or a place in the index), and what to do about it."""

    name: str
    problem: str


@dataclass(frozen=True)
class DatasetCheck:
    """What was found in a folder: all readable index lines, those of them without a fault, and the faults."""

    records: list[dict]
    sound: list[dict]
    findings: list[Finding]


def check_folder(root: Path, progress: Callable[[list], Iterator] = iter) -> DatasetCheck:
    """Check a whole data set folder.

    Args:
        progress: wraps the list of records that is worked through, such as tqdm.

    Raises:
        DelitError: if there is no index to go by.
    """
    records, findings = read_records(root)
    pairs = PairChecker(root)
    faults: list[Finding] = []
    for record in progress(records):
        faults += [Finding(name_of(record), problem) for problem in pairs.problems(record)]
    faults += other_sizes(pairs.sizes)
    broken = {fault.name for fault in faults}
    findings += faults + shared_between_splits(records, pairs.env_digests)
    return DatasetCheck(records, [r for r in records if name_of(r) not in broken], findings)


def name_of(record: dict) -> str:
    """How a pair is called in messages."""
    return f"{record['subject']}/{record['env']}"


def read_records(root: Path) -> tuple[list[dict], list[Finding]]:
    """The index's usable lines, and what is wrong with the others."""
    if not is_file(root / INDEX_FILE) and any(root.glob("*.tar")):
        raise DelitError(
            f"{root} holds shards, and no {INDEX_FILE}. Check the data set folder before packing it: "
            "python -m training.check_dataset FOLDER; what training.make_shards then packs is the same, byte for byte."
        )
    records: list[dict] = []
    findings: list[Finding] = []
    names: set[str] = set()
    for line in index_lines(root):
        problem = line.problem or _problem_of(line.entry, names)
        if problem:
            findings.append(Finding(f"{INDEX_FILE} line {line.number}", problem))
        else:
            records.append(line.entry)
            names.add(name_of(line.entry))
    if not records and not findings:
        findings.append(Finding(INDEX_FILE, "it lists no pair"))
    return records, findings


def _problem_of(record: dict, names: set[str]) -> str:
    """What is wrong with a line that can be read, after lines of pairs of these names."""
    if record["split"] not in SPLITS:
        return f"its split is “{record['split']}”; it must be one of {', '.join(SPLITS)}"
    return f"{name_of(record)} is listed twice; remove one of the lines" if name_of(record) in names else ""


class PairChecker:
    """Checks pairs one by one, and keeps on the way what can be compared only when all have been seen.

    Attributes:
        env_digests: of every map's file, by the pair's name.
        sizes: (height, width) of the pictures of every pair that training could take alone, by the pair's name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env_digests: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        # A subject's pairs follow each other, and share two pictures.
        self.read = lru_cache(maxsize=4)(self._read)
        # They share albedo, normals and depth, too, of which only what was found is kept.
        self.truth = cache(self._truth)

    def problems(self, record: dict) -> list[str]:
        """What is wrong with one pair; nothing if it can be trained on."""
        named = [*PAIR_FILES, *(key for key in TRUTH_FILES if key in record)]
        missing = [key for key in named if not self._is_there(record[key])]
        if missing:
            return [f"{key}: there is no file {record[key]}" for key in missing]
        pictures, problems = self._pictures(record)
        env, env_problems = self._env(record)
        problems += env_problems
        if not problems:
            problems = picture_problems(pictures) or units_problems(pictures, env)
        return problems + self._truth_problems(record)

    def _is_there(self, name: object) -> bool:
        return isinstance(name, str) and is_file(self.root / name)

    def _pictures(self, record: dict) -> tuple[dict[str, Tensor], list[str]]:
        """Relit, flat [3, H, W] and mask [1, H, W], or why one of them cannot be had."""
        pictures, problems = {}, []
        for key in ("relit", "flat", "mask"):
            found = self.read(record[key])
            if isinstance(found, str):
                problems.append(f"{key}: {found}")
            elif key != "mask" and found.shape[0] < 3:
                problems.append(f"{key}: it is grey; it must be in colour")
            else:
                pictures[key] = found[:1] if key == "mask" else found[:3]
        sizes = {key: tuple(picture.shape[-2:]) for key, picture in pictures.items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{key} {told_size(size)}" for key, size in sizes.items())
            problems.append(f"its pictures differ in size ({told}); make them equal")
        elif sizes:
            problems += size_problems(next(iter(sizes.values())))
        if not problems:
            self.sizes[name_of(record)] = sizes["relit"]
        return pictures, problems

    def _read(self, name: str) -> Tensor | str:
        """A picture [C, H, W], or why it cannot be read."""
        try:
            return rearrange(read_image(self.root / name), "h w c -> c h w")
        except DelitError as error:
            return str(error)

    def _truth_problems(self, record: dict) -> list[str]:
        """What is wrong with the albedo, normals and depth that a line names, which are as large as its pictures."""
        problems = []
        size = self.sizes.get(name_of(record))
        for kind in TRUTH_FILES:
            if kind not in record:
                continue
            found = self.truth(kind, record[kind])
            problems += found.problems
            if size and found.size and found.size != size:
                problems.append(f"{kind}: it is {told_size(found.size)}, the pictures {told_size(size)}")
        return problems

    def _truth(self, kind: str, name: str) -> TruthCheck:
        return check_truth(kind, self.root / name)

    def _env(self, record: dict) -> tuple[Tensor | None, list[str]]:
        """The map [3, 128, 256], as training reads it, or what is wrong with the file."""
        path = self.root / record["env_map"]
        self.env_digests[name_of(record)] = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            # Not read_env_map, which repairs what is to be found here.
            image = read_pixels(path)
        except DelitError as error:
            return None, [f"env_map: {error}"]
        problems = env_problems(image.pixels[..., :3], image.format_name)
        if problems:
            return None, [f"env_map: {problem}" for problem in problems]
        radiance = resample_env(read_env_map(path).radiance, ENV_HEIGHT, ENV_WIDTH)
        return rearrange(radiance, "h w c -> c h w"), []


def told_size(size: tuple[int, int]) -> str:
    """(height, width) as people say it: width first."""
    return f"{size[1]}×{size[0]}"


def size_problems(size: tuple[int, int]) -> list[str]:
    """Why the VAE cannot take pictures of (height, width)."""
    if min(size) < MIN_SIDE:
        return [f"its pictures are smaller than {MIN_SIDE} pixels on a side"]
    if any(side % VAE_STRIDE for side in size):
        return [
            f"its pictures are {told_size(size)}; their sides must be multiples of {VAE_STRIDE}: scale or crop them"
        ]
    return []


def other_sizes(sizes: dict[str, tuple[int, int]]) -> list[Finding]:
    """Pairs of another size than most, which training cannot stack with the others."""
    if not sizes:
        return []
    common, count = Counter(sizes.values()).most_common(1)[0]
    return [
        Finding(
            name,
            f"its pictures are {told_size(size)}, those of {count} of {len(sizes)} pairs {told_size(common)}; training "
            "takes one size: scale or crop them",
        )
        for name, size in sizes.items()
        if size != common
    ]


def env_problems(pixels: np.ndarray, format_name: str) -> list[str]:
    """What is wrong with an environment map's file, given its pixels [H, W, C] as stored."""
    problems = []
    height, width, channels = pixels.shape
    if format_name not in HDR_FORMATS:
        problems.append(f"it is a {format_name} picture without high dynamic range; write .exr or .hdr")
    if channels < 3:
        problems.append(f"it has {channels} channels; it must have R, G and B")
    if width != 2 * height:
        problems.append(f"it is {width}×{height}; a lat-long is exactly twice as wide as high")
    unusable = int((~np.isfinite(pixels)).sum())
    if unusable:
        problems.append(f"{unusable} values are NaN or infinite")
    negative = int((pixels < 0).sum())
    if negative:
        problems.append(
            f"{negative} values are negative (the least is {np.nanmin(pixels):.3g}); light is not"
        )
    if not unusable and not negative and pixels.max() == 0:
        problems.append("it is black: no light at all")
    return problems


def picture_problems(pictures: dict[str, Tensor]) -> list[str]:
    """Masks without a subject, and subjects that are black or burnt out."""
    covered = pictures["mask"].mean().item()
    if covered < SMALLEST_SUBJECT:
        return [f"mask: it covers {100 * covered:.2g}% of the picture; paint the subject white"]
    problems = []
    for key in ("relit", "flat"):
        brightness = _mean_luminance(pictures[key], pictures["mask"])
        if not DARKEST < brightness < BRIGHTEST:
            what = "black" if brightness <= DARKEST else "burnt out"
            problems.append(f"{key}: the subject is {what} (mean linear luminance {brightness:.3g})")
    return problems


def units_problems(pictures: dict[str, Tensor], env: Tensor) -> list[str]:
    """An environment that is not in the picture's own units: a subject shows about its flat-lit picture times the
    light that arrives from the front."""
    relit, flat = (_mean_luminance(pictures[key], pictures["mask"]) for key in ("relit", "flat"))
    expected = flat * _light_from_the_front(env)
    if min(relit, expected) <= 0:
        return []
    stops = float(np.log2(relit / expected))
    if abs(stops) <= UNITS_TOLERANCE:
        return []
    return [
        f"env_map: the relit subject is {2.0**stops:.3g} times as bright as its flat-lit picture and this light make "
        "it. Write the light in the picture's units: radiance 1 is what a mirror shows as linear 1"
    ]


def _mean_luminance(picture: Tensor, mask: Tensor) -> float:
    light = luminance(srgb_to_linear(picture), dim=0) * mask[0]
    return (light.sum() / mask.sum()).item()


def _light_from_the_front(env: Tensor) -> float:
    """Mean irradiance luminance over surfaces that face the camera, weighted by how much it sees of them."""
    arriving = luminance(irradiance(env[None])[0], dim=0)
    seen = direction_grid(NORMALS_HEIGHT, 2 * NORMALS_HEIGHT)[..., 2].clamp(min=0).flatten()
    return ((arriving * seen).sum() / seen.sum()).item()


def shared_between_splits(records: list[dict], env_digests: dict[str, str]) -> list[Finding]:
    """Subjects, HDRIs and identical maps that are in both splits: held-out figures would be too good."""
    findings = []
    kinds: dict[str, Callable[[dict], str | None]] = {
        "subject": lambda record: record["subject"],
        "HDRI": _hdri,
        "environment map file": lambda record: env_digests.get(name_of(record)),
    }
    for kind, key_of in kinds.items():
        first: dict[str, dict[str, str]] = {}
        for record in records:
            if (key := key_of(record)) is not None:
                first.setdefault(key, {}).setdefault(record["split"], name_of(record))
        findings += [
            Finding(
                "splits", f"the same {kind} is in both: {pairs['train']} (train) and {pairs['test']} (test)"
            )
            for pairs in first.values()
            if len(pairs) > 1
        ]
    return findings


def _hdri(record: dict) -> str | None:
    """The HDRI that lit a pair, where the index tells: generated data does."""
    light = record.get("light")
    if not isinstance(light, dict) or light.get("kind") != "hdri":
        return None
    return str(light["source"]) if "source" in light else None
