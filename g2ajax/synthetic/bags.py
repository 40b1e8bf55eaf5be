"""Bags and what holds them."""

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.people import Person
from g2ajax.synthetic.skeleton import Sculptor, Vector, mix


def carried(
    build: Sculptor,
    person: Person,
    hip: float,
    chest: float,
    neck: float,
    lean: float,
    girth: float,
    hands: list[Vector],
) -> None:
    """The bag and what holds it."""
    if person.bag == "nothing":
        return
    size, large, side = (
        person.stature,
        person.bag_size * (0.6 + 0.24 * person.stature),
        person.bag_side,
    )
    cloth = build.material(
        person.bag_colour, mix(person.bag_colour, (0.05, 0.05, 0.05), 0.45), s.POCKET, 0.1
    )
    strap = build.material(mix(person.bag_colour, (0.05, 0.05, 0.05), 0.35))
    deep = 0.075 * size * (0.4 + 0.6 * girth)
    hand = hands[0] if side < 0 else hands[1]
    if person.bag == "backpack":
        back = lean * 0.8 - deep - 0.075 * large
        middle = (chest + neck) / 2 - 0.065 * size
        build.ball(
            (0, back, middle),
            (0.165 * large, 0.105 * large, 0.235 * large),
            s.BAG,
            cloth,
            casts=True,
        )
        build.box(
            (0, back - 0.01 * large, middle - 0.02),
            (0.135 * large, 0.088 * large, 0.185 * large),
            s.BAG,
            cloth,
        )
        for x in (-0.062 * size, 0.062 * size):
            build.cone(
                (x, lean - 0.02 * size, neck - 0.008 * size),
                (x, lean + 0.064 * size * girth**0.5, chest - 0.01 * size),
                0.017,
                0.015,
                s.BAG,
                strap,
            )
            build.cone(
                (x, lean - 0.02 * size, neck - 0.008 * size),
                (x, back, middle + 0.1 * large),
                0.017,
                0.017,
                s.BAG,
                strap,
            )
    elif person.bag == "handbag":
        x, y, z = hand
        build.box(
            (x, y, z - 0.24 * large),
            (0.055 * large, 0.16 * large, 0.12 * large),
            s.BAG,
            cloth,
            casts=True,
        )
        for dy in (-0.09 * large, 0.09 * large):
            build.cone((x, y, z), (x, y + dy, z - 0.13 * large), 0.011, 0.011, s.BAG, strap)
    elif person.bag == "normal":
        wide = 0.095 * size * (0.4 + 0.6 * girth)
        build.box(
            (side * (wide + 0.055), -0.02, hip + 0.0 * size),
            (0.06 * large, 0.165 * large, 0.125 * large),
            s.BAG,
            cloth,
            casts=True,
        )
        over = (-side * 0.05 * size, lean, neck - 0.005 * size)
        belly = 0.04 * size if girth > 1.15 else 0.008 * size
        for y in (deep * 1.06 + belly, -deep * 1.04):
            low = (side * wide * 0.95, y, hip + 0.09 * size)
            middle = (side * 0.01 * size, y + lean * 0.7, chest + 0.01 * size)
            build.cone(over, middle, 0.016, 0.016, s.BAG, strap)
            build.cone(middle, low, 0.016, 0.016, s.BAG, strap)
    elif person.bag == "rolling":
        x, y, z = hand
        build.box(
            (x, y - 0.30, 0.33 * large + 0.05),
            (0.21 * large, 0.12 * large, 0.29 * large),
            s.BAG,
            cloth,
            axis=(0, 0.35, 1),
            casts=True,
        )
        for dx in (-0.06, 0.06):
            build.cone(
                (x + dx, y - 0.20, 0.6 * large), (x + dx * 0.5, y, z), 0.012, 0.012, s.BAG, strap
            )
