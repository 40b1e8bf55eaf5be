"""Arms and hands, in sleeves or bare."""

import math

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.people import Person
from g2ajax.synthetic.skeleton import Moment, Sculptor, Vector, mix


def arms(
    build: Sculptor,
    person: Person,
    moment: Moment,
    neck: float,
    lean: float,
    girth: float,
    skin: int,
) -> list[Vector]:
    """Adds both arms; returns the positions of the hands, left first."""
    size = person.stature
    repeated = person.pattern in ("horizontal", "check") and person.upper not in (
        "coat",
        "suit",
        "cardiga",
    )
    pattern = s.PATTERNS[person.pattern] if repeated else s.PLAIN
    colour = (
        person.second_colour
        if person.pattern == "two-tone"
        and person.pattern_size > 0.1
        and person.upper not in ("coat", "suit")
        else person.upper_colour
    )
    sleeve = build.material(colour, person.second_colour, pattern, person.pattern_size * size / 1.7)
    hands = []
    for side in (-1, 1):
        phase = moment.phase + (math.pi if side > 0 else 0.0)
        angle = person.swing * moment.speed * math.sin(phase) + 0.04
        bend = 0.22 + 0.35 * moment.speed * max(0.0, math.sin(phase)) + moment.carry
        out = 0.10 + 0.10 * (girth - 0.8)
        if person.bag in ("handbag", "rolling") and side == person.bag_side:
            angle, bend, out = (
                (-0.45, 0.1, 0.16) if person.bag == "rolling" else (angle * 0.4, 0.12, 0.16)
            )
        x = side * 0.117 * size * person.shoulders * (0.72 + 0.28 * girth)
        top = (x, lean, neck - 0.066 * size)
        elbow = (
            x + side * out * 0.165 * size,
            top[1] + 0.165 * size * math.sin(angle),
            top[2] - 0.165 * size * math.cos(angle),
        )
        fore = angle + bend
        hand = (
            elbow[0] + side * 0.02 * size * (1 - moment.carry),
            elbow[1] + 0.15 * size * math.sin(fore),
            elbow[2] - 0.15 * size * math.cos(fore),
        )
        _arm(build, person, (top, elbow, hand), girth, sleeve, skin)
        palm = mix(elbow, hand, 1.14)
        build.ball(
            palm,
            (0.015 * size, 0.022 * size, 0.032 * size),
            s.SKIN,
            skin,
            axis=(0, math.sin(fore), -math.cos(fore)),
        )
        hands.append(palm)
    return hands


def _arm(
    build: Sculptor,
    person: Person,
    joints: tuple[Vector, Vector, Vector],
    girth: float,
    sleeve: int,
    skin: int,
) -> None:
    """Upper and lower arm, inside a long or a short sleeve; `joints`: shoulder, elbow, hand."""
    top, elbow, hand = joints
    loose = {"coat": 1.35, "hoodie": 1.28, "sweater": 1.2, "suit": 1.2, "cardiga": 1.15}.get(
        person.upper, 1.12
    )
    thick = 0.027 * person.stature * (0.55 + 0.45 * girth)
    if person.sleeve > 0.9:
        build.cone(
            top, elbow, thick * 1.12 * loose, thick * 0.95 * loose, s.UPPER, sleeve, casts=True
        )
        wrist = mix(elbow, hand, 0.95)
        build.cone(
            elbow, wrist, thick * 0.95 * loose, thick * 0.82 * loose, s.UPPER, sleeve, casts=True
        )
    else:
        end = mix(top, elbow, min(1.0, person.sleeve * 2))
        build.cone(
            top, end, thick * 1.18 * loose, thick * 1.14 * loose, s.UPPER, sleeve, casts=True
        )
        build.cone(top, elbow, thick * 1.1, thick * 0.84, s.SKIN, skin)
        build.cone(elbow, hand, thick * 0.84, thick * 0.62, s.SKIN, skin, casts=True)
