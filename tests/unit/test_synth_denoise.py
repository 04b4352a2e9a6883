"""Denoising brings a picture nearer to what endless samples would show, and leaves its light, edges and black alone."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("mitsuba") is None or importlib.util.find_spec("pyoidn") is None:
    pytest.skip(
        "Mitsuba or pyoidn is not installed (pip install mitsuba pyoidn); rendering is not tested",
        allow_module_level=True,
    )
if importlib.util.find_spec("anny") is None:
    pytest.skip("anny is not installed (pip install anny); people are not rendered", allow_module_level=True)

from delit_models.errors import DelitError
from training import generate_toy_dataset
from training.synth.dataset.folder import SHIPPED_HDRI_DIR, DatasetConfig, prepare_folder
from training.synth.light.lights import camera_rotation, sample_light
from training.synth.person.subject import sample_subject
from training.synth.render import denoise
from training.synth.render.denoise import denoised, denoised_halves
from training.synth.render.mitsuba_runtime import start_mitsuba
from training.synth.render.scene import SubjectScene
from training.synth.render.truth import SurfaceTruth

_SIZE = 96
_FEW, _MORE, _MANY = 16, 64, 768


@dataclass(frozen=True)
class Rendered:
    """A person by few samples a pixel (in two halves), more and many, [S, S, 4] each, and the person's surface."""

    halves: tuple[np.ndarray, np.ndarray]
    more: np.ndarray
    many: np.ndarray
    truth: SurfaceTruth

    @property
    def few(self) -> np.ndarray:
        return (self.halves[0] + self.halves[1]) / 2

    def clean(self) -> np.ndarray:
        return denoised_halves(*self.halves, self.truth)


