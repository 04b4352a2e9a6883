"""The fine shape of skin that a body mesh lacks: wrinkles that come with age, pores and unevenness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .noise import smooth_noise
from .people import PersonMesh, body_template
from .regions import EYE_X, EYE_Z, smooth_step
from .subdivision import vertex_normals


def with_relief(mesh: PersonMesh, age: float, rng: np.random.Generator) -> PersonMesh:
    """The mesh with wrinkles as deep as age says (0..1 as Anny counts) and with uneven normals."""
    body = body_template()
    vertices = mesh.vertices + mesh.normals * (wrinkle_height(age, rng) + _unevenness(age, rng))[:, None]
    normals = vertex_normals(vertices, mesh.faces)
    # Pores are finer than the mesh: they tilt normals only, and only where the mesh is fine (the head).
    head = smooth_step(0.53, 0.56, body.rest[:, 2])[:, None]
    normals = normals + rng.normal(0.0, 0.05, normals.shape) * head
    return replace(mesh, vertices=vertices, normals=normals / np.linalg.norm(normals, axis=1, keepdims=True))


def _unevenness(age: float, rng: np.random.Generator) -> np.ndarray:
    """Heights [V] in metres of lumps a few millimetres wide; none on lips and lids."""
    regions, rest = body_template().regions, body_template().rest
    smooth = (1 - regions.lips) * (1 - regions.eyelids) * (1 - regions.eye_cavity) * (rest[:, 2] > 0.53)
    old = smooth_step(0.65, 1.0, np.array(age))
    return smooth * (0.00006 + 0.00008 * old) * smooth_noise(rest, 0.004, rng)


def wrinkle_height(age: float, rng: np.random.Generator) -> np.ndarray:
    """Heights [V] in metres, negative in a furrow: forehead, brow, corners of the eyes, bags, from nose to mouth."""
    rest = body_template().rest
    side, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    front = 1.0 - smooth_step(-0.085, -0.07, y)
    depth = smooth_step(0.64, 1.0, np.array(age)) * rng.uniform(0.6, 1.2)
    warp = 0.0022 * smooth_noise(rest, 0.022, rng)
    across = (
        smooth_step(0.674, 0.682, z)
        * (1 - smooth_step(0.702, 0.715, z))
        * (1 - smooth_step(0.03, 0.05, side))
    )
    forehead = 0.00045 * across * _furrows((z + warp) / rng.uniform(0.0075, 0.0105))
    frown = np.exp(-(((side - 0.0065) / 0.0016) ** 2) - (((z - 0.668) / 0.007) ** 2)) * 0.0006
    return -front * depth * (forehead + frown + _crow_feet(side, z) + _folds(side, z))


def _furrows(phase: np.ndarray) -> np.ndarray:
    """1 in narrow furrows, one a unit of phase, 0 between them."""
    return np.exp(-((np.sin(np.pi * phase) / 0.45) ** 2))


def _crow_feet(side: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Depths of the rays at the outer corners of the eyes."""
    across, up = side - (EYE_X + 0.015), z - EYE_Z
    distance, angle = np.hypot(across, up), np.arctan2(up, across)
    reach = smooth_step(0.003, 0.007, distance) * (1 - smooth_step(0.013, 0.022, distance))
    return 0.0004 * reach * (np.abs(angle) < 1.0) * _furrows(angle * 2.2 + 0.3)


def _folds(side: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Depths of the folds from nose to mouth and under the eyes."""
    start, end = np.array([0.0195, 0.609]), np.array([0.0315, 0.579])
    offset = np.stack([side, z], 1) - start
    along = np.clip(offset @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
    distance = np.linalg.norm(offset - along[:, None] * (end - start), axis=1)
    nose_to_mouth = 0.0011 * np.exp(-((distance / 0.0026) ** 2))
    arc = 0.6335 - 0.004 * np.cos((side - 0.028) / 0.011)
    bag = 0.0007 * np.exp(-(((z - arc) / 0.0018) ** 2) - (((side - 0.027) / 0.013) ** 4))
    return nose_to_mouth + bag
