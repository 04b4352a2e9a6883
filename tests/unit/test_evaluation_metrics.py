"""The metrics of training.evaluate, against closed forms and against the libraries that they are built on."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchvision.models import squeezenet1_1

from delit_models.color import linear_to_srgb
from delit_models.errors import DelitError
from delit_models.lat_long import direction_grid, labelled_test_map, solid_angles
from training.evaluation import light_metrics, spheres
from training.evaluation.light_metrics import (
    angle_between,
    compare_legacy_spheres,
    compare_spheres,
    dominant_direction,
    normalised,
    peak_direction,
    relative_si_rmse,
    rgb_angle,
    rmse,
    si_rmse,
)
from training.evaluation.metrics import irradiance_error, mean_environment, mean_luminance, psnr, spread
from training.evaluation.picture_metrics import load_lpips, masked_lpips, masked_ssim, shading_left, si_psnr
from training.evaluation.spheres import SPHERE_SIZE, legacy_light, render_spheres, sphere_picture
from training.heads.losses import irradiance

HEIGHT, WIDTH = 64, 128


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(1, 3, 48, 40)


@pytest.fixture
def half_mask() -> torch.Tensor:
    mask = torch.zeros(1, 1, 48, 40)
    mask[..., :20] = 1
    return mask


def lamp(direction: tuple[float, float, float], radius: float, radiance: float) -> torch.Tensor:
    """A round lamp in the dark, [64, 128, 3]; radius in degrees."""
    axis = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    inside = direction_grid(HEIGHT, WIDTH) @ axis > math.cos(math.radians(radius))
    return radiance * inside[..., None].float().expand(-1, -1, 3)


def test_psnr_in_a_mask_is_torchmetrics_psnr_of_its_pixels(picture, half_mask):
    noisy = (picture + 0.1 * torch.randn_like(picture)).clamp(0, 1)
    expected = peak_signal_noise_ratio(noisy[..., :20], picture[..., :20], data_range=1.0)
    assert psnr(noisy, picture, half_mask).item() == pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize("left", [0.0, 0.3, 1.0])
def test_shading_left_is_the_share_of_the_shading_that_is_still_there(left):
    """A wall of albedo 0.5 with a smooth shadow, of which a share is left, at another exposure."""
    shade, flat = (
        (0.15 + 0.85 * torch.linspace(0, 1, 64)).expand(1, 3, 64, 64),
        torch.full((1, 3, 64, 64), 0.5),
    )
    truth, relit, made = (linear_to_srgb(x) for x in (flat, flat * shade, 0.8 * flat * shade**left))
    mask = torch.ones(1, 1, 64, 64)
    mask[..., :8] = 0
    assert shading_left(made, relit, truth, mask) == pytest.approx(left, abs=0.03)
    assert math.isnan(shading_left(made, truth, truth, mask))


def test_si_psnr_forgives_exposure_and_nothing_else(picture, half_mask):
    assert si_psnr(0.4 * picture, picture, half_mask) > 90
    # Truth and picture of ones and of ±: the best factor on a vector at 45° leaves half of the squared length.
    truth = torch.ones(1, 3, 2, 2)
    at_45 = torch.tensor((2.0, 0.0)).repeat(6).reshape(1, 3, 2, 2)
    assert si_psnr(at_45, truth, torch.ones(1, 1, 2, 2)) == pytest.approx(-10 * math.log10(0.5), abs=1e-4)


@given(st.integers(0, 2**31))
def test_si_psnr_is_never_under_psnr(seed):
    generator = torch.Generator().manual_seed(seed)
    made, truth = torch.rand(2, 1, 3, 8, 8, generator=generator)
    mask = torch.rand(1, 1, 8, 8, generator=generator)
    assert si_psnr(made, truth, mask) >= psnr(made, truth, mask).item() - 1e-4


def test_ssim_is_torchmetrics_and_blind_outside_the_mask(picture, half_mask):
    noisy = (picture + 0.1 * torch.randn_like(picture)).clamp(0, 1)
    whole = torch.ones_like(half_mask)
    expected = structural_similarity_index_measure(noisy, picture, data_range=1.0)
    assert masked_ssim(noisy, picture, whole) == pytest.approx(expected.item(), abs=1e-5)
    other_outside = torch.where(half_mask > 0, noisy, torch.rand_like(noisy))
    assert masked_ssim(other_outside, picture, half_mask) == masked_ssim(noisy, picture, half_mask)
    assert masked_ssim(noisy, picture, half_mask) < 0.99


def test_lpips_without_weights_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DelitError, match="alexnet.*torch's hub folder"):
        load_lpips("alex")


def test_lpips_with_weights_is_a_distance_inside_the_mask(monkeypatch, tmp_path, picture, half_mask):
    """The network's weights are random here: that they are found and used is what is tested."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    lpips = load_lpips("squeeze")
    picture = torch.nn.functional.interpolate(picture, (128, 128))
    mask = torch.nn.functional.interpolate(half_mask, (128, 128))
    assert lpips(picture, picture, mask) == pytest.approx(0, abs=1e-6)
    other = torch.rand_like(picture)
    assert lpips(other, picture, mask) > 1e-4
    assert lpips(torch.where(mask > 0, picture, other), picture, mask) == pytest.approx(0, abs=1e-6)
    # The average over the whole picture would tell of half as much where half of it is painted black.
    assert lpips(other, picture, mask) > 0.75 * lpips(other, picture, torch.ones_like(mask))


