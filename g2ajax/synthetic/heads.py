"""Heads: hair, glasses, hats and scarves."""

import math

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.people import Person
from g2ajax.synthetic.skeleton import UP, Moment, Sculptor, Vector


def head(
    build: Sculptor,
    person: Person,
    moment: Moment,
    neck: float,
    lean: float,
    child: float,
    skin: int,
) -> None:
    """Head, hair, glasses and what is worn above them."""
    size = person.stature * (1.0 + 0.22 * child)
    c, t = math.cos(moment.turn), math.sin(moment.turn)
    right, front = (c, t, 0.0), (-t, c, 0.0)
    high = person.stature - 0.066 * size
    centre = (0.0, lean + 0.016 * size, high)

    def at(x: float | int, y: float | int, z: float | int) -> Vector:
        return tuple(centre[i] + size * (right[i] * x + front[i] * y + UP[i] * z) for i in range(3))

    def radii(x: float, y: float, z: float) -> Vector:
        return (x * size, y * size, z * size)

    hair = build.material(person.hair)
    dark = build.material((0.05, 0.05, 0.06) if person.glasses == "sun" else (0.16, 0.13, 0.12))
    build.ball(centre, radii(0.043, 0.052, 0.064), s.HEAD, skin, side=right, casts=True)
    build.ball(at(0, 0.046, -0.012), radii(0.010, 0.014, 0.012), s.HEAD, skin, side=right)
    if person.glasses != "off":
        thin = 0.011 if person.glasses == "sun" else 0.006
        build.box(at(0, 0.042, 0.008), radii(0.031, 0.012, thin), s.HEAD, dark, side=right)
    style = person.hairstyle
    if style in ("short", "medium", "long", "horsetail"):
        # The cap of hair is cut away below and in front: n·p >= d in its own coordinates.
        clip = {"short": (0.0, -0.62, 0.78, -0.12), "medium": (0.0, -0.80, 0.60, -0.22)}.get(
            style, (0.0, -0.80, 0.60, -0.26)
        )
        puff = 1.06 if person.headgear in ("cap", "beanie") else 1.14
        build.ball(
            at(0, -0.004, 0.006),
            radii(0.044 * puff, 0.053 * puff, 0.063 * puff),
            s.HAIR,
            hair,
            side=right,
            clip=clip,
        )
    if style == "medium":
        build.ball(
            at(0, -0.020, -0.024),
            radii(0.052, 0.044, 0.052),
            s.HAIR,
            hair,
            side=right,
            clip=(0, -1, 0, -0.25),
        )
    elif style == "long":
        build.cone(
            at(0, -0.026, 0.0),
            at(0, -0.052, -0.155),
            0.048 * size,
            0.050 * size,
            s.HAIR,
            hair,
            side=right,
            flat=(1.0, 0.62, 1.0),
            casts=True,
        )
    elif style == "horsetail":
        build.ball(at(0, -0.062, 0.022), radii(0.018, 0.018, 0.018), s.HAIR, hair, side=right)
        build.cone(
            at(0, -0.072, 0.012),
            at(0, -0.092, -0.10),
            0.018 * size,
            0.009 * size,
            s.HAIR,
            hair,
            side=right,
        )
    worn = build.material(person.headgear_colour)
    if person.headgear == "cap":
        build.ball(
            at(0, -0.002, 0.010),
            radii(0.051, 0.060, 0.066),
            s.HEADGEAR,
            worn,
            side=right,
            clip=(0, 0, 1, 0.16),
        )
        build.ball(at(0, 0.062, 0.022), radii(0.040, 0.042, 0.008), s.HEADGEAR, worn, side=right)
    elif person.headgear == "sunhat":
        build.ball(
            at(0, 0, 0.014),
            radii(0.052, 0.060, 0.064),
            s.HEADGEAR,
            worn,
            side=right,
            clip=(0, 0, 1, 0.1),
        )
        build.ball(
            at(0, 0, 0.020), radii(0.104, 0.110, 0.011), s.HEADGEAR, worn, side=right, casts=True
        )
    elif person.headgear == "beanie":
        build.ball(
            at(0, -0.006, 0.014),
            radii(0.051, 0.060, 0.068),
            s.HEADGEAR,
            worn,
            side=right,
            clip=(0, -0.3, 0.95, -0.05),
        )
        build.ball(at(0, -0.010, 0.082), radii(0.016, 0.016, 0.016), s.HEADGEAR, worn)
    elif person.headgear == "scarf":
        build.ball(
            at(0, -0.008, 0.002),
            radii(0.053, 0.058, 0.072),
            s.HEADGEAR,
            worn,
            side=right,
            clip=(0, -1, 0.25, -0.52),
        )
        build.cone(
            at(0, -0.012, -0.040),
            at(0, -0.024, -0.108),
            0.048 * size,
            0.068 * size,
            s.HEADGEAR,
            worn,
            side=right,
            flat=(1.0, 0.8, 1.0),
        )
