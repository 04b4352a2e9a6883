"""Hats, caps and head scarves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from training.synth.person.head_frame import HeadFrame
from training.synth.person.noise import smooth_noise
from training.synth.person.people import PersonMesh, body_template
from training.synth.person.regions import smooth_step
from training.synth.render.surface import Surface, grid_faces, merged, painted

from .cut_mesh import border_loops
from .shell import Fit, Shell, build_shell

_KINDS = ("none", "beanie", "cap", "brimmed", "scarf")


@dataclass(frozen=True)
class HatStyle:
    """kind: none, beanie, cap, brimmed or scarf; colours linear albedo; height: how far up the forehead its edge sits,
    metres above the brows' own height; brim: its length in metres; roughness 0..1."""

    kind: str
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    height: float
    brim: float
    roughness: float


def sample_hat_style(rng: np.random.Generator, masculine: float) -> HatStyle:
    """Draws what is on a head, mostly nothing. masculine 0..1: head scarves are women's."""
    odds = [0.84, 0.05, 0.06, 0.05, 0.0] if masculine > 0.5 else [0.84, 0.04, 0.025, 0.035, 0.06]
    kind = str(rng.choice(_KINDS, p=odds))
    muted = rng.uniform(0.02, 0.35) * rng.uniform(0.6, 1.4, (2, 3))
    bright = rng.uniform(0.04, 0.6, (2, 3))
    colours = np.clip(muted if rng.random() < 0.6 else bright, 0.02, 0.75)
    return HatStyle(
        kind=kind,
        colours=tuple(tuple(float(value) for value in colour) for colour in colours),
        height=float(rng.uniform(0.016, 0.034)),
        brim=float(rng.uniform(0.05, 0.07) if kind == "cap" else rng.uniform(0.04, 0.075)),
        roughness=float(rng.uniform(0.65, 0.95)),
    )


def under_hat(style: HatStyle) -> np.ndarray:
    """Metres [V] inside the hat's edge on the neutral body; positive where the hat is."""
    rest = body_template().rest
    x, y, z = rest.T
    if style.kind == "none":
        return np.full(len(rest), -1.0)
    if style.kind == "scarf":
        return _around_face(rest)
    # The edge of a hat is a plane, lower at the back.
    edge = 0.669 + style.height - 0.16 * np.clip(y + 0.11, 0, None)
    if style.kind == "beanie":
        edge = edge - 0.13 * np.clip(y + 0.11, 0, 0.11)
    return z - edge


def _around_face(rest: np.ndarray) -> np.ndarray:
    """Everything above the chest but an oval of face."""
    x, y, z = rest.T
    oval = 0.055 * (np.sqrt((x / 0.060) ** 2 + ((z - 0.633) / 0.088) ** 2) - 1.0)
    # Behind the cheeks the face ends, whatever the oval says; under the chin too.
    outside = np.maximum(oval, np.maximum((y + 0.052) * 0.8, 0.533 - z - 0.3 * (y + 0.10)))
    chest = z - 0.455 - 0.03 * np.cos(x * 22.0)
    return np.minimum(np.minimum(outside, chest), 0.20 - np.abs(x))


def build_hat(
    style: HatStyle, mesh: PersonMesh, hair_thickness: float, rng: np.random.Generator
) -> Surface | None:
    """The hat of a posed person over hair that is hair_thickness metres thick, or None."""
    if style.kind == "none":
        return None
    inside = under_hat(style)
    shell = build_shell(mesh, inside, _fit(style, hair_thickness), _shape(style), rng)
    albedo = _paint(style, shell, rng)
    parts = [painted(shell.vertices, shell.faces, albedo, style.roughness)]
    if style.kind in ("cap", "brimmed"):
        parts.append(_brim(style, shell, HeadFrame.of(mesh)))
    return merged(parts)


def _fit(style: HatStyle, hair_thickness: float) -> Fit:
    thick = 0.004 + hair_thickness
    if style.kind == "scarf":
        return Fit(0.011 + 0.5 * hair_thickness, 0.005, fold=0.0022, smoothing=70, tight=0.8)
    fold = 0.0012 if style.kind == "beanie" else 0.0003
    return Fit(thick, 0.6 * thick, fold=fold, smoothing=25)


