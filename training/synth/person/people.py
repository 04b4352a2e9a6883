"""People without any scanned asset: Anny bodies over phenotype, face shape, expression and pose.

Everything here is in Anny's space: metres, +Z up, the person faces -Y, +X is the person's left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.sparse as sparse

from .regions import FaceRegions, face_regions
from .subdivision import loop_subdivision, vertex_normals

_LOWEST_FACE = -0.02  # template height in metres; nothing below the waist is ever in frame
_WIDEST_FACE = 0.40  # template half-width in metres; forearms and hands are left out

_SHAPE_PREFIXES = (
    "head-", "forehead-", "eyebrows-", "nose-", "mouth-", "chin-", "neck-",
    "l-eye-", "l-cheek-", "l-ear-",
)  # fmt: skip
_SHAPE_EXCLUDED = ("-trans-", "head-angle", "nose-trans", "l-eye-push", "nipple", "neck-trans")

_EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "slight smile": {
        "mouthSmileLeft": 0.45, "mouthSmileRight": 0.45,
        "cheekSquintLeft": 0.25, "cheekSquintRight": 0.25,
    },
    "smile": {
        "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5,
        "eyeSquintLeft": 0.35, "eyeSquintRight": 0.35, "mouthDimpleLeft": 0.3, "mouthDimpleRight": 0.3,
    },
    "serious": {"browDownLeft": 0.5, "browDownRight": 0.5, "mouthPressLeft": 0.4, "mouthPressRight": 0.4},
    "surprised": {"browInnerUp": 0.6, "browOuterUpLeft": 0.5, "browOuterUpRight": 0.5,
                  "eyeWideLeft": 0.4, "eyeWideRight": 0.4},
    "sad": {"browInnerUp": 0.6, "mouthFrownLeft": 0.5, "mouthFrownRight": 0.5},
    "sceptical": {"browOuterUpLeft": 0.6, "browDownRight": 0.4, "mouthLeft": 0.2, "mouthPressLeft": 0.3},
    "squint": {"eyeSquintLeft": 0.6, "eyeSquintRight": 0.6, "noseSneerLeft": 0.2, "noseSneerRight": 0.2},
    "pucker": {"mouthPucker": 0.4, "browInnerUp": 0.2},
}  # fmt: skip


@dataclass(frozen=True)
class PersonShape:
    """What decides a person's geometry. Angles in degrees, everything else in Anny's own 0..1 or -1..1 ranges."""

    phenotype: dict[str, float]
    local_changes: dict[str, float]
    facial_actions: dict[str, float]
    expression: str
    head_yaw: float
    head_pitch: float
    head_roll: float
    arm_drop: float
    gaze_yaw: float
    gaze_pitch: float


@dataclass(frozen=True)
class PersonMesh:
    """A posed person. vertices and normals [V, 3], faces [F, 3] in Anny's space; eye centres [2, 3] (left, right),
    eye radii [2], gaze directions [2, 3]."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    eye_centres: np.ndarray
    eye_radii: np.ndarray
    gaze: np.ndarray
    shape: PersonShape = field(repr=False)


@dataclass(frozen=True)
class BodyTemplate:
    """The refined upper body shared by all people.

    refine [V, coarse] takes Anny vertices to the refined ones; faces [F, 3]; rest [V, 3] is the neutral person, in
    whose space the face regions are laid out; eye_vertices are the coarse indices of the (left, right) eyeball.
    """

    model: object
    refine: sparse.csr_matrix
    faces: np.ndarray
    rest: np.ndarray
    rest_normals: np.ndarray
    eye_vertices: tuple[np.ndarray, np.ndarray]
    regions: FaceRegions


