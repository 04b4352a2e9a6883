"""Drawing one whole subject: body, skin, eyes, hair, clothes and the camera in front of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from training.synth.clothing.clothes import ClothesStyle, build_clothes, sample_clothes_style
from training.synth.clothing.glasses import GlassesStyle, build_glasses, sample_glasses_style
from training.synth.clothing.hats import HatStyle, build_hat, outside_hat, sample_hat_style, under_hat
from training.synth.hair.face_hair import FaceHairStyle, build_face_hair, sample_face_hair
from training.synth.hair.hair import build_hair
from training.synth.hair.strand_mesh import strand_surface
from training.synth.hair.style import HairStyle, sample_hair_style, strand_colours
from training.synth.render.scene import Framing, Subject, sample_framing
from training.synth.render.surface import Surface, merged

from .eyes import EyeStyle, build_eyes, sample_eye_style
from .people import PersonMesh, PersonShape, build_person, sample_person_shape
from .pigments import melanin_of_tone
from .regions import smooth_step
from .skin import SkinStyle, paint_skin, sample_skin_style
from .skin_relief import with_relief

_HAIR_ROUGHNESS = 0.36
_HAIR_UNDER_HAT = {
    "bald": 0.0,
    "buzz": 0.002,
    "afro": 0.006,
    "curly": 0.006,
    "long": 0.005,
}  # metres, pressed flat


@dataclass(frozen=True)
class PersonStyle:
    """All that is decided about a person before anything is built."""

    shape: PersonShape
    skin: SkinStyle
    eyes: EyeStyle
    hair: HairStyle
    face_hair: FaceHairStyle
    clothes: ClothesStyle
    glasses: GlassesStyle
    hat: HatStyle


@dataclass(frozen=True)
class SampledSubject:
    """A subject ready to render, with everything that was decided about it."""

    subject: Subject
    framing: Framing
    shape: PersonShape
    skin: SkinStyle
    hair: HairStyle
    face_hair: FaceHairStyle
    clothes: ClothesStyle
    glasses: GlassesStyle
    hat: HatStyle


def sample_person_style(rng: np.random.Generator, detail: float = 1.0) -> PersonStyle:
    """Draws a person, every group of skin tones equally likely. detail: see sample_hair_style."""
    masculine_first = rng.random() < 0.5
    tone = rng.random()
    # Face shapes follow skin tone only loosely: people come in all combinations.
    ancestry = rng.dirichlet([0.5 + 1.2 * tone, 0.7, 0.5 + 1.0 * (1 - tone)])
    shape = sample_person_shape(rng, masculine_first, *(float(share) for share in ancestry))
    masculine, age = 1.0 - shape.phenotype["gender"], shape.phenotype["age"]
    melanin = melanin_of_tone(tone)
    return PersonStyle(
        shape=shape,
        skin=sample_skin_style(rng, masculine, age, melanin),
        eyes=sample_eye_style(rng, melanin),
        hair=sample_hair_style(rng, masculine, age, melanin, detail),
        face_hair=sample_face_hair(rng, masculine, age),
        clothes=sample_clothes_style(rng),
        glasses=sample_glasses_style(rng, age),
        hat=sample_hat_style(rng, masculine),
    )


def build_surfaces(
    style: PersonStyle, rng: np.random.Generator, detail: float = 1.0
) -> tuple[dict[str, Surface], PersonMesh]:
    """Everything there is to render of a person, by material, and the posed body that it sits on."""
    mesh = with_relief(build_person(style.shape), style.shape.phenotype["age"], rng)
    hidden = smooth_step(-0.004, 0.002, under_hat(style.hat))
    strands, cover = build_hair(style.hair, mesh, hidden, rng)
    hat = build_hat(style.hat, mesh, _HAIR_UNDER_HAT.get(style.hair.kind, 0.003), rng)
    if hat is not None:
        strands = [group.only(outside_hat(group.points, hat)) for group in strands]
    brows = strand_colours(style.hair.brow_colour, 0.5 * style.hair.grey, rng)
    beard = strand_colours(style.hair.brow_colour, style.hair.grey, rng)
    strands = strands + build_face_hair(style.face_hair, brows, beard, mesh, detail, rng)
    hair_colour, brow_colour = np.array(style.hair.colour), np.array(style.hair.brow_colour)
    skin = paint_skin(style.skin, cover, hair_colour, brow_colour, style.face_hair.brow_strength, mesh, rng)
    surfaces = {
        "skin": skin,
        "eyes": build_eyes(style.eyes, mesh, rng),
        "hair": merged([strand_surface(group, _HAIR_ROUGHNESS) for group in strands]),
        "cloth": merged([build_clothes(style.clothes, mesh, rng), *([] if hat is None else [hat])]),
        **build_glasses(style.glasses, mesh, rng),
    }
    return surfaces, mesh


def sample_subject(rng: np.random.Generator, detail: float = 1.0) -> SampledSubject:
    """Draws a subject with hair fine enough for pictures of detail x 256 pixels.

    The same generator state gives the same subject, vertex for vertex.
    """
    style = sample_person_style(rng, detail)
    surfaces, mesh = build_surfaces(style, rng, detail)
    top = max(float(np.quantile(surfaces["hair"].vertices[:, 2], 0.999)), mesh.vertices[:, 2].max())
    framing = sample_framing(rng, mesh, top)
    parts = {part.name: getattr(style, part.name) for part in fields(style) if part.name != "eyes"}
    return SampledSubject(Subject(surfaces), framing, **parts)


def person_notes(sampled: SampledSubject) -> dict[str, object]:
    """What an index line says of a person."""
    return {
        "tone_group": sampled.skin.tone_group,
        "melanin": round(sampled.skin.melanin, 4),
        "hair": sampled.hair.kind,
        "hair_colour": sampled.hair.colour_name,
        "beard": sampled.face_hair.beard,
        "glasses": sampled.glasses.kind,
        "hat": sampled.hat.kind,
        "clothes": sampled.clothes.kind,
        "make_up": sampled.skin.lipstick > 0,
        "expression": sampled.shape.expression,
        "age": round(sampled.shape.phenotype["age"], 3),
        "gender": round(sampled.shape.phenotype["gender"], 3),
    }
