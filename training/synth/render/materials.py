"""What the parts of a person are made of, as Mitsuba materials.

All are linear in the light, whatever the light is: what the flat-lit picture shows is what every relit picture shades.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """Of Disney's principled material. specular: 0.5 is glass (4% at normal incidence), skin about 0.35; flatness:
    share of the diffuse lobe that is shaped like light scattered under the surface; sheen: fuzz of cloth."""

    specular: float
    flatness: float = 0.0
    sheen: float = 0.0
    metallic: float = 0.0
    two_sided: bool = False


MATERIALS = {
    # Light that wanders under skin lifts grazing and shadowed parts: flatness is that lobe (Hanrahan and Krueger).
    "skin": Material(specular=0.36, flatness=0.6),
    "eyes": Material(specular=0.55),
    "hair": Material(specular=0.5),
    "cloth": Material(specular=0.2, sheen=0.35, two_sided=True),
    "hard": Material(specular=0.5, two_sided=True),
    "mirror": Material(specular=0.5, metallic=1.0, two_sided=True),
}


def material_description(name: str) -> dict:
    """Mitsuba's description of a material by name; colour and roughness come from the mesh, vertex by vertex."""
    material = MATERIALS[name]
    principled = {
        "type": "principled",
        "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
        "roughness": {"type": "mesh_attribute", "name": "vertex_roughness"},
        "specular": material.specular,
    }
    for key in ("flatness", "sheen", "metallic"):
        if getattr(material, key) > 0:
            principled[key] = getattr(material, key)
    return {"type": "twosided", "bsdf": principled} if material.two_sided else principled
