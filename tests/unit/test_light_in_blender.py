"""The snippet for Blender in Blender itself (the `bpy` package, where it is installed): a white diffuse sphere comes
out as bright as the map's lamp and ambient make it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest
import torch

from delit_models.key_lights import KeyLight, Lighting
from delit_models.light_snippets import to_blender

pytestmark = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")

# A sphere of white paint, seen by an orthographic camera that stands in front of it: its disc fills the picture.
SCENE = """
import runpy
import sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_uv_sphere_add(segments=128, ring_count=64, radius=1)
bpy.ops.object.shade_smooth()
paint = bpy.data.materials.new("paint")
paint.use_nodes = True
nodes = paint.node_tree.nodes
nodes.clear()
diffuse, output = nodes.new("ShaderNodeBsdfDiffuse"), nodes.new("ShaderNodeOutputMaterial")
diffuse.inputs["Color"].default_value = (1, 1, 1, 1)
paint.node_tree.links.new(diffuse.outputs[0], output.inputs["Surface"])
bpy.context.object.data.materials.append(paint)
camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
camera.data.type, camera.data.ortho_scale = "ORTHO", 2
camera.location, camera.rotation_euler = (0, -5, 0), (1.5707963, 0, 0)
scene.collection.objects.link(camera)
scene.camera = camera
runpy.run_path(sys.argv[1])
scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 256, False
scene.render.resolution_x = scene.render.resolution_y = 64
scene.view_settings.view_transform = "Raw"
scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
scene.render.filepath = sys.argv[2]
bpy.ops.render.render(write_still=True)
"""


def test_a_white_sphere(tmp_path: Path) -> None:
    direction = torch.nn.functional.normalize(torch.tensor([0.6, 0.4, 0.7]), dim=0)
    irradiance, ambient = torch.tensor([6.0, 4.0, 2.0]), torch.tensor([0.1, 0.2, 0.3])
    light = KeyLight(tuple(direction.tolist()), tuple(irradiance.tolist()), (1.0, 1.0, 1.0), 2.0, 0.9, 1.0)
    (tmp_path / "scene.py").write_text(SCENE)
    (tmp_path / "lights.py").write_text(to_blender(Lighting((light,), tuple(ambient.tolist()))))
    command = [sys.executable, "scene.py", "lights.py", str(tmp_path / "sphere.exr")]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    picture = torch.from_numpy(np.array(oiio.ImageBuf(str(tmp_path / "sphere.exr")).get_pixels()))[..., :3]

    across = (torch.arange(64) + 0.5) / 32 - 1
    y, x = torch.meshgrid(-across, across, indexing="ij")
    inside = x.square() + y.square() < 0.9
    normals = torch.stack((x, y, (1 - x.square() - y.square()).clamp(min=0).sqrt()), dim=-1)
    expected = ambient + (normals @ direction).clamp(min=0)[..., None] * irradiance / torch.pi
    error = (picture - expected)[inside].abs()
    assert error.mean() < 0.02 and error.mean() < 0.02 * expected[inside].mean()
