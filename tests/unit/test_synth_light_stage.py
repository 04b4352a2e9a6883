"""One light at a time: the lights make a whole, weights are found again, sums are pictures, and sides are right."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from delit_models.errors import DelitError
from delit_models.image_files import read_env_map, read_image
from delit_models.lat_long import direction_grid, solid_angles
from training.synth.dataset.folder import DatasetConfig
from training.synth.light.light_stage import (
    LightStage,
    Transport,
    even_stage,
    measure_transport,
    stage_around,
)
from training.synth.light.studios import STUDIOS, studio

HAS_RENDERER = importlib.util.find_spec("mitsuba") is not None
HAS_PEOPLE = HAS_RENDERER and importlib.util.find_spec("anny") is not None
needs_renderer = pytest.mark.skipif(not HAS_RENDERER, reason="mitsuba is not installed (pip install mitsuba)")
needs_people = pytest.mark.skipif(not HAS_PEOPLE, reason="mitsuba or anny is not installed")


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference over the sphere, over the mean of the second."""
    area = solid_angles(*one.shape[:2]).numpy()[..., None]
    return float((np.abs(one - other) * area).sum() / (other * area).sum())


@pytest.mark.parametrize("count", [6, 32, 150])
def test_all_lights_together_are_uniform_and_alike(count: int) -> None:
    stage = even_stage(count)
    assert stage.lights.shape == (count, 128, 256)
    np.testing.assert_allclose(stage.lights.sum(0), 1.0, atol=1e-5)
    assert stage.irradiance.sum() == pytest.approx(4 * np.pi, rel=1e-4)
    assert stage.irradiance.max() < 1.35 * stage.irradiance.min()
    grid = direction_grid(128, 256).reshape(-1, 3).numpy()
    brightest = grid[stage.lights.reshape(count, -1).argmax(1)]
    if count > 6:  # Six lights are so wide that their brightest pixel says little.
        assert ((brightest * stage.directions).sum(1) > 0.97).all()


@pytest.mark.parametrize("count", [32, 128])
def test_an_environment_of_the_lights_is_found_again(count: int) -> None:
    rng = np.random.default_rng(count)
    stage = even_stage(count)
    environment = stage.environment(rng.exponential(size=(count, 3)) ** 2)
    again = stage.environment(stage.weights(environment))
    assert _difference(again, environment) < 0.005


@pytest.mark.parametrize("kind", list(STUDIOS))
def test_weights_are_light_and_keep_all_of_it(kind: str) -> None:
    stage = even_stage(64)
    radiance = studio(kind, np.random.default_rng(4)).astype(np.float32)
    weights = stage.weights(radiance)
    assert weights.min() >= 0 and np.isfinite(weights).all()
    area = solid_angles(128, 256).numpy()[..., None]
    composed = stage.environment(weights)
    np.testing.assert_allclose((composed * area).sum((0, 1)), (radiance * area).sum((0, 1)), rtol=1e-3)
    # Light stays where it was: the centre of all light moves by less than half the distance between lights.
    grid = direction_grid(128, 256).numpy()
    centres = [((map_.sum(-1, keepdims=True) * area * grid).sum((0, 1))) for map_ in (composed, radiance)]
    assert np.linalg.norm(centres[0] - centres[1]) < 0.2 * (radiance.sum(-1, keepdims=True) * area).sum()


def test_a_lamp_of_one_pixel_becomes_as_wide_as_a_light_and_no_brighter() -> None:
    stage = even_stage(96)
    radiance = np.zeros((128, 256, 3), np.float32)
    radiance[40, 30] = [3000.0, 2000.0, 1000.0]
    composed = stage.environment(stage.weights(radiance))
    grid, area = direction_grid(128, 256).numpy(), solid_angles(128, 256).numpy()
    near = np.arccos(np.clip(grid @ grid[40, 30], -1, 1)) < np.radians(30)
    assert (composed[..., 0] * area)[near].sum() > 0.97 * (composed[..., 0] * area).sum()
    np.testing.assert_allclose(
        (composed * area[..., None]).sum((0, 1)) / area[40, 30], radiance[40, 30], rtol=1e-3
    )


