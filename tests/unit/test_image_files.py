"""Ordinary pictures: exact values, upright, in sRGB, and every way a file can be wrong."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from delit_models.errors import DelitError
from delit_models.image_files import read_image, write_env_map, write_image
from tests.unit.disk_limits import full_disk_after, names_in


def picture(channels: int, bit_depth: int = 8) -> torch.Tensor:
    """[24, 17, channels] of values that `bit_depth` bits hold exactly."""
    top = 2**bit_depth - 1
    codes = np.random.default_rng(channels).integers(0, top + 1, (24, 17, channels))
    return torch.from_numpy((codes / np.float64(top)).astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("suffix", "bit_depth"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".WEBP", 8)]
)
def test_lossless_formats_give_back_the_same_values(
    tmp_path: Path, suffix: str, bit_depth: int, channels: int
) -> None:
    image = picture(channels, bit_depth)
    write_image(tmp_path / f"image{suffix}", image, bit_depth)
    back = read_image(tmp_path / f"image{suffix}")
    if suffix == ".WEBP" and channels == 1:
        image = image.expand(-1, -1, 3)  # WebP has no grey.
    assert back.shape == image.shape and back.dtype == torch.float32
    assert torch.allclose(back, image, rtol=0, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close(tmp_path: Path, channels: int) -> None:
    ramp = torch.linspace(0, 1, 64)[:, None, None].expand(64, 48, channels)
    write_image(tmp_path / "image.jpg", ramp)
    back = read_image(tmp_path / "image.jpg")
    assert back.shape == ramp.shape and (back - ramp).abs().max() < 0.02


def test_sixteen_bits_are_really_stored_and_alpha_is_not_multiplied_in(tmp_path: Path) -> None:
    image = torch.tensor([0.25, 0.5, 1.0, 0.125]).expand(8, 8, 4).contiguous()
    write_image(tmp_path / "deep.png", image, bit_depth=16)
    assert str(oiio.ImageInput.open(str(tmp_path / "deep.png")).spec().format) == "uint16"
    assert torch.allclose(read_image(tmp_path / "deep.png"), image, atol=1e-5)


def test_values_are_rounded_and_clamped(tmp_path: Path) -> None:
    write_image(tmp_path / "image.png", torch.tensor([-0.2, 100.4 / 255, 1.7]).expand(2, 2, 3))
    assert (np.asarray(Image.open(tmp_path / "image.png"))[0, 0] == [0, 100, 255]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "deep"), [(".jpg", False), (".png", False), (".tif", False), (".tif", True)]
)
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, deep: bool, orientation: int) -> None:
    """Against Pillow's own, on a picture with four different corners."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[:16, 24:], pixels[16:, :24] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    stored = Image.fromarray(pixels)
    exif = stored.getexif()
    exif[0x0112] = orientation
    encoded = io.BytesIO()
    stored.save(encoded, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(encoded))).astype(np.float32) / 255
    path = tmp_path / f"image{suffix}"
    if deep:
        spec = oiio.ImageSpec(48, 32, 3, "uint16")
        spec.attribute("Orientation", orientation)
        output = oiio.ImageOutput.create(str(path))
        assert (
            output.open(str(path), spec)
            and output.write_image(pixels.astype(np.uint16) * 257)
            and output.close()
        )
        del output
    else:
        stored.save(path, exif=exif)
    image = read_image(path).numpy()
    assert image.shape == expected.shape and np.abs(image - expected).mean() < 0.02


def test_other_modes_become_grey_colour_or_colour_with_alpha(tmp_path: Path) -> None:
    rgba = Image.fromarray((picture(4) * 255).round().numpy().astype(np.uint8))
    expected = {"1": 1, "L": 1, "P": 3, "LA": 4, "RGB": 3, "RGBA": 4}
    for mode, channels in expected.items():
        source = rgba.convert("RGB").convert(mode) if mode in ("1", "L", "P") else rgba.convert(mode)
        source.save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png").shape == (24, 17, channels), mode
    rgba.convert("RGB").quantize(8).save(tmp_path / "transparent.png", transparency=0)
    assert read_image(tmp_path / "transparent.png").shape == (24, 17, 4)
    rgba.convert("CMYK").save(tmp_path / "print.jpg")
    assert read_image(tmp_path / "print.jpg").shape == (24, 17, 3)


def test_sixteen_bit_grey_and_grey_with_alpha(tmp_path: Path) -> None:
    grey = (picture(1, 16)[..., 0] * 65535).round().numpy().astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert torch.allclose(read_image(tmp_path / "grey.png"), picture(1, 16), atol=1e-6)
    spec = oiio.ImageSpec(17, 24, 2, "uint16")
    spec.channelnames, spec.alpha_channel = ("Y", "A"), 1
    spec.attribute("oiio:UnassociatedAlpha", 1)
    output = oiio.ImageOutput.create(str(tmp_path / "la.png"))
    assert output.open(str(tmp_path / "la.png"), spec) and output.write_image(
        np.stack([grey, grey[::-1]], axis=-1)
    )
    assert output.close()
    del output
    back = read_image(tmp_path / "la.png")
    assert back.shape == (24, 17, 4)
    assert torch.allclose(back[..., 2], picture(1, 16)[..., 0], atol=1e-6)
    assert torch.allclose(back[..., 3], picture(1, 16)[..., 0].flip(0), atol=1e-6)


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lab_white = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    Image.new("RGB", (8, 8), (128, 128, 128)).save(tmp_path / "xyz.png", icc_profile=lab_white.tobytes())
    read_image(tmp_path / "xyz.png")
    assert "colour profile" in caplog.text
    caplog.clear()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    Image.new("RGB", (8, 8), (10, 128, 250)).save(tmp_path / "srgb.png", icc_profile=srgb.tobytes())
    assert (read_image(tmp_path / "srgb.png")[0, 0] * 255).round().tolist() == [10, 128, 250]
    Image.new("RGB", (8, 8), (10, 128, 250)).save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert (read_image(tmp_path / "broken.png")[0, 0] * 255).round().tolist() == [10, 128, 250]
    assert "cannot be used" in caplog.text


