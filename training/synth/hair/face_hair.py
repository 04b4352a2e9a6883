"""Hair of the face: brows, lashes, stubble and beards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synth.person.head_frame import HeadFrame, sample_roots, unit
from training.synth.person.people import PersonMesh, body_template
from training.synth.person.regions import MOUTH_Z, smooth_step

from .strand_mesh import Strands

_BEARDS = ("none", "stubble", "short", "full", "goatee", "moustache")


@dataclass(frozen=True)
class FaceHairStyle:
    """beard: none, stubble, short, full, goatee or moustache; beard_length in metres; brow_strength 0.3..1 (how dense),
    brow_width: factor on their height; lash_length in metres."""

    beard: str
    beard_length: float
    brow_strength: float
    brow_width: float
    lash_length: float


def sample_face_hair(rng: np.random.Generator, masculine: float, age: float) -> FaceHairStyle:
    """Draws brows, lashes and a beard. masculine 0..1; age 0..1 as Anny counts: nobody below 0.58 has a beard."""
    can_grow = masculine > 0.55 and age > 0.58
    odds = [0.52, 0.10, 0.12, 0.10, 0.09, 0.07] if can_grow else [1, 0, 0, 0, 0, 0]
    beard = str(rng.choice(_BEARDS, p=odds))
    length = {
        "none": 0.0, "stubble": rng.uniform(0.0012, 0.003), "short": rng.uniform(0.005, 0.010),
        "full": rng.uniform(0.015, 0.042), "goatee": rng.uniform(0.006, 0.018), "moustache": rng.uniform(0.006, 0.012),
    }[beard]  # fmt: skip
    return FaceHairStyle(
        beard=beard,
        beard_length=float(length),
        brow_strength=float(rng.uniform(0.35, 1.0) * (0.8 + 0.2 * masculine)),
        brow_width=float(rng.uniform(0.7, 1.0) + 0.3 * masculine),
        lash_length=float(rng.uniform(0.006, 0.010) - 0.002 * masculine),
    )


def beard_weight(beard: str) -> np.ndarray:
    """How densely a kind of beard grows [V], 0..1."""
    body = body_template()
    side, z = np.abs(body.rest[:, 0]), body.rest[:, 2]
    full = np.clip(body.regions.beard + 0.95 * body.regions.moustache, 0, 1)
    if beard == "moustache":
        return body.regions.moustache
    if beard == "goatee":
        around = 1.0 - smooth_step(0.024, 0.031, side)
        chin = 1.0 - smooth_step(0.019, 0.026, side) * (z < MOUTH_Z - 0.004)
        return full * around * chin
    return full


def build_face_hair(
    style: FaceHairStyle, brow_colours: np.ndarray, beard_colours: np.ndarray, mesh: PersonMesh, detail: float,
    rng: np.random.Generator,
) -> list[Strands]:  # fmt: skip
    """Brows, lashes and the beard. The colours [C, 3] are those that strands draw theirs from; detail as in
    sample_hair_style."""
    parts = [_brows(style, brow_colours, mesh, rng), _lashes(style, brow_colours, mesh, rng)]
    if style.beard_length > 0:
        parts.append(_beard(style, beard_colours, mesh, detail, rng))
    return parts


def _drawn(colours: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return colours[rng.integers(len(colours), size=count)]


def _beard(
    style: FaceHairStyle, colours: np.ndarray, mesh: PersonMesh, detail: float, rng: np.random.Generator
) -> Strands:
    """Strands that leave the skin along it, hang down, and stay close."""
    weight = beard_weight(style.beard)
    share = {"moustache": 0.14, "goatee": 0.3}.get(style.beard, 1.0)
    count = int(9000 * share * detail)
    roots = sample_roots(mesh, weight, count, rng)
    head = HeadFrame.of(mesh)
    aside = np.sign(roots.rest[:, :1]) * smooth_step(0.0, 0.012, np.abs(roots.rest[:, :1]))
    on_lip = smooth_step(0.584, 0.588, roots.rest[:, 2:]) * (np.abs(roots.rest[:, :1]) < 0.03)
    down = np.array([0.0, -0.25, -1.0]) + np.array([0.9, 0, 0.25]) * aside * on_lip
    flow = head.turn(unit(down + rng.normal(0, 0.22, roots.points.shape)))
    leave = 1.0 if style.beard == "stubble" else 0.55
    length = style.beard_length * rng.uniform(0.6, 1.1, (count, 1)) * (0.45 + 0.55 * roots.weight[:, None])
    # A moustache is trimmed above the lip; a full beard is longest at the chin.
    length = length * (1 - on_lip) + np.minimum(length, 0.0075) * on_lip
    chin = 1.0 - smooth_step(0.55, 0.58, roots.rest[:, 2:])
    length = length * (0.55 + 0.45 * chin) if style.beard == "full" else length
    steps = np.linspace(-0.1, 1.0, 5)[None, :, None]
    bend = np.clip(steps, 0, 1) ** 1.4
    path = steps * leave * roots.normals[:, None] * (1 - 0.5 * bend) + bend * flow[:, None]
    curl = 0.0011 * np.sin(9 * steps + rng.uniform(0, 6.3, (count, 1, 3))) * np.clip(steps, 0, 1)
    points = roots.points[:, None] + length[:, None] * path + curl * (style.beard_length > 0.004)
    radii = np.full(points.shape[:2], 0.00013 / detail**0.5) * [1.0, 1.0, 0.9, 0.8, 0.4]
    return Strands(points, radii, _drawn(colours, count, rng))


def _brows(style: FaceHairStyle, colours: np.ndarray, mesh: PersonMesh, rng: np.random.Generator) -> Strands:
    """Short strands that lie on the skin: upwards next to the nose, then outwards."""
    count = int(1100 * style.brow_strength)
    roots = sample_roots(mesh, body_template().regions.brows ** (2.0 / style.brow_width**2), count, rng)
    head = HeadFrame.of(mesh)
    inner = 1.0 - smooth_step(0.013, 0.026, np.abs(roots.rest[:, :1]))
    above = roots.rest[:, 2:] > 0.668
    outwards = np.sign(roots.rest[:, :1]) * [1.0, 0, 0]
    upwards = np.array([0.0, 0, 1.0]) * (1.5 * inner + 0.22 - 0.45 * above)
    flow = head.turn(unit(outwards + upwards + rng.normal(0, 0.14, roots.points.shape)))
    flow = unit(flow - 0.85 * (flow * roots.normals).sum(1, keepdims=True) * roots.normals)
    steps = np.linspace(-0.1, 1, 4)[None, :, None] * rng.uniform(0.004, 0.0085, (count, 1, 1))
    points = roots.points[:, None] + 0.00035 * roots.normals[:, None] + steps * flow[:, None]
    radii = np.full((count, 4), 0.00012) * [0.9, 1.0, 0.8, 0.35]
    return Strands(points, radii, _drawn(colours, count, rng))


def _lashes(style: FaceHairStyle, colours: np.ndarray, mesh: PersonMesh, rng: np.random.Generator) -> Strands:
    """Curved hairs on the rims of the lids, long on the upper one."""
    head = HeadFrame.of(mesh)
    forward, up, left = head.turn(np.array([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]]))
    paths, radii = [], []
    for centre, radius in zip(mesh.eye_centres, mesh.eye_radii, strict=True):
        offset = mesh.vertices - centre
        gap = np.linalg.norm(offset, axis=1) - radius
        across = np.abs(offset @ left) / radius
        rim = (gap > -0.0002) & (gap < 0.0014) & (offset @ forward > 0.45 * radius) & (across < 0.95)
        for is_upper, count, length in ((True, 110, style.lash_length), (False, 50, 0.4 * style.lash_length)):
            members = np.flatnonzero(rim & ((offset @ up > 0) == is_upper))
            if len(members) == 0:
                continue
            chosen = rng.choice(members, count)
            fan = (offset[chosen] @ left / radius)[:, None] * left
            rise = (0.55 if is_upper else -0.7) * up
            lengths = (length * rng.uniform(0.7, 1.1, count))[:, None, None]
            steps = np.linspace(0, 1, 4)[None, :, None]
            start = mesh.vertices[chosen] + 0.0006 * forward
            straight = unit(forward + 0.7 * fan + 0.25 * rise + rng.normal(0, 0.1, (count, 3)))
            paths.append(start[:, None] + lengths * (steps * straight[:, None] + 0.8 * steps**2 * rise))
            radii.append(np.full((count, 4), 0.00009) * [1.2, 1.0, 0.8, 0.3])
    points = np.concatenate(paths) if paths else np.zeros((0, 4, 3))
    thickness = np.concatenate(radii) if radii else np.zeros((0, 4))
    return Strands(points, thickness, 0.4 * _drawn(colours, len(points), rng))
