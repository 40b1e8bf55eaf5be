"""Sentences about SkyGround's people, said of what a camera sees: clothes, colours, hair, bags.

A sentence names no one and holds no number; people who look alike are described alike.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from g2ajax.synthetic.attributes import GROUPS
from g2ajax.synthetic.people import PALETTE, Colour, Person, generator
from g2ajax.synthetic.world import Shot

CAPTIONS = 20
"""Purpose of the random draws here; people.py and shoot.py have the others."""
PHRASINGS = 6
"""Sentences about a person, from each view."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": ("male", "female"),
    "age": ("adult", "young", "old"),
    "light": ("bright", "dim"),
    "weight": ("medium", "slim", "fat"),
    "height": ("medium", "tall", "short"),
    "angle": ("side", "front", "back"),
    "altitude": ("ground", "aerial"),
}
"""TBAGPR's attributes and classes. Nothing drawn shows gender; light and angle are not recorded."""

_UPPER = {
    "tshirt": ("t-shirt", "tee", "short-sleeved top"),
    "sweater": ("sweater", "pullover", "jumper"),
    "coat": ("coat", "long jacket"),
    "dress": ("dress",),
    "shirt": ("shirt", "button-up shirt"),
    "suit": ("suit", "business suit"),
    "hoodie": ("hoodie", "hooded sweatshirt"),
    "cardiga": ("cardigan", "open cardigan"),
}
_LOWER = {
    "jeans": ("jeans", "denim trousers"),
    "leggins": ("leggings", "tight leggings"),
    "pants": ("trousers", "pants"),
    "shorts": ("shorts", "short trousers"),
    "skirt": ("skirt",),
}
_BAG = {
    "backpack": ("backpack", "rucksack"),
    "handbag": ("handbag", "small bag in the hand"),
    "normal": ("shoulder bag", "bag"),
    "rolling": ("suitcase on wheels", "rolling suitcase"),
}
_SHOES = {
    "sportshoe": ("sneakers", "sports shoes"),
    "classicshoe": ("leather shoes", "classic shoes"),
    "boots": ("boots", "high boots"),
    "sandals": ("sandals",),
}
_HAIR = {
    "bald": ("a bald head", "no hair"),
    "short": ("short {} hair", "{} hair cut short"),
    "medium": ("{} hair of medium length", "medium-long {} hair"),
    "long": ("long {} hair", "{} hair down to the shoulders"),
    "horsetail": ("{} hair in a ponytail", "{} hair tied in a tail"),
}
_PATTERN = {
    "plain": ("{}", "plain {}"),
    "horizontal": ("{} with horizontal {} stripes", "{} striped in {}"),
    "vertical": ("{} with vertical {} stripes", "{} striped lengthwise in {}"),
    "check": ("{} with {} checks", "{} checked in {}"),
    "logo": ("{} with a {} print on the chest", "{} with a {} logo"),
    "two-tone": ("{} with a {} lower half", "{} that is {} below"),
}
_BUILD = {"thin": ("thin", "slim"), "medium": ("",), "fat": ("heavy", "stout")}
_HEIGHT = {"short": ("short",), "medium": ("", "average-sized"), "tall": ("tall",)}
_VOWELS = "aeiou"


def colour_name(colour: Colour) -> str:
    """The name in the palette that is nearest to a colour."""
    return min(PALETTE, key=lambda name: math.dist(PALETTE[name], colour))


def captions(seed: int, person: Person, *, aerial: bool) -> tuple[str, ...]:
    """`PHRASINGS` sentences about a person; the view decides which details are told.

    Shoes and glasses are told from the ground alone.
    """
    rng = generator(seed, CAPTIONS, person.number, int(aerial))
    return tuple(_sentence(rng, person, aerial, form) for form in _forms(rng))


def _forms(rng: np.random.Generator) -> list[int]:
    return [int(form) for form in rng.permutation(np.resize(np.arange(4), PHRASINGS))]


