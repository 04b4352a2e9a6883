"""The lights of an environment map as JSON, as words, and as scenes for Blender, USD and Nuke.

In each program a white diffuse surface in these lights has the pixel value that it has under the map. Light directions
follow lat_long: camera axes in USD and Nuke (the camera at rest looks along -Z), in Blender those of the front view, as
maps saved for Blender do.
"""

from __future__ import annotations

import json
import math

from .key_lights import KeyLight, Lighting

FORMAT_VERSION = 1


def to_json(lighting: Lighting) -> str:
    """Machine-readable: `lights` (the strongest first) and `ambient`, with units in the names."""
    return json.dumps(
        {
            "format": FORMAT_VERSION,
            "axes": "camera: +X right, +Y up, the camera looks along -Z",
            "colour_space": "linear Rec.709, image-referred (irradiance pi = a white diffuse surface of pixel value 1)",
            "lights": [_as_json(light) for light in lighting.lights],
            "ambient_radiance": _rounded(lighting.ambient),
        },
        indent=2,
    )


def to_text(lighting: Lighting) -> str:
    """One line a light, for people."""
    ambient = f"Ambient: radiance {_triple(lighting.ambient)}."
    if not lighting.lights:
        return f"No dominant light: the light is even. {ambient}"
    return "\n".join(
        [f"{number}. {_in_words(light)}" for number, light in enumerate(lighting.lights, 1)] + [ambient]
    )


def to_blender(lighting: Lighting) -> str:
    """Python for Blender's text editor: a sun lamp a light, and the ambient as the world's colour.

    A sun's strength is its irradiance (a white diffuse surface facing one of strength pi has the value 1), its angle
    the diameter. Front view: camera right, up, forward are +X, +Z, +Y.
    """
    lamps = [
        (name, _rounded((x, -z, y)), _rounded(light.color), round(light.strength, 6), _diameter(light))
        for name, light in _named(lighting)
        for x, y, z in [light.direction]
    ]
    rows = "".join(f"    {lamp!r},\n" for lamp in lamps)
    return f"""# Lights found by Delit. Paste into Blender's text editor and run.
# The scene is seen from the front (numpad 1); set FOLLOW_CAMERA to turn the lights with the scene's camera.
import math

import bpy
from mathutils import Matrix, Vector

FOLLOW_CAMERA = False
LAMPS = [  # name, direction towards the light, colour (linear), strength, angular diameter in degrees
{rows}]
AMBIENT = {tuple(_rounded(lighting.ambient))}

turn = Matrix.Identity(3)
if FOLLOW_CAMERA and bpy.context.scene.camera:
    front = Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0)))
    turn = bpy.context.scene.camera.matrix_world.to_3x3().normalized() @ front.inverted()
for name, direction, color, strength, diameter in LAMPS:
    sun = bpy.data.lights.new(name, "SUN")
    sun.color, sun.energy, sun.angle = color, strength, math.radians(diameter)
    lamp = bpy.data.objects.new(name, sun)
    lamp.rotation_euler = (turn @ Vector(direction)).to_track_quat("Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(lamp)
world = bpy.context.scene.world or bpy.data.worlds.new("World")
bpy.context.scene.world = world
world.use_nodes = True
background = world.node_tree.nodes.get("Background")
if background is not None:
    background.inputs["Color"].default_value = (*AMBIENT, 1.0)
    background.inputs["Strength"].default_value = 1.0
"""


