"""What is handed on of the lights found: JSON, words, and scenes whose lamps shine as the map does."""

from __future__ import annotations

import ast
import json
import math
import re

import pytest
import torch

from delit_models.key_lights import KeyLight, Lighting
from delit_models.light_snippets import to_blender, to_json, to_nuke, to_text, to_usd

KEY = KeyLight(
    direction=(0.48, 0.6, 0.64),
    irradiance=(6.0, 4.5, 3.0),
    radiance=(20.0, 15.0, 10.0),
    angular_diameter=30.0,
    share=0.8,
    confidence=0.95,
)
RIM = KeyLight((-0.6, 0.0, -0.8), (1.0, 1.5, 2.0), (50.0, 75.0, 100.0), 5.0, 0.4, 0.9)
LIGHTING = Lighting((KEY, RIM), (0.1, 0.15, 0.2))
NONE = Lighting((), (0.5, 0.5, 0.5))


def rotation(about: str, degrees: float) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]]}[about]
    return torch.tensor(rows)


def numbers(text: str) -> list[float]:
    return [float(part) for part in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def towards(x: float, y: float, z: float) -> list[float]:
    """Where a lamp that shines along -Z at rest has its light come from, turned about X, then about Y."""
    assert z == 0
    return (rotation("y", y) @ rotation("x", x) @ torch.tensor([0.0, 0.0, 1.0])).tolist()


def test_json_says_it_all() -> None:
    said = json.loads(to_json(LIGHTING))
    assert [light["direction"] for light in said["lights"]] == [list(KEY.direction), list(RIM.direction)]
    key = said["lights"][0]
    assert key["color"] == [1.0, 0.75, 0.5] and key["irradiance"] == [6.0, 4.5, 3.0]
    assert key["azimuth_degrees"] == pytest.approx(36.87, abs=0.01)
    assert key["elevation_degrees"] == pytest.approx(36.87, abs=0.01)
    assert key["stops"] == pytest.approx(
        math.log2((0.2126 * 6 + 0.7152 * 4.5 + 0.0722 * 3) / math.pi), abs=0.01
    )
    assert said["ambient_radiance"] == [0.1, 0.15, 0.2]
    assert json.loads(to_json(NONE))["lights"] == []


def test_words() -> None:
    key, rim, ambient = to_text(LIGHTING).splitlines()
    assert "front right, high" in key and "80% of the light" in key and "sure 95%" in key
    assert "back left" in rim and "Ambient" in ambient
    assert to_text(NONE).startswith("No dominant light")


def test_blender_gets_irradiance_and_front_view_axes() -> None:
    tree = ast.parse(to_blender(LIGHTING))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("LAMPS", "AMBIENT")
    }
    name, direction, color, strength, diameter = values["LAMPS"][0]
    # Camera right, up and towards the camera are Blender's +X, +Z and -Y.
    assert direction == pytest.approx([0.48, -0.64, 0.6]) and color == [1.0, 0.75, 0.5]
    assert (strength, diameter) == (6.0, 30.0) and values["AMBIENT"] == (0.1, 0.15, 0.2)
    ast.parse(to_blender(NONE))


def test_usd_is_read_by_usd() -> None:
    text = to_usd(LIGHTING)
    for light, rotated in zip(LIGHTING.lights, re.findall(r"rotateXYZ = \((.*)\)", text), strict=True):
        assert towards(*numbers(rotated)) == pytest.approx(light.direction, abs=1e-3)
    assert numbers(re.findall("intensity = (.*)", text)[0]) == [6.0] and "inputs:angle = 30" in text
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed")
    from pxr import Gf, UsdGeom, UsdLux

    stage = usd.Stage.CreateInMemory(".usda")
    assert stage.GetRootLayer().ImportFromString(text)
    lamp = UsdLux.DistantLight(stage.GetPrimAtPath("/DelitLights/DelitLight1"))
    assert lamp.GetNormalizeAttr().Get() and lamp.GetIntensityAttr().Get() == pytest.approx(6)
    placed = UsdGeom.Xformable(lamp).ComputeLocalToWorldTransform(0)
    assert list(placed.TransformDir(Gf.Vec3d(0, 0, 1))) == pytest.approx(KEY.direction, abs=1e-3)
    assert UsdLux.DomeLight(stage.GetPrimAtPath("/DelitLights/Ambient"))


def test_nuke_gets_irradiance_over_pi() -> None:
    text = to_nuke(LIGHTING)
    assert text.count("{") == text.count("}") and text.count("DirectLight {") == 2
    for light, rotated in zip(LIGHTING.lights, re.findall(r"rotate \{(.*)\}", text), strict=True):
        assert towards(*numbers(rotated)) == pytest.approx(light.direction, abs=1e-3)
    assert numbers(re.findall(r" intensity (.*)", text)[0])[0] == pytest.approx(6 / math.pi, rel=1e-4)


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ((0.0, 0.0, 1.0), "the camera"),
        ((-1.0, 0.0, 0.0), "the left"),
        ((0.0, 0.0, -1.0), "behind the subject"),
        ((0.0, 1.0, 0.0), "above"),
        ((0.0, -1.0, 0.0), "below"),
        ((0.6, -0.5, 0.62), "the front right, low"),
    ],
)
def test_where_a_light_stands(direction: tuple[float, float, float], words: str) -> None:
    light = KeyLight(direction, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 10.0, 0.5, 0.9)
    assert f"From {words} (" in to_text(Lighting((light,), (0.0, 0.0, 0.0)))
