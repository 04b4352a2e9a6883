"""Which hair a person has: cut, curl, colour, how grey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_COLOURS = {
    "black": (0.011, 0.009, 0.008),
    "dark brown": (0.026, 0.016, 0.010),
    "brown": (0.065, 0.036, 0.020),
    "light brown": (0.14, 0.082, 0.045),
    "blond": (0.34, 0.23, 0.12),
    "red": (0.19, 0.060, 0.022),
    "grey": (0.22, 0.21, 0.20),
    "white": (0.52, 0.50, 0.47),
    "dyed": (0.12, 0.05, 0.20),
}
_KINDS = ("bald", "buzz", "short", "afro", "curly", "bob", "long", "tied")
_STRANDS = {
    "bald": 0, "buzz": 14000, "short": 13000, "afro": 13000, "curly": 9000, "bob": 11000, "long": 12000, "tied": 11000,
}  # fmt: skip
_RADII = {"buzz": 0.00022, "short": 0.00026, "afro": 0.00030, "curly": 0.00036}
_OTHER_RADIUS = 0.00032


@dataclass(frozen=True)
class HairStyle:
    """kind: bald, buzz, short, afro, curly, bob, long or tied; comb: side, back, forward or messy (short hair only).

    Lengths and radii in metres, colours linear albedo; brow_colour is the natural one where hair is dyed; grey: share
    of strands that are white, 0..1; fade: how short the sides of short hair are, 0..1.
    """

    kind: str
    comb: str
    colour_name: str
    colour: tuple[float, float, float]
    brow_colour: tuple[float, float, float]
    grey: float
    length: float
    radius: float
    strands: int
    part_side: float
    curl: float
    clump: float
    fade: float
    recede: float


def sample_hair_style(
    rng: np.random.Generator, masculine: float, age: float, melanin: float, detail: float = 1.0
) -> HairStyle:
    """Draws a hair style. masculine and age 0..1 as Anny counts; darker skins mostly have dark, more curled hair.

    detail: 1 suits pictures of 256 pixels; at 3 there are three times as many strands, each thinner.
    """
    weights = [9, 18, 46, 7, 9, 4, 4, 3] if masculine > 0.5 else [0.7, 4, 13, 8, 13, 20, 26, 16]
    weights = np.array(weights, float)
    weights[3] *= 0.1 + 2.4 * melanin / 1.9
    if age < 0.58:
        weights[0] = 0
    kind = str(rng.choice(_KINDS, p=weights / weights.sum()))
    name, colour, natural = _sample_colour(rng, age, melanin)
    length = {
        "bald": 0.0, "buzz": rng.uniform(0.003, 0.009), "short": rng.uniform(0.025, 0.065),
        "afro": rng.uniform(0.02, 0.085), "curly": rng.uniform(0.06, 0.18),
        "bob": rng.uniform(0.15, 0.24), "long": rng.uniform(0.28, 0.46), "tied": 0.2,
    }[kind]  # fmt: skip
    curl = rng.uniform(0.5, 1.0) if kind == "curly" else rng.choice([0.0, rng.uniform(0.1, 0.5)])
    recedes = masculine > 0.5 and age > 0.66 and rng.random() < 0.5
    return HairStyle(
        kind=kind,
        comb=str(rng.choice(["side", "back", "forward", "messy"], p=[0.4, 0.22, 0.2, 0.18])),
        colour_name=name,
        colour=tuple(float(value) for value in colour),
        brow_colour=tuple(float(value) for value in natural),
        grey=float(rng.beta(1.5, 2.0)) if age > 0.78 and name != "white" and rng.random() < 0.7 else 0.0,
        length=float(length),
        radius=_RADII.get(kind, _OTHER_RADIUS) / detail**0.6,
        strands=int(_STRANDS[kind] * detail),
        part_side=float(rng.choice([-1, 1]) * rng.uniform(0.0, 0.035)),
        curl=float(curl),
        clump=float(rng.uniform(0.25, 0.8)),
        fade=float(rng.uniform(0.2, 0.9)),
        recede=float(rng.uniform(0.0, 0.03)) if recedes else 0.0,
    )


def _sample_colour(
    rng: np.random.Generator, age: float, melanin: float
) -> tuple[str, np.ndarray, np.ndarray]:
    """A hair colour: (name, linear albedo [3], the natural colour that brows keep [3])."""
    names = list(_COLOURS)
    odds = np.array([3.0, 3.0, 2.4, 1.6, 1.6, 0.8, 0.15, 0.05, 0.3])
    if melanin > 0.8:
        odds[2:6] *= 0.12
    if age > 0.8:
        odds[6:8] *= [22, 30]
    if age < 0.58:
        odds[6:] = 0
    name = str(rng.choice(names, p=odds / odds.sum()))
    colour = np.clip(np.array(_COLOURS[name]) * rng.uniform(0.75, 1.35), 0.006, 0.65)
    if name == "dyed":
        natural = np.array(_COLOURS[str(rng.choice(["black", "dark brown", "brown"]))])
        return name, np.clip(rng.uniform(0.02, 0.4, 3), 0.02, 0.4), natural
    darker = 0.55 if name in ("blond", "grey", "white", "light brown") else 0.8
    return name, colour, darker * colour


def strand_colours(
    colour: tuple[float, float, float], grey: float, rng: np.random.Generator, count: int = 256
) -> np.ndarray:
    """Colours [count, 3] that strands draw theirs from: lighter and darker ones, and white ones for a share grey."""
    tints = np.exp(rng.normal(0.0, 0.20, (count, 1))) * np.exp(rng.normal(0.0, 0.04, (count, 3)))
    colours = np.array(colour) * tints
    # One strand of the mesh stands for several hairs: a lock of mixed grey, not one white wire beside a black one.
    whiteness = np.clip(rng.normal(grey, 0.22, (count, 1)), 0, 1) if grey > 0 else 0.0
    white = np.array(_COLOURS["white"]) * rng.uniform(0.7, 1.0, (count, 1))
    return np.clip(colours * (1 - whiteness) + white * whiteness, 0.004, 0.8)