def to_usd(lighting: Lighting) -> str:
    """A .usda layer: a DistantLight a light, normalised, so that its intensity is its irradiance whatever its angle,
    and the ambient as a DomeLight of one colour (UsdLux)."""
    lights = "".join(
        f"""    def DistantLight "{name}"
    {{
        float inputs:angle = {_diameter(light):g}
        color3f inputs:color = ({_triple(light.color)})
        float inputs:intensity = {light.strength:.6g}
        bool inputs:normalize = 1
        float3 xformOp:rotateXYZ = ({_triple(_rotation_xyz(light))})
        uniform token[] xformOpOrder = ["xformOp:rotateXYZ"]
    }}

"""
        for name, light in _named(lighting)
    )
    return f"""#usda 1.0
(
    defaultPrim = "DelitLights"
    doc = "Lights found by Delit, in the axes of a camera at rest"
    upAxis = "Y"
)

def Xform "DelitLights"
{{
{lights}    def DomeLight "Ambient"
    {{
        color3f inputs:color = ({_triple(lighting.ambient)})
        float inputs:intensity = 1
    }}
}}
"""


def to_nuke(lighting: Lighting) -> str:
    """Nodes to paste into Nuke's node graph: a DirectLight a light. Its shaders have no 1 / pi, so that the intensity
    is irradiance / pi. A DirectLight has no angular size, which the label tells instead."""
    nodes = [
        f"""DirectLight {{
 inputs 0
 color {{{" ".join(f"{channel:.6g}" for channel in light.color)}}}
 intensity {light.strength / math.pi:.6g}
 rot_order ZXY
 rotate {{{" ".join(f"{angle:.6g}" for angle in _rotation_xyz(light))}}}
 name {name}
 label "{_diameter(light):.3g} degrees wide"
}}
"""
        for name, light in _named(lighting)
    ]
    ambient = max(lighting.ambient)
    color = " ".join(f"{channel / max(ambient, 1e-9):.6g}" for channel in lighting.ambient)
    nodes.append(
        f"Light {{\n inputs 0\n color {{{color}}}\n intensity 0\n ambient {ambient:.6g}\n name DelitAmbient\n}}\n"
    )
    return "".join(nodes)


def _named(lighting: Lighting) -> list[tuple[str, KeyLight]]:
    return [(f"DelitLight{number}", light) for number, light in enumerate(lighting.lights, 1)]


def _rotation_xyz(light: KeyLight) -> tuple[float, float, float]:
    """Degrees about X, then Y, that turn +Z (a lamp at rest shines along -Z) towards the light."""
    x, y, z = light.direction
    return -math.degrees(math.asin(max(-1.0, min(1.0, y)))), math.degrees(math.atan2(x, z)), 0.0


def _as_json(light: KeyLight) -> dict[str, object]:
    return {
        "direction": _rounded(light.direction),
        "azimuth_degrees": round(light.azimuth, 2),
        "elevation_degrees": round(light.elevation, 2),
        "color": _rounded(light.color),
        "irradiance": _rounded(light.irradiance),
        "radiance": _rounded(light.radiance),
        "stops": round(light.stops, 2),
        "angular_diameter_degrees": round(light.angular_diameter, 2),
        "share": round(light.share, 3),
        "confidence": round(light.confidence, 3),
    }


def _in_words(light: KeyLight) -> str:
    return (
        f"From {_place(light)} ({light.azimuth:.0f}° around, {light.elevation:.0f}° up): {light.stops:+.1f} stops, "
        f"colour {_triple(light.color)}, {light.angular_diameter:.0f}° wide, {light.share:.0%} of the light there, "
        f"sure {light.confidence:.0%}."
    )


def _place(light: KeyLight) -> str:
    """Where a light stands as a photographer says it, left and right as the camera sees them."""
    if abs(light.elevation) > 70:
        return "above" if light.elevation > 0 else "below"
    around = abs(light.azimuth)
    side = "right" if light.azimuth > 0 else "left"
    places = [
        (22.5, "the camera"),
        (67.5, f"the front {side}"),
        (112.5, f"the {side}"),
        (157.5, f"the back {side}"),
    ]
    place = next((name for limit, name in places if around < limit), "behind the subject")
    height = ", high" if light.elevation > 35 else ", low" if light.elevation < -20 else ""
    return place + height


def _diameter(light: KeyLight) -> float:
    # A sun wider than half the sphere is none in these programs.
    return round(min(light.angular_diameter, 180.0), 4)


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _triple(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
