"""The head as a rigid body, and where hair starts on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .people import PersonMesh, body_template


@dataclass(frozen=True)
class HeadFrame:
    """Rigid motion and scale from the neutral head to a person's: world = to_world @ rest * scale + offset."""

    to_world: np.ndarray
    scale: float
    offset: np.ndarray

    @staticmethod
    def of(mesh: PersonMesh) -> HeadFrame:
        """Least-squares fit to the skull of a posed person."""
        body = body_template()
        skull = body.regions.above_hairline > 0.01
        source, target = body.rest[skull][::7], mesh.vertices[skull][::7]
        source_mean, target_mean = source.mean(0), target.mean(0)
        u, singular, vt = np.linalg.svd((target - target_mean).T @ (source - source_mean))
        sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = u @ sign @ vt
        scale = (singular * np.diag(sign)).sum() / ((source - source_mean) ** 2).sum()
        return HeadFrame(rotation, float(scale), target_mean - scale * rotation @ source_mean)

    def place(self, rest_points: np.ndarray) -> np.ndarray:
        """Points [N, 3] of the neutral head, in the person's space."""
        return rest_points @ self.to_world.T * self.scale + self.offset

    def turn(self, rest_directions: np.ndarray) -> np.ndarray:
        """Directions [..., 3] of the neutral head, in the person's space."""
        return rest_directions @ self.to_world.T

    def to_rest(self, points: np.ndarray) -> np.ndarray:
        """The inverse of place."""
        return (points - self.offset) @ self.to_world / self.scale


@dataclass(frozen=True)
class Roots:
    """Where strands start: points and unit normals [N, 3] on the person, rest [N, 3] on the neutral person, and the
    weight [N] they were drawn by."""

    points: np.ndarray
    normals: np.ndarray
    rest: np.ndarray
    weight: np.ndarray


def sample_roots(mesh: PersonMesh, weight: np.ndarray, count: int, rng: np.random.Generator) -> Roots:
    """Random points on the skin, drawn by weight [V] times area."""
    body = body_template()
    faces = mesh.faces[weight[mesh.faces].mean(1) > 0.02]
    corners = mesh.vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    odds = area * weight[faces].mean(1)
    chosen = faces[rng.choice(len(faces), count, p=odds / odds.sum())]
    share = rng.dirichlet([1, 1, 1], count)[..., None]
    return Roots(
        points=(mesh.vertices[chosen] * share).sum(1),
        normals=unit((mesh.normals[chosen] * share).sum(1)),
        rest=(body.rest[chosen] * share).sum(1),
        weight=(weight[chosen] * share[..., 0]).sum(1),
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """vectors [..., 3] at length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
