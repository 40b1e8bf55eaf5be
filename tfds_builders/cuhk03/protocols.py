"""Protocols of CUHK03: files of the new protocol, and the twenty test sets of the first one."""

import csv
import pathlib
import re

import numpy as np
import scipy.io

NAME = re.compile(r"^([1-5])_(\d{3})_([12])_(\d{2})\.png$")
EXAMPLE = "1_001_1_01.png"
KEYS = ("filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx")
NEW = {name: f"cuhk03_new_protocol_config_{name}.mat" for name in ("detected", "labeled")}
TESTSETS = "testsets.csv"
COLUMNS = ["split", "pair", "person"]
"""Columns of `TESTSETS`; splits are numbered from 0, pairs and persons from 1."""


def read_new_protocol(path: pathlib.Path) -> dict[str, list[str]]:
    """Reads the new protocol: split → names of its images.

    Raises ValueError for a file of another format, and for one that contradicts itself or the names.
    """
    problem = f"cuhk03: {path.name} is not a file of the new protocol"
    try:
        table = scipy.io.loadmat(path)
    except (ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"{problem}: {error}") from error
    missing = [key for key in KEYS if key not in table]
    if missing:
        keys = ", ".join(key for key in table if not key.startswith("__"))
        raise ValueError(f"{problem}: it holds {keys or 'nothing'}, but not {', '.join(missing)}")
    names = [str(np.squeeze(cell)) for cell in table["filelist"].ravel()]
    labels, views = (table[key].ravel().astype(np.int64) for key in ("labels", "camId"))
    if not len(names) == len(labels) == len(views):
        raise ValueError(f"{problem}: {len(names)} names, {len(labels)} labels, {len(views)} views")
    people: dict[int, tuple[str, str]] = {}
    for name, label, view in zip(names, labels, views, strict=True):
        match = NAME.match(name)
        if match is None:
            raise ValueError(f"{problem}: its image {name} is not of the form {EXAMPLE}")
        person = match.group(1, 2)
        if int(match[3]) != view or people.setdefault(int(label), person) != person:
            raise ValueError(f"{problem}: label {label} and view {view} contradict the name {name}")
    splits = {}
    for split in ("train", "query", "gallery"):
        rows = table[f"{split}_idx"].ravel().astype(np.int64)
        if rows.size and (rows.min() < 1 or rows.max() > len(names)):
            raise ValueError(f"{problem}: {split}_idx leads outside its {len(names)} names")
        splits[split] = sorted(names[row - 1] for row in rows)
    persons = {
        split: {NAME.match(name).group(1, 2) for name in names} for split, names in splits.items()
    }
    both = persons["train"] & (persons["query"] | persons["gallery"])
    if both:
        pair, person = min(both)
        raise ValueError(f"{problem}: person {pair}_{person} is of train and test")
    return splits


def read_testset(path: pathlib.Path, split: int) -> set[tuple[int, int]]:
    """Reads the test identities of one of the twenty splits, as (pair, person).

    Raises ValueError for a file of another format and a split that it lacks.
    """
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != COLUMNS:
        raise ValueError(
            f"cuhk03: {path.name} begins with {','.join(rows[0]) if rows else 'nothing'}, expected "
            f"{','.join(COLUMNS)}; it is written by python -m tfds_builders.cuhk03.convert"
        )
    people = set()
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(COLUMNS) or not all(word.isdigit() for word in row):
            raise ValueError(
                f"cuhk03: {path.name}, line {number}: {','.join(row)} is not 3 numbers"
            )
        if int(row[0]) == split:
            people.add((int(row[1]), int(row[2])))
    if not people:
        raise ValueError(f"cuhk03: {path.name} has no test set of split {split}")
    return people
