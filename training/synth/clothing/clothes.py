"""Clothes: which garment, its cloth and colours, and its parts put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synth.person.noise import smooth_noise
from training.synth.person.people import PersonMesh, body_template
from training.synth.person.regions import smooth_step
from training.synth.render.surface import Surface, merged, painted

from .collars import drawstrings, folded_collar, neck_border, rolled_hood
from .shell import Fit, Shell, build_shell

_KINDS = ("t-shirt", "shirt", "hoodie", "jacket")
_NECKLINES = ("crew", "v-neck", "scoop", "high")
_PATTERNS = ("plain", "stripes", "pinstripes", "checks", "mottled", "two-tone", "melange")

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class ClothesStyle:
    """kind, neckline and pattern by name; colours linear albedo: of the cloth, of its pattern, of what is worn over
    it; lengths in metres: period of the pattern, looseness off the skin, sleeve_end from the middle, fold height."""

    kind: str
    neckline: str
    pattern: str
    colours: tuple[Colour, Colour, Colour]
    period: float
    looseness: float
    sleeve_end: float
    fold: float
    roughness: float


def _sample_colour(rng: np.random.Generator) -> Colour:
    """A dye: any hue, often muted, sometimes white, grey or near black; linear albedo 0.02..0.8."""
    kind = rng.random()
    if kind < 0.38:
        grey = rng.choice([rng.uniform(0.02, 0.06), rng.uniform(0.1, 0.35), rng.uniform(0.55, 0.8)])
        colour = grey * rng.uniform(0.93, 1.05, 3)
    else:
        hue, saturation, value = rng.random(), rng.uniform(0.2, 0.85), rng.uniform(0.05, 0.6)
        wheel = np.clip(np.abs(((hue * 6 + np.array([0, 4, 2])) % 6) - 3) - 1, 0, 1)
        colour = value * (1 - saturation * (1 - wheel))
    red, green, blue = np.clip(colour, 0.02, 0.8)
    return float(red), float(green), float(blue)


def sample_clothes_style(rng: np.random.Generator) -> ClothesStyle:
    """Draws a garment."""
    kind = str(rng.choice(_KINDS, p=[0.46, 0.24, 0.13, 0.17]))
    neckline = str(rng.choice(_NECKLINES, p=[0.42, 0.24, 0.2, 0.14]))
    return ClothesStyle(
        kind=kind,
        neckline={"shirt": "open", "hoodie": "crew"}.get(kind, neckline),
        pattern=str(rng.choice(_PATTERNS, p=[0.42, 0.12, 0.08, 0.13, 0.07, 0.06, 0.12])),
        colours=(_sample_colour(rng), _sample_colour(rng), _sample_colour(rng)),
        period=float(rng.uniform(0.014, 0.07)),
        looseness=float(rng.uniform(0.003, 0.012)),
        sleeve_end=float(rng.choice([0.26, 0.5], p=[0.4, 0.6])) if kind == "t-shirt" else 0.5,
        fold=float(rng.uniform(0.0012, 0.0032)),
        roughness=float(rng.uniform(0.6, 0.95)),
    )


def neck_height(neckline: str, rest: np.ndarray) -> np.ndarray:
    """Metres [V] below a neckline on the neutral body, rest [V, 3]: positive where cloth covers the skin."""
    x, y, z = rest.T
    side = np.abs(x)
    front = 1.0 - smooth_step(-0.03, 0.01, y)
    middle = {"crew": 0.524, "v-neck": 0.522, "scoop": 0.517, "high": 0.560, "open": 0.530}[neckline]
    line = middle + (0.25 if neckline == "high" else 0.55) * y
    if neckline == "v-neck":
        line = line - front * 0.075 * np.clip(1.0 - side / 0.06, 0, 1)
    elif neckline == "scoop":
        line = line - front * 0.045 * np.clip(1.0 - (side / 0.075) ** 2, 0, 1)
    elif neckline == "open":
        line = line - front * 0.055 * np.clip(1.0 - side / 0.028, 0, 1)
    return line - z + 1.1 * np.maximum(0.0, side - 0.062)


def _jacket_inside(rest: np.ndarray) -> np.ndarray:
    """As neck_height, for a jacket that is open in front down to a button."""
    x, y, z = rest.T
    opening = 0.008 + 0.055 * smooth_step(0.30, 0.50, z)
    closed = np.where(y < -0.02, np.abs(x) - opening, 1.0)
    return np.minimum(neck_height("crew", rest) + 0.006, closed)


def build_clothes(style: ClothesStyle, mesh: PersonMesh, rng: np.random.Generator) -> Surface:
    """All that a posed person wears on the body."""
    rest = body_template().rest
    side = np.abs(rest[:, 0])
    inside = np.minimum(neck_height(style.neckline, rest), style.sleeve_end - side)
    # What is under a jacket is smooth, or it would show through.
    under = style.kind == "jacket"
    fit = Fit(0.003 if under else style.looseness + 0.002, fold=0.0006 if under else style.fold)
    shell = build_shell(mesh, inside, fit, 0.0, rng)
    parts = [painted(shell.vertices, shell.faces, _paint(style, shell, rng), style.roughness)]
    if style.kind == "shirt":
        parts.append(_shirt_collar(style, shell))
    elif style.kind == "hoodie":
        parts += _hood(style, shell)
    elif style.kind == "jacket":
        parts += _jacket(style, mesh, rng)
    return merged(parts)


def _shirt_collar(style: ClothesStyle, shell: Shell) -> Surface:
    border = neck_border(shell, 0.2)
    towards_front = smooth_step(-0.02, -0.09, border.rest[:, 1])
    slit = smooth_step(0.455, 0.48, border.rest[:, 2])
    stand = (0.026 + 0.004 * towards_front) * slit
    vertices, faces = folded_collar(border, shell, stand, (0.036 + 0.022 * towards_front) * slit)
    albedo = np.array(style.colours[0]) if style.pattern != "two-tone" else np.array(style.colours[1])
    return painted(vertices, faces, albedo, style.roughness)


def _hood(style: ClothesStyle, shell: Shell) -> list[Surface]:
    border = neck_border(shell, 0.2)
    back = smooth_step(-0.09, 0.03, border.rest[:, 1])
    hood = rolled_hood(border, 0.010 + 0.022 * back)
    cords = drawstrings(border, shell, 0.13)
    first, second = (np.array(colour) for colour in style.colours[:2])
    return [painted(*hood, first, style.roughness), painted(*cords, np.clip(second * 1.3, 0.02, 0.75), 0.7)]


def _jacket(style: ClothesStyle, mesh: PersonMesh, rng: np.random.Generator) -> list[Surface]:
    """A jacket over the garment, with lapels."""
    rest = body_template().rest
    inside = _jacket_inside(rest)
    shell = build_shell(mesh, inside, Fit(style.looseness + 0.011, 0.008, style.fold, 22), 0.0, rng)
    border = neck_border(shell, 0.31)
    z = border.rest[:, 2]
    stand = 0.003 + 0.018 * smooth_step(0.49, 0.53, z)
    notch = 1.0 - 0.55 * np.exp(-(((z - 0.487) / 0.006) ** 2))
    fall = (0.040 + 0.018 * np.exp(-(((z - 0.455) / 0.03) ** 2))) * notch * smooth_step(0.31, 0.39, z) + 0.004
    lapels = folded_collar(border, shell, stand, fall)
    colour = np.array(style.colours[2])
    weave = 1.0 + 0.05 * smooth_noise(shell.rest, 0.003, rng)
    body = painted(shell.vertices, shell.faces, np.clip(colour * weave[:, None], 0.01, 0.85), style.roughness)
    return [body, painted(*lapels, colour, style.roughness)]


def _paint(style: ClothesStyle, shell: Shell, rng: np.random.Generator) -> np.ndarray:
    """Albedo [V, 3] of the garment, laid out on the neutral body, with its hem and its weave."""
    rest = shell.rest
    first, second = np.array(style.colours[0]), np.array(style.colours[1])
    amount = _pattern(style, rest, rng)
    weave = 1.0 + 0.04 * smooth_noise(rest, 0.003, rng)
    if style.pattern == "melange":
        weave = weave + 0.10 * rng.standard_normal(len(rest))
    # A band along the neck: a seam's shadow, and ribs.
    seam = np.exp(-(((shell.inside - 0.016) / 0.0012) ** 2)) * (rest[:, 2] > 0.40)
    weave = weave * (1.0 - 0.35 * seam)
    if style.kind == "shirt":
        weave = weave * (1.0 - 0.3 * _placket(rest))
        amount = np.where(_buttons(rest), 1.0, amount)
    return np.clip((first * (1 - amount[:, None]) + second * amount[:, None]) * weave[:, None], 0.01, 0.85)


def _pattern(style: ClothesStyle, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How much of the second colour shows [V], 0..1."""
    x, _, z = rest.T
    waves = np.sin(2 * np.pi * z / style.period), np.sin(2 * np.pi * x / style.period)
    if style.pattern == "stripes":
        return smooth_step(-0.12, 0.12, waves[0])
    if style.pattern == "pinstripes":
        return 0.7 * smooth_step(0.80, 0.95, waves[1])
    if style.pattern == "checks":
        return 0.5 * smooth_step(-0.15, 0.15, waves[0]) + 0.5 * smooth_step(-0.15, 0.15, waves[1])
    if style.pattern == "mottled":
        return smooth_step(-0.6, 0.6, smooth_noise(rest, style.period * 0.6, rng))
    if style.pattern == "two-tone":
        return smooth_step(-0.002, 0.002, 0.42 - z)
    return np.zeros(len(rest))


def _placket(rest: np.ndarray) -> np.ndarray:
    """The two seams [V] of a shirt's button strip, 0..1."""
    x, y, _ = rest.T
    return np.exp(-(((np.abs(x) - 0.016) / 0.0012) ** 2)) * (y < 0)


def _buttons(rest: np.ndarray) -> np.ndarray:
    """Where [V] a shirt has buttons."""
    x, y, z = rest.T
    spacing = 0.075
    up = (z - 0.452) % spacing
    up = np.minimum(up, spacing - up)
    return (np.hypot(x, up) < 0.0048) & (y < 0) & (z < 0.46)
