"""Body of a person at one moment of the walk, as shapes."""

import math

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.arms import arms
from g2ajax.synthetic.bags import bag
from g2ajax.synthetic.heads import head
from g2ajax.synthetic.people import Person
from g2ajax.synthetic.skeleton import Moment, Sculptor, Shapes, Vector, mix

_WHITE = (0.90, 0.90, 0.88)


def body(person: Person, moment: Moment, place: tuple[float, float] = (0.0, 0.0)) -> Shapes:
    """Builds the person's shapes at `place` on the ground, in metres."""
    build = Sculptor()
    size = person.stature
    child = min(1.0, max(0.0, (1.5 - size) / 0.4))
    girth = person.build * (1.0 + 0.08 * child)
    # Hip and shoulder heights; a fast step lowers the body.
    swing = person.stride * moment.speed + 0.05
    drop = 0.022 * size * moment.speed * abs(math.cos(moment.phase))
    hip = (0.53 - 0.02 * child) * size * person.legs - drop
    lean = 0.035 * moment.speed * size
    chest = hip + 0.235 * size * (1 - 0.08 * child)
    neck = (0.835 - 0.025 * child) * size - drop
    skin = build.material(person.skin)
    legs(build, person, moment, hip, girth, swing, skin)
    torso(build, person, hip, chest, neck, lean, girth, skin)
    head(build, person, moment, lean, child, skin)
    hands = arms(build, person, moment, neck, lean, girth, skin)
    bag(build, person, hip, chest, neck, lean, girth, hands)
    return build.finish(moment.heading, place)


def legs(
    build: Sculptor,
    person: Person,
    moment: Moment,
    hip: float,
    girth: float,
    swing: float,
    skin: int,
) -> None:
    """Adds thighs, shins and shoes, with trousers or a skirt over them."""
    size, lower = person.stature, person.lower
    slack = {"leggins": 0.94, "jeans": 1.06, "shorts": 1.25, "pants": 1.2, "suit": 1.2}.get(
        lower, 1.0
    )
    pattern = s.JEANS if lower == "jeans" else s.SIDE if person.stripe else s.PLAIN
    cloth = build.material(person.lower_colour, person.second_colour, pattern, 0.02)
    shoe = build.material(person.shoe_colour)
    sole = build.material(person.sole_colour)
    thick = 0.050 * size * (0.45 + 0.55 * girth)
    thigh, shin = 0.255 * size * person.legs, 0.24 * size * person.legs
    trousers = lower not in ("skirt", "dress")
    if not trousers:
        swing *= 0.65
    for side in (-1, 1):
        phase = moment.phase + (0.0 if side > 0 else math.pi)
        angle = swing * math.sin(phase)
        bend = moment.speed * (0.12 + 0.75 * max(0.0, math.cos(phase)) ** 2) + 0.04
        x = side * 0.052 * size * (0.55 + 0.45 * girth)
        top = (x, 0.0, hip)
        knee = (x, thigh * math.sin(angle), hip - thigh * math.cos(angle))
        ankle = (
            x * 0.9,
            knee[1] + shin * math.sin(angle - bend),
            knee[2] - shin * math.cos(angle - bend),
        )
        covered = person.lower_length if trousers else 0.0
        if covered > 0.9:
            build.cone(
                top,
                knee,
                thick * 1.14 * (0.5 + slack / 2),
                thick * 0.84 * slack,
                s.LOWER,
                cloth,
                casts=True,
            )
            build.cone(
                knee, ankle, thick * 0.84 * slack, thick * 0.60 * slack, s.LOWER, cloth, casts=True
            )
        else:
            end = mix(top, knee, covered / 0.5)
            if trousers:
                build.cone(top, end, thick * 1.3, thick * 1.22, s.LOWER, cloth, casts=True)
            build.cone(top, knee, thick * 1.08, thick * 0.70, s.SKIN, skin)
            build.cone(knee, ankle, thick * 0.72, thick * 0.46, s.SKIN, skin, casts=True)
        shoes(build, person, ankle, angle - bend, thick, shoe, sole, skin)
    if lower == "skirt":
        end = hip - person.lower_length * 0.495 * size
        sway = 0.05 * math.sin(moment.phase) * moment.speed
        build.cone(
            (0, 0, hip + 0.03 * size),
            (0, sway, end),
            thick * 2.0,
            thick * 2.75,
            s.LOWER,
            cloth,
            flat=(1.0, 0.8, 1.0),
            capped=False,
            casts=True,
        )
    build.ball((0, 0, hip + 0.01 * size), (thick * 1.95, thick * 1.5, 0.075 * size), s.LOWER, cloth)


