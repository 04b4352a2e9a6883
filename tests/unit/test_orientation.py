"""Each orientation preset, read the way the other program reads a lat-long.

The labelled map is exported, and the program's own published mapping from a world direction to a point of
the picture is evaluated on it, written out here from the program's documentation and not from Delit's code:
the colour found must be the label that a camera looking along the program's forward axis has on that side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import OpenImageIO as oiio
import pytest
import torch

from delit_models.errors import DelitError
from delit_models.image_files import write_env_map
from delit_models.lat_long import (
    ORIENTATIONS,
    TEST_MAP_LABELS,
    from_orientation,
    labelled_test_map,
    to_orientation,
)

HEIGHT = 64
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Program:
    """Axes of a camera at rest in a program's world, and its map from a direction to (u, v), v downwards."""

    forward: Vector
    right: Vector
    up: Vector
    lookup: Callable[[float, float, float], tuple[float, float]]


def blender(x: float, y: float, z: float) -> tuple[float, float]:
    # Environment Texture, Equirectangular. Cycles and EEVEE: u from -atan2(y, x), v up from the elevation.
    u = -math.atan2(y, x) / (2 * math.pi) + 0.5
    v_up = math.atan2(z, math.hypot(x, y)) / math.pi + 0.5
    return u, 1 - v_up


def openexr(x: float, y: float, z: float) -> tuple[float, float]:
    # ImfEnvmap: latitude 0 and longitude 0 is +z, longitude pi/2 is +x; the first pixel has latitude +pi/2
    # and longitude +pi, the last one -pi/2 and -pi. USD's documentation of DomeLight quotes it as its own, and so does
    # Houdini's of its Dome Light LOP. Arnold's skydome_light is what arnold-usd (translator/reader/read_light.cpp,
    # writer/write_light.cpp) makes of a DomeLight, and the other way round, with texture and matrix unchanged.
    # AMD's converters say the same: Radeon ProRender's dome is Arnold's turned by 180 degrees (convertAI2RPR.py); its
    # plug-in for Maya gives the renderer that dome with x mirrored (Translators.cpp), the one for USD a DomeLight with
    # z mirrored (hdRpr/domeLight.cpp), and those two are half a turn apart.
    longitude = math.atan2(x, z)
    latitude = math.atan2(y, math.hypot(x, z))
    return 0.5 - longitude / (2 * math.pi), 0.5 - latitude / math.pi


def unreal(x: float, y: float, z: float) -> tuple[float, float]:
    # A world direction reads the cube texture as it is (Direct3D's faces, which Unreal takes with z up). The
    # importer (TextureCompressor) filled that cube from the long-lat picture, with y and z swapped, by
    # u = (1 + atan2(X, -Z) / pi) / 2, v = acos(Y) / pi.
    swapped_x, swapped_y, swapped_z = x, z, y
    return (1 + math.atan2(swapped_x, -swapped_z) / math.pi) / 2, math.acos(swapped_y) / math.pi


def nuke(x: float, y: float, z: float) -> tuple[float, float]:
    # Without a camera, ScanlineRender looks from the origin along -Z (its reference), +X on the right.
    # Rendered spherically, the middle of the latlong is what is ahead.
    angle_to_the_right = math.atan2(x, -z)
    elevation = math.asin(y)
    return 0.5 + angle_to_the_right / math.tau, 0.5 - elevation / math.pi


def three_js(x: float, y: float, z: float) -> tuple[float, float]:
    # EquirectUV of three.js (the nodes' and the old shader chunk's alike); v is upwards.
    return math.atan2(z, x) / math.tau + 0.5, 1 - (math.asin(y) / math.pi + 0.5)


