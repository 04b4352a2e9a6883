"""Cloth cut from the body: a region of the skin, lifted off it, smoothed, folded, with turned hems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from training.synth.person.head_frame import unit
from training.synth.person.noise import smooth_noise
from training.synth.person.people import PersonMesh, body_template
from training.synth.person.regions import smooth_step
from training.synth.person.subdivision import loop_subdivision, unique_pairs

from .cut_mesh import cut_mesh, with_hem

_THINNEST = 0.0015  # metres between skin and cloth


@dataclass(frozen=True)
class Fit:
    """How cloth sits. lift: metres off the skin inside and lift_at_hem at its border; fold: height of wrinkles in
    metres; smoothing: rounds of it, more bridge hollows of the body; tight: 1 keeps to every bulge below, 0 to none."""

    lift: float
    lift_at_hem: float = 0.0022
    fold: float = 0.0016
    smoothing: int = 14
    tight: float = 1.0


@dataclass(frozen=True)
class Shell:
    """vertices [V, 3], faces [F, 3], rest [V, 3] on the neutral body, inside [V]: metres from the border; open_faces:
    the faces without the turned hem, whose border is the cloth's visible edge."""

    vertices: np.ndarray
    faces: np.ndarray
    open_faces: np.ndarray
    rest: np.ndarray
    inside: np.ndarray


def build_shell(
    mesh: PersonMesh, inside: np.ndarray, fit: Fit, extra_lift: np.ndarray | float, rng: np.random.Generator
) -> Shell:
    """Cloth where inside [V], metres from the border on the neutral body, is positive; extra_lift [V] metres."""
    matrix, faces = cut_mesh(mesh.faces, inside)
    body = body_template()
    extra = matrix @ np.broadcast_to(extra_lift, len(inside))
    rest, inside, skin = matrix @ body.rest, matrix @ inside, matrix @ mesh.vertices
    average = neighbour_average(faces, len(rest))
    normals = matrix @ mesh.normals
    for _ in range(6):
        normals = average @ normals
    normals = unit(normals)
    hem = smooth_step(0.0, 0.02, inside)
    lift = fit.lift_at_hem + (fit.lift - fit.lift_at_hem) * hem + extra + fit.fold * _folds(rest, rng) * hem
    vertices = skin + normals * np.maximum(lift, _THINNEST)[:, None]
    for _ in range(fit.smoothing):
        vertices = vertices + 0.55 * (hem * 0.95 + 0.05)[:, None] * (average @ vertices - vertices)
    # Smoothing pulls cloth into bulges of the body; push it back out to a thin gap.
    gap = ((vertices - skin) * normals).sum(1)
    vertices = vertices + fit.tight * normals * np.maximum(_THINNEST - gap, 0)[:, None]
    finer, faces = loop_subdivision(faces, len(vertices))
    vertices, rest, inside = finer @ vertices, finer @ rest, finer @ inside
    inward = -(finer @ (normals * (fit.lift_at_hem + 0.002)))
    vertices, hemmed, source = with_hem(vertices, faces, inward)
    return Shell(vertices, hemmed, faces, rest[source], inside[source])


def _folds(rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wrinkles [V], about -1..3: ridges that run mostly downwards, sharper than the hollows between them."""
    warped = rest + 0.012 * np.stack([smooth_noise(rest, 0.06, rng) for _ in range(3)], 1)
    wide = smooth_noise(warped * [1.0, 1.0, 0.4], 0.040, rng)
    narrow = smooth_noise(warped * [1.0, 1.0, 0.5], 0.017, rng)
    ridges = 1.0 - 2.0 * np.abs(np.tanh(0.9 * smooth_noise(warped * [0.8, 1.0, 0.5], 0.055, rng)))
    return np.clip(0.8 * wide + 0.4 * narrow + 0.7 * ridges, -1.2, 3.0)


def neighbour_average(faces: np.ndarray, vertex_count: int) -> sparse.csr_matrix:
    """Row-normalised adjacency [V, V]: mean of each vertex's neighbours."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, _ = unique_pairs(np.concatenate([edges, edges[:, ::-1]]))
    valence = np.bincount(edges[:, 0], minlength=vertex_count)
    return sparse.csr_matrix((1.0 / valence[edges[:, 0]], edges.T), shape=(vertex_count, vertex_count))
