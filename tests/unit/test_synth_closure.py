"""The written environment is the light: spheres shaded from the EXR equal the renderer's pictures of them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from delit_models.image_files import read_env_map, write_env_map
from delit_models.lat_long import direction_grid, sample_env, solid_angles

if importlib.util.find_spec("mitsuba") is None:
    pytest.skip(
        "Mitsuba is not installed (pip install mitsuba); rendering is not tested", allow_module_level=True
    )

from training.synth.lights import SHIPPED_HDRI_DIR, camera_rotation, sample_light
from training.synth.mitsuba_runtime import start_mitsuba
from training.synth.photograph import view_directions
from training.synth.scene import scene_description, set_environment

_SIZE = 48
_FIELD_OF_VIEW = 24.0
_CENTRE = np.array([0.0, 0.0, -6.0])
_RADIUS = 1.0
_ALBEDO = 0.6


def _render_sphere(bsdf: dict, radiance: np.ndarray, samples: int) -> np.ndarray:
    mitsuba = start_mitsuba()
    sphere = {"type": "sphere", "center": _CENTRE.tolist(), "radius": _RADIUS, "bsdf": bsdf}
    scene = mitsuba.load_dict(scene_description(mitsuba, {"ball": sphere}, _FIELD_OF_VIEW, _SIZE))
    set_environment(mitsuba.traverse(scene), radiance)
    return np.array(mitsuba.render(scene, spp=samples, seed=3))


def _sphere_normals() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """View directions and normals [N, 3] of the pixels whose centre sees the sphere well inside, and which [S, S]."""
    view = view_directions(_SIZE, _FIELD_OF_VIEW).double()
    along = view @ torch.tensor(_CENTRE)
    discriminant = along**2 - (_CENTRE @ _CENTRE - _RADIUS**2)
    seen = discriminant > 0.35 * _RADIUS**2
    hit = (along - discriminant.clamp(min=0).sqrt())[..., None] * view
    return view[seen], ((hit - torch.tensor(_CENTRE)) / _RADIUS)[seen], seen


@pytest.fixture(params=["hdri", "studio"])
def written_env(request: pytest.FixtureRequest, tmp_path) -> torch.Tensor:
    """An environment as the generator makes it, with a tilted camera, read back from its EXR file."""
    level_to_camera = camera_rotation(pitch=11.0, roll=-4.0)
    for seed in range(100):
        light = sample_light(np.random.default_rng(seed), "train", SHIPPED_HDRI_DIR, level_to_camera)
        if (light.kind == "hdri") == (request.param == "hdri"):
            break
    write_env_map(tmp_path / "env.exr", torch.from_numpy(light.radiance * np.float32(0.7)))
    return read_env_map(tmp_path / "env.exr").radiance


def test_lambert_sphere_equals_the_renderer(written_env: torch.Tensor) -> None:
    diffuse = {"type": "diffuse", "reflectance": {"type": "rgb", "value": _ALBEDO}}
    image = _render_sphere(diffuse, written_env.numpy(), samples=768)
    _, normals, seen = _sphere_normals()
    light = written_env.double() * solid_angles(*written_env.shape[:2]).double()[..., None]
    cosine = (normals @ direction_grid(*written_env.shape[:2]).double().reshape(-1, 3).T).clamp(min=0)
    expected = _ALBEDO / np.pi * cosine @ light.reshape(-1, 3)
    rendered = torch.from_numpy(image[..., :3])[seen].double()
    assert _relative_error(rendered, expected) < 0.03
    for channel in range(3):
        assert rendered[:, channel].mean() == pytest.approx(expected[:, channel].mean().item(), rel=0.03)


def test_mirror_sphere_equals_the_renderer(written_env: torch.Tensor) -> None:
    mirror = {"type": "conductor", "material": "none"}
    image = _render_sphere(mirror, written_env.numpy(), samples=512)
    view, normals, seen = _sphere_normals()
    # A pixel of a mirror sphere sees a patch of light: the mean over the pixel, not its centre alone.
    rendered = torch.from_numpy(image[..., :3])[seen].double()
    expected = _mirror_pixels(written_env)[seen]
    assert _relative_error(rendered, expected) < 0.03


def _mirror_pixels(env: torch.Tensor, fine: int = 12) -> torch.Tensor:
    """Linear pixels [S, S, 3] of the mirror sphere, each the mean of fine x fine rays."""
    view = view_directions(_SIZE * fine, _FIELD_OF_VIEW).double()
    along = view @ torch.tensor(_CENTRE)
    discriminant = (along**2 - (_CENTRE @ _CENTRE - _RADIUS**2)).clamp(min=0)
    hit = (along - discriminant.sqrt())[..., None] * view
    normals = torch.nn.functional.normalize(hit - torch.tensor(_CENTRE), dim=-1)
    reflected = view - 2 * (view * normals).sum(-1, keepdim=True) * normals
    seen = sample_env(env, reflected.float()).double()
    return seen.reshape(_SIZE, fine, _SIZE, fine, 3).mean((1, 3))


def test_a_turned_environment_is_told_apart(written_env: torch.Tensor) -> None:
    """The mirror test can fail: with the map a quarter turn off, it does."""
    image = _render_sphere({"type": "conductor", "material": "none"}, written_env.numpy(), samples=32)
    _, _, seen = _sphere_normals()
    rendered = torch.from_numpy(image[..., :3])[seen].double()
    assert _relative_error(rendered, _mirror_pixels(written_env.roll(64, dims=1), fine=2)[seen]) > 0.2


def _relative_error(rendered: torch.Tensor, expected: torch.Tensor) -> float:
    """Mean absolute difference over mean value."""
    return float((rendered - expected).abs().mean() / expected.mean())