def test_an_animation_gives_its_first_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    frames = [Image.new("RGB", (8, 8), color) for color in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(tmp_path / "clip.webp")[0, 0, 0] > 0.7
    assert "2 frames" in caplog.text


def test_files_that_are_missing_no_picture_or_hdr(tmp_path: Path) -> None:
    with pytest.raises(DelitError, match="There is no file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DelitError, match="is a folder"):
        read_image(tmp_path)
    for name in ("text.png", "empty.jpg"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "not a picture\n" * 20)
        with pytest.raises(DelitError, match="cannot be read as a picture.*export it again"):
            read_image(tmp_path / name)
    for name in ("env.exr", "env.hdr"):
        write_env_map(tmp_path / name, torch.ones(8, 16, 3))
        with pytest.raises(DelitError, match="linear HDR values.*environment map"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "bit_depth"), [(".png", 8), (".png", 16), (".jpg", 8), (".webp", 8), (".tif", 8), (".tif", 16)]
)
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_files_that_were_cut_short(tmp_path: Path, suffix: str, bit_depth: int, kept: float) -> None:
    path = tmp_path / f"image{suffix}"
    write_image(path, torch.rand(64, 64, 3), bit_depth)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DelitError, match="cut short"):
        read_image(path)


@pytest.mark.parametrize("kind", [2, 5, 7, 12])
def test_a_tiff_whose_tags_have_other_types_is_read_or_refused(tmp_path: Path, kind: int) -> None:
    """Pillow takes the values as they come and fails in the middle of decoding, with a TypeError for instance."""
    path = tmp_path / "image.tif"
    Image.new("RGB", (16, 8), "grey").save(path)
    whole = path.read_bytes()
    first = int.from_bytes(whole[4:8], "little")
    refused = 0
    for entry in range(int.from_bytes(whole[first : first + 2], "little")):
        place = first + 2 + 12 * entry + 2
        path.write_bytes(whole[:place] + bytes([kind, 0]) + whole[place + 2 :])
        try:
            read_image(path)
        except DelitError:
            refused += 1
    assert refused


def test_a_picture_too_large_to_be_honest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "large.png", torch.rand(64, 64, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DelitError, match="too large"):
        read_image(tmp_path / "large.png")


@pytest.mark.parametrize(
    ("name", "shape", "bit_depth", "message"),
    [
        ("image.bmp", (8, 8, 3), 8, "end the name in .png"),
        ("image.png", (8, 8, 3), 12, "8 or 16 bits a channel, not 12"),
        ("image.jpg", (8, 8, 3), 16, "no 16-bit form"),
        ("image.jpg", (8, 8, 4), 8, "no transparency"),
        ("image.png", (1, 8, 8, 3), 8, "one by one"),
        ("image.png", (8, 8, 2), 8, "1, 3 or 4"),
        ("image.png", (0, 8, 3), 8, "Expected one picture"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...], bit_depth: int, message: str
) -> None:
    with pytest.raises(DelitError, match=message):
        write_image(tmp_path / name, torch.rand(shape), bit_depth)
    assert names_in(tmp_path) == []


def test_pixels_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path) -> None:
    image = torch.rand(8, 8, 3)
    image[3, 4, 2] = torch.nan
    with pytest.raises(DelitError, match="1 of 192 .* row 3, column 4, channel 2"):
        write_image(tmp_path / "image.png", image)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("suffix", "bit_depth"), [(".png", 8), (".png", 16), (".jpg", 8), (".webp", 8), (".tif", 8), (".tif", 16)]
)
@pytest.mark.parametrize("free_bytes", [0, 3000])
def test_a_full_disk_leaves_nothing_and_spares_the_old_file(
    tmp_path: Path, suffix: str, bit_depth: int, free_bytes: int
) -> None:
    path = tmp_path / f"image{suffix}"
    path.write_text("the old file")
    with full_disk_after(free_bytes), pytest.raises(DelitError, match="Nothing was written"):
        write_image(path, torch.rand(64, 64, 3), bit_depth)
    assert path.read_text() == "the old file"
    assert names_in(tmp_path) == [path.name]


def test_overwriting_only_if_allowed_and_with_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "image.png"
    write_image(path, torch.zeros(8, 8, 3))
    write_image(path, torch.ones(8, 8, 3))
    with pytest.raises(DelitError, match="already there"):
        write_image(path, torch.zeros(8, 8, 3), overwrite=False)
    assert read_image(path).min() == 1.0
    (tmp_path / "ordinary").touch()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_failing_replacement_is_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DelitError, match="Permission denied.*may write to it"):
        write_image(tmp_path / "image.png", torch.rand(8, 8, 3))
    assert names_in(tmp_path) == []
