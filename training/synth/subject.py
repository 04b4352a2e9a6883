"""Drawing one whole subject: body, skin, eyes, hair, clothes and the camera in front of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .clothes import ClothesStyle, build_clothes, sample_clothes_style
from .hair import HairStyle, build_hair, sample_hair_style
from .people import PersonShape, build_person, sample_person_shape
from .scene import Framing, Subject, sample_framing
from .skin import MAX_MELANIN, SkinStyle, build_eyes, paint_skin, sample_skin_style


@dataclass(frozen=True)
class SampledSubject:
    """A subject ready to render, with everything that was decided about it."""

    subject: Subject
    framing: Framing
    shape: PersonShape
    skin: SkinStyle
    hair: HairStyle
    clothes: ClothesStyle


def sample_subject(rng: np.random.Generator, detail: float = 1.0) -> SampledSubject:
    """Draws a subject with hair fine enough for pictures of detail x 256 pixels.

    The same generator state gives the same subject, vertex for vertex.
    """
    masculine_first = rng.random() < 0.5
    skin = sample_skin_style(rng, 1.0 if masculine_first else 0.0)
    tone = skin.melanin / MAX_MELANIN
    # Face shapes follow skin tone only loosely: people come in all combinations.
    ancestry = rng.dirichlet([0.5 + 1.2 * tone, 0.7, 0.5 + 1.0 * (1 - tone)])
    shape = sample_person_shape(rng, masculine_first, *(float(share) for share in ancestry))
    mesh = build_person(shape)
    hair = sample_hair_style(
        rng, 1.0 - shape.phenotype["gender"], shape.phenotype["age"], skin.melanin, detail
    )
    strands, cover = build_hair(hair, mesh, rng)
    colour = np.array(hair.colour)
    clothes = sample_clothes_style(rng)
    subject = Subject(
        skin=mesh,
        skin_albedo=paint_skin(skin, cover, colour, hair.brow_strength, mesh, rng),
        skin_roughness=skin.roughness,
        skin_specular=skin.specular,
        eyes=build_eyes(mesh, skin.melanin, rng),
        clothes=build_clothes(clothes, mesh, rng),
        clothes_roughness=clothes.roughness,
        strands=strands,
        hair_colour=colour,
    )
    top = max(
        mesh.vertices[:, 2].max(), max(float(np.quantile(group.points[..., 2], 0.998)) for group in strands)
    )
    return SampledSubject(subject, sample_framing(rng, mesh, top), shape, skin, hair, clothes)
