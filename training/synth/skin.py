"""Procedural skin and eyes: linear Rec.709 albedo from a small chromophore model.

Skin colour is a light base attenuated by melanin and blood, per channel, after the absorption picture of human skin
(melanin absorbs ever more towards blue, haemoglobin mostly green). The constants put the range from about
(0.70, 0.48, 0.40) for the lightest to (0.10, 0.05, 0.03) for the darkest, as measured skin reflectances do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import smooth_noise
from .people import PersonMesh, body_template
from .regions import smooth_step

BASE_ALBEDO = np.array([0.70, 0.49, 0.41])
MELANIN_ABSORPTION = np.array([1.00, 1.24, 1.40])
BLOOD_ABSORPTION = np.array([0.10, 0.62, 0.50])
MAX_MELANIN = 1.9
TONE_GROUPS = ("very light", "light", "medium", "tan", "brown", "dark")


@dataclass(frozen=True)
class SkinStyle:
    """melanin 0..1.9 (optical depth in red), blood 0..0.5, roughness of the specular lobe (0..1), strengths 0..1."""

    melanin: float
    blood: float
    roughness: float
    specular: float
    freckles: float
    mottling: float
    stubble: float
    lipstick: float
    lipstick_colour: tuple[float, float, float]
    blush: float

    @property
    def tone_group(self) -> str:
        """One of six equal steps of melanin, from very light to dark."""
        return TONE_GROUPS[min(5, int(6 * self.melanin / MAX_MELANIN))]


def skin_albedo(melanin: np.ndarray | float, blood: np.ndarray | float) -> np.ndarray:
    """Linear Rec.709 albedo [..., 3] of skin with the given melanin and blood."""
    melanin, blood = np.asarray(melanin, float)[..., None], np.asarray(blood, float)[..., None]
    return BASE_ALBEDO * np.exp(-melanin * MELANIN_ABSORPTION - blood * BLOOD_ABSORPTION)


def sample_skin_style(rng: np.random.Generator, masculine: float) -> SkinStyle:
    """Draws a skin, every tone equally likely. masculine: 0..1, decides how often there is stubble or make-up."""
    melanin = float(rng.uniform(0.0, MAX_MELANIN))
    hue = rng.uniform(0.0, 0.07)
    return SkinStyle(
        melanin=melanin,
        blood=float(rng.uniform(0.06, 0.34)),
        roughness=float(rng.uniform(0.34, 0.58)),
        specular=float(rng.uniform(0.3, 0.55)),
        freckles=float(rng.uniform(0.2, 1.0)) if melanin < 0.6 and rng.random() < 0.25 else 0.0,
        mottling=float(rng.uniform(0.4, 1.0)),
        stubble=float(rng.uniform(0.15, 0.6)) if rng.random() < 0.45 * masculine else 0.0,
        lipstick=float(rng.uniform(0.4, 0.9)) if rng.random() < 0.4 * (1 - masculine) else 0.0,
        lipstick_colour=(
            float(rng.uniform(0.25, 0.55)),
            0.04 + float(hue),
            0.06 + float(rng.uniform(0, 0.1)),
        ),
        blush=float(rng.uniform(0.0, 0.35)),
    )


def paint_skin(
    style: SkinStyle, scalp: np.ndarray, hair_colour: np.ndarray, brow_strength: float, mesh: PersonMesh,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Albedo [V, 3], linear, of every skin vertex: regions, mottling, freckles, brows, stubble and scalp shadow.

    scalp [V] is how much hair covers the scalp there, in [0, 1]; hair_colour is linear albedo [3].
    """
    body = body_template()
    regions, rest = body.regions, body.rest
    mottling = 0.6 * smooth_noise(rest, 0.012, rng) + 0.4 * smooth_noise(rest, 0.004, rng)
    spots = smooth_step(1.5, 2.3, smooth_noise(rest, 0.0032, rng)) * style.freckles
    face = np.clip(regions.cheeks + regions.nose + regions.eye_socket, 0, 1)
    melanin = style.melanin * (1 + 0.06 * style.mottling * mottling)
    melanin = melanin + 0.10 * regions.eye_socket * (0.4 + style.melanin) + spots * (0.25 + 0.4 * face)
    blood = style.blood * (1 + 0.25 * style.mottling * smooth_noise(rest, 0.02, rng))
    blood = blood + 0.28 * regions.cheeks * (0.4 + style.blush) + 0.25 * regions.nose + 0.18 * regions.ears
    blood = blood + 0.85 * regions.lips * (1.0 - 0.25 * style.melanin) + 0.25 * regions.eyelids
    melanin = melanin + regions.lips * (0.18 + 0.1 * style.melanin)
    albedo = skin_albedo(np.maximum(melanin, 0), np.maximum(blood, 0))

    lipstick = (style.lipstick * regions.lips)[:, None]
    albedo = albedo * (1 - lipstick) + np.array(style.lipstick_colour) * lipstick
    grain = np.clip(0.75 + 0.35 * smooth_noise(rest, 0.0025, rng), 0, 1)
    stubble = style.stubble * np.clip(regions.beard + regions.moustache, 0, 1) * grain
    covered = 0.5 * brow_strength * regions.brows * grain
    cover = np.clip(np.maximum.reduce([stubble, covered, 0.85 * scalp]), 0, 0.95)[:, None]
    albedo = albedo * (1 - cover) + np.minimum(hair_colour, albedo) * cover
    lash = _lash_shadow(mesh)[:, None]
    albedo = albedo * (1 - lash) + 0.02 * lash
    dark = np.clip(regions.mouth_cavity + regions.eye_cavity, 0, 1)[:, None]
    return albedo * (1 - dark) + np.array([0.16, 0.05, 0.045]) * dark