@lru_cache(maxsize=1)
def body_template() -> BodyTemplate:
    """Loads Anny (about a minute the first time on a machine, then under a second) and refines its upper body."""
    import anny
    import torch

    torch.set_num_threads(1)
    model = anny.Anny(
        topology="anny",
        rig="anny",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        skinning_method="lbs",
    )
    neutral = model(phenotype_kwargs={label: 0.5 for label in model.phenotype_labels})
    coarse = neutral["vertices"][0].double().numpy()
    faces = model.faces.numpy().astype(np.int64)
    component = _components(faces, len(coarse))
    body = component == np.bincount(component).argmax()
    corners = coarse[faces]
    keep = body[faces].all(1)
    keep &= corners[:, :, 2].min(1) > _LOWEST_FACE
    keep &= np.abs(corners[:, :, 0]).max(1) < _WIDEST_FACE
    first, faces_once = loop_subdivision(faces[keep], len(coarse))
    second, faces_twice = loop_subdivision(faces_once, first.shape[0])
    refine = (second @ first).tocsr()
    used = np.unique(faces_twice)
    renumber = np.full(refine.shape[0], -1)
    renumber[used] = np.arange(len(used))
    refine, faces_twice = refine[used], renumber[faces_twice]
    rest = refine @ coarse
    return BodyTemplate(
        model=model,
        refine=refine,
        faces=faces_twice,
        rest=rest,
        rest_normals=vertex_normals(rest, faces_twice),
        eye_vertices=_eye_vertices(coarse, component),
        regions=face_regions(model, refine, rest),
    )


def _components(faces: np.ndarray, vertex_count: int) -> np.ndarray:
    """Connected component of each vertex."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(vertex_count, vertex_count))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def _eye_vertices(coarse: np.ndarray, component: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two small components off the middle plane: (left, right)."""
    sides = {}
    for index in np.unique(component):
        members = np.flatnonzero(component == index)
        middle = coarse[members, 0].mean()
        if len(members) < 1000 and abs(middle) > 0.01:
            sides["left" if middle > 0 else "right"] = members
    return sides["left"], sides["right"]


def sample_person_shape(
    rng: np.random.Generator, mostly_male: bool, african: float, asian: float, caucasian: float
) -> PersonShape:
    """Draws a person's geometry; gender lies near the end that mostly_male says.

    The three ancestry weights are Anny's shape blends and need not sum to one.
    """
    body = body_template()
    towards_middle = rng.beta(1.2, 4.0)
    gender = towards_middle if mostly_male else 1.0 - towards_middle
    phenotype = {
        "gender": gender,
        "age": float(
            rng.choice([rng.uniform(0.30, 0.56), rng.uniform(0.56, 0.8), rng.uniform(0.8, 1.0)], p=[0.16, 0.52, 0.32])
        ),
        "muscle": float(rng.uniform(0.0, 1.0)),
        "weight": float(rng.beta(1.8, 1.8)),
        "height": float(rng.uniform(0.0, 1.0)),
        "proportions": float(rng.uniform(0.0, 1.0)),
        "cupsize": float(rng.uniform(0.0, 0.8)),
        "firmness": float(rng.uniform(0.3, 1.0)),
        "african": african,
        "asian": asian,
        "caucasian": caucasian,
    }  # fmt: skip
    name = str(rng.choice(list(_EXPRESSIONS), p=[0.3, 0.2, 0.14, 0.08, 0.06, 0.06, 0.06, 0.06, 0.04]))
    strength = rng.uniform(0.5, 1.1)
    actions = {
        label: min(1.0, value * strength * rng.uniform(0.8, 1.2))
        for label, value in _EXPRESSIONS[name].items()
    }
    for side in ("Left", "Right"):
        actions.setdefault(f"eyeBlink{side}", 0.0)
    blink = rng.uniform(0.0, 0.18)
    actions["eyeBlinkLeft"] = actions["eyeBlinkRight"] = blink
    if rng.random() < 0.12:
        actions["jawOpen"] = rng.uniform(0.03, 0.12)
    head_yaw = float(np.clip(rng.normal(0.0, 14.0), -38.0, 38.0))
    return PersonShape(
        phenotype=phenotype,
        local_changes=_sample_local_changes(rng, list(body.model.local_change_labels)),
        facial_actions=actions,
        expression=name,
        head_yaw=head_yaw,
        head_pitch=float(np.clip(rng.normal(0.0, 6.0), -16.0, 16.0)),
        head_roll=float(np.clip(rng.normal(0.0, 5.0), -14.0, 14.0)),
        arm_drop=float(rng.uniform(18.0, 34.0)),
        gaze_yaw=float(np.clip(-0.5 * head_yaw + rng.normal(0.0, 6.0), -22.0, 22.0)),
        gaze_pitch=float(np.clip(rng.normal(0.0, 4.0), -10.0, 10.0)),
    )