def shoes(
    build: Sculptor,
    person: Person,
    ankle: Vector,
    tilt: float,
    thick: float,
    shoe: int,
    sole: int,
    skin: int,
) -> None:
    """Adds one shoe; boots reach up the shin, sandals show the foot."""
    size = person.stature
    lift = min(0.5, max(-0.35, -tilt * 0.8))
    heel = (ankle[0], ankle[1] - 0.016 * size, ankle[2] - 0.020 * size)
    toe = (
        ankle[0] * 1.12,
        ankle[1] + 0.088 * size * math.cos(lift),
        ankle[2] - 0.024 * size - 0.088 * size * math.sin(lift),
    )
    wide = thick * (0.46 if person.shoes == "classicshoe" else 0.56)
    bare = person.shoes == "sandals"
    build.cone(heel, toe, wide, wide * 0.72, s.FEET, skin if bare else shoe, casts=True)
    drop = (0.0, 0.0, -0.012 * size)
    low_heel, low_toe = (
        tuple(p + q for p, q in zip(point, drop, strict=True)) for point in (heel, toe)
    )
    build.cone(
        low_heel,
        low_toe,
        wide * 1.08,
        wide * 0.9,
        s.FEET,
        shoe if bare else sole,
        flat=(1.0, 0.5, 1.0),
    )
    if person.shoes == "boots":
        build.cone(
            heel,
            (ankle[0], ankle[1] - math.sin(tilt) * 0.1 * size, ankle[2] + 0.10 * size),
            wide * 1.0,
            wide * 1.25,
            s.FEET,
            shoe,
        )


def torso(
    build: Sculptor,
    person: Person,
    hip: float,
    chest: float,
    neck: float,
    lean: float,
    girth: float,
    skin: int,
) -> None:
    """Adds trunk, shoulders, hem and collar of the upper garment, and the neck."""
    size, upper = person.stature, person.upper
    pattern = s.PATTERNS[person.pattern]
    second = person.second_colour
    if upper == "suit":
        pattern, second = s.SUIT, _WHITE
    elif upper == "cardiga" or (upper == "coat" and person.pattern == "plain"):
        pattern, second = s.OPEN, person.inner_colour
    elif upper == "shirt" and person.pattern == "plain":
        pattern, second = s.BUTTONS, mix(person.upper_colour, _WHITE, 0.6)
    side, height, width = person.logo
    logo = (side * 0.1 * size, height * (neck - hip), width * 0.16 * size)
    cloth = build.material(
        person.upper_colour, second, pattern, person.pattern_size * size / 1.7, logo
    )
    bulk = {"coat": 1.14, "hoodie": 1.10, "sweater": 1.07, "suit": 1.07, "cardiga": 1.05}.get(
        upper, 1.0
    )
    waist = 0.082 * size * (0.25 + 0.75 * girth) * bulk
    _trunk(build, person, (hip, chest, neck), lean, girth, waist, bulk, cloth)
    tone = (
        cloth
        if pattern not in (s.LOGO, s.TWO_TONE)
        else build.material(second if pattern == s.TWO_TONE else person.upper_colour)
    )
    _hem(build, person, hip, girth, waist, tone)
    if upper == "hoodie":
        build.ball(
            (0, lean - 0.062 * size, neck - 0.022 * size),
            (0.066 * size, 0.042 * size, 0.048 * size),
            s.UPPER,
            cloth,
        )
    _neck(build, person, neck, lean, skin)


