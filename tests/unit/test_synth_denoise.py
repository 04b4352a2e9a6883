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
from training.synth import denoise
from training.synth.dataset import SHIPPED_HDRI_DIR, DatasetConfig, prepare_folder
from training.synth.denoise import denoised
from training.synth.lights import camera_rotation, sample_light
from training.synth.mitsuba_runtime import start_mitsuba
from training.synth.scene import SubjectScene
from training.synth.subject import sample_subject
from training.synth.truth import SurfaceTruth

_SIZE = 96
_FEW, _MORE, _MANY = 16, 96, 768


@dataclass(frozen=True)
class Rendered:
    """A person by few, more and many samples a pixel, [S, S, 4] each, and the person's surface."""

    few: np.ndarray
    more: np.ndarray
    many: np.ndarray
    truth: SurfaceTruth


@pytest.fixture(scope="module", params=["flat", "relit"])
def person(request: pytest.FixtureRequest) -> Rendered:
    rng = np.random.default_rng(11)
    sampled = sample_subject(rng)
    scene = SubjectScene(start_mitsuba(), sampled.subject, sampled.framing, _SIZE)
    radiance = np.ones((128, 256, 3), np.float32)
    if request.param == "relit":
        tilt = camera_rotation(sampled.framing.pitch, sampled.framing.roll)
        radiance = sample_light(rng, "train", SHIPPED_HDRI_DIR, tilt).radiance
    few, more, many = (scene.render(radiance, samples, samples) for samples in (_FEW, _MORE, _MANY))
    return Rendered(few, more, many, scene.surface_truth(5))


def _error(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference inside the mask, both as bright as a photograph."""
    inside = truth[..., 3] > 0.5
    gain = 0.18 / truth[inside][:, :3].mean()
    made, wanted = (np.clip(gain * x[inside][:, :3], 0, 1) ** (1 / 2.2) for x in (image, truth))
    return float(np.square(made - wanted).mean())


def test_it_beats_six_times_the_samples(person: Rendered) -> None:
    assert _error(denoised(person.few, person.truth), person.many) < _error(person.more, person.many)


def test_light_coverage_and_black_stay(person: Rendered) -> None:
    clean = denoised(person.few, person.truth)
    np.testing.assert_array_equal(clean[..., 3], person.few[..., 3])
    assert np.abs(clean[..., :3][person.few[..., 3] == 0]).max() == 0 and clean.min() >= 0
    inside = person.many[..., 3] > 0.5
    for channel in range(3):
        assert clean[inside][:, channel].mean() == pytest.approx(
            person.many[inside][:, channel].mean(), rel=0.03
        )


def test_the_same_picture_comes_out_the_same(person: Rendered) -> None:
    np.testing.assert_array_equal(denoised(person.few, person.truth), denoised(person.few, person.truth))


def test_a_missing_denoiser_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(denoise.importlib.util, "find_spec", lambda name: None)
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
