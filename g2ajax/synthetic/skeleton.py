"""Shapes that bodies are built of.

Every shape is a round cone (two spheres and the cone that touches both) or a box, in local
coordinates that are stretched along three axes; capsules, ellipsoids, flat torsos and skirts share
one formula. World coordinates are in metres, z up; a person walks along +y, turned by `heading`.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from g2ajax.synthetic.people import Colour

GROUND, HEAD, HAIR, HEADGEAR, UPPER, LOWER, FEET, BAG, SKIN, OTHER = range(10)
"""Values of a part map; OTHER is an occluder."""
PART_NAMES = (
    "ground",
    "head",
    "hair",
    "headgear",
    "upper",
    "lower",
    "feet",
    "bag",
    "skin",
    "other",
)

PLAIN, HORIZONTAL, VERTICAL, CHECK, LOGO, TWO_TONE, OPEN, SUIT, JEANS, SIDE, BUTTONS, POCKET = (
    range(12)
)
"""Numbers of surface patterns."""
PATTERNS = {
    "plain": PLAIN,
    "horizontal": HORIZONTAL,
    "vertical": VERTICAL,
    "check": CHECK,
    "logo": LOGO,
    "two-tone": TWO_TONE,
}
"""Name of a person's pattern → number of the surface pattern."""

Vector = tuple[float | int, float | int, float | int]
UP: Vector = (0.0, 0.0, 1.0)


def mix(a: Vector, b: Vector, share: float) -> Vector:
    """Interpolates from a (`share` 0) to b (`share` 1); for points and colours."""
    return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))


