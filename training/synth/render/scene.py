"""A subject in front of a camera, as a Mitsuba scene in camera axes (+X right, +Y up, looking along -Z), in metres.

The scene lives in the camera frame, so the environment map that is written for a sample is the very bitmap that lit it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch

from delit_models.lat_long import pixel_to_direction, sample_env
from training.synth.light.lights import ENV_HEIGHT, ENV_WIDTH, camera_rotation
from training.synth.person.people import PersonMesh

from .materials import material_description
from .surface import Surface
from .truth import SurfaceTruth

MAX_PATH_DEPTH = 3
# The compiled renderer traces all samples of a pass at once; this many take about 1 GB.
_SAMPLES_IN_MEMORY = 6_000_000
# Enough for smooth edges; nothing but the edges is noisy without light.
_TRUTH_SAMPLES = 16
_FILM_SIDE_MM = 24.0  # the short side of a 36 x 24 mm frame; "equivalent" focal lengths refer to it


@dataclass(frozen=True)
class Framing:
    """The camera. focal_length: mm, 36 x 24 mm equivalent, for a square picture whose side is the short side;
    frame_height: metres at the subject; yaw, pitch, roll: degrees; target: [3] in Anny's space."""

    name: str
    focal_length: float
    frame_height: float
    yaw: float
    pitch: float
    roll: float
    target: tuple[float, float, float]

    @property
    def field_of_view(self) -> float:
        """Full vertical angle in degrees."""
        return float(np.degrees(2 * np.arctan(_FILM_SIDE_MM / 2 / self.focal_length)))

    @property
    def distance(self) -> float:
        """Camera to target in metres."""
        return self.frame_height / 2 / np.tan(np.radians(self.field_of_view) / 2)


def sample_framing(rng: np.random.Generator, mesh: PersonMesh, top: float) -> Framing:
    """Draws a camera for a person whose hair or head ends at height top (metres, Anny's space)."""
    name = str(rng.choice(["head", "head and shoulders", "half body"], p=[0.28, 0.42, 0.30]))
    head_height = top - mesh.eye_centres[:, 2].mean() + 0.125
    heads_high = {
        "head": rng.uniform(1.2, 1.55),
        "head and shoulders": rng.uniform(1.7, 2.4),
        "half body": rng.uniform(2.6, 3.3),
    }
    height = head_height * heads_high[name]
    margin = height * rng.uniform(0.03, 0.12)
    eyes = mesh.eye_centres.mean(0)
    target = (eyes[0] + height * rng.normal(0, 0.025), eyes[1] + 0.06, top + margin - height / 2)
    return Framing(
        name=name,
        focal_length=float(np.exp(rng.uniform(np.log(35), np.log(135)))),
        frame_height=float(height),
        yaw=float(np.clip(rng.normal(0, 17), -45, 45)),
        pitch=float(np.clip(rng.normal(0, 6), -15, 15)),
        roll=float(np.clip(rng.normal(0, 1.5), -5, 5)),
        target=tuple(float(value) for value in target),
    )


@dataclass(frozen=True)
class CameraFrame:
    """Rigid motion from Anny's space to camera axes: camera = (world - position) @ rotation.T."""

    rotation: np.ndarray
    position: np.ndarray

    @staticmethod
    def of(framing: Framing) -> CameraFrame:
        yaw = np.radians(framing.yaw)
        # Rows are the level camera's axes in Anny's space: right, up, backwards (away from the view).
        right = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        back = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        level = np.stack([right, [0.0, 0.0, 1.0], back])
        rotation = camera_rotation(framing.pitch, framing.roll) @ level
        position = np.array(framing.target) + framing.distance * rotation[2]
        return CameraFrame(rotation, position)

    def points(self, world: np.ndarray) -> np.ndarray:
        return (world - self.position) @ self.rotation.T

    def directions(self, world: np.ndarray) -> np.ndarray:
        return world @ self.rotation.T


@dataclass(frozen=True)
class Subject:
    """Everything that is rendered of one person: one surface a material, by the material's name (see materials.py)."""

    surfaces: dict[str, Surface]


