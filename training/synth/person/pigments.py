"""The colour of skin by its pigments: linear Rec.709 albedo by melanin, blood and carotene.

The colour model is that of Tsumura et al., "Image-based skin color and texture analysis/synthesis by extracting
hemoglobin and melanin information in the skin" (SIGGRAPH 2003): the logarithm of skin's reflectance, channel by
channel, is linear in the amounts of the pigments. Melanin absorbs ever more towards blue, haemoglobin most in green;
a third, carotene, absorbs blue alone and lets the yellow of skin vary by itself, as measured skin does (Xiao et al.,
Characterising the variations in ethnic skin colours, 2017: b* above a* in nearly all groups, hue mostly 50–60°).
Tones are the six classes of the individual typology angle (Chardin et al. 1991; Del Bino and Bernerd 2013).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BASE_ALBEDO = np.array([0.70, 0.49, 0.40])
MELANIN_ABSORPTION = np.array([1.00, 1.28, 1.55])
BLOOD_ABSORPTION = np.array([0.10, 0.62, 0.50])
CAROTENE_ABSORPTION = np.array([0.00, 0.08, 0.60])
MAX_MELANIN = 1.9
MAX_CAROTENE = 0.4
TONE_GROUPS = ("very light", "light", "medium", "tan", "brown", "dark")
_TYPOLOGY_EDGES = (55.0, 41.0, 28.0, 10.0, -30.0)  # degrees, between the groups
USUAL_BLOOD = 0.2
USUAL_CAROTENE = MAX_CAROTENE / 2


def skin_albedo(
    melanin: np.ndarray | float, blood: np.ndarray | float, carotene: float = USUAL_CAROTENE
) -> np.ndarray:
    """Linear Rec.709 albedo [..., 3] of skin with the given melanin, blood and carotene (0..0.4)."""
    melanin, blood = np.asarray(melanin, float)[..., None], np.asarray(blood, float)[..., None]
    depth = melanin * MELANIN_ABSORPTION + blood * BLOOD_ABSORPTION + carotene * CAROTENE_ABSORPTION
    return BASE_ALBEDO * np.exp(-depth)


def typology_angle(albedo: np.ndarray) -> np.ndarray:
    """Individual typology angle [...] in degrees of linear Rec.709 albedo [..., 3]: arctan((L* - 50) / b*), from about
    70 for the lightest skin to -65 for the darkest."""
    # Rows: CIE Y, and CIE Z of which D65 white has 1.
    to_luminance_and_blue = np.array([[0.212673, 0.715152, 0.072175], [0.017759, 0.109477, 0.872954]])
    luminance, blue = np.moveaxis(np.cbrt(albedo @ to_luminance_and_blue.T), -1, 0)
    return np.degrees(np.arctan2(116 * luminance - 66, 200 * (luminance - blue)))


@lru_cache(maxsize=1)
def _melanin_edges() -> np.ndarray:
    """Melanin at which the tone groups begin and the last one ends, [7]."""
    melanin = np.linspace(0, MAX_MELANIN, 400)
    angle = typology_angle(skin_albedo(melanin, USUAL_BLOOD))
    return np.array([0.0, *np.interp(_TYPOLOGY_EDGES, angle[::-1], melanin[::-1]), MAX_MELANIN])


def melanin_of_tone(tone: float) -> float:
    """Melanin (0..1.9) of a tone 0..1, on a scale on which the six groups are equally wide."""
    edges = _melanin_edges()
    return float(np.interp(tone * (len(edges) - 1), np.arange(len(edges)), edges))


def tone_group(melanin: float) -> str:
    """The class of skin with that melanin, from very light to dark; "medium" is called intermediate there."""
    return TONE_GROUPS[int(np.searchsorted(_melanin_edges()[1:-1], melanin, side="right"))]