def cinema_4d(x: float, y: float, z: float, length: int = 1) -> tuple[float, float]:
    # Spherical projection as Maxon's C++ SDK has it (c4d_shader.h, at TexData), in the axes of the texture, z ahead:
    # from the longitude less the tag's offset, with a Length U (here 1 or -1) below 0 the other way round. The
    # renderer's offsets are not always the dialog's (in v half the picture lies between them). That in u both are 0 say
    # the plug-ins below, which go by the dialog's, and Maxon's manual of the Projection node, where the wrapping starts
    # at the X axis. Autodesk's manual of Arnold for Cinema 4D has the Sky mirrored against Arnold's light.
    u = math.atan2(z, x) / math.tau % 1
    return u if length > 0 else 1 - u, 0.5 - math.atan2(y, math.hypot(x, z)) / math.pi


def cinema_4d_with_negative_length(x: float, y: float, z: float) -> tuple[float, float]:
    return cinema_4d(x, y, z, length=-1)


def luxc4d(x: float, y: float, z: float) -> tuple[float, float]:
    # LuxC4D writes a texture tag's spherical projection for LuxRender, whose axes are Cinema 4D's x, z, y (luxtypes.h),
    # and its Offset U as a turn about the vertical (luxtexturemapping.cpp). LuxRender's spherical mapping takes u from
    # the longitude, 0 at +x and on towards +y, and v from the angle to the pole.
    lux_x, lux_y, lux_z = x, z, y
    longitude = math.acos(lux_x / math.hypot(lux_x, lux_y))
    return (longitude if lux_y > 0 else math.tau - longitude) / math.tau, math.acos(lux_z) / math.pi


def light_of_pydome(u: float) -> tuple[float, float, float]:
    # pyDome puts the map of a Smart IBL set on a Sky, in spherical projection and else with the tag's defaults, and a
    # lamp for the sun that the set has at this u of the map: its direction, taken on the horizon.
    return math.cos(u * math.tau), 0.0, math.sin(u * math.tau)


# Redshift publishes no formula. Three converters for Maya, each written on its own, tie its dome light to Arnold's,
# which is `openexr`'s. So many degrees about Y is Redshift's turned more than Arnold's where one file looks the same:
REDSHIFT_LESS_ARNOLD = {
    # RadeonProRenderSharedComponents: AMD's own dome has Arnold's angle + 180 (convertAI2RPR.py) and Redshift's - 90
    # (convertRS2RPR.py). Both lead to the same kind of dome, so neither is mirrored against the other.
    "AMD": 180 - (-90),
    # hdritypes/redshifthdri.py. It minds mirrored domes (rendermanhdri.py: RenderMan's before 22); here only the angle.
    "Zoo Tools": -90,
    # mGo_Maya.py, from Mari: Redshift's dome has Mari's angle + 180, Arnold's has it - 90; nothing is mirrored.
    "mGo": 180 - (-90),
}


def redshift_in_maya(x: float, y: float, z: float) -> tuple[float, float]:
    # Turned by -90 degrees about Y it shows what `openexr` shows unturned: it is looked up at the direction so turned.
    return openexr(-z, y, x)


def v_ray(x: float, y: float, z: float) -> tuple[float, float]:
    # UVWGenEnvironment, spherical, z up. Chaos's add-on for Blender (exporting/cycles_export.py), which turns Cycles'
    # equirectangular textures into V-Ray's, says that this is half a turn from Cycles' u, and that the poles agree.
    return 1 - math.atan2(y, x) / math.tau, 0.5 - math.atan2(z, math.hypot(x, y)) / math.pi


def v_ray_with_y_up(x: float, y: float, z: float) -> tuple[float, float]:
    # V-Ray for Houdini gives the mapping of a dome this matrix; in Maya, the converters below come to the same.
    return v_ray(x, -z, y)


# V-Ray for Maya: as much about Y its dome light is turned more than Arnold's where one file looks the same.
V_RAY_LESS_ARNOLD = {
    # Maya_VRay_Dome_Light and Maya_Arnold_Dome_Light, with one rotation of the same kind of set.
    "sIBL GUI": 90,
    # hdritypes/vrayhdri.py.
    "Zoo Tools": 90,
    # V-Ray's horizontal rotation, which runs the other way, is Mari's angle negated; Arnold's is Mari's - 90.
    "mGo": 0 - (-90),
    # AMD's (convertVR2RPR.py) is left out: it is half a turn from these, and says nothing of where it has that from.
}


