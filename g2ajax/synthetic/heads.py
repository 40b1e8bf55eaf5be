"""Heads: hair, glasses, hats and scarves."""

import math

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.people import Person
from g2ajax.synthetic.skeleton import UP, Moment, Sculptor, Vector


class _Skull:
    """The head's own coordinates: right, front and up, in units of the head's size."""

    def __init__(self, person: Person, moment: Moment, lean: float, child: float) -> None:
        self.size = person.stature * (1.0 + 0.22 * child)
        c, t = math.cos(moment.turn), math.sin(moment.turn)
        self.right, self.front = (c, t, 0.0), (-t, c, 0.0)
        self.centre = (0.0, lean + 0.016 * self.size, person.stature - 0.066 * self.size)

    def at(self, x: float | int, y: float | int, z: float | int) -> Vector:
        """A point of the head in world coordinates."""
        return tuple(
            self.centre[i] + self.size * (self.right[i] * x + self.front[i] * y + UP[i] * z)
            for i in range(3)
        )

    def radii(self, x: float, y: float, z: float) -> Vector:
        """Half-axes in metres."""
        return (x * self.size, y * self.size, z * self.size)


def head(
    build: Sculptor, person: Person, moment: Moment, lean: float, child: float, skin: int
) -> None:
    """Adds head, hair, glasses and headgear."""
    skull = _Skull(person, moment, lean, child)
    hair = build.material(person.hair)
    dark = build.material((0.05, 0.05, 0.06) if person.glasses == "sun" else (0.16, 0.13, 0.12))
    at, radii, right = skull.at, skull.radii, skull.right
    build.ball(skull.centre, radii(0.043, 0.052, 0.064), s.HEAD, skin, side=right, casts=True)
    build.ball(at(0, 0.046, -0.012), radii(0.010, 0.014, 0.012), s.HEAD, skin, side=right)
    if person.glasses != "off":
        thin = 0.011 if person.glasses == "sun" else 0.006
        build.box(at(0, 0.042, 0.008), radii(0.031, 0.012, thin), s.HEAD, dark, side=right)
    _hair(build, person, skull, hair)
    _headgear(build, person, skull)


def _hair(build: Sculptor, person: Person, skull: _Skull, hair: int) -> None:
    at, radii, right, size = skull.at, skull.radii, skull.right, skull.size
    style = person.hairstyle
    if style in ("short", "medium", "long", "horsetail"):
        # The cap of hair is cut away below and in front: n·p >= d in its own coordinates.
        clip = {"short": (0.0, -0.62, 0.78, -0.12), "medium": (0.0, -0.80, 0.60, -0.22)}.get(
            style, (0.0, -0.80, 0.60, -0.26)
        )
        puff = 1.06 if person.headgear in ("cap", "beanie") else 1.14
        half_axes = radii(0.044 * puff, 0.053 * puff, 0.063 * puff)
        build.ball(at(0, -0.004, 0.006), half_axes, s.HAIR, hair, side=right, clip=clip)
    if style == "medium":
        half_axes = radii(0.052, 0.044, 0.052)
        behind = (0, -1, 0, -0.25)
        build.ball(at(0, -0.020, -0.024), half_axes, s.HAIR, hair, side=right, clip=behind)
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


def _headgear(build: Sculptor, person: Person, skull: _Skull) -> None:
    at, radii, size = skull.at, skull.radii, skull.size
    cloth = build.material(person.headgear_colour)
    options = {"side": skull.right}
    if person.headgear == "cap":
        crown, brim = radii(0.051, 0.060, 0.066), radii(0.040, 0.042, 0.008)
        clip = (0, 0, 1, 0.16)
        build.ball(at(0, -0.002, 0.010), crown, s.HEADGEAR, cloth, clip=clip, **options)
        build.ball(at(0, 0.062, 0.022), brim, s.HEADGEAR, cloth, **options)
    elif person.headgear == "sunhat":
        crown, brim = radii(0.052, 0.060, 0.064), radii(0.104, 0.110, 0.011)
        build.ball(at(0, 0, 0.014), crown, s.HEADGEAR, cloth, clip=(0, 0, 1, 0.1), **options)
        build.ball(at(0, 0, 0.020), brim, s.HEADGEAR, cloth, casts=True, **options)
    elif person.headgear == "beanie":
        crown, bobble = radii(0.051, 0.060, 0.068), radii(0.016, 0.016, 0.016)
        clip = (0, -0.3, 0.95, -0.05)
        build.ball(at(0, -0.006, 0.014), crown, s.HEADGEAR, cloth, clip=clip, **options)
        build.ball(at(0, -0.010, 0.082), bobble, s.HEADGEAR, cloth)
    elif person.headgear == "scarf":
        half_axes, clip = radii(0.053, 0.058, 0.072), (0, -1, 0.25, -0.52)
        build.ball(at(0, -0.008, 0.002), half_axes, s.HEADGEAR, cloth, clip=clip, **options)
        build.cone(
            at(0, -0.012, -0.040),
            at(0, -0.024, -0.108),
            0.048 * size,
            0.068 * size,
            s.HEADGEAR,
            cloth,
            flat=(1.0, 0.8, 1.0),
            **options,
        )
