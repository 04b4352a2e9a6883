"""One subject's files: its flat-lit picture, mask and surface, and a relit picture with its environment a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from delit_models.color import linear_to_srgb
from delit_models.image_files import write_env_map, write_image
from delit_models.presence import is_file
from training.synth.light.light_stage import even_stage, measure_transport
from training.synth.light.lights import ENV_HEIGHT, ENV_WIDTH, Light, camera_rotation, sample_light
from training.synth.person.subject import SampledSubject, person_notes, sample_subject
from training.synth.render.denoise import denoised, denoised_halves
from training.synth.render.exr_files import write_exr
from training.synth.render.photograph import LARGEST_HALF, Photograph, photograph
from training.synth.render.scene import SubjectScene
from training.synth.render.truth import SurfaceTruth, write_truth

from .captures import CAPTURE_FILE, read_capture, write_capture
from .folder import DatasetConfig, capture_of_subject, env_name, subject_name, subject_split

# Last word of a renderer's seed: no two purposes share random numbers.
_PICTURE_SEEDS, _LIGHT_SEEDS, _SECOND_HALF_SEEDS, _TRUTH_SEEDS = 2, 3, 4, 5

Relight = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(radiance [128, 256, 3], env index) -> (picture [S, S, 4], the radiance that it is lit by, [128, 256, 3])."""


@dataclass(frozen=True)
class StagedSubject:
    """A subject on the stage, ready for any light.

    Attributes:
        index: which subject of the data set.
        flat: [S, S, 4], lit by uniform radiance 1: linear, multiplied by coverage, and the coverage.
        relight: gives its picture under an environment; both are linear and not exposed yet.
        field_of_view: degrees. level_to_camera: rotation [3, 3] of upright light into the camera's axes.
        files: paths of what there is besides (albedo …), for the index lines; notes: what else they say.
        lights: how many its pictures are composed of, one at a time; 0 where each was rendered by itself.
    """

    index: int
    flat: np.ndarray
    relight: Relight
    field_of_view: float
    level_to_camera: np.ndarray
    files: dict[str, str]
    lights: int
    notes: dict[str, object]


def subject_folder(index: int) -> str:
    """Folder of a subject, as the index writes it."""
    return f"subjects/{subject_name(index)}"


def render_subject(
    mi: ModuleType, config: DatasetConfig, subject_index: int, envs: list[int]
) -> Iterator[dict]:
    """Renders a subject's flat-lit picture and the given envs, writes their files, and yields an index record a pair.

    Every random number comes from (seed, subject, env), so a sample does not depend on who renders it or when.
    """
    rng = np.random.default_rng([config.seed, subject_index])
    sampled = sample_subject(rng, max(1.0, config.image_size / 256))
    scene = SubjectScene(mi, sampled.subject, sampled.framing, config.image_size)
    yield from write_pairs(config, _stage(config, scene, sampled, subject_index), envs)


def compose_subject(config: DatasetConfig, subject_index: int, envs: list[int]) -> Iterator[dict]:
    """The same from pictures of a real light stage: composes the given envs of a captured subject."""
    capture = read_capture(capture_of_subject(config, subject_index), config.image_size)
    transport = capture.transport
    staged = StagedSubject(
        index=subject_index,
        flat=capture.flat,
        relight=lambda radiance, env: transport.relight(radiance),
        field_of_view=capture.field_of_view,
        level_to_camera=np.eye(3),
        files={},
        lights=transport.stage.count,
        notes={"capture": capture.name, "framing": {"field_of_view": capture.field_of_view}},
    )
    yield from write_pairs(config, staged, envs)


def _stage(config: DatasetConfig, scene: SubjectScene, sampled: SampledSubject, index: int) -> StagedSubject:
    """Renders what all of a subject's pairs share, and writes its surface."""
    field_of_view = sampled.framing.field_of_view
    truth = scene.surface_truth(_render_seed(config.seed, index, 0, _TRUTH_SEEDS))
    if config.olat:
        flat, relight = _one_light_at_a_time(config, scene, index, truth, field_of_view)
    else:
        flat, relight = _direct(config, scene, index, truth)
    return StagedSubject(
        index=index,
        flat=flat,
        relight=relight,
        field_of_view=field_of_view,
        level_to_camera=camera_rotation(sampled.framing.pitch, sampled.framing.roll),
        files=write_truth(config.output_dir, subject_folder(index), truth, _mask(flat)),
        lights=config.olat,
        notes=_notes(sampled),
    )


