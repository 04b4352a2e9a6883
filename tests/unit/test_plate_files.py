"""Plates keep their range, numbers, alpha, windows and headers on the way through files."""

import numpy as np
import OpenImageIO as oiio
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delit_models.env_map_files import read_env_map
from delit_models.errors import DelitError
from delit_models.plate_files import (
    PlateHeader,
    Window,
    find_plates,
    frames_of,
    numbered_name,
    read_plate,
    write_plate,
)
from tests.fuzz import promises


def _pixels(
    seed: int = 0, low: float = -0.5, high: float = 30.0, size: tuple[int, int] = (9, 13)
) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(*size, 3, generator=random) * (high - low) + low


def _foreign_exr(path, shape=(6, 10, 4), **attributes):
    """An EXR as a renderer writes it: a data window within its frame, a time code, ACEScg primaries."""
    spec = oiio.ImageSpec(shape[1], shape[0], shape[2], "half")
    spec.channelnames = ("R", "G", "B", "A")[: shape[2]]
    spec.x, spec.y, spec.full_width, spec.full_height = 3, 2, 20, 16
    spec.attribute("chromaticities", "float[8]", (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767))
    spec.attribute("smpte:TimeCode", oiio.TypeDesc("timecode"), (0x01020304, 0))
    spec.attribute("cameraFocalLength", 35.5)
    spec.attribute("shot", "sq010_sh020")
    for name, value in attributes.items():
        spec.attribute(name, value)
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec), writer.geterror()
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32) * 8 - 1
    assert writer.write_image(pixels) and writer.close()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), pixel_type=st.sampled_from(["half", "float"]), with_alpha=st.booleans())
def test_exr_there_and_back(tmp_path_factory, seed, pixel_type, with_alpha):
    path = tmp_path_factory.mktemp("plates") / "plate.exr"
    pixels = _pixels(seed)
    alpha = pixels[..., 0].abs().clamp(0, 1) if with_alpha else None
    write_plate(path, pixels, alpha=alpha, pixel_type=pixel_type, coding="ACEScg")
    plate = read_plate(path)
    expected = pixels.half().float() if pixel_type == "half" else pixels
    assert torch.equal(plate.pixels, expected)
    assert plate.coding == "ACEScg" and (plate.alpha is not None) == with_alpha


def test_all_that_a_frame_says_is_written_again(tmp_path):
    _foreign_exr(tmp_path / "beauty.1001.exr")
    plate = read_plate(tmp_path / "beauty.1001.exr")
    assert plate.coding == "ACEScg" and plate.header.frame == 1001
    assert plate.pixels.min() < 0 and plate.pixels.max() > 1
    write_plate(
        tmp_path / "out.exr", plate.pixels * 2, alpha=plate.alpha, coding="ACEScg", header=plate.header,
        extra={"delit:weights": "abc"},
    )  # fmt: skip
    opened = oiio.ImageInput.open(str(tmp_path / "out.exr"))
    spec = opened.spec()
    assert (spec.x, spec.y, spec.width, spec.height) == (3, 2, 10, 6)
    assert (spec.full_width, spec.full_height) == (20, 16)
    assert spec.getattribute("smpte:TimeCode") == (0x01020304, 0)
    assert spec.getattribute("cameraFocalLength") == pytest.approx(35.5)
    assert spec.getattribute("shot") == "sq010_sh020" and spec.getattribute("delit:weights") == "abc"
    again = read_plate(tmp_path / "out.exr")
    assert torch.equal(again.pixels, (plate.pixels * 2).half().float()) and torch.equal(
        again.alpha, plate.alpha
    )


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_sixteen_bits_there_and_back(tmp_path, suffix):
    pixels, alpha = _pixels(2, 0, 1), _pixels(3, 0, 1)[..., 0]
    write_plate(tmp_path / f"flat{suffix}", pixels, alpha=alpha, pixel_type="uint16", coding="sRGB")
    plate = read_plate(tmp_path / f"flat{suffix}")
    assert plate.coding == "sRGB"
    torch.testing.assert_close(plate.pixels, pixels, rtol=0, atol=1 / 65535)
    torch.testing.assert_close(plate.alpha, alpha, rtol=0, atol=1 / 65535)


def test_sequences_are_found_with_their_numbers(tmp_path):
    (tmp_path / "shot").mkdir()
    for frame in (1001, 1002, 1004):
        write_plate(tmp_path / "shot" / f"plate.{frame}.exr", _pixels(frame))
    write_plate(tmp_path / "still.exr", _pixels())
    write_plate(tmp_path / "take2.exr", _pixels())
    assert find_plates(tmp_path) == ["shot/plate.####.exr", "still.exr", "take2.exr"]
    pattern = tmp_path / "shot" / "plate.####.exr"
    assert [read_plate(file).header.frame for file in frames_of(pattern)] == [1001, 1002, 1004]
    assert [file.name for file in frames_of(pattern, first=1002, count=1)] == ["plate.1002.exr"]
    assert frames_of(tmp_path / "still.exr") == [tmp_path / "still.exr"]
    with pytest.raises(DelitError, match="1001 to 1004"):
        frames_of(pattern, first=2000)
    with pytest.raises(DelitError, match="no frame"):
        frames_of(tmp_path / "shot" / "other.####.exr")


