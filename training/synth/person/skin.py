"""Procedural skin: its pigments (pigments.py) and its roughness, region by region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synth.render.surface import Surface

from .noise import smooth_noise
from .people import PersonMesh, body_template
from .pigments import MAX_CAROTENE, melanin_of_tone, skin_albedo, tone_group
from .regions import EYE_X, smooth_step


@dataclass(frozen=True)
class SkinStyle:
    """melanin 0..1.9 (optical depth in red), blood 0..0.5, carotene 0..0.4, roughness of the specular lobe (0..1), oil:
    how much smoother the T-zone is, moles: how many, make-up colours linear albedo, all other strengths 0..1."""

    melanin: float
    blood: float
    carotene: float
    roughness: float
    oil: float
    freckles: float
    moles: int
    mottling: float
    age_spots: float
    stubble: float
    lipstick: float
    lipstick_colour: tuple[float, float, float]
    eyeshadow: float
    eyeshadow_colour: tuple[float, float, float]
    blush: float

    @property
    def tone_group(self) -> str:
        """The class of its colour, from very light to dark."""
        return tone_group(self.melanin)


def sample_skin_style(
    rng: np.random.Generator, masculine: float, age: float = 0.66, melanin: float | None = None
) -> SkinStyle:
    """Draws a skin, every tone group equally likely where melanin (0..1.9) is not given. masculine: 0..1, decides how
    often there is stubble or make-up; age: 0..1 as Anny counts (0.66 a young adult, 1 old)."""
    melanin = melanin_of_tone(rng.random()) if melanin is None else melanin
    grown = age > 0.56
    made_up = grown and rng.random() < 0.55 * (1 - masculine)
    fair = melanin < 0.7
    return SkinStyle(
        melanin=melanin,
        blood=float(rng.uniform(0.06, 0.34)),
        carotene=float(rng.uniform(0.0, MAX_CAROTENE)),
        roughness=float(rng.uniform(0.40, 0.58)),
        oil=float(rng.beta(1.5, 2.0)),
        freckles=float(rng.uniform(0.2, 1.0)) if fair and rng.random() < 0.3 else 0.0,
        moles=int(rng.poisson(2.5 if fair else 1.2)),
        mottling=float(rng.uniform(0.3, 0.6) if made_up else rng.uniform(0.6, 1.2)),
        age_spots=float(rng.uniform(0.0, 1.0)) if age > 0.85 else 0.0,
        stubble=float(rng.uniform(0.15, 0.75)) if grown and rng.random() < 0.6 * masculine else 0.0,
        lipstick=float(rng.uniform(0.3, 0.9)) if made_up else 0.0,
        lipstick_colour=_lipstick_colour(rng, melanin),
        eyeshadow=float(rng.uniform(0.2, 0.8)) if made_up and rng.random() < 0.6 else 0.0,
        eyeshadow_colour=tuple(float(value) for value in rng.uniform(0.02, 0.16, 3) * [1.2, 0.8, 0.9]),
        blush=float(rng.uniform(0.1, 0.5) if made_up else rng.uniform(0.0, 0.3)),
    )


def _lipstick_colour(rng: np.random.Generator, melanin: float) -> tuple[float, float, float]:
    """Rose to dark red; darker on darker skin, as it is bought."""
    depth = rng.uniform(0.55, 1.1) * (1.0 - 0.22 * melanin)
    red, green, blue = depth * np.array([0.42, rng.uniform(0.05, 0.16), rng.uniform(0.06, 0.16)])
    return float(red), float(green), float(blue)


def paint_skin(
    style: SkinStyle, scalp: np.ndarray, hair_colour: np.ndarray, brow_colour: np.ndarray, brow_strength: float,
    mesh: PersonMesh, rng: np.random.Generator,
) -> Surface:  # fmt: skip
    """The painted skin: chromophores by region, spots, make-up, and the shade of hair too short or fine to be strands.

    scalp [V]: how much hair covers the scalp there, in [0, 1]; colours are linear albedo [3].
    """
    regions, rest = body_template().regions, body_template().rest
    albedo = skin_albedo(*_chromophores(style, rng), style.carotene)
    albedo = _made_up(style, albedo)
    grain = np.clip(0.75 + 0.35 * smooth_noise(rest, 0.0022, rng), 0, 1)
    stubble = 0.75 * style.stubble * np.clip(regions.beard + regions.moustache, 0, 1) * grain
    thin = scalp * smooth_step(0.0, 1.0, scalp + 0.25 * smooth_noise(rest, 0.004, rng))
    albedo = _mixed(
        albedo, np.minimum(hair_colour, albedo), np.clip(np.maximum(stubble, 0.8 * thin), 0, 0.95)
    )
    albedo = _mixed(albedo, np.minimum(brow_colour, albedo), 0.4 * brow_strength * regions.brows * grain)
    albedo = _mixed(albedo, np.array([0.02, 0.015, 0.012]), _lash_shadow(mesh))
    dark = np.clip(regions.mouth_cavity + regions.eye_cavity, 0, 1)
    albedo = _mixed(albedo, np.array([0.14, 0.045, 0.04]), dark)
    return Surface(mesh.vertices, mesh.normals, mesh.faces, albedo, _roughness(style, rng))


def _mixed(below: np.ndarray, above: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """above [3] or [V, 3] over below [V, 3], by amount [V] in 0..1."""
    return below * (1 - amount[:, None]) + above * amount[:, None]


def _chromophores(style: SkinStyle, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Melanin and blood of every skin vertex, each [V] and not negative."""
    regions, rest = body_template().regions, body_template().rest
    fine = 0.6 * smooth_noise(rest, 0.009, rng) + 0.4 * smooth_noise(rest, 0.0035, rng)
    melanin = style.melanin * (1 + style.mottling * (0.07 * fine + 0.07 * smooth_noise(rest, 0.035, rng)))
    melanin = melanin + 0.10 * regions.eye_socket * (0.3 + style.melanin)
    melanin = melanin + 0.10 * regions.under_eye * (0.5 + style.melanin)
    melanin = melanin + _spots(style, rng)
    # Foreheads are paler and browner than the cheeks below them.
    forehead = smooth_step(0.67, 0.69, rest[:, 2])
    blood = style.blood * (
        1 + style.mottling * (0.25 * smooth_noise(rest, 0.02, rng) + 0.12 * fine) - 0.25 * forehead
    )
    flush = 0.45 + style.blush
    blood = blood + 0.38 * regions.cheeks * flush + 0.34 * regions.nose * flush + 0.25 * regions.ears
    blood = blood + 0.10 * regions.under_eye + 0.22 * regions.eyelids
    lip_blood = 0.85 * (1.0 - 0.22 * style.melanin) * (1 + 0.1 * smooth_noise(rest, 0.003, rng))
    # The lower lip is pinker than the upper one, most of all on dark skin.
    upper = smooth_step(0.581, 0.586, rest[:, 2])
    melanin = melanin + regions.lips * (0.12 + 0.12 * style.melanin * (2 * upper - 1))
    return np.maximum(melanin, 0), np.maximum(blood + lip_blood * regions.lips, 0)


