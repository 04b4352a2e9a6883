"""Clothes cut from the body: a region of the mesh pushed outwards, smoothed, folded, and painted with a pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from .noise import smooth_noise
from .people import PersonMesh, body_template
from .regions import smooth_step
from .subdivision import vertex_normals

_NECKLINES = ("crew", "v-neck", "scoop", "high")
_PATTERNS = ("plain", "plain", "plain", "stripes", "checks", "mottled", "two-tone")


@dataclass(frozen=True)
class ClothesStyle:
    """neckline and pattern by name; colours linear albedo; lengths in metres."""

    neckline: str
    pattern: str
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    period: float
    looseness: float
    sleeve_end: float
    roughness: float


@dataclass(frozen=True)
class ClothesMesh:
    """vertices, normals and albedo [V, 3], faces [F, 3]."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray


def _sample_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """A dye: any hue, often muted, sometimes white, grey or near black; linear albedo 0.02..0.8."""
    kind = rng.random()
    if kind < 0.3:
        grey = rng.choice([rng.uniform(0.02, 0.06), rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.8)])
        colour = grey * rng.uniform(0.93, 1.05, 3)
    else:
        hue, saturation, value = rng.random(), rng.uniform(0.25, 0.92), rng.uniform(0.08, 0.7)
        wheel = np.clip(np.abs(((hue * 6 + np.array([0, 4, 2])) % 6) - 3) - 1, 0, 1)
        colour = value * (1 - saturation * (1 - wheel))
    red, green, blue = np.clip(colour, 0.02, 0.8)
    return float(red), float(green), float(blue)


def sample_clothes_style(rng: np.random.Generator) -> ClothesStyle:
    """Draws a garment."""
    return ClothesStyle(
        neckline=str(rng.choice(_NECKLINES, p=[0.42, 0.24, 0.2, 0.14])),
        pattern=str(rng.choice(_PATTERNS)),
        colours=(_sample_colour(rng), _sample_colour(rng)),
        period=float(rng.uniform(0.018, 0.07)),
        looseness=float(rng.uniform(0.003, 0.011)),
        sleeve_end=float(rng.choice([0.26, 0.5], p=[0.4, 0.6])),
        roughness=float(rng.uniform(0.6, 0.95)),
    )


def _inside_garment(style: ClothesStyle, rest: np.ndarray) -> np.ndarray:
    """Signed distance-like value [V] on the neutral body in metres: positive where cloth covers the skin."""
    x, y, z = rest.T
    side = np.abs(x)
    front = 1.0 - smooth_step(-0.03, 0.01, y)
    middle = {"crew": 0.524, "v-neck": 0.522, "scoop": 0.517, "high": 0.560}[style.neckline]
    slope = 0.25 if style.neckline == "high" else 0.55
    line = middle + slope * y
    if style.neckline == "v-neck":
        line = line - front * 0.075 * np.clip(1.0 - side / 0.06, 0, 1)
    elif style.neckline == "scoop":
        line = line - front * 0.045 * np.clip(1.0 - (side / 0.075) ** 2, 0, 1)
    covered = line - z + 1.1 * np.maximum(0.0, side - 0.062)
    return np.minimum(covered, style.sleeve_end - side)


def build_clothes(style: ClothesStyle, mesh: PersonMesh, rng: np.random.Generator) -> ClothesMesh:
    """The garment of a posed person."""
    body = body_template()
    covered = _inside_garment(style, body.rest)
    faces = body.faces[(covered[body.faces] > 0).all(1)]
    used = np.unique(faces)
    renumber = np.full(len(covered), -1)
    renumber[used] = np.arange(len(used))
    faces = renumber[faces]
    rest, covered = body.rest[used], covered[used]
    average = _neighbour_average(faces, len(used))
    skin, normals = mesh.vertices[used], mesh.normals[used]
    for _ in range(4):
        normals = average @ normals
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    hem = smooth_step(0.0, 0.02, covered)
    lift = 0.0022 + style.looseness * hem
    folds = smooth_noise(rest * [1.0, 1.0, 0.45], 0.035, rng) + 0.5 * smooth_noise(
        rest * [1, 1, 0.5], 0.016, rng
    )
    lift = lift + np.clip(0.0016 * folds, -0.002, 0.005) * hem
    vertices = skin + normals * lift[:, None]
    for _ in range(14):
        vertices = vertices + 0.55 * (hem * 0.9 + 0.1)[:, None] * (average @ vertices - vertices)
    # Smoothing pulls cloth into bulges of the body; push it back out to a thin gap.
    gap = ((vertices - skin) * normals).sum(1)
    vertices = vertices + normals * np.maximum(0.002 - gap, 0)[:, None]
    return ClothesMesh(vertices, vertex_normals(vertices, faces), faces, _paint(style, rest, rng))


def _neighbour_average(faces: np.ndarray, vertex_count: int) -> sparse.csr_matrix:
    """Row-normalised adjacency: mean of each vertex's neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    valence = np.bincount(edges[:, 0], minlength=vertex_count)
    return sparse.csr_matrix((1.0 / valence[edges[:, 0]], edges.T), shape=(vertex_count, vertex_count))


def _paint(style: ClothesStyle, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Albedo [V, 3] of the garment, laid out on the neutral body."""
    x, _, z = rest.T
    first, second = np.array(style.colours[0]), np.array(style.colours[1])
    if style.pattern == "stripes":
        amount = smooth_step(-0.12, 0.12, np.sin(2 * np.pi * z / style.period))
    elif style.pattern == "checks":
        waves = np.sin(2 * np.pi * z / style.period), np.sin(2 * np.pi * x / style.period)
        amount = 0.5 * smooth_step(-0.15, 0.15, waves[0]) + 0.5 * smooth_step(-0.15, 0.15, waves[1])
    elif style.pattern == "mottled":
        amount = smooth_step(-0.6, 0.6, smooth_noise(rest, style.period * 0.6, rng))
    elif style.pattern == "two-tone":
        amount = smooth_step(-0.002, 0.002, 0.42 - z)
    else:
        amount = np.zeros(len(rest))
    weave = 1.0 + 0.03 * smooth_noise(rest, 0.004, rng)
    return np.clip((first * (1 - amount[:, None]) + second * amount[:, None]) * weave[:, None], 0.01, 0.85)
