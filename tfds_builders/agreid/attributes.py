"""AG-ReID's attribute file: 88 columns of no and yes, read as a class in each of 15 groups."""

import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import Int8

GROUP_SIZES = {
    "gender": 3,
    "age": 4,
    "height": 5,
    "weight": 4,
    "ethnic": 5,
    "haircolor": 7,
    "hairstyle": 6,
    "beard": 3,
    "moustache": 3,
    "glasses": 4,
    "head": 5,
    "upper": 13,
    "lower": 10,
    "feet": 7,
    "bag": 9,
}
"""Group → number of columns, 88 in total. The README of the dataset lists nine age classes, which
would make 93; the file has four."""


def read_attributes(
    path: pathlib.Path,
) -> tuple[dict[str, list[str]], dict[str, dict[int, Int8[np.ndarray, "15"]]]]:
    """Reads attribute groups (group → class names, in order), and part → identity → codes.

    Parts are "train" and "test". A code is the index of the class in its group, −1 if the file marks
    no class or several. Columns are aligned by name, not by position.

    Raises ValueError for a file of another structure, for values other than 1 (no) and 2 (yes), and
    for an identity in both parts (the reader published with the dataset would add its two rows).
    """
    tables = {part: _table(path, part) for part in ("train", "test")}
    names = {part: list(columns) for part, (_, columns) in tables.items()}
    if set(names["train"]) != set(names["test"]):
        odd = sorted(set(names["train"]) ^ set(names["test"]))
        raise ValueError(f"{path.name}: only one of train and test has the columns {odd}")
    groups = group_columns(names["train"])
    sizes = {group: len(columns) for group, columns in groups.items()}
    if sizes != GROUP_SIZES:
        wrong = {
            group: (sizes.get(group, 0), expected)
            for group, expected in GROUP_SIZES.items()
            if sizes.get(group, 0) != expected
        }
        raise ValueError(
            f"{path.name}: {len(names['train'])} attribute columns, expected 88 in 15 groups; "
            f"group: (columns, expected) {wrong}"
        )
    codes = {
        part: _codes(path.name, part, identities, columns, groups)
        for part, (identities, columns) in tables.items()
    }
    both = sorted(set(codes["train"]) & set(codes["test"]))
    if both:
        raise ValueError(f"{path.name}: identities {both[:5]} are in train and in test")
    classes = {
        group: [column.removeprefix(group) for column in columns]
        for group, columns in groups.items()
    }
    return classes, codes


def group_columns(columns: Sequence[str]) -> dict[str, list[str]]:
    """Group → its columns, in order; a column belongs to the group that is its longest prefix.

    Raises ValueError for a column without a group.
    """
    groups: dict[str, list[str]] = {}
    for column in columns:
        prefixes = [group for group in GROUP_SIZES if column.startswith(group)]
        if not prefixes:
            raise ValueError(f"attribute column {column!r} is of none of {', '.join(GROUP_SIZES)}")
        groups.setdefault(max(prefixes, key=len), []).append(column)
    return groups


def _table(path: pathlib.Path, part: str) -> tuple[list[int], dict[str, np.ndarray]]:
    """Reads the identities of a part, and its columns by name."""
    try:
        struct = scipy.io.loadmat(path)["qut_attribute"][0, 0][part][0, 0]
        columns = {name: struct[name] for name in struct.dtype.names}
        identities = [_identity(cell) for cell in np.ravel(columns.pop("image_index"))]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path.name}: expected a MATLAB file (version 5) with a struct `qut_attribute` whose "
            f"`{part}` has `image_index` and 88 columns; it has not ({error})"
        ) from error
    for name, values in columns.items():
        values = columns[name] = np.ravel(values)
        if len(values) != len(identities):
            raise ValueError(
                f"{path.name}: {part} column {name} has {len(values)} values for "
                f"{len(identities)} identities"
            )
        invalid = ~np.isin(values, (1, 2))
        if invalid.any():
            row = int(np.argmax(invalid))
            raise ValueError(
                f"{path.name}: {part} column {name} is {values[row]} for identity "
                f"{identities[row]}; expected 1 (no) or 2 (yes)"
            )
    return identities, columns


def _identity(cell: Any) -> int:
    value = np.ravel(cell)[0]
    return int(re.sub(r"\D", "", value)) if isinstance(value, str) else int(value)


def _codes(
    file: str,
    part: str,
    identities: Sequence[int],
    columns: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
) -> dict[int, np.ndarray]:
    twice = sorted({identity for identity in identities if identities.count(identity) > 1})
    if twice:
        raise ValueError(f"{file}: {part} has two rows for the identities {twice[:5]}")
    codes = np.full((len(identities), len(groups)), -1, np.int8)
    for position, names in enumerate(groups.values()):
        yes = np.stack([columns[name] == 2 for name in names], axis=1)
        one = yes.sum(axis=1) == 1
        codes[one, position] = yes[one].argmax(axis=1)
    unclear = int((codes == -1).sum())
    if unclear:
        warnings.warn(
            f"{file}: {part} marks no class, or several, in {unclear} places; they are read as not "
            "annotated (-1)",
            stacklevel=3,
        )
    return dict(zip(identities, codes, strict=True))
