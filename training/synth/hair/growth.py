"""How strands grow: guides march over the head under flow, gravity and collision, and many children follow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from training.synth.person.head_frame import HeadFrame, Roots, sample_roots, unit
from training.synth.person.noise import smooth_noise
from training.synth.person.people import PersonMesh
from training.synth.person.regions import smooth_step

from .strand_mesh import Strands
from .style import HairStyle

_GUIDES = 900
_FACE_HALF = 0.066  # metres from the middle of the face to the hair that hangs beside it
_CHIN_Z = 0.53  # on the neutral head
_HELD_HAIR = ("short", "afro", "tied")  # kinds that do not fall
_BUN = np.array([0.0, 0.085, 0.70])  # where tied hair meets, on the neutral head


@dataclass(frozen=True)
class Growth:
    """How a kind of hair grows. steps: points of a strand; lift: how far it leaves along the skin's normal, 0..1;
    gravity and pull (towards the combing direction): weights a step; margin: distance from the skin, spread: of strands
    about their guide, curl: radius of curls, all metres; turns: of a curl along a strand; parted: whether strands
    keep to their side of the parting; level: whether all end at about one height."""

    steps: int
    lift: float
    gravity: float
    pull: float
    margin: float
    spread: float
    curl: float
    turns: float
    parted: bool = False
    level: bool = False


GROWTH = {
    "short": Growth(6, 0.50, 0.10, 0.45, 0.003, 0.003, 0.002, 1.5),
    "afro": Growth(9, 1.00, 0.00, 0.00, 0.000, 0.004, 0.0040, 4.0),
    "curly": Growth(12, 0.45, 0.45, 0.03, 0.010, 0.010, 0.0075, 4.0, parted=True, level=True),
    "bob": Growth(9, 0.28, 0.75, 0.03, 0.006, 0.005, 0.004, 2.2, parted=True, level=True),
    "long": Growth(11, 0.25, 0.85, 0.03, 0.006, 0.007, 0.006, 2.2, parted=True, level=True),
    "tied": Growth(8, 0.10, 0.00, 0.50, 0.0025, 0.0006, 0.0008, 2.2),
}


def grow(
    style: HairStyle, growth: Growth, colours: np.ndarray, head: HeadFrame, mesh: PersonMesh, cover: np.ndarray,
    count: int, rng: np.random.Generator,
) -> Strands:  # fmt: skip
    """count strands rooted where cover [V] says, coloured from colours [C, 3]."""
    guide_roots = sample_roots(mesh, cover, _GUIDES, rng)
    guides = _march(style, growth, head, mesh, guide_roots, rng)
    roots = sample_roots(mesh, cover, count, rng)
    points = _children(style, growth, guides, guide_roots, roots, rng)
    radii = np.full(points.shape[:2], style.radius) * np.linspace(1.0, 0.45, growth.steps)
    # Strands that grow close together have like colours: locks and sun-bleached patches.
    patches = np.exp(0.10 * smooth_noise(roots.rest, 0.02, rng))[:, None]
    picks = colours[rng.integers(len(colours), size=count)]
    strands = Strands(points, radii, np.clip(picks * patches, 0.004, 0.85))
    # A single strand that strays before the eyes reads as a crack in the skin: it is brushed away.
    return strands if style.kind in _HELD_HAIR else strands.only(~_crosses_face(points, head))


def _flow(style: HairStyle, rest: np.ndarray) -> np.ndarray:
    """Combing direction [N, 3] in the neutral head's space."""
    x, y, z = rest.T
    away = np.tanh((x - style.part_side) / 0.012)
    zero = np.zeros_like(x)
    if style.kind == "tied":
        return unit(_BUN - rest)
    if style.kind == "short":
        top = smooth_step(0.69, 0.725, z)
        combed = {
            "side": np.stack([np.sign(style.part_side or 1.0) * -1.0 + zero, 0.25 + zero, 0.1 + zero], 1),
            "back": np.stack([0.25 * np.sign(x), 1.0 + zero, 0.25 * (y < -0.06)], 1),
            "forward": np.stack([0.35 * np.sign(x), -1.0 + zero, -0.3 + zero], 1),
            "messy": np.stack([np.sin(x * 130 + y * 60), np.cos(y * 110 + x * 40), 0.3 + zero], 1),
        }[style.comb]
        sides = np.stack([zero, 0.25 + zero, -1.0 + zero], 1)
        return unit(unit(combed) * top[:, None] + sides * (1 - top[:, None]))
    return unit(np.stack([1.0 * away, 0.35 + zero, -0.25 + zero], 1))


def _lengths(style: HairStyle, growth: Growth, roots: Roots, rng: np.random.Generator) -> np.ndarray:
    """Length of each guide [N] in metres."""
    z = roots.rest[:, 2]
    lengths = style.length * rng.uniform(0.88, 1.06, len(z))
    if style.kind == "short":
        sides = 1.0 - 0.85 * style.fade
        lengths = np.maximum(lengths * (sides + (1 - sides) * smooth_step(0.665, 0.725, z)), 0.004)
    if growth.level:
        # Every strand ends at about the same height, as after a cut.
        lengths = np.maximum(lengths + (z - 0.70) * 0.9, 0.3 * style.length)
    if style.kind == "tied":
        lengths = np.linalg.norm(roots.rest - _BUN, axis=1) * 1.05 + 0.004
    if style.kind in ("afro", "short"):
        lengths = lengths * (0.5 + 0.5 * roots.weight)
    return lengths