def _trunk(
    build: Sculptor,
    person: Person,
    heights: tuple[float, float, float],
    lean: float,
    girth: float,
    waist: float,
    bulk: float,
    cloth: int,
) -> None:
    """Belly, shoulders and chest; `heights` of hip, chest and neck."""
    size, (hip, chest, neck) = person.stature, heights
    breast = 0.094 * size * (0.5 + 0.5 * girth) * bulk
    flat = (1.0, 0.66 + 0.10 * (girth - 0.8), 1.0)
    build.cone(
        (0, 0, hip + 0.02 * size),
        (0, lean * 0.6, chest),
        waist,
        breast,
        s.UPPER,
        cloth,
        flat=flat,
        casts=True,
    )
    wide = 0.106 * size * person.shoulders * (0.75 + 0.25 * girth)
    across = cloth_sideways(build, person)
    for x in (-1, 1):
        build.cone(
            (x * 0.020 * size, lean, neck - 0.034 * size),
            (x * wide, lean, neck - 0.058 * size),
            0.046 * size * bulk,
            0.037 * size * bulk,
            s.UPPER,
            across,
            side=(0, 0, -1),
            casts=True,
        )
    build.cone(
        (0, lean * 0.6, chest - 0.02 * size),
        (0, lean, neck - 0.02 * size),
        breast * 1.04,
        0.062 * size * bulk,
        s.UPPER,
        cloth,
        flat=flat,
        offset=chest - hip - 0.04 * size,
        casts=True,
    )
    if girth > 1.15:
        build.ball(
            (0, 0.035 * size, hip + 0.085 * size),
            (waist * 1.02, waist * 0.95, 0.10 * size),
            s.UPPER,
            cloth,
        )


def _hem(
    build: Sculptor, person: Person, hip: float, girth: float, waist: float, cloth: int
) -> None:
    """The lower end of the upper garment, wide enough to fall over the hips."""
    size = person.stature
    end = hip - (0.03 + person.hem * 0.25) * size
    hips = 0.050 * size * (0.45 + 0.55 * girth)
    loose = max(waist, 2.38 * hips) * (1.03 if person.hem < 0.3 else 1.03 + 0.13 * person.hem)
    build.cone(
        (0, 0.002, hip + 0.10 * size),
        (0, 0, end),
        waist * 1.01,
        loose,
        s.UPPER,
        cloth,
        flat=(1.0, 0.84, 1.0),
        capped=False,
        side=(-1, 0, 0),
        casts=person.hem > 0.3,
    )


def _neck(build: Sculptor, person: Person, neck: float, lean: float, skin: int) -> None:
    """Collar and neck."""
    size, upper = person.stature, person.upper
    collar = person.inner_colour if upper in ("suit", "cardiga") else person.upper_colour
    if upper in ("shirt", "coat", "suit", "sweater", "cardiga"):
        build.cone(
            (0, lean, neck - 0.03 * size),
            (0, lean + 0.006, neck + 0.008 * size),
            0.047 * size,
            0.037 * size,
            s.UPPER,
            build.material(mix(collar, _WHITE, 0.12)),
        )
    build.cone(
        (0, lean, neck - 0.02 * size),
        (0, lean + 0.01 * size, neck + 0.045 * size),
        0.034 * size,
        0.031 * size,
        s.SKIN,
        skin,
    )


def cloth_sideways(build: Sculptor, person: Person) -> int:
    """Material of the shoulders: plain where the trunk's pattern does not reach them."""
    if person.pattern in ("horizontal", "vertical", "check") and person.upper not in (
        "coat",
        "suit",
        "cardiga",
    ):
        turned = {"horizontal": s.VERTICAL, "vertical": s.HORIZONTAL, "check": s.CHECK}[
            person.pattern
        ]
        return build.material(
            person.upper_colour,
            person.second_colour,
            turned,
            person.pattern_size * person.stature / 1.7,
        )
    return build.material(person.upper_colour)
