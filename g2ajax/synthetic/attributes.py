"""AG-ReID's 15 attribute groups and 88 columns, with the spellings of its annotation file."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

_CLASSES: Mapping[str, str] = {
    "gender": "male female unknown",
    "age": "young middle old unknown",
    "height": "child short medium tall unknown",
    "weight": "thin medium fat unknown",
    "ethnic": "white black asian india unknown",
    "haircolor": "black brown white red gray occluded unknown",
    "hairstyle": "bald short medium long horsetail unknown",
    "beard": "on off unknown",
    "moustache": "on off unknown",
    "glasses": "normal sun off unknown",
    "head": "hat scarf neckless occluded unknown",
    "upper": "tshirt blouse sweater coat bikini naked dress uniform shirt suit hoodie cardiga unknown",
    "lower": "jeans leggins pants shorts skirt bikini dress uniform suit unknown",
    "feet": "sportshoe classicshoe highheels boots sandals nothing unknown",
    "bag": "normal backpack handbag rolling umbrella sportif market nothing unknown",
}

GROUPS: dict[str, tuple[str, ...]] = {name: tuple(text.split()) for name, text in _CLASSES.items()}
"""Group → classes; the last class is always "unknown"."""

COLUMNS: tuple[str, ...] = tuple(
    group + name for group, classes in GROUPS.items() for name in classes
)
"""The 88 column names, group by group."""


def codes(**classes: str) -> tuple[int, ...]:
    """Codes of the 15 groups (position of the class in its group); missing groups are "unknown".

    Raises ValueError for an unknown group or class.
    """
    unknown = set(classes) - set(GROUPS)
    if unknown:
        raise ValueError(f"no attribute group {sorted(unknown)}; there are {', '.join(GROUPS)}")
    result = []
    for group, names in GROUPS.items():
        name = classes.get(group, "unknown")
        if name not in names:
            raise ValueError(f"{group} has no class {name!r}; it has {', '.join(names)}")
        result.append(names.index(name))
    return tuple(result)


def one_hot(values: Int[np.ndarray, "N 15"]) -> Int[np.ndarray, "N 88"]:
    """Converts codes to 88 columns of 0 and 1 (int8), with one 1 in each group."""
    parts = [
        (values[:, [i]] == np.arange(len(names))).astype(np.int8)
        for i, names in enumerate(GROUPS.values())
    ]
    return np.concatenate(parts, axis=1)