def test_no_light_is_no_light() -> None:
    stage = even_stage(12)
    assert np.abs(stage.weights(np.zeros((128, 256, 3), np.float32))).max() == 0


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (np.eye(3), "6 or more lights"),
        (np.eye(6, 2), r"direction of light 0 is \[1. 0.\]; give three numbers"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5], *(-np.eye(3)).tolist()], r"light 3 is \[0.5, 0.5\]"),
        ([*np.eye(3).tolist(), *(-np.eye(3)).tolist(), [0, "up", 0]], r"light 6 is \[0, 'up', 0\]"),
        ([*np.eye(3).tolist(), *(-np.eye(3)).tolist(), 5.0], "light 6 is 5.0; give three numbers"),
        ([*np.eye(3).tolist(), *(-np.eye(3)).tolist(), [1, [2, 3], 4]], "light 6 is"),
        (np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))]), "has no direction"),
        (np.concatenate([np.eye(3), -np.eye(3), np.eye(3)[:1]]), "same direction"),
    ],
)
def test_impossible_stages_are_refused(directions: np.ndarray | list, message: str) -> None:
    with pytest.raises(DelitError, match=message):
        stage_around(directions)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"olat": 3}, "olat is 3"), ({"keep_olat": True}, "keep_olat"), ({"device": "tpu"}, "device is")],
)
def test_impossible_settings_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DelitError, match=message):
        DatasetConfig(tmp_path, 1, 1, **change)


def _fake_transport(count: int = 12) -> Transport:
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 0.2, (count, 8, 8, 3)).astype(np.float16)
    return Transport(even_stage(count), pictures, np.ones((8, 8), np.float32))


def test_composing_is_linear_and_flat_is_the_sum_of_all() -> None:
    transport = _fake_transport()
    rng = np.random.default_rng(1)
    one, other = rng.uniform(0, 3, (2, 12, 3))
    parts = transport.compose(2 * one)[..., :3] + transport.compose(0.5 * other)[..., :3]
    np.testing.assert_allclose(transport.compose(2 * one + 0.5 * other)[..., :3], parts, rtol=1e-5)
    np.testing.assert_allclose(
        transport.flat()[..., :3], transport.pictures.astype(np.float32).sum(0), rtol=1e-5
    )
    uniform, environment = transport.relight(np.full((128, 256, 3), 0.25, np.float32))
    np.testing.assert_allclose(uniform[..., :3], 0.25 * transport.flat()[..., :3], rtol=2e-3)
    np.testing.assert_allclose(environment, 0.25, rtol=2e-3)


_SIZE = 32


