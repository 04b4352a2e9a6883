"""Hair of the head: where it grows, and all its strands."""

from __future__ import annotations

import numpy as np

from training.synth.person.head_frame import HeadFrame, sample_roots, unit
from training.synth.person.noise import smooth_noise
from training.synth.person.people import PersonMesh, body_template
from training.synth.person.regions import smooth_step

from .growth import GROWTH, grow
from .strand_mesh import Strands
from .style import HairStyle, strand_colours


def scalp_cover(style: HairStyle) -> np.ndarray:
    """How much hair grows at each refined vertex [V], in [0, 1]; it thins out towards the hairline."""
    body = body_template()
    x, y, z = body.rest.T
    height = body.regions.above_hairline
    temple = smooth_step(0.012, 0.04, np.abs(x)) * (1.0 - smooth_step(-0.06, -0.03, y))
    height = height - style.recede * (0.35 + temple) * (1.0 - smooth_step(-0.07, -0.02, y))
    # A hairline is no line: tufts a few millimetres wide reach over it, the same for all people, turned by the parting.
    ragged = 0.0035 * smooth_noise(body.rest, 0.006, np.random.default_rng(int(1e6 * abs(style.part_side))))
    return (
        smooth_step(-0.004, 0.012, height + ragged)
        * (1.0 - np.clip(3 * body.regions.ears, 0, 1))
        * (z > 0.56)
    )


def build_hair(
    style: HairStyle, mesh: PersonMesh, hidden: np.ndarray, rng: np.random.Generator
) -> tuple[list[Strands], np.ndarray]:
    """The strands of a head, and the scalp cover [V] for the skin painter.

    hidden [V] in 0..1: where a hat lies on the head and no strand is needed.
    """
    cover = scalp_cover(style)
    seen = cover * (1.0 - hidden)
    colours = strand_colours(style.colour, style.grey, rng)
    if style.kind == "bald":
        return [], 0.12 * cover
    # What a hat hides needs no strands.
    count = int(style.strands * np.clip(seen.sum() / max(cover.sum(), 1.0), 0.0, 1.0))
    if count < 50:
        return [], cover
    head = HeadFrame.of(mesh)
    if style.kind == "buzz":
        return [_buzz(style, colours, head, mesh, seen, count, rng)], cover
    strands = [grow(style, GROWTH[style.kind], colours, head, mesh, seen, count, rng)]
    if style.kind == "tied" and hidden.max() < 0.5:
        strands.append(_bun(style, colours, head, rng))
    return strands, cover


def _buzz(
    style: HairStyle, colours: np.ndarray, head: HeadFrame, mesh: PersonMesh, cover: np.ndarray, count: int,
    rng: np.random.Generator,
) -> Strands:  # fmt: skip
    """Straight hairs a few millimetres long, shorter towards the hairline."""
    roots = sample_roots(mesh, cover, count, rng)
    flow = head.turn(np.array([0.0, -0.5, -0.4]))
    direction = unit(roots.normals + 0.8 * flow + rng.normal(0, 0.25, roots.points.shape))
    sides = 1.0 - 0.6 * style.fade * (1.0 - smooth_step(0.66, 0.71, roots.rest[:, 2]))
    lengths = style.length * rng.uniform(0.6, 1.1, count) * (0.3 + 0.7 * roots.weight) * sides
    steps = np.linspace(-0.15, 1, 3)[None, :, None] * lengths[:, None, None]
    radii = np.full((count, 3), style.radius) * [1.0, 0.9, 0.5]
    picks = colours[rng.integers(len(colours), size=count)]
    return Strands(roots.points[:, None] + steps * direction[:, None], radii, picks)


def _bun(style: HairStyle, colours: np.ndarray, head: HeadFrame, rng: np.random.Generator) -> Strands:
    """A knot of hair at the back of the head: strands wound around a ball."""
    centre, size = np.array([0.0, 0.095, 0.702]), 0.027
    count, points = 3000, 7
    axis = unit(np.array([0.0, 1.0, 0.3]) + rng.normal(0, 0.35, (count, 3)))
    start = unit(np.cross(axis, rng.normal(0, 1, (count, 3))))
    other = np.cross(axis, start)
    height = rng.uniform(-0.8, 0.8, (count, 1, 1))
    angle = np.linspace(0, 2.4, points)[None, :, None]
    ring = np.sqrt(1 - height**2) * (np.cos(angle) * start[:, None] + np.sin(angle) * other[:, None])
    shell = size * rng.uniform(0.88, 1.03, (count, 1, 1)) * (ring + height * axis[:, None])
    return Strands(
        head.place((centre + shell).reshape(-1, 3)).reshape(count, points, 3),
        np.full((count, points), style.radius),
        colours[rng.integers(len(colours), size=count)],
    )
