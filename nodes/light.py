"""The light found: read off as lamps, turned and graded."""

from __future__ import annotations

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io
from torch import Tensor, stack

from ..delit_models import light_snippets
from ..delit_models.env_map_transform import KELVIN_RANGE, EnvMapTransform, transform_env_map
from ..delit_models.errors import DelitError
from ..delit_models.key_lights import find_key_lights
from ..delit_models.lat_long import ORIENTATIONS
from .env_maps import preview
from .interrupting import interruptible
from .schema import schema

ORIENTATION_NAMES = f"{', '.join(ORIENTATIONS)}: as in “Save Environment Map (Delit)”."
ENV_HELP = "Environment maps in linear light, twice as wide as high, in Delit's orientation."


class DelitKeyLight(io.ComfyNode):
    """Environment map → its dominant lights, as data and as lamps for other programs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitKeyLight",
            display_name="Delit Key Light",
            description=(
                "Reads the dominant lights off an environment map: direction, colour, strength, size, and how clearly "
                "each stands out. Gives them as JSON, in words, and as lamps for Blender, USD and Nuke."
            ),
            search_aliases=["light direction", "sun", "extract lights", "hdri to lights", "light rig"],
            inputs=[
                io.Image.Input("env", tooltip=ENV_HELP),
                io.Int.Input(
                    "max_lights",
                    default=4,
                    min=1,
                    max=16,
                    tooltip="Give this many lights at most, the strongest first.",
                ),
                io.Float.Input(
                    "min_share",
                    default=0.1,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Leave out lights that give less than this share of all light on a surface that faces them."
                    ),
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Which map, where there are several: 0 is the first.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "lights",
                    tooltip=(
                        "JSON: for each light its direction in camera axes, azimuth and elevation, colour, irradiance, "
                        "radiance, stops, angular diameter, share and confidence; and the ambient radiance."
                    ),
                ),
                io.String.Output("text", tooltip="The same in words, a line a light."),
                io.String.Output(
                    "blender", tooltip="Python for Blender's text editor: sun lamps and the world."
                ),
                io.String.Output("usd", tooltip="A .usda layer: distant lights and a dome light."),
                io.String.Output("nuke", tooltip="Nodes to paste into Nuke's node graph: direct lights."),
            ],
        )

    @classmethod
    @interruptible
    def execute(cls, env: Tensor, max_lights: int, min_share: float, index: int) -> io.NodeOutput:
        if index >= len(env):
            raise DelitError(f"There is no map {index}: the batch has {len(env)}, counted from 0.")
        lighting = find_key_lights(env[index], max_lights, min_share)
        return io.NodeOutput(
            light_snippets.to_json(lighting),
            light_snippets.to_text(lighting),
            light_snippets.to_blender(lighting),
            light_snippets.to_usd(lighting),
            light_snippets.to_nuke(lighting),
        )


class DelitEnvMapTransform(io.ComfyNode):
    """Environment maps → the same, turned, graded and resized."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DelitEnvMapTransform",
            display_name="Transform Environment Map (Delit)",
            description=(
                "Turns, flips, exposes, white-balances and resizes environment maps in linear light. Turning and "
                "resizing keep the light: no lamp gets lost or brighter."
            ),
            search_aliases=["rotate hdri", "hdri exposure", "resize environment map", "flip hdri"],
            inputs=[
                io.Image.Input("env", tooltip="Environment maps in linear light, twice as wide as high."),
                _angle_input(
                    "yaw", "Turns the light around the vertical: what is ahead moves to the camera's right."
                ),
                _angle_input(
                    "pitch", "Turns the light about the camera's sideways axis: what is ahead moves up."
                ),
                _angle_input(
                    "roll", "Turns the light about the viewing axis, clockwise as the camera sees it."
                ),
                io.Boolean.Input(
                    "flip", default=False, tooltip="Mirrors left and right, before it is turned."
                ),
                io.Float.Input(
                    "exposure", default=0.0, min=-16.0, max=16.0, step=0.1, tooltip="Brightness in stops."
                ),
                io.Float.Input(
                    "temperature",
                    default=6504.0,
                    min=KELVIN_RANGE[0],
                    max=KELVIN_RANGE[1],
                    step=50.0,
                    tooltip=(
                        "White balance: light of this colour temperature, in kelvins, becomes white. Lower cools the "
                        "map, higher warms it; 6504 changes nothing."
                    ),
                ),
                io.Float.Input(
                    "tint",
                    default=0.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip="White balance: stops of green taken away (towards magenta); negative adds green.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=8192,
                    step=16,
                    tooltip="Rows of the result, which is twice as wide. 0 keeps the size. The light stays the same.",
                ),
                _orientation_input(
                    "source_orientation",
                    "Which way the map comes in: for one made for another program and loaded as it is.",
                ),
                _orientation_input(
                    "target_orientation",
                    "Which way the map goes out. Leave at delit for Delit's nodes: “Save Environment Map (Delit)” "
                    "turns it by itself.",
                ),
            ],
            outputs=[
                io.Image.Output("env", tooltip="The maps in linear light, with values over 1."),
                io.Image.Output("env_preview", tooltip="The maps, tone-mapped to look at."),
            ],
        )

    @classmethod
    @interruptible
    def execute(
        cls, env: Tensor, source_orientation: str, target_orientation: str, **settings: float | bool
    ) -> io.NodeOutput:
        transform = EnvMapTransform(source=source_orientation, target=target_orientation, **settings)
        bar, results = ProgressBar(len(env)), []
        for single in env:
            throw_exception_if_processing_interrupted()
            results.append(transform_env_map(single, transform))
            bar.update(1)
        result = stack(results)
        return io.NodeOutput(result, preview(result))


def _angle_input(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(
        name, default=0.0, min=-360.0, max=360.0, step=1.0, tooltip=f"{tooltip} In degrees."
    )


def _orientation_input(name: str, tooltip: str) -> io.Input:
    return io.Combo.Input(
        name, options=list(ORIENTATIONS), default="delit", tooltip=f"{tooltip} {ORIENTATION_NAMES}"
    )
