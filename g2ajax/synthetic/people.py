"""People of SkyGround: a frozen record for each person, drawn from the world's seed."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from g2ajax.synthetic import attributes

Colour = tuple[float | int, float | int, float | int]
"""Red, green, blue in 0..1, as recorded with neutral white balance."""

PALETTE: Mapping[str, Colour] = {
    "black": (0.09, 0.09, 0.10),
    "white": (0.88, 0.88, 0.86),
    "grey": (0.48, 0.49, 0.50),
    "navy": (0.13, 0.17, 0.33),
    "blue": (0.22, 0.40, 0.72),
    "red": (0.70, 0.15, 0.15),
    "green": (0.22, 0.46, 0.26),
    "yellow": (0.86, 0.72, 0.22),
    "orange": (0.85, 0.45, 0.16),
    "purple": (0.42, 0.25, 0.52),
    "pink": (0.84, 0.52, 0.60),
    "beige": (0.72, 0.62, 0.47),
}
SLEEVED = ("sweater", "coat", "suit", "hoodie", "cardiga")
"""Upper garments that always have long sleeves."""

# Numbers of the world's random streams: the second number of every key.
TRAITS, LOOKS, SHOOTING, SENSING, SPLITTING = range(5)

# Class → percentage of people; each table adds up to 100.
_SHARES: Mapping[str, Mapping[str, int]] = {
    "height": {"child": 8, "short": 23, "medium": 43, "tall": 26},
    "weight": {"thin": 26, "medium": 48, "fat": 26},
    "haircolor": {"black": 34, "brown": 26, "white": 12, "red": 14, "gray": 14},
    "hairstyle": {"bald": 10, "short": 36, "medium": 22, "long": 17, "horsetail": 15},
    "glasses": {"off": 64, "normal": 20, "sun": 16},
    "head": {"unknown": 70, "hat": 20, "scarf": 10},
    "upper": {
        "tshirt": 20,
        "sweater": 14,
        "coat": 14,
        "dress": 9,
        "shirt": 13,
        "suit": 8,
        "hoodie": 13,
        "cardiga": 9,
    },
    "lower": {"jeans": 26, "leggins": 13, "pants": 24, "shorts": 20, "skirt": 17},
    "feet": {"sportshoe": 40, "classicshoe": 20, "boots": 22, "sandals": 18},
    "bag": {"nothing": 32, "backpack": 22, "handbag": 18, "normal": 17, "rolling": 11},
}
_STATURE = {"child": (1.10, 1.42), "short": (1.50, 1.62), "medium": (1.65, 1.77)}
_STATURE["tall"] = (1.81, 1.98)
_BUILD = {"thin": (0.80, 0.88), "medium": (0.97, 1.08), "fat": (1.24, 1.42)}
_HAIR = {
    "black": (0.07, 0.06, 0.06),
    "brown": (0.30, 0.19, 0.11),
    "white": (0.80, 0.79, 0.76),
    "red": (0.52, 0.22, 0.09),
    "gray": (0.47, 0.47, 0.47),
}
_SKIN = ((0.93, 0.74, 0.63), (0.80, 0.58, 0.44), (0.58, 0.39, 0.27), (0.33, 0.22, 0.16))


@dataclasses.dataclass(frozen=True)
class Person:
    """Appearance of a person, independent of the view. Lengths are in metres."""

    number: int
    stature: float
    build: float
    """Girth relative to the average person of this stature."""
    shoulders: float
    legs: float
    """Factors of shoulder width and leg length."""
    skin: Colour
    hair: Colour
    hairstyle: str
    headgear: str
    """"none", "cap", "sunhat", "beanie" or "scarf"."""
    headgear_colour: Colour
    glasses: str
    upper: str
    upper_colour: Colour
    second_colour: Colour
    pattern: str
    pattern_size: float
    """Period of stripes and checks, and height of a logo."""
    logo: tuple[float, float, float]
    """Side, height and width of a logo, relative to the chest."""
    sleeve: float
    """End of the sleeve: 0 at the shoulder, 1 at the wrist."""
    hem: float
    """End of the upper garment: 0 at the hip, 1 at the knee."""
    inner_colour: Colour
    """Colour of the shirt below an open coat, a cardigan or a suit."""
    lower: str
    lower_colour: Colour
    lower_length: float
    """End of the lower garment: 0 at the hip, 1 at the ankle."""
    stripe: bool
    """True for a side stripe on the trousers, in the second colour."""
    shoes: str
    shoe_colour: Colour
    sole_colour: Colour
    bag: str
    bag_colour: Colour
    bag_size: float
    bag_side: int
    stride: float
    swing: float
    attributes: tuple[int, ...]
    """15 codes, in the order of `attributes.GROUPS`."""


def generator(*key: int) -> np.random.Generator:
    """Random number generator of a key; equal keys give equal numbers, whatever was drawn before."""
    return np.random.Generator(np.random.PCG64(list(key)))


def people(seed: int, numbers: Sequence[int]) -> list[Person]:
    """Draws the people of a split; `numbers` are consecutive numbers in the world.

    Two of every five share all attributes and differ in colours, patterns and proportions.
    """
    units = [n - numbers[0] for n in numbers]
    twins = [5 * (u // 5) if u % 5 == 1 else u for u in units]
    tables = {
        group: _quota(generator(seed, TRAITS, i, numbers[0]), shares, len(units))
        for i, (group, shares) in enumerate(_SHARES.items())
    }
    return [
        _person(seed, number, {group: table[twin] for group, table in tables.items()})
        for number, twin in zip(numbers, twins, strict=True)
    ]


def _quota(rng: np.random.Generator, shares: Mapping[str, int], count: int) -> list[str]:
    """`count` classes with the given shares, shuffled within consecutive blocks of 25."""
    names = [name for name, share in shares.items() for _ in range(share)]
    # A stride prime to 100 spreads every class over the whole list before shuffling.
    spread = [names[(37 * i + int(rng.integers(100)) * (i == 0)) % 100] for i in range(100)]
    result: list[str] = []
    while len(result) < count:
        block = list(spread)
        for start in range(0, 100, 25):
            part = block[start : start + 25]
            block[start : start + 25] = [part[j] for j in rng.permutation(len(part))]
        result += block
    return result[:count]


def _colour(rng: np.random.Generator, name: str, amount: float = 1.0) -> Colour:
    """A variation of a named colour, with random hue, saturation and value."""
    base = np.asarray(PALETTE[name]) if name in PALETTE else np.asarray(_HAIR[name])
    grey = base.mean()
    saturated = grey + (base - grey) * rng.uniform(0.75, 1.25)
    tinted = saturated + rng.uniform(-0.05, 0.05, 3) * amount
    return tuple(float(x) for x in np.clip(tinted * rng.uniform(0.8, 1.22), 0.03, 0.95))


def _choose(rng: np.random.Generator, weights: Mapping[str, int]) -> str:
    shares = np.cumsum(list(weights.values()))
    return list(weights)[int(np.searchsorted(shares, rng.uniform() * shares[-1], side="right"))]


_CLOTH = {
    "black": 17,
    "white": 14,
    "grey": 13,
    "navy": 12,
    "blue": 10,
    "red": 8,
    "green": 6,
    "yellow": 4,
    "orange": 3,
    "purple": 4,
    "pink": 4,
    "beige": 6,
}
_SOBER = {"black": 30, "grey": 20, "navy": 22, "beige": 16, "green": 6, "white": 6}
_LOWER = {
    "jeans": {"navy": 40, "blue": 35, "black": 15, "grey": 10},
    "leggins": {"black": 50, "grey": 20, "purple": 10, "navy": 20},
    "suit": _SOBER,
}


def _person(seed: int, number: int, traits: Mapping[str, str]) -> Person:
    rng = generator(seed, LOOKS, number)
    traits = dict(traits)
    upper, head = traits["upper"], traits["head"]
    if upper in ("dress", "suit"):
        traits["lower"] = upper
    if head == "scarf":
        traits |= {"haircolor": "occluded", "hairstyle": "unknown"}
    elif traits["hairstyle"] == "bald":
        traits["haircolor"] = "unknown"
    lower = traits["lower"]

    main = _choose(rng, _SOBER if upper in ("suit", "coat") else _CLOTH)
    second = _choose(rng, {name: share + 4 for name, share in _CLOTH.items() if name != main})
    if upper in ("suit", "coat"):
        patterns = {"plain": 3, "check": 1} if upper == "coat" else {"plain": 1}
    else:
        patterns = {"plain": 30, "horizontal": 16, "vertical": 8, "check": 12, "logo": 20}
        patterns["two-tone"] = 14
    pattern = _choose(rng, patterns)
    colour = _colour(rng, main)
    legs = (
        colour
        if lower in ("dress", "suit")
        else _colour(rng, _choose(rng, _LOWER.get(lower, _CLOTH)))
    )
    long_sleeve = upper in SLEEVED or (upper != "tshirt" and rng.uniform() < 0.6)
    hem = {"coat": rng.uniform(0.45, 0.95), "dress": rng.uniform(0.75, 1.0)}
    lengths = {"shorts": rng.uniform(0.30, 0.48), "skirt": rng.uniform(0.38, 0.70)}
    hats = {"cap": 4, "sunhat": 3, "beanie": 3}
    headgear = {"hat": _choose(rng, hats), "scarf": "scarf"}.get(head, "none")
    tone = rng.uniform(0, len(_SKIN) - 1.001)
    low, high = np.asarray(_SKIN[int(tone)]), np.asarray(_SKIN[int(tone) + 1])
    skin = low + (high - low) * (tone - int(tone))
    hair = traits["haircolor"] if traits["haircolor"] in _HAIR else "black"
    shoe = {"sportshoe": _CLOTH, "sandals": {"beige": 5, "black": 3, "red": 1}}
    shoe_colour = _colour(rng, _choose(rng, shoe.get(traits["feet"], _SOBER)))
    return Person(
        number=number,
        stature=rng.uniform(*_STATURE[traits["height"]]),
        build=rng.uniform(*_BUILD[traits["weight"]]),
        shoulders=rng.uniform(0.94, 1.07),
        legs=rng.uniform(0.97, 1.03),
        skin=tuple(float(x) for x in skin),
        hair=_colour(rng, hair, 0.3),
        hairstyle=traits["hairstyle"],
        headgear=headgear,
        headgear_colour=_colour(rng, _choose(rng, _CLOTH)),
        glasses=traits["glasses"],
        upper=upper,
        upper_colour=colour,
        second_colour=_colour(rng, second),
        pattern=pattern,
        pattern_size=rng.uniform(0.05, 0.14),
        logo=(rng.uniform(-0.3, 0.3), rng.uniform(0.45, 0.75), rng.uniform(0.25, 0.6)),
        sleeve=rng.uniform(0.95, 1.0) if long_sleeve else rng.uniform(0.22, 0.5),
        hem=hem.get(upper, rng.uniform(0.0, 0.22)),
        inner_colour=_colour(
            rng, _choose(rng, {"white": 3, "blue": 1, "grey": 1, "red": 1, "black": 1})
        ),
        lower=lower,
        lower_colour=legs,
        lower_length=lengths.get(lower, 1.0),
        stripe=lower in ("leggins", "pants") and rng.uniform() < 0.3,
        shoes=traits["feet"],
        shoe_colour=shoe_colour,
        sole_colour=_colour(rng, "white") if traits["feet"] == "sportshoe" else shoe_colour,
        bag=traits["bag"],
        bag_colour=_colour(rng, _choose(rng, _CLOTH)),
        bag_size=rng.uniform(0.85, 1.2),
        bag_side=int(rng.integers(2)) * 2 - 1,
        stride=rng.uniform(0.27, 0.42),
        swing=rng.uniform(0.25, 0.6),
        attributes=attributes.codes(**{k: v for k, v in traits.items() if v != "unknown"}),
    )