def test_lpips_is_the_mean_of_the_distance_inside_the_mask(picture, half_mask):
    def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean(dim=1, keepdim=True)

    truth, whole, small = 0.5 * picture, torch.ones_like(half_mask), torch.zeros_like(half_mask)
    small[..., 10:16, 10:16] = 1
    off = truth + 0.2
    assert masked_lpips(distance, off, truth, whole) == pytest.approx(0.2, abs=1e-6)
    assert masked_lpips(distance, off, truth, small) == pytest.approx(0.2, abs=1e-6)
    assert masked_lpips(distance, torch.where(small > 0, truth, off), truth, small) == 0
    assert masked_lpips(distance, torch.where(small > 0, off, truth), truth, small) == pytest.approx(0.2)

    # Nor does what a network tells of pixels outside: half of those of `half_mask` are inside.
    def of_columns(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.arange(40.0).expand(1, 1, 48, 40)

    assert masked_lpips(of_columns, picture, picture, half_mask) == pytest.approx(9.5)
    # A pixel that the subject covers half counts half: column 20, beside columns 0 to 19.
    soft = half_mask.clone()
    soft[..., 20] = 0.5
    assert masked_lpips(of_columns, picture, picture, soft) == pytest.approx((190 + 10) / 20.5)


def test_rmse_and_si_rmse_have_known_values():
    values, truth = torch.tensor((1.0, 0.0)), torch.tensor((1.0, 1.0))
    assert rmse(values, truth) == pytest.approx(math.sqrt(0.5))
    # The best factor is 1; scaled up, the same error is found again.
    assert si_rmse(7 * values, truth) == pytest.approx(math.sqrt(0.5))
    assert si_rmse(3 * truth, truth) == pytest.approx(0, abs=1e-9)
    # All weight on the first value: there the two agree.
    assert si_rmse(values, truth, torch.tensor((1.0, 0.0))) == pytest.approx(0, abs=1e-9)


def test_relative_si_rmse_runs_from_the_same_to_nothing_in_common():
    truth = torch.tensor((1.0, 1.0))
    assert relative_si_rmse(torch.tensor((1.0, 0.0)), truth) == pytest.approx(math.sqrt(0.5))
    assert relative_si_rmse(torch.tensor((1.0, -1.0)), truth) == pytest.approx(1)
    assert relative_si_rmse(torch.zeros(2), 1000 * truth) == pytest.approx(1)
    assert math.isnan(relative_si_rmse(truth, torch.zeros(2)))


def test_rgb_angle_is_about_colour_only():
    red, green, yellow = torch.eye(3)[0], torch.eye(3)[1], torch.tensor((1.0, 1.0, 0.0))
    assert rgb_angle(red[None], 5 * green[None]) == pytest.approx(90)
    assert rgb_angle(0.1 * red[None], yellow[None]) == pytest.approx(45)
    # A black pixel has no colour: it is left out, rather than taken as right or wrong.
    assert rgb_angle(torch.stack((red, torch.zeros(3))), torch.stack((yellow, red))) == pytest.approx(45)
    weights = torch.tensor((1.0, 3.0))
    assert rgb_angle(torch.stack((red, red)), torch.stack((green, red)), weights) == pytest.approx(22.5)
    assert math.isnan(rgb_angle(torch.zeros(2, 3), torch.ones(2, 3)))


def test_normalising_takes_gain_and_offset_away():
    values = torch.rand(5000)
    torch.testing.assert_close(normalised(3 * values + 2), normalised(values), rtol=1e-4, atol=1e-4)
    assert torch.quantile(normalised(values), 0.999).item() == pytest.approx(1, abs=1e-6)


def test_spheres_in_even_light_have_their_own_reflectance():
    made = render_spheres(torch.full((128, 256, 3), 2.0))
    torch.testing.assert_close(made["mirror"], torch.full_like(made["mirror"], 2.0))
    torch.testing.assert_close(made["diffuse"], torch.full_like(made["diffuse"], 1.6), rtol=1e-3, atol=0)
    middle = sphere_picture(made["matte"])[SPHERE_SIZE // 2, SPHERE_SIZE // 2]
    # GGX without its second bounces loses a little of the 0.8 that it has straight on.
    torch.testing.assert_close(middle, torch.full((3,), 1.6), rtol=0.03, atol=0)


def test_the_mirror_shows_what_is_behind_the_camera_in_its_middle_and_the_sides_aright():
    mirror = sphere_picture(render_spheres(labelled_test_map(256))["mirror"])
    middle = SPHERE_SIZE // 2
    # At sin 45° from the middle the mirror looks to the side: right is red, left cyan, up blue.
    offset = round(middle * math.sin(math.radians(45)))
    assert mirror[middle, middle].round().tolist() == [1, 0, 1]
    assert mirror[middle, middle + offset].round().tolist() == [1, 0, 0]
    assert mirror[middle, middle - offset].round().tolist() == [0, 1, 1]
    assert mirror[middle - offset, middle].round().tolist() == [0, 0, 1]


def test_the_diffuse_sphere_follows_lambert():
    """One pixel of light: 0.8 / π · L · solid angle · cosine."""
    env = torch.zeros(HEIGHT, WIDTH, 3)
    env[20, 100] = 50.0
    made = render_spheres(env)["diffuse"]
    _, normals = spheres._disc()
    cosine = (normals @ direction_grid(HEIGHT, WIDTH)[20, 100]).clamp(min=0)
    expected = 0.8 / math.pi * 50.0 * solid_angles(HEIGHT, WIDTH)[20, 100] * cosine
    torch.testing.assert_close(made, expected[:, None].expand(-1, 3), rtol=1e-4, atol=1e-7)


def test_the_matte_sphere_is_brightest_where_its_normal_halves_the_angle():
    light = torch.nn.functional.normalize(torch.tensor((0.6, 0.5, 0.4)), dim=0)
    made = render_spheres(lamp(tuple(light.tolist()), 4, 100.0))["matte"]
    _, normals = spheres._disc()
    half = torch.nn.functional.normalize(light + torch.tensor((0.0, 0.0, 1.0)), dim=0)
    assert angle_between(normals[made[:, 0].argmax()], half) < 4


def test_the_legacy_protocol_is_flagged_and_forgives_what_it_says():
    env = torch.rand(HEIGHT, WIDTH, 3) + 0.1
    compressed = legacy_light(env)
    assert compressed.median().item() == pytest.approx(0.5, abs=1e-3)
    torch.testing.assert_close(compressed.amax() / compressed.amin(), (env.amax() / env.amin()) ** (1 / 2.4))
    assert (legacy_light(torch.zeros(HEIGHT, WIDTH, 3)) == 0).all()
    # Divided by pixels, not by 3 × pixels: √3 times the ordinary error.
    other = torch.rand(HEIGHT, WIDTH, 3) ** 4
    legacy = compare_legacy_spheres(other, env)
    expected = si_rmse(*(render_spheres(legacy_light(x))["diffuse"] for x in (other, env)))
    assert legacy["legacy_diffuse_si_rmse"] == pytest.approx(math.sqrt(3) * expected)
    assert legacy.keys() == {f"legacy_{name}" for name in compare_spheres(other, env)}


def test_the_true_light_has_no_error():
    env = torch.rand(128, 256, 3) ** 8 * 100
    for name, error in light_metrics.compare_lights(2 * env, env).items():
        if name == "irradiance_error":
            assert error == pytest.approx(1, abs=0.01), "twice the light is off by one stop"
        else:
            assert error == pytest.approx(0, abs=0.05), name


def test_a_hot_pixel_moves_the_peak_but_not_the_dominant_light():
    light = (1.0, 0.4, 0.5)
    env = 0.2 + lamp(light, 15, 20.0)
    env[40, 10] = 400.0
    axis = torch.tensor(light)
    assert angle_between(dominant_direction(env), axis) < 4
    assert angle_between(peak_direction(env), direction_grid(HEIGHT, WIDTH)[40, 10]) < 1e-3
    assert angle_between(peak_direction(env), axis) > 60


def test_the_stronger_of_two_lamps_dominates():
    strong, weak = (1.0, 0.0, 0.3), (-1.0, 0.0, 0.3)
    env = lamp(strong, 12, 10.0) + lamp(weak, 6, 20.0)
    assert angle_between(dominant_direction(env), torch.tensor(strong)) < 3


def test_light_without_a_direction_has_no_error_of_direction():
    even = torch.full((HEIGHT, WIDTH, 3), 0.7)
    assert math.isnan(angle_between(dominant_direction(even), torch.tensor((1.0, 0.0, 0.0))))
    assert math.isnan(angle_between(peak_direction(even), torch.tensor((1.0, 0.0, 0.0))))


@pytest.mark.parametrize("degrees", [0.001, 1.0, 90.0, 179.999])
def test_angles_are_exact_from_end_to_end(degrees):
    turned = torch.tensor((math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0)).double()
    assert angle_between(torch.tensor((1.0, 0.0, 0.0)), turned) == pytest.approx(degrees, rel=1e-2)


def test_the_mean_environment_of_even_maps_is_their_geometric_mean():
    maps = torch.stack((torch.full((3, 2, 4), 1.0), torch.full((3, 2, 4), 16.0)))
    torch.testing.assert_close(mean_environment(maps), torch.full((3, 2, 4), 4.0))


def test_the_mean_environment_of_moving_suns_lights_as_much_as_each_of_them():
    """One sun on an even sky, elsewhere in every map: a mean of logarithms of each pixel would see little of it."""
    maps = torch.full((8, 3, 128, 256), 0.05)
    for number, column in enumerate(range(0, 256, 32)):
        maps[number, :, 40:44, column : column + 4] = 500.0
    mean = mean_environment(maps)[None]
    torch.testing.assert_close(mean_luminance(mean), mean_luminance(maps[:1]))
    dimmer, brighter = (irradiance_error(mean * factor, maps).mean() for factor in (0.25, 4.0))
    assert irradiance_error(mean, maps).mean() < min(dimmer, brighter)


def test_no_map_outweighs_the_others_in_the_mean_environment():
    """A map a thousand times as bright counts in how bright the mean is, not in where its light comes from."""
    left, right = torch.rand(2, 3, 16, 32) + 0.1
    left = left / mean_luminance(left[None])
    right = right / mean_luminance(right[None])
    mean = mean_environment(torch.stack((left, 1000 * right)))
    torch.testing.assert_close(mean, math.sqrt(1000) * (left + right) / 2)
    # A black map has no direction, and leaves a mean that can be used.
    assert mean_environment(torch.stack((left, torch.zeros_like(left)))).isfinite().all()


def test_the_mean_luminance_is_the_mean_irradiance_of_even_light():
    env = torch.full((1, 3, 128, 256), 0.7)
    assert mean_luminance(env).item() == pytest.approx(0.7, rel=1e-4)
    torch.testing.assert_close(irradiance(env).mean(), mean_luminance(env)[0], rtol=0.02, atol=0)


def test_places_are_spread():
    assert spread(11, 3) == [0, 5, 10]
    assert spread(2, 5) == [0, 1]
