"""Hair as strands: guides march over the head under flow, gravity and collision, children follow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .noise import smooth_noise
from .people import PersonMesh, body_template
from .regions import smooth_step

_COLOURS = {
    "black": (0.010, 0.009, 0.009),
    "dark brown": (0.028, 0.018, 0.012),
    "brown": (0.075, 0.042, 0.024),
    "light brown": (0.16, 0.095, 0.052),
    "blond": (0.38, 0.26, 0.13),
    "red": (0.22, 0.07, 0.025),
    "grey": (0.26, 0.25, 0.24),
    "white": (0.58, 0.56, 0.52),
    "dyed": (0.12, 0.05, 0.20),
}


@dataclass(frozen=True)
class HairStyle:
    """kind: bald, buzz, short, afro, curly, bob, long or tied. Lengths and radii in metres, colour linear albedo."""

    kind: str
    colour_name: str
    colour: tuple[float, float, float]
    length: float
    radius: float
    strands: int
    part_side: float
    curl: float
    recede: float
    brow_strength: float
    beard_length: float


@dataclass(frozen=True)
class Strands:
    """points [N, K, 3] of N strands with K control points, radii [N, K] in metres."""

    points: np.ndarray
    radii: np.ndarray


def sample_hair_style(
    rng: np.random.Generator, masculine: float, age: float, melanin: float, detail: float = 1.0
) -> HairStyle:
    """Draws a hair style. masculine and age 0..1 as Anny counts; darker skins mostly have dark, more curled hair.

    detail: 1 suits pictures of 256 pixels; at 3 there are three times as many strands, each thinner.
    """
    if masculine > 0.5:
        kinds, weights = (
            ("bald", "buzz", "short", "afro", "curly", "bob", "long", "tied"),
            [10, 20, 45, 7, 8, 3, 4, 3],
        )
    else:
        kinds, weights = (
            ("bald", "buzz", "short", "afro", "curly", "bob", "long", "tied"),
            [1, 4, 14, 8, 11, 20, 26, 16],
        )
    weights = np.array(weights, float)
    weights[3] *= 0.1 + 2.4 * melanin / 1.9
    kind = str(rng.choice(kinds, p=weights / weights.sum()))
    names = list(_COLOURS)
    odds = np.array([3.0, 3.0, 2.4, 1.6, 1.6, 0.7, 0.3, 0.1, 0.25])
    if melanin > 0.8:
        odds[2:6] *= 0.12
    if age > 0.8:
        odds[6:8] *= 12
    name = str(rng.choice(names, p=odds / odds.sum()))
    colour = np.array(_COLOURS[name]) * rng.uniform(0.75, 1.35)
    if name == "dyed":
        colour = np.clip(rng.uniform(0.02, 0.5, 3), 0.02, 0.5)
    length = {
        "bald": 0.0, "buzz": rng.uniform(0.004, 0.010), "short": rng.uniform(0.022, 0.055),
        "afro": rng.uniform(0.03, 0.10),
        "curly": rng.uniform(0.06, 0.18), "bob": rng.uniform(0.15, 0.24), "long": rng.uniform(0.28, 0.46), "tied": 0.2,
    }[kind]  # fmt: skip
    strands = {
        "bald": 0,
        "buzz": 9000,
        "short": 8000,
        "afro": 7000,
        "curly": 4500,
        "bob": 5000,
        "long": 5000,
        "tied": 5000,
    }
    radius = {"buzz": 0.00036, "afro": 0.0007, "curly": 0.0009, "short": 0.0005}.get(kind, 0.0008)
    beard = float(rng.uniform(0.004, 0.022)) if masculine > 0.6 and rng.random() < 0.3 else 0.0
    return HairStyle(
        kind=kind,
        colour_name=name,
        colour=tuple(float(value) for value in np.clip(colour, 0.006, 0.7)),
        length=float(length),
        radius=radius / detail**0.6,
        strands=int(strands[kind] * detail),
        part_side=float(rng.choice([-1, 1]) * rng.uniform(0.0, 0.03)),
        curl=float(rng.uniform(0.5, 1.0))
        if kind == "curly"
        else float(rng.choice([0.0, rng.uniform(0.1, 0.4)])),
        recede=float(rng.uniform(0.0, 0.03)) if masculine > 0.5 and age > 0.6 and rng.random() < 0.4 else 0.0,
        brow_strength=float(rng.uniform(0.5, 1.0)),
        beard_length=beard,
    )


def scalp_cover(style: HairStyle) -> np.ndarray:
    """How much hair grows at each refined vertex [V], in [0, 1]."""
    body = body_template()
    x, y, z = body.rest.T
    height = body.regions.above_hairline
    temple = smooth_step(0.012, 0.04, np.abs(x)) * (1.0 - smooth_step(-0.06, -0.03, y))
    height = height - style.recede * (0.35 + temple) * (1.0 - smooth_step(-0.07, -0.02, y))
    ragged = 0.002 * np.sin(x * 900) * np.cos(y * 700 + z * 600)
    return (
        smooth_step(-0.002, 0.008, height + ragged)
        * (1.0 - np.clip(3 * body.regions.ears, 0, 1))
        * (z > 0.56)
    )


def build_hair(
    style: HairStyle, mesh: PersonMesh, rng: np.random.Generator
) -> tuple[list[Strands], np.ndarray]:
    """All strands of a person (head, brows, lashes, beard) and the scalp cover [V] for the skin painter."""
    cover = scalp_cover(style)
    strands = _brow_strands(style, mesh, rng)
    if style.beard_length > 0:
        regions = body_template().regions
        weight = np.clip(regions.beard + 0.9 * regions.moustache, 0, 1)
        strands.append(
            _short_strands(mesh, weight, 4000, style.beard_length, 0.0003, np.array([0, -0.2, -1.0]), rng)
        )
    if style.kind == "bald":
        return strands, 0.12 * cover
    head = _HeadFrame.of(mesh)
    if style.kind == "buzz":
        flow = head.to_world @ np.array([0.0, -0.5, -0.4])
        strands.append(_short_strands(mesh, cover, style.strands, style.length, style.radius, flow, rng))
        return strands, cover
    roots, normals, rest_roots = _sample_roots(mesh, cover, 700, rng)
    guides = _march(style, head, mesh, roots, normals, rest_roots, rng)
    child_roots, _, child_rest = _sample_roots(mesh, cover, style.strands, rng)
    strands.append(_children(style, guides, roots, rest_roots, child_roots, child_rest, rng))
    if style.kind == "tied":
        strands.append(_bun(head, style, rng))
    return strands, cover


@dataclass(frozen=True)
class _HeadFrame:
    """Rigid motion from the neutral head to this person's: world = to_world @ rest * scale + offset."""

    to_world: np.ndarray
    scale: float
    offset: np.ndarray

    @staticmethod
    def of(mesh: PersonMesh) -> _HeadFrame:
        body = body_template()
        skull = body.regions.above_hairline > 0.01
        source, target = body.rest[skull][::7], mesh.vertices[skull][::7]
        source_mean, target_mean = source.mean(0), target.mean(0)
        u, singular, vt = np.linalg.svd((target - target_mean).T @ (source - source_mean))
        sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation = u @ sign @ vt
        scale = (singular * np.diag(sign)).sum() / ((source - source_mean) ** 2).sum()
        return _HeadFrame(rotation, float(scale), target_mean - scale * rotation @ source_mean)

    def place(self, rest_points: np.ndarray) -> np.ndarray:
        return rest_points @ self.to_world.T * self.scale + self.offset

    def to_rest(self, points: np.ndarray) -> np.ndarray:
        return (points - self.offset) @ self.to_world / self.scale