def _direct(
    config: DatasetConfig, scene: SubjectScene, index: int, truth: SurfaceTruth
) -> tuple[np.ndarray, Relight]:
    """The flat-lit picture, and a rendering for every environment."""

    def picture(radiance: np.ndarray, number: int) -> np.ndarray:
        samples, seed = config.samples_per_pixel, _render_seed(config.seed, index, number)
        if not config.denoise:
            return scene.render(radiance, samples, seed)
        seeds = (seed, _render_seed(config.seed, index, number, _SECOND_HALF_SEEDS))
        first, second = (scene.render(radiance, (samples + 1) // 2, seed) for seed in seeds)
        return denoised_halves(first, second, truth)

    flat = picture(np.ones((ENV_HEIGHT, ENV_WIDTH, 3), np.float32), 0)
    return flat, lambda radiance, env: (picture(radiance, env + 1), radiance)


def _one_light_at_a_time(
    config: DatasetConfig, scene: SubjectScene, index: int, truth: SurfaceTruth, field_of_view: float
) -> tuple[np.ndarray, Relight]:
    """The same as sums over one rendering of each light, read back where an earlier run has kept them.

    Sums are denoised, not the lights one by one: a sum stays a sum, and has less to take out. One rendering is enough:
    a stage's lights are broad, and none looks like noise in a mirror.
    """
    folder = config.output_dir / subject_folder(index) / "olat"
    stage = even_stage(config.olat)
    if is_file(folder / CAPTURE_FILE):
        transport = read_capture(folder / CAPTURE_FILE, config.image_size, stage).transport
    else:
        transport = measure_transport(
            stage,
            lambda radiance, light: scene.render(
                radiance, config.samples_per_light, _render_seed(config.seed, index, light, _LIGHT_SEEDS)
            ),
        )
    flat = transport.flat()
    if config.keep_olat and not is_file(folder / CAPTURE_FILE):
        write_image(folder.parent / "mask.png", torch.from_numpy(_mask(flat)))
        write_capture(folder, transport, field_of_view, mask="../mask.png")
    if not config.denoise:
        return flat, lambda radiance, env: transport.relight(radiance)

    def relight(radiance: np.ndarray, env: int) -> tuple[np.ndarray, np.ndarray]:
        picture, lit_by = transport.relight(radiance)
        return denoised(picture, truth), lit_by

    return denoised(flat, truth), relight


def write_pairs(config: DatasetConfig, staged: StagedSubject, envs: list[int]) -> Iterator[dict]:
    """Writes the flat-lit picture, the mask, and picture and light of each env; yields an index record a pair."""
    folder = config.output_dir / subject_folder(staged.index)
    _write_linear(folder / "flat.png", staged.flat[..., :3])
    write_image(folder / "mask.png", torch.from_numpy(_mask(staged.flat)))
    split = subject_split(staged.index, config.test_fraction)
    for env in envs:
        rng = np.random.default_rng([config.seed, staged.index, env, 1])
        light = sample_light(rng, split, config.hdri_dir, staged.level_to_camera)
        image, radiance = staged.relight(light.radiance, env)
        taken = photograph(image, staged.flat, radiance, staged.field_of_view, rng)
        record = _record(staged, env, split, light, taken)
        _write_linear(config.output_dir / record["relit"], taken.relit)
        # Nothing that a mixture of lights or another exposure brings back into range may be lost.
        unclipped = np.clip(taken.relit, 0, LARGEST_HALF).astype(np.float16)
        write_exr(config.output_dir / record["relit_linear"], unclipped, ("R", "G", "B"))
        write_env_map(config.output_dir / record["env_map"], torch.from_numpy(taken.radiance))
        yield record


def _record(staged: StagedSubject, env: int, split: str, light: Light, taken: Photograph) -> dict:
    folder = subject_folder(staged.index)
    return {
        "subject": subject_name(staged.index),
        "env": env_name(env),
        "split": split,
        "relit": f"{folder}/relit/{env_name(env)}.png",
        "relit_linear": f"{folder}/relit_linear/{env_name(env)}.exr",
        "flat": f"{folder}/flat.png",
        "mask": f"{folder}/mask.png",
        "env_map": f"{folder}/env/{env_name(env)}.exr",
        **staged.files,
        "light": {
            "kind": light.kind,
            "source": light.source,
            "exposure": round(float(taken.exposure), 5),
            "olat": staged.lights,
        },
        "background": taken.background,
        **staged.notes,
    }


def _notes(sampled: SampledSubject) -> dict[str, object]:
    """What an index line says of a rendered person and the camera."""
    return {
        "framing": asdict(sampled.framing) | {"field_of_view": sampled.framing.field_of_view},
        "person": person_notes(sampled),
    }


def _mask(flat: np.ndarray) -> np.ndarray:
    """Coverage [S, S, 1] in 0..1."""
    return np.clip(flat[..., 3:], 0.0, 1.0)


def _render_seed(seed: int, subject: int, picture: int, purpose: int = _PICTURE_SEEDS) -> int:
    """A 31-bit seed for the renderer."""
    return int(np.random.SeedSequence([seed, subject, picture, purpose]).generate_state(1)[0] >> 1)


def _write_linear(path: Path, linear: np.ndarray) -> None:
    write_image(path, linear_to_srgb(torch.from_numpy(np.clip(linear, 0.0, 1.0))))
