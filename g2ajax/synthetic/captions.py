"""Captions of SkyGround's people: clothes, colours, hair and bags as seen by a camera.

A caption contains no name and no number; people who look alike get similar captions.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from g2ajax.synthetic.attributes import GROUPS
from g2ajax.synthetic.people import PALETTE, Colour, Person, generator
from g2ajax.synthetic.world import Shot

CAPTIONS = 20
"""Number of this module's random stream; the others are in people.py and shoot.py."""
PHRASINGS = 6
"""Number of sentences about a person, for each view."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": ("male", "female"),
    "age": ("adult", "young", "old"),
    "light": ("bright", "dim"),
    "weight": ("medium", "slim", "fat"),
    "height": ("medium", "tall", "short"),
    "angle": ("side", "front", "back"),
    "altitude": ("ground", "aerial"),
}
"""TBAGPR's attributes and classes. Gender is not drawn; light and angle are not recorded."""

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
    """Name of the nearest colour in the palette."""
    return min(PALETTE, key=lambda name: math.dist(PALETTE[name], colour))


def captions(seed: int, person: Person, *, aerial: bool) -> tuple[str, ...]:
    """Writes `PHRASINGS` sentences about a person, with the details visible from the view.

    Shoes and glasses are mentioned only in sentences from the ground.
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
    clothes = f"{upper} and {lower}" if lower else upper
    extras = _enumeration(details)
    if form == 0:
        text = f"{who} wearing {clothes}" + (f", with {extras}" if extras else "")
    elif form == 1:
        text = f"{who} is dressed in {clothes}" + (f" and has {extras}" if extras else "")
    elif form == 2:
        text = (f"with {extras}, " if extras else "") + f"{who} walks in {clothes}"
    else:
        below = f" over {lower}" if lower else ""
        text = f"there is {who} in {upper}{below}" + (f"; note {extras}" if extras else "")
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
    details = []
    if person.headgear != "none":
        details.append(_a(f"{colour_name(person.headgear_colour)} {person.headgear}"))
    if person.headgear != "scarf":
        hair = traits(person)["haircolor"].replace("gray", "grey")
        details.append(pick(_HAIR[person.hairstyle]).format(hair))
    if person.bag != "nothing":
        details.append(_a(f"{colour_name(person.bag_colour)} {pick(_BAG[person.bag])}"))
    if not aerial:
        details.append(f"{colour_name(person.shoe_colour)} {pick(_SHOES[person.shoes])}")
        if person.glasses != "off":
            details.append("sunglasses" if person.glasses == "sun" else "glasses")
    return details


def traits(person: Person) -> dict[str, str]:
    """Class of a person in each of AG-ReID's attribute groups."""
    return {
        group: names[code]
        for (group, names), code in zip(GROUPS.items(), person.attributes, strict=True)
    }


def attribute_codes(shot: Shot) -> tuple[int, ...]:
    """Classes of `ATTRIBUTES` for an image; -1 if unknown."""
    person = traits(shot.person)
    weight = {"medium": "medium", "thin": "slim", "fat": "fat"}[person["weight"]]
    height = {"child": "short"}.get(person["height"], person["height"])
    classes = {
        "age": "young" if person["height"] == "child" else "adult",
        "weight": weight,
        "height": height,
        "altitude": "aerial" if shot.camera == 0 else "ground",
    }
    return tuple(
        names.index(classes[group]) if group in classes else -1
        for group, names in ATTRIBUTES.items()
    )


def sentences(seed: int, shots: Sequence[Shot]) -> list[list[tuple[str, Shot]]]:
    """Sentences of each shot, as pairs (sentence, ground image of the same person).

    Only aerial images have sentences: in training one as seen from the air and one from the ground,
    otherwise alternately one of the two. Ground images take turns as partners.
    """
    ground: dict[int, list[Shot]] = {}
    for shot in shots:
        if shot.camera == 1:
            ground.setdefault(shot.identity, []).append(shot)
    turn: dict[int, int] = {}
    result = []
    for shot in shots:
        pairs: list[tuple[str, Shot]] = []
        if shot.camera == 0:
            number = turn.setdefault(shot.identity, 0)
            turn[shot.identity] += 1
            views = (True, False) if shot.split == "train" else (number % 2 == 1,)
            partners = ground[shot.identity]
            for place, aerial in enumerate(views):
                phrasings = captions(seed, shot.person, aerial=aerial)
                partner = partners[(len(views) * number + place) % len(partners)]
                pairs.append((phrasings[number % len(phrasings)], partner))
        result.append(pairs)
    return result


def _a(words: str) -> str:
    return f"{'an' if words[0] in _VOWELS else 'a'} {words}"


def _enumeration(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