def _march(
    style: HairStyle, growth: Growth, head: HeadFrame, mesh: PersonMesh, roots: Roots, rng: np.random.Generator
) -> np.ndarray:  # fmt: skip
    """Guide strands [N, K, 3]: each step mixes the way so far, the style's flow and gravity, then leaves the skin."""
    step = (_lengths(style, growth, roots, rng) / (growth.steps - 2))[:, None]
    margin = growth.margin * rng.uniform(0.5, 2.2, len(step)) + 0.001
    surface, normals = mesh.vertices[::3], mesh.normals[::3]
    tree = cKDTree(surface)
    flow = head.turn(_flow(style, roots.rest))
    side = np.where(roots.rest[:, 0] >= style.part_side, 1.0, -1.0)
    lift = growth.lift
    if style.kind == "short":
        # Cut hair stands up on top of the head and lies down at its sides.
        lift = lift * (0.25 + 0.75 * smooth_step(0.69, 0.73, roots.rest[:, 2:]))
    direction = unit(roots.normals * lift + flow * (1 - 0.5 * lift))
    position, points = roots.points, [roots.points - 0.002 * roots.normals, roots.points]
    for _ in range(growth.steps - 2):
        flow = head.turn(_flow(style, head.to_rest(position)))
        direction = unit(direction + growth.pull * flow + growth.gravity * np.array([0, 0, -1.0]))
        position = position + direction * step
        position = leave_skin(position, tree, surface, normals, margin)
        position = _leave_face(position, head, style, side)
        direction = unit(0.5 * direction + 0.5 * unit(position - points[-1]))
        points.append(position)
    return np.stack(points, axis=1)


def leave_skin(
    position: np.ndarray, tree: cKDTree, surface: np.ndarray, normals: np.ndarray, margin: np.ndarray
) -> np.ndarray:
    """Moves points [N, 3] that came closer to the skin than margin [N] out along the skin's normal. tree: of surface
    [V, 3], whose normals are [V, 3]."""
    distance, nearest = tree.query(position)
    outside = ((position - surface[nearest]) * normals[nearest]).sum(1)
    near = distance < 0.05
    return position + normals[nearest] * (np.maximum(margin - outside, 0) * near)[:, None]


def _in_front(rest: np.ndarray) -> np.ndarray:
    """How much points [..., 3] on the neutral head are before the face or below it, under the hairline: 0..1."""
    return (1.0 - smooth_step(-0.075, -0.045, rest[..., 1])) * (1.0 - smooth_step(0.695, 0.72, rest[..., 2]))


def _leave_face(position: np.ndarray, head: HeadFrame, style: HairStyle, side: np.ndarray) -> np.ndarray:
    """Keeps falling hair off the face: points before it move to the side of the parting [N] that they grow on."""
    if style.kind in _HELD_HAIR:
        return position
    rest = head.to_rest(position)
    before = _in_front(rest) * (rest[:, 2] > _CHIN_Z)
    missing = np.maximum(_FACE_HALF - rest[:, 0] * side, 0.0)
    rest[:, 0] += 0.8 * before * missing * side
    return head.place(rest)


def _crosses_face(points: np.ndarray, head: HeadFrame) -> np.ndarray:
    """Which strands [N] of points [N, K, 3] hang before the eyes, the mouth or the throat."""
    rest = head.to_rest(points.reshape(-1, 3)).reshape(points.shape)
    return ((np.abs(rest[..., 0]) < 0.8 * _FACE_HALF) & (_in_front(rest) > 0.5)).any(1)


def _children(
    style: HairStyle, growth: Growth, guides: np.ndarray, guide_roots: Roots, roots: Roots, rng: np.random.Generator
) -> np.ndarray:  # fmt: skip
    """Points [N, K, 3] of strands that follow the mean of their three nearest guides, gather in locks, curl, stray."""
    distance, nearest = cKDTree(guide_roots.rest).query(roots.rest, k=3)
    if growth.parted:
        # A parting divides hair: guides on the other side of it must not be averaged in.
        sides = np.sign(guide_roots.rest[nearest, 0] - style.part_side)
        other = sides != np.sign(roots.rest[:, :1] - style.part_side)
        distance = np.where(other & ~other.all(1, keepdims=True), 1e3, distance)
    share = 1.0 / (distance + 1e-3) ** 2
    share /= share.sum(1, keepdims=True)
    offsets = guides - guide_roots.points[:, None]
    along = np.linspace(0, 1, growth.steps)[None, :, None]
    path = np.einsum("nk,nkpc->npc", share, offsets[nearest])
    points = roots.points[:, None] + path * rng.uniform(0.82, 1.08, (len(path), 1, 1))
    # Towards its tip a strand joins the lock around its nearest guide.
    lock = guides[nearest[:, 0]]
    gathered = style.clump * (0.0 if style.kind in ("afro", "tied") else 0.75) * along**1.5
    points = points * (1 - gathered) + lock * gathered
    loose = np.where(rng.random((len(path), 1, 1)) < 0.06, 2.2, 0.8)
    stray = rng.normal(0, 1, (len(path), 1, 3)) * growth.spread * along * loose
    return points + stray + _curls(style, growth, roots, along, rng)


def _curls(
    style: HairStyle, growth: Growth, roots: Roots, along: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Offsets [N, K, 3] of a helix around each strand, in step with its neighbours'."""
    count = len(roots.rest)
    afro = style.kind == "afro"
    spin = rng.normal(0, 2.0 if afro else 0.35, (count, 1))
    phase = 3.0 * smooth_noise(roots.rest, 0.012, rng)[:, None] + spin
    angle = growth.turns * 2 * np.pi * along[..., 0] + phase
    swirl = np.stack([np.cos(angle), np.sin(angle), 0.5 * np.sin(angle + 1)], -1)
    size = growth.curl * (1.0 if afro else style.curl)
    jitter = rng.normal(0, 0.0022, (count, growth.steps, 3)) * along * afro
    return swirl * size * np.minimum(1, 3 * along) + jitter
