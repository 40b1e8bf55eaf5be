"""Bags and their straps."""

import dataclasses

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.people import Colour, Person
from g2ajax.synthetic.skeleton import Sculptor, Vector, mix

_BLACK: Colour = (0.05, 0.05, 0.05)


@dataclasses.dataclass(frozen=True)
class _Measures:
    """Measures of the person, and size and materials of the bag."""

    size: float
    """Stature of the person, in metres."""
    large: float
    """Scale of the bag."""
    side: int
    """-1 left, 1 right."""
    girth: float
    deep: float
    """Half the depth of the trunk."""
    hip: float
    chest: float
    neck: float
    lean: float
    hand: Vector
    """The hand on the bag's side."""
    cloth: int
    strap: int


def bag(
    build: Sculptor,
    person: Person,
    hip: float,
    chest: float,
    neck: float,
    lean: float,
    girth: float,
    hands: list[Vector],
) -> None:
    """Adds the person's bag, if there is one, with its straps."""
    if person.bag == "nothing":
        return
    dark = mix(person.bag_colour, _BLACK, 0.45)
    measures = _Measures(
        size=person.stature,
        large=person.bag_size * (0.6 + 0.24 * person.stature),
        side=person.bag_side,
        girth=girth,
        deep=0.075 * person.stature * (0.4 + 0.6 * girth),
        hip=hip,
        chest=chest,
        neck=neck,
        lean=lean,
        hand=hands[0] if person.bag_side < 0 else hands[1],
        cloth=build.material(person.bag_colour, dark, s.POCKET, 0.1),
        strap=build.material(mix(person.bag_colour, _BLACK, 0.35)),
    )
    _KINDS[person.bag](build, measures)


def _backpack(build: Sculptor, f: _Measures) -> None:
    size, large, chest, neck = f.size, f.large, f.chest, f.neck
    back = f.lean * 0.8 - f.deep - 0.075 * large
    middle = (chest + neck) / 2 - 0.065 * size
    build.ball(
        (0, back, middle), (0.165 * large, 0.105 * large, 0.235 * large), s.BAG, f.cloth, casts=True
    )
    build.box(
        (0, back - 0.01 * large, middle - 0.02),
        (0.135 * large, 0.088 * large, 0.185 * large),
        s.BAG,
        f.cloth,
    )
    for x in (-0.062 * size, 0.062 * size):
        shoulder = (x, f.lean - 0.02 * size, neck - 0.008 * size)
        front = (x, f.lean + 0.064 * size * f.girth**0.5, chest - 0.01 * size)
        build.cone(shoulder, front, 0.017, 0.015, s.BAG, f.strap)
        build.cone(shoulder, (x, back, middle + 0.1 * large), 0.017, 0.017, s.BAG, f.strap)


def _handbag(build: Sculptor, f: _Measures) -> None:
    large, (x, y, z) = f.large, f.hand
    build.box(
        (x, y, z - 0.24 * large),
        (0.055 * large, 0.16 * large, 0.12 * large),
        s.BAG,
        f.cloth,
        casts=True,
    )
    for dy in (-0.09 * large, 0.09 * large):
        build.cone((x, y, z), (x, y + dy, z - 0.13 * large), 0.011, 0.011, s.BAG, f.strap)


def _shoulder_bag(build: Sculptor, f: _Measures) -> None:
    size, large, side = f.size, f.large, f.side
    wide = 0.095 * size * (0.4 + 0.6 * f.girth)
    build.box(
        (side * (wide + 0.055), -0.02, f.hip + 0.0 * size),
        (0.06 * large, 0.165 * large, 0.125 * large),
        s.BAG,
        f.cloth,
        casts=True,
    )
    shoulder = (-side * 0.05 * size, f.lean, f.neck - 0.005 * size)
    belly = 0.04 * size if f.girth > 1.15 else 0.008 * size
    for y in (f.deep * 1.06 + belly, -f.deep * 1.04):
        low = (side * wide * 0.95, y, f.hip + 0.09 * size)
        middle = (side * 0.01 * size, y + f.lean * 0.7, f.chest + 0.01 * size)
        build.cone(shoulder, middle, 0.016, 0.016, s.BAG, f.strap)
        build.cone(middle, low, 0.016, 0.016, s.BAG, f.strap)


def _suitcase(build: Sculptor, f: _Measures) -> None:
    large, (x, y, z) = f.large, f.hand
    build.box(
        (x, y - 0.30, 0.33 * large + 0.05),
        (0.21 * large, 0.12 * large, 0.29 * large),
        s.BAG,
        f.cloth,
        axis=(0, 0.35, 1),
        casts=True,
    )
    for dx in (-0.06, 0.06):
        grip = (x + dx * 0.5, y, z)
        build.cone((x + dx, y - 0.20, 0.6 * large), grip, 0.012, 0.012, s.BAG, f.strap)


_KINDS = {
    "backpack": _backpack,
    "handbag": _handbag,
    "normal": _shoulder_bag,
    "rolling": _suitcase,
}