def test_names_for_compositors():
    assert numbered_name("flat", 2, 7, ".exr") == "flat_v002.0007.exr"


def test_what_cannot_be_held_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(DelitError, match="EXR"):
        write_plate(tmp_path / "a.png", _pixels(), pixel_type="uint16", coding="sRGB")
    with pytest.raises(DelitError, match="NaN"):
        write_plate(tmp_path / "a.exr", torch.full((4, 4, 3), torch.nan))
    with pytest.raises(DelitError, match="uint16"):
        write_plate(tmp_path / "a.exr", _pixels(), pixel_type="uint16")
    with pytest.raises(DelitError, match="one size"):
        write_plate(tmp_path / "a.exr", _pixels(), alpha=torch.ones(3, 3))
    assert not list(tmp_path.iterdir())


def test_damaged_plates_and_unknown_primaries(tmp_path):
    write_plate(tmp_path / "whole.exr", _pixels(size=(64, 64)), pixel_type="float")
    data = (tmp_path / "whole.exr").read_bytes()
    (tmp_path / "cut.exr").write_bytes(data[: len(data) // 2])
    with pytest.raises(DelitError, match="damaged|cut short|cannot be read"):
        read_plate(tmp_path / "cut.exr")
    for pixel_type in ("uint16", "float"):
        write_plate(
            tmp_path / "whole.tif", _pixels(size=(64, 64)).clamp(0, 1), pixel_type=pixel_type, coding="sRGB"
        )
        data = (tmp_path / "whole.tif").read_bytes()
        for kept in (0.3, 0.99):
            (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * kept)])
            with pytest.raises(DelitError, match="cut short"):
                read_plate(tmp_path / "cut.tif")
    (tmp_path / "text.exr").write_text("no picture")
    with pytest.raises(DelitError, match="cannot be read"):
        read_plate(tmp_path / "text.exr")
    _foreign_exr(tmp_path / "wide.exr")
    spec_path = tmp_path / "rec2020.exr"
    spec = oiio.ImageSpec(4, 4, 3, "half")
    spec.attribute("chromaticities", "float[8]", (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329))
    writer = oiio.ImageOutput.create(str(spec_path))
    writer.open(str(spec_path), spec)
    writer.write_image(np.ones((4, 4, 3), np.float32))
    writer.close()
    assert read_plate(spec_path).coding is None


@pytest.mark.parametrize(
    "attribute",
    [
        b"chromaticities\0string\0\4\0\0\0odd!",
        b"chromaticities\0floatvector\0\x08\0\0\0\0\0\0\0\0\0\x80?",
        b"chromaticities\0float\0\4\0\0\0\0\0\x80?",
    ],
)
def test_primaries_that_are_none_are_unknown(tmp_path, attribute):
    path = tmp_path / "plate.exr"
    path.write_bytes(promises.exr(attribute, None))
    assert read_plate(path).coding is None
    assert read_env_map(path).radiance.shape == (32, 64, 3)


def test_a_header_that_cannot_be_written_is_left_out_and_a_window_refused(tmp_path):
    path = tmp_path / "plate.exr"
    odd = (("odd", "int", "\ud800"), ("odder", "timecode", None), ("oddest", "timecode", -144872))
    write_plate(path, _pixels(), header=PlateHeader(attributes=(("shot", "string", "sq"), *odd)))
    names = {name for name, _, _ in read_plate(path).header.attributes}
    assert "shot" in names and not names & {"odd", "odder", "oddest"}
    for window in (Window(0, 0, 0, 0, 2**40, 8), Window(-(2**31), 0, 0, 0, 8, 8)):
        with pytest.raises(DelitError, match="reaches past what an EXR file can hold"):
            write_plate(tmp_path / "new.exr", _pixels(), header=PlateHeader(window=window))
    assert not (tmp_path / "new.exr").exists()


def test_a_header_that_is_no_text_is_left_out(tmp_path):
    path = tmp_path / "plate.exr"
    path.write_bytes(
        promises.exr(b"comment\0string\0\4\0\0\0\xff\xfe\x80z" + b"shot\0string\0\2\0\0\0sq", None)
    )
    told = {name: value for name, _, value in read_plate(path).header.attributes}
    assert told["shot"] == "sq" and "comment" not in told
    assert read_env_map(path).attributes["shot"] == "sq"
