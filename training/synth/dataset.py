"""The dataset folder: who is rendered under what, written so that a killed run leaves only whole samples behind."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from delit_models.atomic_write import atomic_write
from delit_models.color import linear_to_srgb, srgb_to_linear
from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_env_map, write_image
from delit_models.lat_long import direction_grid, sample_env, solid_angles

from .lights import ENV_HEIGHT, ENV_WIDTH, SHIPPED_HDRI_DIR, Light, camera_rotation, sample_light
from .scene import SubjectScene
from .subject import SampledSubject, sample_subject

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
GENERATOR = "delit training.generate_toy_dataset 1"
_LARGEST_HALF = 65504.0
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class DatasetConfig:
    """One data set. image_size in pixels; samples_per_pixel of the relit pictures (flat-lit ones take as many again);
    test_fraction 0..1 of the subjects."""

    output_dir: Path
    num_subjects: int
    num_envs: int
    image_size: int = 256
    seed: int = 0
    samples_per_pixel: int = 48
    test_fraction: float = 0.12
    hdri_dir: Path = SHIPPED_HDRI_DIR

    def __post_init__(self) -> None:
        for name, least in (
            ("num_subjects", 1),
            ("num_envs", 1),
            ("image_size", 32),
            ("samples_per_pixel", 1),
        ):
            if getattr(self, name) < least:
                raise DelitError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if self.image_size % 8:
            raise DelitError(
                f"image_size is {self.image_size}; it must be a multiple of 8, as the VAE needs."
            )
        if not 0.0 <= self.test_fraction <= 1.0:
            raise DelitError(f"test_fraction is {self.test_fraction}; it must lie in 0..1.")

    @property
    def identity(self) -> dict[str, object]:
        """What must be equal for two runs to go on with the same folder. More subjects or envs may be asked for."""
        return {
            "image_size": self.image_size,
            "seed": self.seed,
            "samples_per_pixel": self.samples_per_pixel,
            "test_fraction": self.test_fraction,
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
    """Writes dataset.json, or checks that the one already there is of the same data set.

    Raises DelitError when the folder holds a data set of other settings.
    """
    path = config.output_dir / "dataset.json"
    if path.exists():
        present = json.loads(path.read_text())
        differing = {
            key: (present.get("settings", {}).get(key), value)
            for key, value in config.identity.items()
            if present.get("settings", {}).get(key) != value
        }
        if differing:
            listed = ", ".join(f"{key} is {old}, asked for {new}" for key, (old, new) in differing.items())
            raise DelitError(
                f"{config.output_dir} holds another data set ({listed}). Choose another --output_dir."
            )
    description = {
        "format_version": FORMAT_VERSION,
        "generator": GENERATOR,
        "seed": config.seed,
        "image_size": [config.image_size, config.image_size],
        "env_size": [ENV_WIDTH, ENV_HEIGHT],
        "num_subjects": config.num_subjects,
        "num_envs": config.num_envs,
        "settings": config.identity,
        "conventions": {
            "images": "8-bit sRGB PNG",
            "flat": "lit by uniform radiance 1, black outside the mask, multiplied by coverage at its edge",
            "mask": "8-bit coverage of the subject",
            "env": "half-float EXR lat-long, linear Rec.709, camera frame (+X right, +Y up, looking along -Z, centre "
            "straight ahead), image-referred: a mirror that shows radiance 1 has linear pixel value 1",
        },
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n")


def read_index(output_dir: Path) -> list[dict]:
    """The records of index.jsonl, whole lines only; empty when there is no index."""
    path = output_dir / "index.jsonl"
    if not path.exists():
        return []
    records = []
    for line in path.read_text().split("\n"):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if line.strip():
                logger.warning(
                    "%s has a broken line, left by an interrupted run; its sample is made again.", path
                )
    return records


def repair_index(output_dir: Path) -> set[tuple[str, str]]:
    """Drops index lines that are broken, double, or whose files are missing; returns the (subject, env) that stay."""
    kept: dict[tuple[str, str], dict] = {}
    records = read_index(output_dir)
    for record in records:
        files = [output_dir / record[key] for key in ("relit", "flat", "mask", "env_map")]
        if all(file.is_file() for file in files):
            kept[record["subject"], record["env"]] = record
    path = output_dir / "index.jsonl"
    text = "".join(json.dumps(record) + "\n" for record in kept.values())
    if path.exists() and path.read_text() != text:
        with atomic_write(path) as temporary:
            temporary.write_text(text)
    return set(kept)


def append_index(output_dir: Path, records: list[dict]) -> None:
    """Adds whole lines to the index, in one write."""
    with open(output_dir / "index.jsonl", "a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))
        file.flush()
        os.fsync(file.fileno())


def missing_work(config: DatasetConfig, done: set[tuple[str, str]]) -> list[tuple[int, list[int]]]:
    """What is still to render: (subject index, its env indices), in order."""
    work = []
    for subject in range(config.num_subjects):
        envs = [env for env in range(config.num_envs) if (subject_name(subject), env_name(env)) not in done]
        if envs:
            work.append((subject, envs))
    return work


def render_subject(
    mi: ModuleType, config: DatasetConfig, subject_index: int, envs: list[int]
) -> Iterator[dict]:
    """Renders a subject's flat-lit picture and the given envs, writes their files, and yields an index record a pair.

    Every random number comes from (seed, subject, env), so a sample does not depend on who renders it or when.
    """
    rng = np.random.default_rng([config.seed, subject_index])
    sampled = sample_subject(rng, max(1.0, config.image_size / 256))
    scene = SubjectScene(mi, sampled.subject, sampled.framing, config.image_size, rng)
    folder = f"subjects/{subject_name(subject_index)}"
    ones = np.ones((ENV_HEIGHT, ENV_WIDTH, 3), np.float32)
    flat = scene.render(ones, config.samples_per_pixel, _render_seed(config.seed, subject_index, 0))
    _write_linear(config.output_dir / folder / "flat.png", flat[..., :3])
    coverage = np.clip(flat[..., 3:], 0.0, 1.0)
    write_image(config.output_dir / folder / "mask.png", torch.from_numpy(coverage))
    split = subject_split(subject_index, config.test_fraction)
    for env in envs:
        env_rng = np.random.default_rng([config.seed, subject_index, env, 1])
        level_to_camera = camera_rotation(sampled.framing.pitch, sampled.framing.roll)
        light = sample_light(env_rng, split, config.hdri_dir, level_to_camera)
        image = scene.render(
            light.radiance, config.samples_per_pixel, _render_seed(config.seed, subject_index, env + 1)
        )
        taken = photograph(image, flat, light.radiance, sampled.framing.field_of_view, env_rng)
        record = _record(sampled, folder, subject_index, env, split, light, taken)
        _write_linear(config.output_dir / record["relit"], taken.relit)
        write_env_map(config.output_dir / record["env_map"], torch.from_numpy(taken.radiance))
        yield record


@dataclass(frozen=True)
class Photograph:
    """A picture as exposed, before what is behind the subject.

    Attributes:
        relit: [S, S, 3] linear, not clipped.
        radiance: the env in the picture's own units, [H, W, 3].
        exposure: what picture and env were multiplied by.
        background: "environment" or "backdrop".
    """

    relit: np.ndarray
    radiance: np.ndarray
    exposure: float
    background: str


def photograph(
    image: np.ndarray,
    flat: np.ndarray,
    radiance: np.ndarray,
    field_of_view: float,
    rng: np.random.Generator,
) -> Photograph:
    """Exposes a rendered foreground and its light together, and puts something behind it.

    image and flat: [S, S, 4], linear, multiplied by coverage, and the coverage; radiance: [H, W, 3].
    """
    exposure = choose_exposure(image, flat, radiance, rng)
    radiance = radiance * np.float32(exposure)
    # Exposure is of light; what the subject covers stays what it is.
    exposed = np.concatenate([image[..., :3] * np.float32(exposure), image[..., 3:]], axis=-1)
    relit, background = composite(exposed, radiance, field_of_view, rng)
    return Photograph(relit, radiance, exposure, background)


def _record(
    sampled: SampledSubject, folder: str, subject_index: int, env: int, split: str, light: Light, taken: Photograph
) -> dict:  # fmt: skip
    framing = asdict(sampled.framing) | {"field_of_view": sampled.framing.field_of_view}
    return {
        "subject": subject_name(subject_index),
        "env": env_name(env),
        "split": split,
        "relit": f"{folder}/relit/{env_name(env)}.png",
        "flat": f"{folder}/flat.png",
        "mask": f"{folder}/mask.png",
        "env_map": f"{folder}/env/{env_name(env)}.exr",
        "light": {"kind": light.kind, "source": light.source, "exposure": round(float(taken.exposure), 5)},
        "background": taken.background,
        "framing": framing,
        "person": {
            "tone_group": sampled.skin.tone_group,
            "melanin": round(sampled.skin.melanin, 4),
            "hair": sampled.hair.kind,
            "hair_colour": sampled.hair.colour_name,
            "expression": sampled.shape.expression,
            "age": round(sampled.shape.phenotype["age"], 3),
            "gender": round(sampled.shape.phenotype["gender"], 3),
        },
    }


def _render_seed(seed: int, subject: int, picture: int) -> int:
    """A 31-bit seed for the renderer."""
    return int(np.random.SeedSequence([seed, subject, picture, 2]).generate_state(1)[0] >> 1)


def _write_linear(path: Path, linear: np.ndarray) -> None:
    write_image(path, linear_to_srgb(torch.from_numpy(np.clip(linear, 0.0, 1.0))))


def choose_exposure(
    image: np.ndarray, flat: np.ndarray, radiance: np.ndarray, rng: np.random.Generator
) -> float:
    """A photographer's exposure for a rendered foreground: the factor on light and picture alike.

    The subject's mean luminance goes to about 0.18, less for dark and more for light subjects, with a spread of half
    a stop and a bit, within 0.04..0.5; bright parts are mostly kept below clipping. image and flat [S, S, 4] linear.
    """
    coverage = flat[..., 3]
    total = max(float(coverage.sum()), 1.0)
    lit = float((image[..., :3] @ _LUMINANCE).sum()) / total
    albedo = float((flat[..., :3] @ _LUMINANCE).sum()) / total
    target = 0.18 * (max(albedo, 0.02) / 0.25) ** 0.55 * 2.0 ** rng.normal(0.0, 0.6)
    exposure = np.clip(target, 0.04, 0.5) / max(lit, 1e-5)
    subject_pixels = (image[..., :3] @ _LUMINANCE)[coverage > 0.9]
    if subject_pixels.size:
        bright = float(np.quantile(subject_pixels, 0.97)) * exposure
        exposure *= min(1.0, rng.uniform(0.8, 1.6) / max(bright, 1e-5))
    return float(min(exposure, _LARGEST_HALF / max(float(radiance.max()), 1e-6)))


def composite(
    image: np.ndarray, radiance: np.ndarray, field_of_view: float, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Puts a rendered foreground [S, S, 4] over what the camera sees behind it: the environment itself, or a backdrop
    that the same light falls on. Returns (linear [S, S, 3], kind of background)."""
    size = image.shape[0]
    if rng.random() < 0.62:
        behind = sample_env(torch.from_numpy(radiance), view_directions(size, field_of_view)).numpy()
        kind = "environment"
    else:
        behind = _backdrop(size, radiance, rng)
        kind = "backdrop"
    return image[..., :3] + (1.0 - np.clip(image[..., 3:], 0.0, 1.0)) * behind, kind


