"""Albedo, normals and depth: those of a sphere are known, and a rendered subject's files say what they should."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from delit_models.color import srgb_to_linear
from delit_models.image_files import read_image
from delit_models.oiio_files import read_pixels

if importlib.util.find_spec("mitsuba") is None:
    pytest.skip(
        "Mitsuba is not installed (pip install mitsuba); rendering is not tested", allow_module_level=True
    )

from training.synth.dataset.folder import DatasetConfig, prepare_folder
from training.synth.render.mitsuba_runtime import start_mitsuba
from training.synth.render.photograph import view_directions
from training.synth.render.scene import scene_description, surface_truth
from training.synth.render.truth import SurfaceTruth, write_truth

HAS_PEOPLE = importlib.util.find_spec("anny") is not None
_SIZE, _FIELD_OF_VIEW = 32, 24.0
_CENTRE, _RADIUS = np.array([0.3, 0.2, -6.0]), 0.8
_COLOUR = [0.6, 0.3, 0.1]


@pytest.fixture(scope="module")
def truth() -> SurfaceTruth:
    """A glossy sphere, off the middle, so that every axis shows a sign that is wrong."""
    mitsuba = start_mitsuba()
    bsdf = {"type": "principled", "base_color": {"type": "rgb", "value": _COLOUR}, "specular": 0.5}
    ball = {"type": "sphere", "center": _CENTRE.tolist(), "radius": _RADIUS, "bsdf": bsdf}
    scene = mitsuba.load_dict(scene_description(mitsuba, {"ball": ball}, _FIELD_OF_VIEW, _SIZE))
    return surface_truth(mitsuba, scene, seed=5)


def _sphere() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the centre of each pixel sees the sphere well inside [S, S], and position and normal there [N, 3]."""
    view = view_directions(_SIZE, _FIELD_OF_VIEW).double().numpy()
    along = view @ _CENTRE
    discriminant = along**2 - (_CENTRE @ _CENTRE - _RADIUS**2)
    inside = discriminant > 0.4 * _RADIUS**2
    hit = ((along - np.sqrt(np.maximum(discriminant, 0)))[..., None] * view)[inside]
    return inside, hit, (hit - _CENTRE) / _RADIUS


def test_a_sphere_has_its_albedo_normals_and_depth(truth: SurfaceTruth) -> None:
    inside, position, normals = _sphere()
    assert inside.sum() > 60
    np.testing.assert_allclose(truth.albedo[inside], np.broadcast_to(_COLOUR, (inside.sum(), 3)), atol=1e-4)
    # A pixel's mean over rays anywhere in it: a pixel here is an eighth of the radius wide.
    assert np.abs(truth.normals[inside] - normals).max() < 0.06
    assert np.abs(truth.depth[inside] + position[:, 2]).max() < 0.04
    np.testing.assert_allclose(np.linalg.norm(truth.normals[inside], axis=-1), 1.0, atol=1e-5)
    assert (truth.normals[inside][:, 2] > 0).all(), "normals face the camera"


def test_nothing_is_written_where_nothing_is(truth: SurfaceTruth, tmp_path: Path) -> None:
    inside, position, _ = _sphere()
    mask = inside[..., None].astype(np.float32)
    paths = write_truth(tmp_path, "subjects/s00000", truth, mask)
    albedo = srgb_to_linear(read_image(tmp_path / paths["albedo"])).numpy()
    normals, depth = (read_pixels(tmp_path / paths[name]) for name in ("normals", "depth"))
    assert (normals.channels, normals.pixel_type) == (("R", "G", "B"), "half")
    assert (depth.channels, depth.pixel_type) == (("Z",), "float")
    for pixels in (albedo, normals.pixels, depth.pixels):
        assert np.abs(pixels[~inside]).max() == 0
    assert np.abs(albedo[inside] - _COLOUR).max() < 0.006
    assert np.abs(depth.pixels[inside][:, 0] + position[:, 2]).max() < 0.04


def test_the_back_of_a_surface_has_the_normal_that_faces_the_camera() -> None:
    position = np.array([[[0.0, 0.0, -2.0]]])
    truth = SurfaceTruth.of_pixels(
        np.ones((1, 1)), np.ones((1, 1, 3)) * 0.5, position, np.array([[[0.0, 0.6, -0.8]]])
    )
    np.testing.assert_allclose(truth.normals[0, 0], [0.0, -0.6, 0.8])
    assert truth.depth[0, 0] == 2.0


@pytest.mark.skipif(not HAS_PEOPLE, reason="anny is not installed (pip install anny)")
def test_a_subject_gets_its_truth_and_says_the_convention(tmp_path: Path) -> None:
    from training.synth.dataset.samples import render_subject

    config = DatasetConfig(
        output_dir=tmp_path, num_subjects=1, num_envs=1, image_size=64, samples_per_pixel=4
    )
    prepare_folder(config)
    (record,) = render_subject(start_mitsuba(), config, 0, [0])
    conventions = json.loads((tmp_path / "dataset.json").read_text())["conventions"]
    assert {"albedo", "normals", "depth"} <= set(conventions)
    mask = read_image(tmp_path / record["mask"])[..., 0].numpy()
    solid = mask == 1
    normals, depth = (read_pixels(tmp_path / record[name]).pixels for name in ("normals", "depth"))
    albedo, flat = (
        srgb_to_linear(read_image(tmp_path / record[name])).numpy() for name in ("albedo", "flat")
    )
    np.testing.assert_allclose(np.linalg.norm(normals[solid], axis=-1), 1.0, atol=2e-3)
    assert depth[solid].min() > 0.2 and depth[solid].max() < 8
    for pixels in (normals, depth, albedo):
        assert np.abs(pixels[mask == 0]).max() == 0
    # Flat-lit is albedo times ambient visibility, and a few percent of specular.
    assert flat[solid].mean() < 1.1 * albedo[solid].mean() and flat[solid].mean() > 0.4 * albedo[solid].mean()