def _shape(style: HatStyle) -> np.ndarray:
    """Lift off the head [V] in metres that makes the hat's own shape."""
    rest = body_template().rest
    x, y, z = rest.T
    up = smooth_step(0.69, 0.76, z)
    if style.kind == "beanie":
        ribs = 0.0007 * np.sin(np.arctan2(x, -(y + 0.01)) * 70.0)
        cuff = 0.004 * (under_hat(style) < 0.03) * (under_hat(style) > 0.0)
        return ribs + cuff + 0.016 * up * smooth_step(-0.05, 0.03, y)
    if style.kind == "cap":
        return 0.010 * up + 0.006 * smooth_step(-0.06, -0.10, y)
    if style.kind == "brimmed":
        return 0.006 + 0.030 * up * (1.0 - 0.5 * np.exp(-((x / 0.02) ** 2)))
    return 0.004 * smooth_step(0.62, 0.56, z)


def _paint(style: HatStyle, shell: Shell, rng: np.random.Generator) -> np.ndarray:
    """Albedo [V, 3]: a band of the second colour on brimmed hats, knit or weave elsewhere."""
    first, second = (np.array(colour) for colour in style.colours)
    x, y, _ = shell.rest.T
    weave = 1.0 + 0.05 * smooth_noise(shell.rest, 0.003, rng)
    if style.kind == "beanie":
        weave = weave + 0.10 * np.sin(np.arctan2(x, -(y + 0.01)) * 70.0)
    if style.kind == "cap":
        panels = np.abs(np.sin(3 * np.arctan2(x, -(y + 0.01))))
        weave = weave * (1.0 - 0.4 * np.exp(-((panels / 0.03) ** 2)))
    band = ((shell.inside < 0.022) * (style.kind == "brimmed"))[:, None]
    return np.clip((first * (1 - band) + second * band) * weave[:, None], 0.01, 0.85)


def _brim(style: HatStyle, shell: Shell, head: HeadFrame) -> Surface:
    """A sheet that leaves the edge of the crown: in front only (a cap's visor) or all around."""
    edge = shell.vertices[border_loops(shell.open_faces)[0]]
    rest_edge = head.to_rest(edge)
    around = np.arctan2(rest_edge[:, 0], -(rest_edge[:, 1] + 0.01))
    cap = style.kind == "cap"
    angle = np.linspace(-1.25, 1.25, 61) if cap else np.linspace(-np.pi, np.pi, 121)
    # The crown's own edge, ordered by angle, a little inside so that no gap shows.
    order = np.argsort(around)
    wrapped = np.concatenate([around[order] - 2 * np.pi, around[order], around[order] + 2 * np.pi])
    base = np.stack([np.interp(angle, wrapped, np.tile(rest_edge[order, axis], 3)) for axis in range(3)], 1)
    outwards = np.stack([np.sin(angle), -np.cos(angle), np.zeros_like(angle)], 1)
    if cap:
        # A visor's rim is a wide arc: its sides are short and point forwards.
        share = angle / 1.25
        outwards = np.stack([0.25 * share, -np.ones_like(share), np.zeros_like(share)], 1)
        reach = style.brim * np.sqrt(np.clip(1.0 - share**2, 0, 1))
        droop = -0.22 * reach - 0.016 * share**2 * np.minimum(1.0, reach / 0.02)
    else:
        reach = np.full_like(angle, style.brim)
        droop = -0.10 * reach - 0.012 * np.cos(angle) ** 2 + 0.010 * np.sin(angle) ** 2
    rows = []
    for level, thickness in (
        (-0.05, 0),
        (0.3, 0),
        (0.6, 0),
        (0.85, 0),
        (1.0, 0),
        (1.0, -1),
        (0.5, -1),
        (-0.05, -1),
    ):
        point = base + outwards * (reach * level)[:, None]
        point[:, 2] += droop * max(level, 0.0) ** 1.3 + 0.0025 * thickness
        rows.append(head.place(point))
    colour = np.array(style.colours[0])
    return painted(
        np.concatenate(rows), grid_faces(len(rows), len(angle), closed=False), colour, style.roughness
    )


def outside_hat(points: np.ndarray, hat: Surface) -> np.ndarray:
    """Which strands [N] of points [N, K, 3] do not come out through a hat; hair that falls from under it stays."""
    tips = points[:, 1:].reshape(-1, 3)
    distance, nearest = cKDTree(hat.vertices).query(tips)
    beyond = ((tips - hat.vertices[nearest]) * hat.normals[nearest]).sum(1)
    # Straight above the cloth, not beside its edge.
    sideways = np.sqrt(np.maximum(distance**2 - beyond**2, 0.0))
    pierces = (beyond > 0.001) & (beyond < 0.03) & (sideways < 0.003)
    return ~pierces.reshape(len(points), -1).any(1)
