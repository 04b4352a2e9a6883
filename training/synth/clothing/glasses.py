"""Glasses: frames of metal or plastic, with clear, tinted or dark lenses.

A lens that were one sheet of glass would stop the renderer from aiming at lights through it. So it is a screen of
specks much smaller than a pixel: some mirror (what glass reflects), some absorb (its tint), and between them light
passes straight, out and in, as through glass. That is as linear in the light as glass is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from training.synth.hair.growth import leave_skin
from training.synth.hair.strand_mesh import strand_tubes
from training.synth.person.head_frame import HeadFrame
from training.synth.person.people import PersonMesh, body_template
from training.synth.render.surface import Surface, merged, painted

_KINDS = ("none", "clear", "tinted", "dark")
_RIM_POINTS = 72
_SPECK = 0.00030  # metres between specks
_MIRROR_SHARE = 0.10  # of a lens that is specks of mirror ...
_MIRROR_ALBEDO = 0.42  # ... which reflect this: together the 4% of coated glass


@dataclass(frozen=True)
class GlassesStyle:
    """kind: none, clear, tinted or dark (sunglasses). width and height of a lens and thickness of the frame in metres;
    roundness: exponent of the rim's superellipse, 2 round to 5 square; colours linear albedo; tint: share of light that
    a lens absorbs, 0..1."""

    kind: str
    width: float
    height: float
    roundness: float
    thickness: float
    frame_colour: tuple[float, float, float]
    lens_colour: tuple[float, float, float]
    tint: float


def sample_glasses_style(rng: np.random.Generator, age: float) -> GlassesStyle:
    """Draws glasses, mostly none; more often with age (0..1 as Anny counts)."""
    share = 0.32 if age > 0.82 else 0.20 if age > 0.58 else 0.10
    odds = np.array([1 - share, 0.68 * share, 0.14 * share, 0.18 * share])
    kind = str(rng.choice(_KINDS, p=odds / odds.sum()))
    dark = kind == "dark"
    metal = rng.random() < 0.4
    frame = rng.choice([0.02, 0.03, rng.uniform(0.05, 0.4)]) * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.25:
        frame = np.array([0.16, 0.07, 0.025]) * rng.uniform(0.5, 1.4)
    return GlassesStyle(
        kind=kind,
        width=float(rng.uniform(0.045, 0.053) + 0.005 * dark),
        height=float(rng.uniform(0.031, 0.043) + 0.004 * dark),
        roundness=float(rng.uniform(2.0, 4.2)),
        thickness=float(rng.uniform(0.0006, 0.0009) if metal else rng.uniform(0.0013, 0.0023)),
        frame_colour=tuple(float(value) for value in np.clip(frame, 0.01, 0.6)),
        lens_colour=tuple(float(value) for value in rng.uniform(0.01, 0.05) * rng.uniform(0.7, 1.4, 3)),
        tint={"none": 0.0, "clear": 0.0, "tinted": float(rng.uniform(0.25, 0.6)), "dark": 1.0}[kind],
    )


def build_glasses(style: GlassesStyle, mesh: PersonMesh, rng: np.random.Generator) -> dict[str, Surface]:
    """Frame, tint and reflections of a person's glasses, by material; empty where there are none."""
    if style.kind == "none":
        return {}
    head = HeadFrame.of(mesh)
    left, up, forward = head.turn(np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]))
    tree = cKDTree(mesh.vertices[::2])
    angle = np.linspace(0, 2 * np.pi, _RIM_POINTS)
    rims, lenses, hard = [], [], []
    depth = max((mesh.eye_centres - head.offset) @ forward) + float(mesh.eye_radii.max()) + 0.012
    for centre in mesh.eye_centres:
        sign = np.sign((centre - mesh.eye_centres.mean(0)) @ left)
        middle = (
            centre + (depth - (centre - head.offset) @ forward) * forward - 0.003 * up + 0.002 * sign * left
        )
        across, high = _superellipse(angle, style)
        # Frames wrap a little around the face and lean forwards at the top.
        back = -0.10 * across * sign + 0.10 * high
        rims.append(middle + across[:, None] * left + high[:, None] * up + back[:, None] * forward)
        lenses.append((middle, sign))
    hard.append(_tube(np.stack(rims), style))
    hard += _bridge_and_temples(style, rims, head, mesh, tree)
    specks = _specks(style, lenses, (left, up, forward), rng)
    frame = [painted(vertices, faces, np.array(style.frame_colour), 0.22) for vertices, faces in hard]
    surfaces = {"hard": merged(frame + specks["hard"])}
    if specks["mirror"]:
        surfaces["mirror"] = merged(specks["mirror"])
    return surfaces


def _superellipse(angle: np.ndarray, style: GlassesStyle) -> tuple[np.ndarray, np.ndarray]:
    power = 2.0 / style.roundness
    across = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * style.width / 2
    high = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * style.height / 2
    return across, high


