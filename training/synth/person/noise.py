"""Smooth random fields over points, for skin, cloth and hair."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_LATTICE = 24


def smooth_noise(points: np.ndarray, wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Value noise at points [N, 3] -> [N], mean about 0, standard deviation about 1.

    wavelength: the size of one blob, in the points' unit. The field repeats after 24 wavelengths.
    """
    lattice = rng.standard_normal((_LATTICE,) * 3)
    coordinates = (points / wavelength + rng.uniform(0, _LATTICE, 3)).T % _LATTICE
    return ndimage.map_coordinates(lattice, coordinates, order=1, mode="grid-wrap") * 1.8