def _sample_local_changes(rng: np.random.Generator, labels: list[str]) -> dict[str, float]:
    """Local changes of the face, nearly symmetric: the right side follows the left with a small deviation."""
    changes: dict[str, float] = {}
    for label in labels:
        if not label.startswith(_SHAPE_PREFIXES) or any(part in label for part in _SHAPE_EXCLUDED):
            continue
        spread = 0.16 if label.startswith(("l-eye-", "head-", "neck-")) else 0.26
        value = float(np.clip(rng.normal(0.0, spread), -0.6, 0.6))
        if label == "head-age-incr":
            value = abs(value) * 0.5
        changes[label] = value
        mirrored = "r" + label[1:]
        if label.startswith("l-") and mirrored in labels:
            changes[mirrored] = float(value + rng.normal(0.0, 0.04))
    return changes


def _rotation(axis: int, degrees: float) -> np.ndarray:
    """4x4 right-handed rotation about X (0), Y (1) or Z (2)."""
    angle = np.radians(degrees)
    first, second = [index for index in range(3) if index != axis]
    if axis == 1:
        first, second = second, first
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second] = -np.sin(angle)
    matrix[second, first] = np.sin(angle)
    return matrix


def _pose(shape: PersonShape) -> dict[str, np.ndarray]:
    """Bone rotations about the rest axes: the head turn is shared along the neck, the arms hang down."""
    pose = {}
    for bone, share in (("neck01", 0.2), ("neck02", 0.2), ("neck03", 0.2), ("head", 0.4)):
        pose[bone] = (
            _rotation(2, share * shape.head_yaw)
            @ _rotation(0, share * shape.head_pitch)
            @ _rotation(1, share * shape.head_roll)
        )
    pose["upperarm01.L"] = _rotation(1, shape.arm_drop)
    pose["upperarm01.R"] = _rotation(1, -shape.arm_drop)
    return pose


def build_person(shape: PersonShape) -> PersonMesh:
    """The posed, refined mesh of a person and their eyeballs."""
    import torch

    body = body_template()
    pose = {bone: torch.from_numpy(matrix)[None] for bone, matrix in _pose(shape).items()}
    with torch.no_grad():
        coarse = body.model(
            pose_parameters=pose,
            phenotype_kwargs=shape.phenotype,
            local_changes_kwargs=shape.local_changes,
            facial_actions=shape.facial_actions,
        )["vertices"][0].double().numpy()  # fmt: skip
    vertices = body.refine @ coarse
    centres, radii = zip(*(_fit_sphere(coarse[members]) for members in body.eye_vertices), strict=True)
    head_turn = np.eye(3)
    for matrix in list(_pose(shape).values())[:4]:
        head_turn = head_turn @ matrix[:3, :3]
    gaze = (
        head_turn
        @ _rotation(2, shape.gaze_yaw)[:3, :3]
        @ _rotation(0, shape.gaze_pitch)[:3, :3]
        @ [0.0, -1.0, 0.0]
    )
    return PersonMesh(
        vertices=vertices,
        normals=vertex_normals(vertices, body.faces),
        faces=body.faces,
        eye_centres=np.array(centres),
        eye_radii=np.array(radii),
        gaze=np.stack([gaze, gaze]),
        shape=shape,
    )


def _fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares centre and radius of the eyeball; its cornea bulge weighs little."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.median(np.linalg.norm(points - centre, axis=1)))