def _tube(paths: np.ndarray, style: GlassesStyle, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    radii = np.full(paths.shape[:2], style.thickness * factor)
    vertices, _, faces = strand_tubes(paths, radii, sides=8)
    return vertices, faces


def _bridge_and_temples(
    style: GlassesStyle, rims: list[np.ndarray], head: HeadFrame, mesh: PersonMesh, tree: cKDTree
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The arc over the nose, and the arms to the ears."""
    left, up, forward = head.turn(np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]))
    surface, normals = mesh.vertices[::2], mesh.normals[::2]
    share = np.linspace(0, 1, 16)[:, None]
    first, second = (_nearest_to_nose(rims[side], rims[1 - side], left, up) for side in (0, 1))
    arc = 0.004 * np.sin(np.pi * share) * up + 0.003 * np.sin(np.pi * share) * forward
    bridge = leave_skin(
        first * (1 - share) + second * share + arc, tree, surface, normals, np.full(16, 0.001)
    )
    tubes = [_tube(bridge[None], style)]
    body = body_template()
    for rim in rims:
        sign = np.sign((rim.mean(0) - head.place(np.array([[0.0, -0.1, 0.65]]))[0]) @ left)
        start = rim[np.argmax(sign * (rim @ left) + 0.25 * (rim @ up))]
        ear = np.argmin(np.linalg.norm(body.rest - [0.0735 * sign, -0.012, 0.660], axis=1))
        end = mesh.vertices[ear] + 0.003 * sign * left
        path = start * (1 - share) + end * share
        path = np.concatenate(
            [path, end - np.array([[0.006], [0.014]]) * forward - np.array([[0.004], [0.014]]) * up]
        )
        path = leave_skin(path, tree, surface, normals, np.full(len(path), 0.0015 + style.thickness))
        tubes.append(_tube(path[None], style))
    return tubes


def _nearest_to_nose(rim: np.ndarray, other: np.ndarray, left: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The point [3] of a rim where the bridge starts: towards the other rim, above the middle."""
    towards = (rim - other.mean(0)) @ left
    return rim[np.argmin(np.abs(towards) - 0.3 * (rim @ up))]


def _specks(
    style: GlassesStyle,
    lenses: list,
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, list[Surface]]:
    """Small triangles that fill the lenses: absorbing ones ("hard") and mirrors ("mirror"). Dark lenses are whole."""
    left, up, forward = axes
    found = {"hard": [], "mirror": []}
    columns = int(style.width / _SPECK)
    for middle, sign in lenses:
        across, high = np.meshgrid(*[(np.arange(-columns, columns) + 0.5) * _SPECK] * 2)
        across, high = (grid.reshape(-1) for grid in (across, high))
        radius = (
            np.abs(2 * across / style.width) ** style.roundness
            + np.abs(2 * high / style.height) ** style.roundness
        )
        across, high = across[radius < 1], high[radius < 1]
        draw = rng.random(len(across))
        if style.kind == "dark":
            found["hard"].append(
                _squares(style, middle, sign, across, high, axes, np.array(style.lens_colour), 0.05)
            )
            continue
        mirrors, absorbers = (
            draw < _MIRROR_SHARE,
            (draw > _MIRROR_SHARE) & (draw < _MIRROR_SHARE + style.tint),
        )
        mirror = _squares(
            style, middle, sign, across[mirrors], high[mirrors], axes, np.full(3, _MIRROR_ALBEDO), 0.05
        )
        found["mirror"].append(mirror)
        if absorbers.any():
            colour = np.array(style.lens_colour)
            found["hard"].append(
                _squares(style, middle, sign, across[absorbers], high[absorbers], axes, colour, 0.3)
            )
    return found


def _squares(
    style: GlassesStyle, middle: np.ndarray, sign: float, across: np.ndarray, high: np.ndarray,
    axes: tuple[np.ndarray, np.ndarray, np.ndarray], colour: np.ndarray, roughness: float,
) -> Surface:  # fmt: skip
    """One square speck a grid place, on a lens that curves like a large ball."""
    left, up, forward = axes
    corner = 0.5 * _SPECK * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    x, z = across[:, None] + corner[:, 0], high[:, None] + corner[:, 1]
    bend = 4.5  # 1 / metres: eight dioptres of base curve, as most lenses have
    depth = -0.10 * x * sign + 0.10 * z - bend * (x**2 + z**2)
    points = middle + x[..., None] * left + z[..., None] * up + depth[..., None] * forward
    slope = np.stack([0.10 * sign + 2 * bend * x, -0.10 + 2 * bend * z], -1)
    normals = forward + slope[..., :1] * left + slope[..., 1:] * up
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    first = 4 * np.arange(len(across))[:, None]
    faces = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    albedo = np.broadcast_to(colour, (4 * len(across), 3)).astype(float)
    return Surface(
        points.reshape(-1, 3), normals.reshape(-1, 3), faces, albedo, np.full(len(albedo), roughness)
    )