def delit(x: float, y: float, z: float) -> tuple[float, float]:
    # DESIGN section 5, d = (cos t sin p, sin t, -cos t cos p), solved for the angles.
    return 0.5 + math.atan2(x, -z) / math.tau, 0.5 - math.asin(y) / math.pi


Y_UP = {"forward": (0, 0, -1), "right": (1, 0, 0), "up": (0, 1, 0)}
PROGRAMS = {
    "delit": Program(**Y_UP, lookup=delit),
    "blender": Program(forward=(0, 1, 0), right=(1, 0, 0), up=(0, 0, 1), lookup=blender),
    "openexr": Program(**Y_UP, lookup=openexr),
    "unreal": Program(forward=(1, 0, 0), right=(0, 1, 0), up=(0, 0, 1), lookup=unreal),
    "nuke": Program(**Y_UP, lookup=nuke),
    "three.js": Program(**Y_UP, lookup=three_js),
    "cinema 4d": Program(**Y_UP | {"forward": (0, 0, 1)}, lookup=cinema_4d),
}
# Programs without a preset of their own, for which the documentation names another's.
READ_ALIKE = {
    "Redshift in Maya": ("three.js", Program(**Y_UP, lookup=redshift_in_maya)),
    "V-Ray in Maya and Houdini": ("unreal", Program(**Y_UP, lookup=v_ray_with_y_up)),
    "V-Ray in Blender": ("unreal", Program(forward=(0, 1, 0), right=(1, 0, 0), up=(0, 0, 1), lookup=v_ray)),
    "Cinema 4D with a length of -100%": (
        "unreal",
        Program(**Y_UP | {"forward": (0, 0, 1)}, lookup=cinema_4d_with_negative_length),
    ),
}
TESTED = [*PROGRAMS.items(), *READ_ALIKE.values()]
TESTED_NAMES = [*PROGRAMS, *READ_ALIKE]


def seen_color(env: torch.Tensor, program: Program, right: float, up: float, forward: float) -> list[float]:
    """What the program shows in the direction of these camera components."""
    length = math.sqrt(right**2 + up**2 + forward**2)
    world = [
        (right * r + up * u + forward * f) / length
        for r, u, f in zip(program.right, program.up, program.forward, strict=True)
    ]
    u, v = program.lookup(*world)
    height, width = env.shape[:2]
    return env[min(int(v * height), height - 1), int(u * width) % width].tolist()


def test_every_preset_is_tested() -> None:
    assert set(PROGRAMS) == set(ORIENTATIONS)


def test_converters_agree_about_redshift() -> None:
    assert {degrees % 360 for degrees in REDSHIFT_LESS_ARNOLD.values()} == {-90 % 360}


def test_converters_agree_with_chaos_about_v_ray() -> None:
    assert {degrees % 360 for degrees in V_RAY_LESS_ARNOLD.values()} == {90}
    for x, y, z in [(0.6, 0, 0.8), (-0.6, 0.48, 0.64), (0.36, -0.8, -0.48), (-0.8, 0.36, -0.48)]:
        # Turned by 90 degrees about Y it shows what `openexr` shows unturned.
        u, v = v_ray_with_y_up(x, y, z)
        turned_u, turned_v = openexr(z, y, -x)
        assert (u % 1, v) == pytest.approx((turned_u % 1, turned_v))


def test_plug_ins_agree_with_maxon_about_cinema_4d() -> None:
    for x, y, z in [(0.6, 0, 0.8), (-0.6, 0.48, 0.64), (0.36, -0.8, -0.48), (-0.8, 0.36, -0.48)]:
        assert luxc4d(x, y, z) == pytest.approx(cinema_4d(x, y, z))
    for u in (0.1, 0.4, 0.6, 0.9):
        assert cinema_4d(*light_of_pydome(u)) == pytest.approx((u, 0.5))