class SubjectScene:
    """One person in one pose before one camera; the light is replaced between renders, the geometry is kept."""

    def __init__(self, mi: ModuleType, subject: Subject, framing: Framing, image_size: int):
        self._mi = mi
        self._image_size = image_size
        frame = CameraFrame.of(framing)
        shapes = {name: _mesh(mi, frame, name, surface) for name, surface in subject.surfaces.items()}
        self._scene = mi.load_dict(scene_description(mi, shapes, framing.field_of_view, image_size))
        self._parameters = mi.traverse(self._scene)

    def render(self, radiance: np.ndarray, samples_per_pixel: int, seed: int) -> np.ndarray:
        """Renders under a lat-long [128, 256, 3] in camera axes -> float32 [S, S, 4]: linear foreground, multiplied
        by coverage, over nothing; and coverage."""
        set_environment(self._parameters, radiance)
        per_pass = max(1, _SAMPLES_IN_MEMORY // self._image_size**2)
        total = np.zeros((self._image_size, self._image_size, 4), np.float64)
        for start in range(0, samples_per_pixel, per_pass):
            count = min(per_pass, samples_per_pixel - start)
            image = np.array(self._mi.render(self._scene, spp=count, seed=seed + start), dtype=np.float64)
            total += np.nan_to_num(np.maximum(image, 0.0), nan=0.0, posinf=1e4) * count
        return (total / samples_per_pixel).astype(np.float32)

    def surface_truth(self, seed: int) -> SurfaceTruth:
        """Albedo, normals and depth of every pixel, from a few rays each."""
        return surface_truth(self._mi, self._scene, seed)


def surface_truth(mi: ModuleType, scene: object, seed: int) -> SurfaceTruth:
    """Albedo, normals and depth of a scene that scene_description described."""
    integrator = mi.load_dict(
        {
            "type": "aov",
            "aovs": "albedo:albedo,position:position,normal:sh_normal",
            # Nothing is lit in so short a path: it is there for its coverage.
            "coverage": {"type": "path", "max_depth": 1, "hide_emitters": True},
        }
    )
    pixels = np.array(mi.render(scene, integrator=integrator, spp=_TRUTH_SAMPLES, seed=seed))
    pixels = np.nan_to_num(pixels, posinf=0.0, neginf=0.0)
    return SurfaceTruth.of_pixels(pixels[..., 3], pixels[..., 4:7], pixels[..., 7:10], pixels[..., 10:13])


def set_environment(parameters: object, radiance: np.ndarray) -> None:
    """Replaces the light of a scene that scene_description described by a lat-long [128, 256, 3] in camera axes."""
    nodes = _node_grid(radiance)
    key = "environment.data"
    stored = parameters[key]
    height, width, channels = stored.shape
    data = np.ones((height, width, channels), np.float32)
    # Mitsuba stores one more column on either side, copies of the opposite ones, to interpolate across the seam.
    data[..., :3] = np.concatenate([nodes[:, -1:], nodes, nodes[:, :1]], axis=1)
    parameters[key] = type(stored)(data)
    parameters.update()


def _node_grid(radiance: np.ndarray) -> np.ndarray:
    """A lat-long [H, 2H, 3] as Mitsuba reads one: [2H + 1, 2H, 3].

    Its columns sit at their centres, as ours do, but its first and last row on the poles. Rows twice as fine have all
    our centres among them, so that Mitsuba's bilinear interpolation is exactly ours.
    """
    rows, columns = 2 * radiance.shape[0] + 1, radiance.shape[1]
    u = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns
    v = torch.arange(rows, dtype=torch.float64) / (rows - 1)
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)
    directions = pixel_to_direction(grid)
    return sample_env(torch.from_numpy(np.ascontiguousarray(radiance, np.float32)), directions).numpy()


def environment_dict(mi: ModuleType, radiance: np.ndarray) -> dict:
    """A Mitsuba emitter for a node grid (see _node_grid) in camera axes. Mitsuba's own lat-long has -Z at its left
    edge, ours at its centre: half a turn about +Y."""
    return {
        "type": "envmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(radiance, np.float32)),
        "to_world": mi.ScalarTransform4f().rotate([0, 1, 0], 180),
    }


def scene_description(mi: ModuleType, shapes: dict, field_of_view: float, image_size: int) -> dict:
    return {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": MAX_PATH_DEPTH, "rr_depth": 2, "hide_emitters": True},
        "environment": environment_dict(mi, np.ones((2 * ENV_HEIGHT + 1, ENV_WIDTH, 3), np.float32)),
        "sensor": {
            "type": "perspective",
            "fov": field_of_view,
            "near_clip": 0.02,
            "to_world": mi.ScalarTransform4f().look_at([0, 0, 0], [0, 0, -1], [0, 1, 0]),
            "film": {
                "type": "hdrfilm",
                "width": image_size,
                "height": image_size,
                "pixel_format": "rgba",
                "component_format": "float32",
                "rfilter": {"type": "box"},
            },
            "sampler": {"type": "independent"},
        },
        **shapes,
    }


def _mesh(mi: ModuleType, frame: CameraFrame, material: str, surface: Surface) -> object:
    """A surface as Mitsuba's mesh in camera axes, with its material."""
    properties = mi.Properties()
    properties["mesh_bsdf"] = mi.load_dict(material_description(material))
    count = len(surface.vertices)
    mesh = mi.Mesh(material, count, len(surface.faces), has_vertex_normals=True, props=properties)
    mesh.add_attribute("vertex_color", 3, np.ascontiguousarray(surface.albedo, np.float32).ravel())
    mesh.add_attribute("vertex_roughness", 1, np.ascontiguousarray(surface.roughness, np.float32).ravel())
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = frame.points(surface.vertices).astype(np.float32).ravel()
    parameters["vertex_normals"] = frame.directions(surface.normals).astype(np.float32).ravel()
    parameters["faces"] = surface.faces.astype(np.uint32).ravel()
    parameters.update()
    return mesh
