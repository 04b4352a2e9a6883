"""Plates through a real ComfyUI: nothing is clipped, numbers and headers are kept, both routes agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest
import torch

from delit_models.color import srgb_to_linear
from delit_models.pipeline import DelitOptions
from delit_models.plate_files import read_plate, write_plate
from tests.comfy import graphs
from tests.comfy.comfyui import ComfyServer
from tests.comfy.test_equal_to_pipeline import assert_equal, embedded_pipeline


def plate_pixels(batch: int = 1, seed: int = 0) -> np.ndarray:
    """A plate with a highlight of 20 on it, linear."""
    pixels = srgb_to_linear(torch.from_numpy(graphs.picture(96, 80, batch=batch, seed=seed))).numpy()
    pixels[:, 10:20, 30:50] = 20.0
    return pixels


@pytest.mark.parametrize("coding", ["linear Rec.709", "ACEScg"])
def test_a_plate_through_portrait_and_stages(server: ComfyServer, coding: str) -> None:
    plate = plate_pixels()
    expected = embedded_pipeline()(
        torch.from_numpy(plate), options=DelitOptions(area="subject", coding=coding, exposure=0.5)
    )
    assert expected.flat.max() > 1
    graph = graphs.portrait(server, plate, area="subject", coding=coding, exposure=0.5)
    graph["gain"] = graphs.node("TestDump", file="gain.npy", image=["portrait", 4])
    assert server.run(graph).error is None
    for name in ("flat", "env", "gain"):
        assert_equal(server.dumped(f"{name}.npy"), getattr(expected, name))
    np.testing.assert_allclose(
        server.dumped("flat.npy"), plate * server.dumped("gain.npy"), rtol=1e-4, atol=1e-5
    )

    stages = graphs.stages(server, plate)
    stages["encode"]["inputs"] |= {"coding": coding, "exposure": 0.5}
    stages["decode"]["inputs"]["area"] = "subject"
    stages["gain"] = graphs.node("TestDump", file="gain.npy", image=["decode", 2])
    for name, place in {"matte": ["decode", 1], "rough": ["apply", 2]}.items():
        stages[f"{name} image"] = graphs.node("MaskToImage", mask=place)
        stages[name] = graphs.node("TestDump", file=f"{name}.npy", image=[f"{name} image", 0])
    assert server.run(stages).error is None
    for name in ("flat", "env", "gain"):
        assert_equal(server.dumped(f"{name}.npy"), getattr(expected, name))
    assert_equal(server.dumped("matte.npy")[..., 0], expected.matte)
    assert np.abs(server.dumped("rough.npy")[..., 0] - expected.matte.numpy()).mean() < 0.2


def test_without_a_source_there_is_a_picture_but_no_gain(server: ComfyServer) -> None:
    graph = graphs.stages(server, graphs.picture(seed=11))
    del graph["decode"]["inputs"]["source"]
    graph["decode"]["inputs"]["detail_transfer"] = False
    graph["gain"] = graphs.node("TestDump", file="no_gain.npy", image=["decode", 2])
    assert server.run(graph).error is None
    assert server.dumped("flat.npy").shape == (1, 64, 64, 3)
    assert not (server.output / "no_gain.npy").exists()


def test_a_sequence_in_and_out(server: ComfyServer) -> None:
    folder = Path(server.input) / "shot"
    folder.mkdir(exist_ok=True)
    plates = torch.from_numpy(plate_pixels(2, seed=3))
    for frame, pixels in zip((1001, 1002), plates, strict=True):
        write_plate(
            folder / f"plate.{frame}.exr",
            pixels,
            alpha=pixels[..., 0].clamp(0, 1),
            pixel_type="float",
            coding="ACEScg",
            extra={"shot": f"sh{frame}"},
        )
    options = server.get("/object_info/DelitLoadPlate")["DelitLoadPlate"]["input"]["required"]["file"]
    assert "shot/plate.####.exr" in str(options)
    graph = {
        "load": graphs.node("DelitLoadPlate", file="shot/plate.####.exr", first_frame=0, frames=0),
        "portrait": graphs.node(
            "DelitPortrait", image=["load", 0], coding="ACEScg", exposure=0.0, area="picture",
            **graphs.PORTRAIT_SETTINGS,
        ),
        "save": graphs.node(
            "DelitSavePlate", images=["portrait", 0], filename_prefix="plates/flat", format="exr float",
            coding="ACEScg", plate_info=["load", 2], alpha=["load", 1],
        ),
    }  # fmt: skip
    for version in (1, 2):
        graph["save"]["inputs"]["filename_prefix"] = "plates/flat"
        graph["portrait"]["inputs"]["exposure"] = float(version) / 4
        assert server.run(graph).error is None
        for index, frame in enumerate((1001, 1002)):
            saved = read_plate(server.output / "plates" / f"flat_v{version:03}.{frame}.exr")
            assert saved.coding == "ACEScg"
            torch.testing.assert_close(saved.alpha, plates[index, ..., 0].clamp(0, 1))
            assert ("shot", "string", f"sh{frame}") in saved.header.attributes
    expected = embedded_pipeline()(
        plates, options=DelitOptions(area="picture", coding="ACEScg", exposure=0.5)
    )
    assert_equal(read_plate(server.output / "plates" / "flat_v002.1002.exr").pixels.numpy(), expected.flat[1])


def test_what_a_plate_cannot_be_saved_as_is_refused(server: ComfyServer) -> None:
    graph = {
        "image": graphs.node("TestTensor", file=server.put_array("image", plate_pixels())),
        "save": graphs.node(
            "DelitSavePlate",
            images=["image", 0],
            filename_prefix="plates/no",
            format="png 16 bit",
            coding="ACEScg",
        ),
    }
    run = server.run(graph)
    assert run.error is not None and "EXR" in str(run.error)
    assert not list((server.output / "plates").glob("no*"))


def test_an_srgb_picture_becomes_linear_in_an_exr(server: ComfyServer) -> None:
    picture = graphs.picture(64, 64, channels=4, seed=8)
    graph = {
        "image": graphs.node("TestTensor", file=server.put_array("image", picture)),
        "save": graphs.node(
            "DelitSavePlate",
            images=["image", 0],
            filename_prefix="plates/still",
            format="exr float",
            coding="sRGB",
        ),
    }
    assert server.run(graph).error is None
    saved = read_plate(server.output / "plates" / "still_v001.exr")
    expected = srgb_to_linear(torch.from_numpy(picture[0, ..., :3]))
    torch.testing.assert_close(saved.pixels, expected)
    torch.testing.assert_close(saved.alpha, torch.from_numpy(picture[0, ..., 3]))
    header = oiio.ImageInput.open(str(server.output / "plates" / "still_v001.exr")).spec()
    assert header.getattribute("prompt")