@pytest.mark.parametrize("label", TEST_MAP_LABELS)
@pytest.mark.parametrize(("preset", "program"), TESTED, ids=TESTED_NAMES)
def test_each_side_is_where_the_program_looks_for_it(preset: str, program: Program, label: str) -> None:
    direction, color = TEST_MAP_LABELS[label]
    right, up, backward = direction
    exported = to_orientation(labelled_test_map(HEIGHT), preset)
    assert seen_color(exported, program, right, up, -backward) == list(color)


def test_openimageio_looks_an_openexr_map_up_the_same_way(tmp_path: Path) -> None:
    """The renderer-grade environment lookup of OpenImageIO, which goes by the file's `envmap` attribute."""
    if not hasattr(oiio, "TextureSystem"):
        pytest.skip("this OpenImageIO has no TextureSystem in Python (3.1 and newer have)")
    path = tmp_path / "labels.exr"
    write_env_map(path, labelled_test_map(HEIGHT), orientation="openexr")
    textures = oiio.TextureSystem()
    for label, (direction, color) in TEST_MAP_LABELS.items():
        found = textures.environment(str(path), oiio.TextureOpt(), direction, (0, 0, 0), (0, 0, 0), 3)
        assert found == pytest.approx(color, abs=1e-3), label


@pytest.mark.parametrize(("preset", "program"), TESTED, ids=TESTED_NAMES)
def test_the_test_would_see_a_mirrored_map(preset: str, program: Program) -> None:
    mirrored = to_orientation(labelled_test_map(HEIGHT), preset).flip(1)
    found = [
        seen_color(mirrored, program, right, up, -backward) == list(color)
        for (right, up, backward), color in TEST_MAP_LABELS.values()
    ]
    assert not all(found)


@pytest.mark.parametrize("preset", ORIENTATIONS)
def test_presets_shift_whole_pixels_and_are_undone_exactly(preset: str) -> None:
    env = torch.rand(2, 16, 32, 3)
    turned = to_orientation(env, preset)
    assert torch.equal(from_orientation(turned, preset), env)
    assert torch.equal(turned.sort(dim=2).values, env.sort(dim=2).values)
    assert torch.equal(turned[1], to_orientation(env[1], preset))


def test_presets_differ_as_documented() -> None:
    env = labelled_test_map(HEIGHT)
    turned = {preset: to_orientation(env, preset) for preset in ORIENTATIONS}
    assert torch.equal(turned["nuke"], env)
    others = ("delit", "blender", "openexr", "unreal", "cinema 4d")
    assert len({turned[preset].numpy().tobytes() for preset in others}) == 5
    # Only this one is mirrored: no shift of columns makes it from the map, one of the mirrored map does.
    shifts = [torch.equal(turned["cinema 4d"].roll(columns, 1), env) for columns in range(2 * HEIGHT)]
    assert not any(shifts)
    assert torch.equal(turned["cinema 4d"].roll(HEIGHT // 2, 1), env.flip(1))


def test_unknown_presets_and_unshiftable_widths_are_refused() -> None:
    with pytest.raises(DelitError, match="Unknown orientation 'maya'. Choose one of: delit, blender"):
        to_orientation(labelled_test_map(HEIGHT), "maya")
    with pytest.raises(DelitError, match="width of 30 pixels is not a multiple of 4"):
        to_orientation(torch.rand(15, 30, 3), "blender")
    with pytest.raises(DelitError, match="width of 30 pixels is not a multiple of 4"):
        from_orientation(torch.rand(15, 30, 3), "cinema 4d")
    assert to_orientation(torch.rand(15, 30, 3), "openexr").shape == (15, 30, 3)


@pytest.mark.parametrize("shape", [(8, 16), (0, 0, 3)])
def test_something_else_than_a_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DelitError, match="Expected an environment map"):
        to_orientation(torch.rand(shape), "blender")


def test_a_tiny_test_map_is_refused() -> None:
    with pytest.raises(DelitError, match="at least 16"):
        labelled_test_map(8)
