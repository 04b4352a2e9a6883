"""Headers that promise more than there is, or than anybody needs, are refused before memory is taken for it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from delit_models import oiio_files
from delit_models.checkpoint import load_wan_vae
from delit_models.env_map_files import read_env_map
from delit_models.errors import CheckpointError, DelitError
from delit_models.exr_header import check_exr_header
from delit_models.image_files import read_image, write_image
from delit_models.plate_files import read_plate
from tests.fuzz import promises

READERS = (read_image, read_env_map, read_plate)


def refused_by_all(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    for reader in READERS:
        with pytest.raises(DelitError, match=message):
            reader(path)


@pytest.mark.parametrize(
    "name", ["a.png", "deep.png", "a.jpg", "a.bmp", "wide.tif", "rows.tif", "a.exr", "a.hdr"]
)
def test_a_hundred_thousand_pixels_each_way(tmp_path, name):
    with pytest.raises(DelitError):
        promises.promises()[name](tmp_path)


@pytest.mark.parametrize("depth", [8, 16])
def test_more_pixels_than_delit_reads(tmp_path, monkeypatch, depth):
    monkeypatch.setattr(oiio_files, "MOST_VALUES", 10_000)
    content = promises.png(80, 80, depth)
    refused_by_all(tmp_path / "a.png", content, "80 x 80 pixels of 3 channels. Delit reads up to 10,000")


@pytest.mark.parametrize("depth", [8, 16])
def test_more_pixels_than_the_file_can_hold(tmp_path, depth):
    content = promises.png(4000, 4000, depth)
    refused_by_all(tmp_path / "a.png", content, f"which {len(content):,} bytes cannot hold")


def test_what_a_tiff_lacks_is_not_made_up(tmp_path):
    refused_by_all(tmp_path / "high.tif", promises.tiff(257, 64), "damaged or cut short")


def test_a_tiffs_strips_may_reach_past_its_end_but_not_without_bounds(tmp_path):
    path = tmp_path / "rows.tif"
    for rows in (64, 100_000, 2**32 - 1):
        path.write_bytes(promises.tiff(278, rows))
        assert read_image(path).shape == (32, 64, 3)
    refused_by_all(
        path, promises.tiff(278, 100_000_000), "parts of its 64 x 32 pixels hold 19,200,000,000 values"
    )


def test_a_picture_that_is_well_compressed_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(oiio_files, "ALWAYS_READ", 0)
    path = tmp_path / "black.png"
    write_image(path, torch.zeros(512, 512, 3))
    assert path.stat().st_size < 512 * 512 * 3 / 100
    assert read_image(path).shape == (512, 512, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: promises.exr_channels(20_000), "channels' names"),
        (lambda: promises.exr(promises.exr_attributes(5000), None), "4,097 attributes or more"),
        (
            lambda: promises.exr(b"a\0string\0" + struct.pack("<I", 2**31 - 16), None),
            "2,147,4.*bytes or more",
        ),
        (lambda: promises.exr(b"a\0preview\0" + struct.pack("<I", 2**32 - 1), None), "bytes or more"),
    ],
    ids=["channels", "attributes", "a text", "a preview"],
)
def test_exr_headers_that_keep_a_reader_busy(tmp_path, content, message):
    refused_by_all(tmp_path / "a.exr", content(), message)


@pytest.mark.parametrize("kind", ["stringvector", "floatvector"])
def test_an_exr_header_with_a_list_of_nothing(tmp_path, kind):
    """OpenImageIO takes the memory behind it for the list: it has crashed there, and ComfyUI with it."""
    content = promises.exr(f"views\0{kind}\0\0\0\0\0".encode(), None)
    refused_by_all(tmp_path / "a.exr", content, "'views' is a list of nothing")


def test_all_parts_of_an_exr_are_counted_and_what_ends_or_breaks_off_is_left_to_openexr(tmp_path):
    path = tmp_path / "a.exr"
    part = promises.exr_attributes(3000) + b"\0"
    start, of_parts = b"\x76\x2f\x31\x01\x02\0\0\0", b"\x76\x2f\x31\x01\x02\x10\0\0"
    for content in (
        start + part + part + b"\0",
        of_parts + part + b"\0" + part,
        of_parts + part[:-9],
        b"",
        start,
    ):
        path.write_bytes(content)
        check_exr_header(path)
    path.write_bytes(of_parts + part + part + b"\0")
    with pytest.raises(DelitError, match="4,097 attributes"):
        check_exr_header(path)


def test_a_pth_that_unpacks_to_far_more_than_itself(tmp_path):
    path = tmp_path / "vae.pth"
    path.write_bytes(promises.zip_bomb(80))
    with pytest.raises(CheckpointError, match=r"bytes that unpack to 8\d,\d{3},\d{3}"):
        load_wan_vae(path)