def _lash_shadow(mesh: PersonMesh) -> np.ndarray:
    """The dark line of lashes: vertices next to the eyeball, strongest on the upper lid."""
    shadow = np.zeros(len(mesh.vertices))
    for centre, radius in zip(mesh.eye_centres, mesh.eye_radii, strict=True):
        offset = mesh.vertices - centre
        gap = np.linalg.norm(offset, axis=1) - radius
        upper = 0.35 + 0.65 * smooth_step(0.0, 0.004, offset[:, 2])
        shadow = np.maximum(shadow, (1.0 - smooth_step(0.0008, 0.0022, gap)) * upper)
    return shadow * 0.8


@dataclass(frozen=True)
class EyeMesh:
    """Both eyeballs as one mesh: vertices, normals and albedo [V, 3], faces [F, 3]."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray


_IRIS_COLOURS = np.array(
    [[0.045, 0.022, 0.012], [0.10, 0.05, 0.022], [0.17, 0.12, 0.045], [0.12, 0.15, 0.08],
     [0.13, 0.20, 0.28], [0.20, 0.24, 0.26]]
)  # fmt: skip


def build_eyes(mesh: PersonMesh, melanin: float, rng: np.random.Generator) -> EyeMesh:
    """Eyeballs with sclera, iris and pupil, looking along mesh.gaze. Light irises only on lighter skins, mostly."""
    lightness = np.array([1.0, 1.0, 0.7, 0.5, 0.9, 0.5])
    weights = np.where(np.arange(6) < 2, 1.0, lightness * max(0.0, 1.0 - melanin / 1.0))
    iris_colour = _IRIS_COLOURS[rng.choice(6, p=weights / weights.sum())] * rng.uniform(0.8, 1.25)
    sclera = np.array([0.62, 0.585, 0.55]) * rng.uniform(0.85, 1.0)
    pupil_angle, iris_angle = np.radians(rng.uniform(7.0, 10.5)), np.radians(rng.uniform(20.5, 22.5))
    parts = []
    for centre, radius, gaze in zip(mesh.eye_centres, mesh.eye_radii, mesh.gaze, strict=True):
        parts.append(
            _eyeball(centre, radius * 0.985, gaze, pupil_angle, iris_angle, iris_colour, sclera, rng)
        )
    count = len(parts[0].vertices)
    return EyeMesh(
        vertices=np.concatenate([part.vertices for part in parts]),
        normals=np.concatenate([part.normals for part in parts]),
        faces=np.concatenate([parts[0].faces, parts[1].faces + count]),
        albedo=np.concatenate([part.albedo for part in parts]),
    )


def _eyeball(
    centre: np.ndarray, radius: float, gaze: np.ndarray, pupil_angle: float, iris_angle: float,
    iris_colour: np.ndarray, sclera: np.ndarray, rng: np.random.Generator,
) -> EyeMesh:  # fmt: skip
    rings, slices = 64, 48
    polar = np.concatenate(
        [np.linspace(0, np.radians(32), 40), np.linspace(np.radians(34), np.pi, rings - 40)]
    )
    azimuth = np.arange(slices) * 2 * np.pi / slices
    side = np.cross(gaze, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, gaze)
    p, a = np.meshgrid(polar, azimuth, indexing="ij")
    normals = (
        np.cos(p)[..., None] * gaze
        + (np.sin(p) * np.cos(a))[..., None] * side
        + (np.sin(p) * np.sin(a))[..., None] * up
    ).reshape(-1, 3)
    fibres = 1.0 + 0.25 * np.interp(a.reshape(-1), np.linspace(0, 2 * np.pi, 60), rng.standard_normal(60))
    angle = p.reshape(-1)
    limbus = 1.0 - 0.65 * smooth_step(iris_angle * 0.78, iris_angle * 0.98, angle)
    iris = iris_colour * (np.clip(fibres, 0.5, 1.6) * limbus)[:, None]
    veins = smooth_step(np.radians(35), np.radians(80), angle)[:, None]
    white = sclera * (1 - veins * np.array([0.15, 0.35, 0.38]))
    to_white = smooth_step(iris_angle * 0.97, iris_angle * 1.08, angle)[:, None]
    to_iris = smooth_step(pupil_angle * 0.92, pupil_angle * 1.08, angle)[:, None]
    albedo = (np.array([0.004, 0.004, 0.004]) * (1 - to_iris) + iris * to_iris) * (
        1 - to_white
    ) + white * to_white
    ring, slot = np.meshgrid(np.arange(rings - 1), np.arange(slices), indexing="ij")
    first = (ring * slices + slot).reshape(-1)
    second = (ring * slices + (slot + 1) % slices).reshape(-1)
    faces = np.concatenate(
        [np.stack([first, first + slices, second], 1), np.stack([second, first + slices, second + slices], 1)]
    )
    return EyeMesh(centre + radius * normals, normals, faces, albedo)