@dataclasses.dataclass(frozen=True)
class Shapes:
    """N shapes with K materials that form a body, in world coordinates."""

    box: Bool[np.ndarray, "N"]
    capped: Bool[np.ndarray, "N"]
    """True for cones with end spheres; a cone without is an open tube, such as a skirt."""
    to_local: Float[np.ndarray, "N 3 3"]
    centre: Float[np.ndarray, "N 3"]
    length: Float[np.ndarray, "N"]
    """Distance of the two spheres, in local coordinates."""
    radius: Float[np.ndarray, "N 2"]
    clip: Float[np.ndarray, "N 4"]
    """Points with n·p >= d are kept (n, d in local coordinates)."""
    scale: Float[np.ndarray, "N 3"]
    """Size of a local unit in metres, for patterns."""
    offset: Float[np.ndarray, "N"]
    """Added to the local height, so that patterns continue from shape to shape."""
    part: Int[np.ndarray, "N"]
    material: Int[np.ndarray, "N"]
    casts: Bool[np.ndarray, "N"]
    """True for shapes that cast a shadow; small ones do not."""
    colours: Float[np.ndarray, "K 2 3"]
    pattern: Int[np.ndarray, "K"]
    figures: Float[np.ndarray, "K 4"]
    """Pattern size, logo side, logo height, logo width in metres."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """Pose of a person. Angles are in radians, speed is 0 (standing) to 1."""

    heading: float
    phase: float
    speed: float
    turn: float = 0.0
    """Direction of the head relative to the body."""
    carry: float = 0.0
    """Additional bend of the elbows."""


class _Row(NamedTuple):
    """A shape before it is placed in the world; fields are those of `Shapes`."""

    centre: Vector
    scale: Vector
    part: int
    material: int
    axis: Vector
    side: Vector
    clip: tuple = (0, 0, 0, -9)
    casts: bool = False
    box: bool = False
    capped: bool = True
    length: float = 0.0
    radius: tuple[float, float] = (1.0, 1.0)
    offset: float = 0.0


class Sculptor:
    """Collects shapes of one body; `finish` turns them into arrays."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._materials: list[tuple] = []

    def material(
        self,
        first: Colour,
        second: Colour = (0, 0, 0),
        pattern: int = PLAIN,
        size: float = 0.1,
        logo: Vector = (0, 0, 0),
    ) -> int:
        """Adds a material and returns its number."""
        self._materials.append(((first, second), pattern, (size, *logo)))
        return len(self._materials) - 1

    def cone(
        self,
        a: Vector,
        b: Vector,
        ra: float,
        rb: float,
        part: int,
        material: int,
        *,
        side: Vector = (1.0, 0.0, 0.0),
        flat: Vector = (1.0, 1.0, 1.0),
        capped: bool = True,
        casts: bool = False,
        offset: float = 0.0,
    ) -> None:
        """Adds a round cone from a to b, stretched by `flat` along its side, front and axis."""
        axis = (b[0] - a[0], b[1] - a[1], b[2] - a[2])
        length = math.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
        row = _Row(a, flat, part, material, axis, side, casts=casts)
        self._rows.append(
            row._replace(capped=capped, length=length / flat[2], radius=(ra, rb), offset=offset)
        )

    def ball(
        self,
        centre: Vector,
        radii: Vector,
        part: int,
        material: int,
        *,
        axis: Vector = UP,
        side: Vector = (1.0, 0.0, 0.0),
        clip: tuple = (0, 0, 0, -9),
        casts: bool = False,
    ) -> None:
        """Adds an ellipsoid with half-axes along side, front and axis."""
        self._rows.append(_Row(centre, radii, part, material, axis, side, clip, casts))

    def box(
        self,
        centre: Vector,
        halves: Vector,
        part: int,
        material: int,
        *,
        axis: Vector = UP,
        side: Vector = (1.0, 0.0, 0.0),
        casts: bool = False,
    ) -> None:
        """Adds a box with rounded shading."""
        self._rows.append(_Row(centre, halves, part, material, axis, side, casts=casts, box=True))

    def finish(self, heading: float, place: tuple[float, float]) -> Shapes:
        """Returns all shapes, turned by the heading and moved to a place on the ground."""
        columns = _Row(*zip(*self._rows, strict=True))
        z = np.asarray(columns.axis, np.float64)
        z /= np.sqrt((z * z).sum(1, keepdims=True)) + 1e-9
        x = np.asarray(columns.side, np.float64)
        x -= z * (x * z).sum(1, keepdims=True)
        x /= np.sqrt((x * x).sum(1, keepdims=True)) + 1e-9
        frame = np.stack([x, np.cross(z, x), z], 1)
        scale = np.asarray(columns.scale, np.float64)
        c, s = math.cos(heading), math.sin(heading)
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        colours, pattern, figures = zip(*self._materials, strict=True)
        return Shapes(
            box=np.array(columns.box),
            capped=np.array(columns.capped),
            to_local=np.einsum("nij,kj->nik", frame, turn) / scale[:, :, None],
            centre=np.einsum("nj,kj->nk", np.asarray(columns.centre, np.float64), turn)
            + np.array([*place, 0.0]),
            length=np.array(columns.length, np.float64),
            radius=np.array(columns.radius, np.float64),
            clip=np.array(columns.clip, np.float64),
            scale=scale,
            offset=np.array(columns.offset, np.float64),
            part=np.array(columns.part),
            material=np.array(columns.material),
            casts=np.array(columns.casts),
            colours=np.array(colours, np.float64),
            pattern=np.array(pattern),
            figures=np.array(figures, np.float64),
        )


def post(place: tuple[float, float], thickness: float, height: float, colour: Colour) -> Shapes:
    """Shapes of a lamp post or a bollard."""
    sculptor = Sculptor()
    metal = sculptor.material(colour)
    x, y = 0.0, 0.0
    sculptor.cone((x, y, 0.0), (x, y, height), thickness, thickness * 0.8, OTHER, metal, casts=True)
    sculptor.cone((x, y, 0.0), (x, y, 0.12), thickness * 1.7, thickness * 1.6, OTHER, metal)
    return sculptor.finish(0.0, place)