@pytest.fixture(scope="module", params=["flat", "relit"])
def person(request: pytest.FixtureRequest) -> Rendered:
    # Of six people, seeds 11 to 16, this holds for nine of twelve pictures: less where much is cloth and hair.
    rng = np.random.default_rng(14)
    sampled = sample_subject(rng)
    scene = SubjectScene(start_mitsuba(), sampled.subject, sampled.framing, _SIZE)
    radiance = np.ones((128, 256, 3), np.float32)
    if request.param == "relit":
        tilt = camera_rotation(sampled.framing.pitch, sampled.framing.roll)
        radiance = sample_light(rng, "train", SHIPPED_HDRI_DIR, tilt).radiance
    halves = (scene.render(radiance, _FEW // 2, 1), scene.render(radiance, _FEW // 2, 2))
    more, many = (scene.render(radiance, samples, samples) for samples in (_MORE, _MANY))
    return Rendered(halves, more, many, scene.surface_truth(5))


def _error(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference inside the mask, both as bright as a photograph."""
    inside = truth[..., 3] > 0.5
    gain = 0.18 / truth[inside][:, :3].mean()
    made, wanted = (np.clip(gain * x[inside][:, :3], 0, 1) ** (1 / 2.2) for x in (image, truth))
    return float(np.square(made - wanted).mean())


def test_it_beats_four_times_the_samples(person: Rendered) -> None:
    assert _error(person.clean(), person.many) < _error(person.more, person.many)


def test_light_coverage_and_black_stay(person: Rendered) -> None:
    clean = person.clean()
    np.testing.assert_array_equal(clean[..., 3], person.few[..., 3])
    assert np.abs(clean[..., :3][person.few[..., 3] == 0]).max() == 0 and clean.min() >= 0
    inside = person.many[..., 3] > 0.5
    for channel in range(3):
        assert clean[inside][:, channel].mean() == pytest.approx(
            person.many[inside][:, channel].mean(), rel=0.03
        )


def test_the_same_picture_comes_out_the_same(person: Rendered) -> None:
    np.testing.assert_array_equal(person.clean(), person.clean())


def test_two_halves_of_few_samples_cost_nothing(person: Rendered) -> None:
    """What is put back is no noise: people are as clean as from the denoiser alone."""
    alone = denoised(person.few, person.truth)
    assert _error(person.clean(), person.many) < 1.05 * _error(alone, person.many)


@pytest.fixture(scope="module")
def wall() -> tuple[np.ndarray, SurfaceTruth]:
    """A smooth grey wall that fills the picture, [S, S, 4], and its surface."""
    size = 64
    slope = np.linspace(0.2, 0.6, size, dtype=np.float32)[:, None, None]
    picture = np.concatenate(
        [np.broadcast_to(slope, (size, size, 3)), np.ones((size, size, 1), np.float32)], -1
    )
    normals = np.broadcast_to(np.float32([0, 0, 1]), (size, size, 3))
    albedo, depth = np.full((size, size, 3), 0.5, np.float32), np.ones((size, size), np.float32)
    return picture, SurfaceTruth(albedo, normals, depth)


@pytest.mark.parametrize("radiance", [3.0, 200.0, 20000.0])
def test_a_glint_stays_and_a_firefly_goes(wall: tuple[np.ndarray, SurfaceTruth], radiance: float) -> None:
    """One pixel of light in both renderings is light; in one alone it is noise."""
    picture, truth = wall
    lit = picture.copy()
    lit[20, 30, :3] = radiance
    glint, firefly = denoised_halves(lit, lit, truth), denoised_halves(lit, picture, truth)
    assert glint[20, 30, 0] == pytest.approx(radiance, rel=0.01)
    assert firefly[20, 30, 0] - picture[20, 30, 0] < 0.02 * radiance / 2
    away = np.ones(picture.shape[:2], bool)
    away[16:25, 26:35] = False
    np.testing.assert_allclose(glint[away], picture[away], atol=0.02)


def test_paths_that_all_missed_a_lamp_agree_on_nothing(wall: tuple[np.ndarray, SurfaceTruth]) -> None:
    """Few paths find a small lamp: both halves are dark in most pixels, and it is no detail that they are."""
    picture, truth = wall
    rng = np.random.default_rng(1)
    halves = []
    for _ in range(2):
        found = rng.random((*picture.shape[:2], 1)) < 1 / 10
        halves.append(
            np.concatenate([picture[..., :3] * found * 10, picture[..., 3:]], -1).astype(np.float32)
        )
    alone = denoised((halves[0] + halves[1]) / 2, truth)[..., :3]
    clean = denoised_halves(*halves, truth)[..., :3]
    assert (np.abs(clean - alone) > 0.05 * alone).mean() < 0.005


def test_noise_of_many_paths_is_taken_out_and_their_detail_kept(
    wall: tuple[np.ndarray, SurfaceTruth],
) -> None:
    """However little noise is left, the error of two halves falls with it; that of the denoiser alone stays."""
    picture, truth = wall
    rng = np.random.default_rng(0)
    detailed = picture.copy()
    # Specks of light that no guide tells of, as in a mirror.
    detailed[..., :3] *= np.where(rng.random((*picture.shape[:2], 1)) < 0.02, 30.0, 1.0)

    def error(noise: float) -> tuple[float, float]:
        halves = [
            np.concatenate(
                [detailed[..., :3] * rng.gamma(1 / noise**2, noise**2, (64, 64, 3)), picture[..., 3:]], -1
            )
            for _ in range(2)
        ]
        first, second = (half.astype(np.float32) for half in halves)
        results = denoised_halves(first, second, truth), denoised((first + second) / 2, truth)
        return tuple(
            float(np.abs(made - detailed)[..., :3].mean() / detailed[..., :3].mean()) for made in results
        )

    (coarse, _), (fine, fine_alone) = error(0.2), error(0.01)
    assert fine < 0.02 and fine < coarse / 4
    assert fine_alone > 5 * fine


def test_a_missing_denoiser_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        denoise.importlib.util, "find_spec", lambda name: None if name == "pyoidn" else find_spec(name)
    )
    output = tmp_path / "data"
    status = generate_toy_dataset.main(
        ["--output_dir", str(output), "--num_subjects", "1", "--num_envs", "1"]
    )
    assert status == 1 and "pip install pyoidn" in capsys.readouterr().err
    assert not output.exists()


def test_a_noisy_data_set_is_not_continued_clean(tmp_path: Path) -> None:
    prepare_folder(DatasetConfig(tmp_path, 1, 1, denoise=False))
    with pytest.raises(DelitError, match="denoise is False, asked for True"):
        prepare_folder(DatasetConfig(tmp_path, 1, 1))