def _sample_roots(
    mesh: PersonMesh, weight: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random points drawn by weight [V] times area: (positions, normals, neutral positions), each [count, 3]."""
    body = body_template()
    faces = mesh.faces[weight[mesh.faces].mean(1) > 0.02]
    corners = mesh.vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    odds = area * weight[faces].mean(1)
    chosen = faces[rng.choice(len(faces), count, p=odds / odds.sum())]
    share = rng.dirichlet([1, 1, 1], count)[..., None]
    normals = (mesh.normals[chosen] * share).sum(1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return (mesh.vertices[chosen] * share).sum(1), normals, (body.rest[chosen] * share).sum(1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _short_strands(
    mesh: PersonMesh, weight: np.ndarray, count: int, length: float, radius: float, flow: np.ndarray,
    rng: np.random.Generator,
) -> Strands:  # fmt: skip
    """Straight short strands that lean along flow [3]."""
    roots, normals, _ = _sample_roots(mesh, weight, count, rng)
    direction = _unit(normals + 0.6 * flow + rng.normal(0, 0.25, roots.shape))
    steps = np.linspace(-0.15, 1, 3)[None, :, None] * (length * rng.uniform(0.6, 1.1, (count, 1, 1)))
    points = roots[:, None] + steps * direction[:, None]
    points[:, 2:] += flow * 0.25 * length
    return Strands(points, np.full(points.shape[:2], radius) * [1.0, 0.9, 0.5])


def _flow(style: HairStyle, rest: np.ndarray) -> np.ndarray:
    """Combing direction [N, 3] in the neutral head's space."""
    x, y, z = rest.T
    away = np.tanh((x - style.part_side) / 0.012)
    if style.kind == "tied":
        return _unit(np.array([0.0, 0.085, 0.70]) - rest)
    if style.kind == "short":
        top = smooth_step(0.70, 0.73, z)
        combed = np.stack(
            [0.9 * away * top, -0.35 + 0.7 * smooth_step(-0.09, -0.06, y) * (1 - top), -0.9 * (1 - top)], 1
        )
        return _unit(combed)
    return _unit(np.stack([1.0 * away, 0.35 + 0 * y, -0.25 + 0 * z], 1))


def _march(
    style: HairStyle, head: _HeadFrame, mesh: PersonMesh, roots: np.ndarray, normals: np.ndarray,
    rest_roots: np.ndarray, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Guide strands [N, K, 3]: each step mixes the way so far, the style's flow and gravity, then leaves the skin."""
    count = len(roots)
    steps = {"short": 5, "afro": 5, "curly": 12, "bob": 10, "long": 12, "tied": 9}[style.kind]
    lift = {"short": 0.75, "afro": 1.0, "curly": 0.5, "bob": 0.3, "long": 0.25, "tied": 0.12}[style.kind]
    gravity = {"short": 0.03, "afro": 0.0, "curly": 0.45, "bob": 0.75, "long": 0.85, "tied": 0.0}[style.kind]
    length = np.full(count, style.length) * rng.uniform(0.88, 1.06, count)
    if style.kind == "short":
        length = length * (0.4 + 0.6 * smooth_step(0.675, 0.73, rest_roots[:, 2]))
    if style.kind in ("bob", "long", "curly"):
        # Every strand ends at about the same height, as after a cut.
        length = np.maximum(length + (rest_roots[:, 2] - 0.70) * 0.9, 0.3 * style.length)
    if style.kind == "tied":
        length = np.linalg.norm(rest_roots - [0.0, 0.085, 0.70], axis=1) * 1.05 + 0.004
    margin = {"short": 0.004, "afro": 0.0, "curly": 0.010, "bob": 0.006, "long": 0.006, "tied": 0.0025}[
        style.kind
    ]
    margin = margin * rng.uniform(0.5, 2.2, count) + 0.001
    surface = cKDTree(mesh.vertices[::3])
    surface_normals = mesh.normals[::3]
    direction = _unit(normals * lift + (_flow(style, rest_roots) @ head.to_world.T) * (1 - 0.5 * lift))
    points = [roots - 0.002 * normals, roots]
    position = roots
    for _ in range(steps - 2):
        flow = _flow(style, head.to_rest(position)) @ head.to_world.T
        pull = 0.5 if style.kind == "tied" else 0.18 if style.kind == "short" else 0.03
        direction = _unit(direction + pull * flow + gravity * np.array([0, 0, -1.0]))
        position = position + direction * (length / (steps - 2))[:, None]
        position = _leave_skin(position, surface, mesh.vertices[::3], surface_normals, margin)
        position = _leave_face(position, head, style)
        direction = _unit(0.5 * direction + 0.5 * _unit(position - points[-1]))
        points.append(position)
    return np.stack(points, axis=1)


def _leave_skin(
    position: np.ndarray, surface: cKDTree, vertices: np.ndarray, normals: np.ndarray, margin: np.ndarray
) -> np.ndarray:
    """Moves points that came closer to the skin than margin [N] out along the skin's normal."""
    distance, nearest = surface.query(position)
    outside = ((position - vertices[nearest]) * normals[nearest]).sum(1)
    near = distance < 0.05
    return position + normals[nearest] * (np.maximum(margin - outside, 0) * near)[:, None]


def _leave_face(position: np.ndarray, head: _HeadFrame, style: HairStyle) -> np.ndarray:
    """Keeps falling hair off the face: points before it and below the hairline move sideways."""
    if style.kind in ("short", "afro", "tied"):
        return position
    rest = head.to_rest(position)
    x, y, z = rest.T
    before = (1.0 - smooth_step(-0.075, -0.045, y)) * (1.0 - smooth_step(0.695, 0.72, z)) * (z > 0.53)
    wanted = 0.066 * np.where(x >= 0, 1.0, -1.0)
    rest[:, 0] = np.where((np.abs(x) < 0.066) & (before > 0), x + (wanted - x) * before * 0.8, x)
    return head.place(rest)


def _children(
    style: HairStyle, guides: np.ndarray, roots: np.ndarray, rest_roots: np.ndarray, child_roots: np.ndarray,
    child_rest: np.ndarray, rng: np.random.Generator,
) -> Strands:  # fmt: skip
    """Many strands that follow the mean of their three nearest guides, with clumps, curls and stray hairs."""
    distance, nearest = cKDTree(rest_roots).query(child_rest, k=3)
    # A parting divides hair: guides on the other side of it must not be averaged in.
    if style.kind in ("bob", "long", "curly", "short"):
        other = np.sign(rest_roots[nearest, 0] - style.part_side) != np.sign(
            child_rest[:, :1] - style.part_side
        )
        distance = np.where(other & ~other.all(1, keepdims=True), 1e3, distance)
    share = 1.0 / (distance + 1e-3) ** 2
    share /= share.sum(1, keepdims=True)
    offsets = guides - roots[:, None]
    path = np.einsum("nk,nkpc->npc", share, offsets[nearest])
    count, points = path.shape[:2]
    along = np.linspace(0, 1, points)[None, :, None]
    path = path * rng.uniform(0.85, 1.08, (count, 1, 1))
    spread = {"short": 0.004, "afro": 0.010, "curly": 0.010, "bob": 0.006, "long": 0.009, "tied": 0.0006}[
        style.kind
    ]
    stray = rng.normal(0, 1, (count, 1, 3)) * spread * along
    curl = style.curl * {"afro": 0.006, "curly": 0.008, "bob": 0.004, "long": 0.006}.get(style.kind, 0.001)
    phase = 3.0 * smooth_noise(child_rest, 0.012, rng)[:, None] + rng.normal(0, 0.35, (count, 1))
    turns = {"afro": 2.5, "curly": 4.5}.get(style.kind, 2.2)
    angle = turns * 2 * np.pi * along[..., 0] + phase
    swirl = (
        np.stack([np.cos(angle), np.sin(angle), 0.3 * np.sin(angle + 1)], -1)
        * curl
        * np.minimum(1, 3 * along)
    )
    if style.kind == "afro":
        swirl = swirl + rng.normal(0, 0.0035, (count, points, 3)) * along
    radii = np.full((count, points), style.radius) * np.linspace(1.0, 0.6, points)
    return Strands(child_roots[:, None] + path + stray + swirl, radii)


def _bun(head: _HeadFrame, style: HairStyle, rng: np.random.Generator) -> Strands:
    """A knot of hair at the back of the head: strands wound around a ball."""
    centre, size = np.array([0.0, 0.095, 0.702]), 0.026
    count, points = 1500, 7
    axis = _unit(np.array([0.0, 1.0, 0.3]) + rng.normal(0, 0.35, (count, 3)))
    start = _unit(np.cross(axis, rng.normal(0, 1, (count, 3))))
    other = np.cross(axis, start)
    height = rng.uniform(-0.8, 0.8, (count, 1, 1))
    angle = np.linspace(0, 2.4, points)[None, :, None]
    ring = np.sqrt(1 - height**2) * (np.cos(angle) * start[:, None] + np.sin(angle) * other[:, None])
    shell = size * rng.uniform(0.9, 1.05, (count, 1, 1)) * (ring + height * axis[:, None])
    return Strands(
        head.place((centre + shell).reshape(-1, 3)).reshape(count, points, 3),
        np.full((count, points), style.radius),
    )


def _brow_strands(style: HairStyle, mesh: PersonMesh, rng: np.random.Generator) -> list[Strands]:
    """Eyebrows: short strands that lie on the skin and point outwards."""
    regions = body_template().regions
    count = int(600 * (0.4 + 0.6 * style.brow_strength))
    roots, normals, rest = _sample_roots(mesh, regions.brows**2, count, rng)
    outwards = _HeadFrame.of(mesh).to_world @ np.array([1.0, 0.0, 0.0])
    inner = 1.0 - smooth_step(0.014, 0.03, np.abs(rest[:, :1]))
    direction = np.sign(rest[:, :1]) * outwards + np.array([0, 0, 1.0]) * (0.9 * inner - 0.1) + 0.25 * normals
    direction = _unit(direction + rng.normal(0, 0.12, roots.shape))
    steps = np.linspace(-0.1, 1, 3)[None, :, None] * rng.uniform(0.004, 0.0075, (count, 1, 1))
    points = roots[:, None] + 0.0004 * normals[:, None] + steps * direction[:, None]
    return [Strands(points, np.full((count, 3), 0.00022) * [1.0, 0.9, 0.5])]