def view_directions(size: int, field_of_view: float) -> torch.Tensor:
    """Unit view direction [S, S, 3] of every pixel of a square camera, camera axes."""
    half = np.tan(np.radians(field_of_view) / 2)
    across = (torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1
    x, y = torch.meshgrid(across * half, -across * half, indexing="xy")
    return torch.nn.functional.normalize(torch.stack([x, y, -torch.ones_like(x)], dim=-1), dim=-1)


def _backdrop(size: int, radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A paper backdrop: its albedo times the irradiance on a wall that faces the camera, with soft unevenness."""
    cosine = direction_grid(ENV_HEIGHT, ENV_WIDTH)[..., 2].clamp(min=0) * solid_angles(ENV_HEIGHT, ENV_WIDTH)
    irradiance = (torch.from_numpy(radiance) * cosine[..., None]).sum((0, 1)).numpy()
    albedo = rng.uniform(0.05, 0.75) * rng.uniform(0.75, 1.15, 3)
    if rng.random() < 0.35:
        albedo = rng.uniform(0.05, 0.6, 3)
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    falloff = (
        1.0
        + rng.uniform(-0.35, 0.35) * x
        + rng.uniform(-0.35, 0.35) * y
        - rng.uniform(0, 0.25) * (x**2 + y**2)
    )
    return (np.clip(falloff, 0.1, 2.0)[..., None] * (albedo * irradiance / np.pi)).astype(np.float32)


def load_linear(path: Path) -> np.ndarray:
    """An sRGB picture as linear light [H, W, 3]."""
    return srgb_to_linear(read_image(path)[..., :3]).numpy()