def _head(mitsuba: object) -> tuple[object, object]:
    """A glossy ball with a nose that shadows it and a collar that reflects on it, before the camera."""
    from training.synth.render.scene import scene_description

    def colour(*value: float) -> dict:
        return {"type": "rgb", "value": list(value)}

    skin = {"type": "principled", "base_color": colour(0.6, 0.35, 0.25), "roughness": 0.4, "specular": 0.5}
    cloth = {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": colour(0.2, 0.5, 0.7)}}
    shapes = {
        "ball": {"type": "sphere", "center": [0, 0, -6], "radius": 0.8, "bsdf": skin},
        "nose": {"type": "sphere", "center": [0.1, 0, -5.2], "radius": 0.2, "bsdf": skin},
        "collar": {
            "type": "disk",
            "to_world": mitsuba.ScalarTransform4f().translate([0, -0.8, -6]).rotate([1, 0, 0], -90),
            "bsdf": cloth,
        },
    }
    scene = mitsuba.load_dict(scene_description(mitsuba, shapes, 24.0, _SIZE))
    return scene, mitsuba.traverse(scene)


def _head_renderer(samples: int):
    from training.synth.render.mitsuba_runtime import start_mitsuba
    from training.synth.render.scene import set_environment

    mitsuba = start_mitsuba()
    scene, parameters = _head(mitsuba)

    def render(radiance: np.ndarray, seed: int) -> np.ndarray:
        set_environment(parameters, radiance)
        return np.array(mitsuba.render(scene, spp=samples, seed=seed))

    return render


@pytest.fixture(scope="module")
def measured() -> tuple[LightStage, Transport]:
    stage = even_stage(40)
    return stage, measure_transport(stage, _head_renderer(samples=768))


def _environments(stage: LightStage) -> dict[str, np.ndarray]:
    """What 40 lights resolve: a few lamps as wide as they are, a sky, and strong light from one side."""
    rng = np.random.default_rng(8)
    lamps = stage.environment(rng.exponential(size=(40, 3)) ** 2)
    up = direction_grid(128, 256)[..., 1:2].numpy()
    sky = (np.array([0.5, 0.7, 1.0]) * (0.6 + 0.5 * up) + 0.1).astype(np.float32)
    key = 0.02 + np.exp(4 * (direction_grid(128, 256).numpy() @ [0.7, 0.5, 0.5] - 1))[..., None]
    return {"lamps": lamps, "sky": sky, "key": np.repeat(key, 3, -1).astype(np.float32)}


@needs_renderer
@pytest.mark.parametrize("kind", ["lamps", "sky", "key"])
def test_composed_equals_direct_rendering(measured: tuple[LightStage, Transport], kind: str) -> None:
    """Under the environment as it was asked for, not only as it was composed: within 2% in the mean."""
    stage, transport = measured
    radiance = _environments(stage)[kind]
    direct = _head_renderer(samples=4096)(radiance, 77)
    composed, _ = transport.relight(radiance)
    inside = direct[..., 3] > 0.99
    error = np.abs(composed - direct)[inside][:, :3].mean() / direct[inside][:, :3].mean()
    bias = composed[inside][:, :3].mean(0) / direct[inside][:, :3].mean(0) - 1
    print(f"{kind}: composed differs from direct by {error:.4f}, in the mean by {np.abs(bias).max():.4f}")
    assert error < 0.02
    assert np.abs(bias).max() < 0.005
    assert np.abs(composed[..., 3] - direct[..., 3]).max() < 0.1


@needs_renderer
def test_what_is_too_fine_is_composed_as_the_environment_says(
    measured: tuple[LightStage, Transport],
) -> None:
    """A bare lamp: the picture is that of the written environment, and not that of the lamp itself."""
    stage, transport = measured
    radiance = np.full((128, 256, 3), 0.01, np.float32)
    radiance[44:47, 230:233] = 400.0
    composed, environment = transport.relight(radiance)
    render = _head_renderer(samples=2048)
    inside = composed[..., 3] == 1

    def error(direct: np.ndarray) -> float:
        return float(np.abs(composed - direct)[inside][:, :3].mean() / direct[inside][:, :3].mean())

    assert error(render(environment, 5)) < 0.02
    assert error(render(radiance, 5)) > 0.05


@needs_renderer
@pytest.mark.parametrize(
    ("towards", "side"),
    [
        ([1, 0, 0], np.s_[:, 16:]),
        ([-1, 0, 0], np.s_[:, :16]),
        ([0, 1, 0.2], np.s_[:16]),
        ([0, -1, 0.2], np.s_[16:]),
    ],
)
def test_light_brightens_the_side_that_it_comes_from(
    measured: tuple[LightStage, Transport], towards: list[float], side: tuple
) -> None:
    _, transport = measured
    lamp = np.exp(8 * (direction_grid(128, 256).numpy() @ (np.array(towards) / np.linalg.norm(towards)) - 1))
    # The ball alone: the collar's disk would catch light from above and hide that from below.
    composed = transport.relight(np.repeat(lamp[..., None], 3, -1).astype(np.float32))[0][..., 0]
    rows, columns = np.mgrid[:_SIZE, :_SIZE] - (_SIZE - 1) / 2
    ball = composed * (np.hypot(rows, columns) < 6)
    if towards[1] >= 0:
        assert ball[side].sum() > 1.5 * (ball.sum() - ball[side].sum())
    else:
        assert ball[side].sum() < ball.sum(), "what the collar hides stays dark"


@needs_people
def test_pairs_of_a_light_stage_resume_and_repeat(tmp_path: Path) -> None:
    """Two runs, one of the second env alone, and a third from the kept lights, write the same picture and light."""
    from training.synth.dataset.samples import render_subject
    from training.synth.render.mitsuba_runtime import start_mitsuba

    renderer = start_mitsuba()
    first, second = (
        DatasetConfig(
            tmp_path / name, 2, 3, image_size=64, samples_per_pixel=4, seed=5, olat=12, keep_olat=name == "a"
        )
        for name in ("a", "b")
    )
    records = list(render_subject(renderer, first, 1, [0, 1]))
    (again,) = render_subject(renderer, second, 1, [1])
    assert records[1] == again and again["light"]["olat"] == 12
    assert sorted(path.name for path in (first.output_dir / "subjects/s00001/olat").iterdir())[-2:] == [
        "011.exr",
        "lights.json",
    ]
    for key in ("relit", "flat", "mask"):
        one, other = (read_image(config.output_dir / again[key]) for config in (first, second))
        assert (one - other).abs().max() <= 1.01 / 255
        assert (one - other).abs().mean() < 1e-3
    one, other = (read_env_map(config.output_dir / again["env_map"]).radiance for config in (first, second))
    assert torch.allclose(one, other, rtol=2e-3, atol=1e-6)

    before = {key: (first.output_dir / records[0][key]).read_bytes() for key in ("relit", "flat", "mask")}
    light = read_env_map(first.output_dir / records[0]["env_map"]).radiance
    (from_kept,) = render_subject(renderer, first, 1, [0])
    assert from_kept == records[0]
    for key, data in before.items():
        assert (first.output_dir / from_kept[key]).read_bytes() == data
    assert torch.equal(read_env_map(first.output_dir / from_kept["env_map"]).radiance, light)