def _sentence(rng: np.random.Generator, person: Person, aerial: bool, form: int) -> str:
    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    who, upper, lower = _who(person, pick), _upper(person, pick), _lower(person, pick)
    details = [text for text in _details(person, aerial, pick) if rng.uniform() < 0.75]
    details = [details[i] for i in rng.permutation(len(details))]
    worn = f"{upper} and {lower}" if lower else upper
    told = _listed(details)
    if form == 0:
        text = f"{who} wearing {worn}" + (f", with {told}" if told else "")
    elif form == 1:
        text = f"{who} is dressed in {worn}" + (f" and has {told}" if told else "")
    elif form == 2:
        text = (f"with {told}, " if told else "") + f"{who} walks in {worn}"
    else:
        below = f" over {lower}" if lower else ""
        text = f"there is {who} in {upper}{below}" + (f"; note {told}" if told else "")
    return f"{text[0].upper()}{text[1:]}."


def _who(person: Person, pick: Callable) -> str:
    codes = traits(person)
    noun = "child" if codes["height"] == "child" else pick(("person", "pedestrian", "adult"))
    height = pick(_HEIGHT[codes["height"]]) if codes["height"] in _HEIGHT else ""
    words = " ".join(filter(None, (height, pick(_BUILD[codes["weight"]]), noun)))
    return _a(words)


def _upper(person: Person, pick: Callable) -> str:
    garment = f"{colour_name(person.upper_colour)} {pick(_UPPER[person.upper])}"
    pattern = pick(_PATTERN[person.pattern])
    return _a(pattern.format(garment, colour_name(person.second_colour)))


def _lower(person: Person, pick: Callable) -> str:
    if person.lower not in _LOWER:  # a dress or a suit is one garment
        return ""
    garment = f"{colour_name(person.lower_colour)} {pick(_LOWER[person.lower])}"
    return _a(garment) if person.lower == "skirt" else garment


def _details(person: Person, aerial: bool, pick: Callable) -> list[str]:
    found = []
    if person.headgear != "none":
        found.append(_a(f"{colour_name(person.headgear_colour)} {person.headgear}"))
    if person.headgear != "scarf":
        hair = traits(person)["haircolor"].replace("gray", "grey")
        found.append(pick(_HAIR[person.hairstyle]).format(hair))
    if person.bag != "nothing":
        found.append(_a(f"{colour_name(person.bag_colour)} {pick(_BAG[person.bag])}"))
    if not aerial:
        found.append(f"{colour_name(person.shoe_colour)} {pick(_SHOES[person.shoes])}")
        if person.glasses != "off":
            found.append("sunglasses" if person.glasses == "sun" else "glasses")
    return found


def traits(person: Person) -> dict[str, str]:
    """Class of each of AG-ReID's attribute groups."""
    return {
        group: names[code]
        for (group, names), code in zip(GROUPS.items(), person.attributes, strict=True)
    }


def attribute_codes(shot: Shot) -> tuple[int, ...]:
    """The classes of `ATTRIBUTES` for an image; -1 where nothing is known."""
    known = traits(shot.person)
    weight = {"medium": "medium", "thin": "slim", "fat": "fat"}[known["weight"]]
    height = {"child": "short"}.get(known["height"], known["height"])
    said = {
        "age": "young" if known["height"] == "child" else "adult",
        "weight": weight,
        "height": height,
        "altitude": "aerial" if shot.camera == 0 else "ground",
    }
    return tuple(
        names.index(said[group]) if group in said else -1 for group, names in ATTRIBUTES.items()
    )


def sentences(seed: int, shots: Sequence[Shot]) -> list[list[tuple[str, Shot]]]:
    """For each shot its sentences, each with the ground image that it comes with.

    Aerial images have them: of the training people one said from the air and one from the ground,
    of the others one of the two in turn. Ground images have none; they take turns as partners.
    """
    ground: dict[int, list[Shot]] = {}
    for shot in shots:
        if shot.camera == 1:
            ground.setdefault(shot.identity, []).append(shot)
    turn: dict[int, int] = {}
    found = []
    for shot in shots:
        told: list[tuple[str, Shot]] = []
        if shot.camera == 0:
            number = turn.setdefault(shot.identity, 0)
            turn[shot.identity] += 1
            views = (True, False) if shot.split == "train" else (number % 2 == 1,)
            others = ground[shot.identity]
            for place, aerial in enumerate(views):
                phrasings = captions(seed, shot.person, aerial=aerial)
                partner = others[(len(views) * number + place) % len(others)]
                told.append((phrasings[number % len(phrasings)], partner))
        found.append(told)
    return found


def _a(words: str) -> str:
    return f"{'an' if words[0] in _VOWELS else 'a'} {words}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