def _spots(style: SkinStyle, rng: np.random.Generator) -> np.ndarray:
    """Extra melanin [V] of freckles, moles and age spots."""
    regions, rest = body_template().regions, body_template().rest
    face = np.clip(regions.cheeks + regions.nose + 0.6 * regions.eye_socket, 0.12, 1) * (1 - regions.lips)
    freckles = smooth_step(1.1, 2.1, smooth_noise(rest, 0.0026, rng)) * style.freckles * 0.7 * face
    blots = smooth_step(1.4, 2.2, smooth_noise(rest, 0.006, rng)) * style.age_spots * 0.3
    moles = np.zeros(len(rest))
    visible = np.flatnonzero((rest[:, 2] > 0.50) & (rest[:, 1] < 0.0) & (regions.lips < 0.1))
    for centre in rest[rng.choice(visible, style.moles)]:
        size = rng.uniform(0.0009, 0.0019)
        moles += np.exp(-((((rest - centre) ** 2).sum(1) / size**2) ** 1.5)) * rng.uniform(0.5, 1.3)
    return freckles + blots + moles


def _made_up(style: SkinStyle, albedo: np.ndarray) -> np.ndarray:
    """albedo [V, 3] with lipstick and eyeshadow on it."""
    regions, rest = body_template().regions, body_template().rest
    lid = np.exp(-(((np.abs(rest[:, 0]) - EYE_X) / 0.018) ** 4) - (((rest[:, 2] - 0.6555) / 0.0045) ** 2))
    lid = lid * (rest[:, 1] < -0.08)
    albedo = _mixed(albedo, np.array(style.eyeshadow_colour), 0.6 * style.eyeshadow * lid)
    return _mixed(albedo, np.array(style.lipstick_colour), style.lipstick * regions.lips)


def _roughness(style: SkinStyle, rng: np.random.Generator) -> np.ndarray:
    """Roughness [V]: smooth where skin is oily or wet, uneven everywhere."""
    regions, rest = body_template().regions, body_template().rest
    roughness = style.roughness * (1 + 0.10 * smooth_noise(rest, 0.004, rng))
    roughness = roughness - 0.16 * style.oil * regions.t_zone + 0.05 * regions.cheeks
    gloss = 0.25 if style.lipstick > 0.5 else 0.12
    return np.clip(roughness - gloss * regions.lips - 0.1 * regions.eyelids, 0.18, 0.8)


def _lash_shadow(mesh: PersonMesh) -> np.ndarray:
    """The dark line of lashes [V] in 0..1: vertices next to the eyeball, strongest on the upper lid."""
    shadow = np.zeros(len(mesh.vertices))
    for centre, radius in zip(mesh.eye_centres, mesh.eye_radii, strict=True):
        offset = mesh.vertices - centre
        gap = np.linalg.norm(offset, axis=1) - radius
        upper = 0.3 + 0.7 * smooth_step(0.0, 0.004, offset[:, 2])
        shadow = np.maximum(shadow, (1.0 - smooth_step(0.0006, 0.0019, gap)) * upper)
    return shadow * 0.75
