"""Environment maps on disk: exact EXR, .hdr, headers, and every way a file can be wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delit_models.errors import DelitError
from delit_models.image_files import read_env_map, write_env_map, write_image
from delit_models.lat_long import ORIENTATIONS, to_orientation, total_light
from tests.unit.disk_limits import full_disk_after, names_in


def hdr_map(height: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    brightness = torch.exp2(torch.rand(height, 2 * height, 1, generator=generator) * 24 - 10)
    return torch.rand(height, 2 * height, 3, generator=generator) * brightness


def write_raw(path: Path, pixels: np.ndarray, channels: tuple[str, ...], **attributes: object) -> Path:
    """A file as another program would write it, straight through OpenImageIO."""
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], "float")
    spec.channelnames = channels
    for name, value in attributes.items():
        spec.attribute(name, f"float[{len(value)}]", value) if isinstance(value, tuple) else spec.attribute(
            name, value
        )
    output = oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec) and output.write_image(pixels) and output.close()
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("bit_depth", ["half", "float"])
def test_exr_comes_back_bit_for_bit(tmp_path: Path, bit_depth: str, orientation: str) -> None:
    env = hdr_map()
    write_env_map(tmp_path / "env.exr", env, bit_depth=bit_depth, orientation=orientation)
    expected = env.half().float() if bit_depth == "half" else env
    assert torch.equal(read_env_map(tmp_path / "env.exr").radiance, expected)


# Every finite, non-negative bit pattern is legal light: denormals and the largest numbers too.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    half=arrays(np.uint16, (4, 8, 3), elements=st.integers(0, 0x7BFF)),
    single=arrays(np.uint32, (4, 8, 3), elements=st.integers(0, 0x7F7FFFFF)),
)
def test_any_bit_pattern_of_light_survives(tmp_path: Path, half: np.ndarray, single: np.ndarray) -> None:
    for bit_depth, pixels in (("half", half.view(np.float16)), ("float", single.view(np.float32))):
        write_env_map(tmp_path / "bits.exr", torch.from_numpy(pixels.astype(np.float32)), bit_depth=bit_depth)
        back = read_env_map(tmp_path / "bits.exr").radiance.numpy()
        assert np.array_equal(back.view(np.uint32), pixels.astype(np.float32).view(np.uint32))


def test_the_attributes_as_openimageio_sees_them(tmp_path: Path) -> None:
    path = tmp_path / "env.exr"
    write_env_map(path, hdr_map(), orientation="blender", header={"delit:weights": "sha256:1234"})
    image_input = oiio.ImageInput.open(str(path))
    spec = image_input.spec()
    assert (spec.width, spec.height, tuple(spec.channelnames), str(spec.format)) == (
        64,
        32,
        ("R", "G", "B"),
        "half",
    )
    assert spec.getattribute("compression") == "zip"
    assert spec.getattribute("textureformat") == "LatLong Environment"
    assert spec.getattribute("chromaticities") == pytest.approx(
        (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
    )
    assert spec.getattribute("delit:orientation") == "blender"
    assert spec.getattribute("delit:weights") == "sha256:1234"
    assert spec.getattribute("Software") == "Delit"


def test_the_attributes_as_openexr_itself_sees_them(tmp_path: Path) -> None:
    openexr = pytest.importorskip(
        "OpenEXR", reason="pip install OpenEXR to check the file with its own library"
    )
    env = hdr_map()
    write_env_map(tmp_path / "env.exr", env, bit_depth="float", header={"delit:weights": "abc"})
    with openexr.File(str(tmp_path / "env.exr"), separate_channels=True) as file:
        header = file.header()
        channels = file.channels()
        assert header["envmap"] == openexr.Envmap.ENVMAP_LATLONG
        assert header["compression"] == openexr.ZIP_COMPRESSION
        assert header["chromaticities"] == pytest.approx((0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329))
        assert (header["delit:orientation"], header["delit:weights"]) == ("delit", "abc")
        assert sorted(channels) == ["B", "G", "R"]
        for index, name in enumerate("RGB"):
            assert np.array_equal(channels[name].pixels, env[..., index].numpy())


def test_pixels_on_disk_are_in_the_asked_orientation(tmp_path: Path) -> None:
    env = hdr_map()
    for suffix in (".exr", ".hdr"):
        for preset in ("unreal", "cinema 4d"):
            write_env_map(tmp_path / f"env{suffix}", env, orientation=preset)
            # Read as if it were unturned, which ignores the header.
            stored = read_env_map(tmp_path / f"env{suffix}", orientation="delit").radiance
            assert torch.allclose(stored, to_orientation(env, preset), rtol=0.02, atol=0.01 * env.max())
            assert not torch.allclose(stored, env, rtol=0.02, atol=0.01 * env.max())


def test_hdr_is_within_a_hundredth_and_its_orientation_is_told(tmp_path: Path) -> None:
    env = hdr_map()
    write_env_map(tmp_path / "env.hdr", env, orientation="blender")
    back = read_env_map(tmp_path / "env.hdr", orientation="blender").radiance
    assert ((back - env).abs() / env.amax(dim=-1, keepdim=True)).max() < 0.01


def test_header_strings_are_returned_as_text(tmp_path: Path) -> None:
    write_env_map(tmp_path / "env.exr", hdr_map(), header={"delit:weights": "abc", "comment": "Ümläut 灯"})
    attributes = read_env_map(tmp_path / "env.exr").attributes
    assert attributes["delit:weights"] == "abc" and attributes["comment"] == "Ümläut 灯"
    assert all(isinstance(value, str) for value in attributes.values())


def test_half_lowers_what_it_cannot_hold_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = hdr_map()
    env[3, 4, 1], env[5, 6, 2] = 65519.0, 1e6
    with caplog.at_level(logging.WARNING):
        write_env_map(tmp_path / "env.exr", env)
    assert "2 values over 65504" in caplog.text
    back = read_env_map(tmp_path / "env.exr").radiance
    assert back[3, 4, 1] == back[5, 6, 2] == 65504.0 and torch.isfinite(back).all()
    write_env_map(tmp_path / "env.exr", env, bit_depth="float")
    assert read_env_map(tmp_path / "env.exr").radiance[5, 6, 2] == 1e6


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5])
def test_light_that_cannot_be_is_never_written(tmp_path: Path, bad: float, suffix: str) -> None:
    env = hdr_map()
    env[2, 7, 1] = env[9, 9, 0] = bad
    with pytest.raises(DelitError, match="2 of 6144 .* row 2, column 7, channel G"):
        write_env_map(tmp_path / f"env{suffix}", env)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("env.png", {}, r"\.exr \(OpenEXR\) or \.hdr"),
        ("env", {}, "Cannot tell the format"),
        ("env.exr", {"bit_depth": "double"}, "Unknown bit depth 'double'"),
        ("env.hdr", {"bit_depth": "float"}, "a .hdr file has one depth"),
        ("env.exr", {"orientation": "maya"}, "Unknown orientation 'maya'"),
    ],
)
def test_unknown_options_are_refused(tmp_path: Path, name: str, options: dict, message: str) -> None:
    with pytest.raises(DelitError, match=message):
        write_env_map(tmp_path / name, hdr_map(), **options)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((16, 48, 3), "twice as wide as high, this one is 48 x 16"),
        ((1, 16, 32, 3), "one by one"),
        ((16, 32, 4), "Expected one environment map"),
        ((0, 0, 3), "Expected one environment map"),
    ],
)
def test_other_shapes_are_not_written(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DelitError, match=message):
        write_env_map(tmp_path / "env.exr", torch.rand(shape))


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
@pytest.mark.parametrize("free_bytes", [0, 300, 20000])
def test_a_full_disk_leaves_nothing_and_spares_the_old_file(
    tmp_path: Path, suffix: str, free_bytes: int
) -> None:
    path = tmp_path / f"env{suffix}"
    path.write_text("the old file")
    with (
        full_disk_after(free_bytes),
        pytest.raises(DelitError, match="Nothing was written.*disk is not full"),
    ):
        write_env_map(path, hdr_map(128))
    assert path.read_text() == "the old file"
    assert names_in(tmp_path) == [path.name]


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for target in (tmp_path / "file" / "env.exr", Path("/proc/delit/env.exr")):
        with pytest.raises(DelitError, match="Cannot write .*env.exr"):
            write_env_map(target, hdr_map())
    (tmp_path / "folder.exr").mkdir()
    with pytest.raises(DelitError, match="it is a folder"):
        write_env_map(tmp_path / "folder.exr", hdr_map())


def test_folders_are_made_and_files_replaced_only_if_allowed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "env.exr"
    write_env_map(path, hdr_map())
    write_env_map(path, torch.ones(4, 8, 3))
    with pytest.raises(DelitError, match="already there"):
        write_env_map(path, hdr_map(), overwrite=False)
    assert torch.equal(read_env_map(path).radiance, torch.ones(4, 8, 3))
    assert names_in(path.parent) == ["env.exr"]


def test_files_that_are_missing_or_no_image(tmp_path: Path) -> None:
    with pytest.raises(DelitError, match="There is no file"):
        read_env_map(tmp_path / "none.exr")
    with pytest.raises(DelitError, match="is a folder"):
        read_env_map(tmp_path)
    for name in ("text.exr", "text.hdr", "text.png", "empty.exr"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "this is no image\n" * 50)
        with pytest.raises(DelitError, match="cannot be read as an image.*export it again"):
            read_env_map(tmp_path / name)


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_files_that_were_cut_short(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"env{suffix}"
    write_env_map(path, hdr_map(64))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DelitError, match="damaged|cut short"):
        read_env_map(path)


def test_maps_a_few_pixels_off_are_resampled_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.random.default_rng(1).random((63, 128, 3), dtype=np.float32)
    path = write_raw(tmp_path / "env.exr", pixels, ("R", "G", "B"))
    radiance = read_env_map(path).radiance
    assert radiance.shape == (64, 128, 3)
    assert torch.allclose(total_light(radiance), total_light(torch.from_numpy(pixels)), rtol=1e-4)
    assert "128 x 63, not quite 2:1; resampled to 128 x 64" in caplog.text


@pytest.mark.parametrize(
    ("size", "kind"),
    [((64, 64), "light probe"), ((48, 64), "cube cross"), ((96, 16), "cube strip"), ((64, 100), "another")],
)
def test_other_projections_are_refused(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    path = write_raw(tmp_path / "env.exr", np.ones((*size, 3), np.float32), ("R", "G", "B"))
    with pytest.raises(DelitError, match=f"twice as wide as high.*{kind}.*Convert"):
        read_env_map(path)


def test_grey_alpha_and_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pixels = np.random.default_rng(2).random((8, 16, 4), dtype=np.float32)
    grey = read_env_map(write_raw(tmp_path / "grey.exr", pixels[..., :1].copy(), ("Y",))).radiance
    assert np.array_equal(grey.numpy(), np.repeat(pixels[..., :1], 3, axis=2)) and "widened" in caplog.text
    with_alpha = read_env_map(write_raw(tmp_path / "alpha.exr", pixels, ("R", "G", "B", "A"))).radiance
    assert np.array_equal(with_alpha.numpy(), pixels[..., :3]) and "only the colour channels" in caplog.text
    layer = read_env_map(
        write_raw(tmp_path / "layer.exr", pixels[..., :3].copy(), ("sky.R", "sky.G", "sky.B"))
    )
    assert np.array_equal(layer.radiance.numpy(), pixels[..., :3])
    with pytest.raises(DelitError, match="has the channels .*Export its colour as RGB"):
        read_env_map(write_raw(tmp_path / "normals.exr", pixels[..., :3].copy(), ("N.X", "N.Y", "N.Z")))


def test_impossible_light_in_a_file_is_repaired_or_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.ones((8, 16, 3), np.float32)
    pixels[0, 0], pixels[1, 1] = -0.01, np.inf
    radiance = read_env_map(write_raw(tmp_path / "env.exr", pixels, ("R", "G", "B"))).radiance
    assert radiance[0, 0].tolist() == [0.0] * 3 and radiance[1, 1].tolist() == [65504.0] * 3
    assert "3 negative values" in caplog.text and "3 infinite values" in caplog.text
    pixels[4, 5, 2] = np.nan
    with pytest.raises(
        DelitError, match="1 of 384 values are not numbers .NaN., the first at row 4, column 5, channel B"
    ):
        read_env_map(write_raw(tmp_path / "nan.exr", pixels, ("R", "G", "B")))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_pictures_without_high_range_are_made_linear(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / f"env{suffix}", torch.full((16, 32, 3), 0.5))
    radiance = read_env_map(tmp_path / f"env{suffix}").radiance
    assert radiance.mean().item() == pytest.approx(0.2158, abs=0.005)
    assert "without high dynamic range" in caplog.text


def test_float_tiff_is_linear_already(tmp_path: Path) -> None:
    pixels = np.full((8, 16, 3), 3.5, np.float32)
    assert (read_env_map(write_raw(tmp_path / "env.tif", pixels, ("R", "G", "B"))).radiance == 3.5).all()


def test_other_primaries_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    aces = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)
    read_env_map(
        write_raw(tmp_path / "a.exr", np.ones((8, 16, 3), np.float32), ("R", "G", "B"), chromaticities=aces)
    )
    assert "other primaries than Rec.709" in caplog.text
    caplog.clear()
    write_env_map(tmp_path / "b.exr", torch.ones(8, 16, 3))
    read_env_map(tmp_path / "b.exr")
    assert caplog.text == ""


def test_a_map_made_for_another_program_is_turned_back(tmp_path: Path) -> None:
    env = hdr_map()
    path = write_raw(tmp_path / "foreign.exr", to_orientation(env, "openexr").numpy().copy(), ("R", "G", "B"))
    assert torch.equal(read_env_map(path, orientation="openexr").radiance, env)
    with pytest.raises(DelitError, match="Unknown orientation"):
        read_env_map(path, orientation="maya")
