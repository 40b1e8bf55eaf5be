"""Reads a table of crops, with a row for each image; errors name the line."""

import csv
import dataclasses
import functools
import hashlib
import io
import itertools
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tfds_builders.base import IMAGE_SUFFIXES, PLATFORMS, protocol

REQUIRED_COLUMNS = ("path", "identity", "platform")
OTHER_COLUMNS = ("camera", "split")
SPLITS = ("train", "query", "gallery")
# Identities that name no person, as Market-1501 has them: junk is left out of every ranking, a
# distractor is never a match.
KINDS = {"-1": "junk", "junk": "junk", "distractor": "distractor"}
UNKNOWN = -1
SUFFIXES = (*IMAGE_SUFFIXES, ".webp", ".tif", ".tiff", ".gif", ".mpo")


@dataclasses.dataclass(frozen=True)
class Row:
    """An image of the table."""

    line: int
    path: str
    """Relative to the table, with forward slashes."""
    identity: str
    camera: int
    """`UNKNOWN` if the table has no cameras."""
    platform: str
    split: str
    """Empty if the table has no such column."""
    attributes: tuple[str, ...]
    kind: str = "person"
    """`person`, `junk` or `distractor`."""


AnyRow = TypeVar("AnyRow", bound=Row)


def read_rows(table: pathlib.Path) -> tuple[list[Row], tuple[str, ...]]:
    """Reads the rows of a table and the names of its attribute columns.

    Raises ValueError, naming the line, for text that is not UTF-8, a missing or repeated column, an
    empty identity, a camera that is not a number from 0, cameras in some lines only, an unknown
    platform or split, a path outside the folder or of no image format, junk or a distractor outside
    the gallery, an image listed twice in a split, a camera on two platforms, and an image that would
    find itself, because without cameras nothing is left out of a ranking.
    """
    header, lines = read_table(table, REQUIRED_COLUMNS)
    named = (*REQUIRED_COLUMNS, *OTHER_COLUMNS)
    attributes = tuple(name for name in header if name not in named)
    folder = table.parent
    read = functools.partial(_row, header, attributes=attributes, folder=folder)
    return rows_of(table.name, lines, read, "images"), attributes


def rows_of(
    name: str,
    lines: Sequence[tuple[int, list[str]]],
    read: Callable[[list[str], int], AnyRow],
    noun: str,
) -> list[AnyRow]:
    """The rows of a table's lines, each made by `read(cells, line)`.

    Raises ValueError, naming the line, for what `read` refuses, for a path twice in a split, without
    any person (`noun`: what the table lists), and for cameras as `check_cameras`.
    """
    rows: list[AnyRow] = []
    seen: dict[tuple[str, str], int] = {}
    for line, cells in lines:
        try:
            row = read(cells, line)
        except ValueError as error:
            raise ValueError(f"{name}, line {line}: {error}") from None
        earlier = seen.setdefault((row.split, row.path), line)
        if earlier != line:
            raise ValueError(f"{name}, line {line}: {row.path} is in line {earlier} already")
        rows.append(row)
    if not any(row.kind == "person" for row in rows):
        raise ValueError(f"{name} lists no {noun} of people")
    check_cameras(rows, name)
    return rows


def read_table(
    table: pathlib.Path, required: Sequence[str]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of a table's columns, and its lines that are not empty with their numbers.

    Raises ValueError, naming the line, for text that is not UTF-8, and for a missing, empty or repeated
    column.
    """
    reader = csv.reader(io.StringIO(_text(table), newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{table.name}, line {reader.line_num}: {error}") from None
    missing = [name for name in required if name not in header]
    if missing:
        raise ValueError(
            f"{table.name}, line 1: no column {', '.join(missing)}; the first line names the columns "
            f"and must have {', '.join(required)}; it is {','.join(header)!r}"
        )
    if "" in header or len(set(header)) != len(header):
        raise ValueError(f"{table.name}, line 1: an empty or repeated column name in {header}")
    return header, [(line, cells) for line, cells in lines if any(map(str.strip, cells))]


def check_cameras(rows: Sequence[Row], name: str) -> None:
    """Raises ValueError, naming the line, for a camera on two platforms, cameras in some rows only, and
    rows without cameras that would find themselves."""
    cameras: dict[int, Row] = {}
    for row in rows:
        first = cameras.setdefault(row.camera, row)
        if row.camera != UNKNOWN and first.platform != row.platform:
            raise ValueError(
                f"{name}, line {row.line}: camera {row.camera} is {row.platform}, but "
                f"{first.platform} in line {first.line}; number the cameras through all platforms"
            )
    if UNKNOWN in cameras:
        _check_without_cameras(rows, name)


def _check_without_cameras(rows: Sequence[Row], name: str) -> None:
    """Raises ValueError if only some rows have a camera, or an image is query and gallery."""
    unknown = next(row for row in rows if row.camera == UNKNOWN)
    known = next((row for row in rows if row.camera != UNKNOWN), None)
    if known:
        raise ValueError(
            f"{name}, line {unknown.line}: no camera, but line {known.line} has one; give every image "
            "its camera, or none"
        )
    gallery = {row.path: row.line for row in rows if row.split == "gallery"}
    for row in rows:
        if row.split == "query" and row.path in gallery:
            raise ValueError(
                f"{name}, line {row.line}: {row.path} is in the gallery too (line "
                f"{gallery[row.path]}), and without cameras a query would find itself; give cameras, "
                "or list it once"
            )


def _text(table: pathlib.Path) -> str:
    """The text of a table. Raises ValueError, naming the line, for one that is not UTF-8."""
    data = table.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{table.name}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; save the table "
            'as UTF-8 (a spreadsheet\'s "CSV UTF-8"; or iconv -f GBK -t UTF-8, with the encoding it has '
            "in the place of GBK)"
        ) from None


def _row(
    header: Sequence[str],
    cells: Sequence[str],
    line: int,
    attributes: Sequence[str],
    folder: pathlib.Path,
) -> Row:
    value = values_of(header, cells)
    path = _below(folder, value["path"])
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"path {value['path']!r} does not end in {', '.join(SUFFIXES)}")
    return Row(
        line=line,
        path=path.as_posix(),
        attributes=tuple(value[name] for name in attributes),
        **labels(value),
    )


def values_of(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """The values of a line by column. Raises ValueError for a line of another length."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} values, expected {len(header)}")
    return {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def labels(value: Mapping[str, str]) -> dict[str, Any]:
    """Identity, kind, camera, platform and split of a line, fields of `Row`.

    Raises ValueError for an empty identity, a camera that is not a number from 0, an unknown platform
    or split, and junk or a distractor outside the gallery.
    """
    if not value["identity"]:
        raise ValueError("the identity is empty")
    camera = value.get("camera", "")
    if not re.fullmatch(r"[0-9]{1,9}|-1|", camera):
        raise ValueError(f"camera {camera!r} is not a whole number from 0")
    platform = value["platform"].lower()
    if platform not in PLATFORMS:
        raise ValueError(f"platform {value['platform']!r} is none of {', '.join(PLATFORMS)}")
    split = value.get("split", "")
    if "split" in value and split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    kind = KINDS.get(value["identity"].lower(), "person")
    if kind != "person" and split in ("train", "query"):
        raise ValueError(
            f"the identity {value['identity']!r} is {kind}, no person: it may be in the gallery, not "
            f"in {split}"
        )
    return {
        "identity": value["identity"],
        "camera": int(camera or UNKNOWN),
        "platform": platform,
        "split": split,
        "kind": kind,
    }


def _below(folder: pathlib.Path, text: str) -> pathlib.PurePath:
    """The path of an image from its table's folder on; `text` may be absolute.

    Raises ValueError for one that is not below the folder.
    """
    path = os.path.expanduser(text.replace("\\", "/"))
    windows = re.match(r"[A-Za-z]:", path) and os.name != "nt"
    for base in (folder.absolute(), folder.resolve()):
        place = pathlib.PurePath(os.path.normpath(base / path))
        if path and not windows and base in place.parents:
            return place.relative_to(base)
    raise ValueError(
        f"path {text!r} is not below the table's folder {folder.resolve()}; move or link the images "
        "there, and write their paths from there on, like images/anna_1.jpg"
    )


def numbers_of(identities: set[str]) -> dict[str, int]:
    """Identity → number: itself if all identities are integers, else its index in sorted order."""
    if all(re.fullmatch(r"0|[1-9][0-9]{0,17}", identity) for identity in identities):
        return {identity: int(identity) for identity in identities}
    return {identity: number for number, identity in enumerate(sorted(identities))}


def classes_of(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[str]]:
    """Attribute → classes: the values of its column, sorted, "unknown" last; empty cells: no class."""
    return {
        name: sorted(
            {row.attributes[i] for row in rows} - {""},
            key=lambda value: (value == "unknown", value),
        )
        for i, name in enumerate(names)
    }


def divide(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Splits the rows of a table without splits; the result does not depend on their order.

    Identities are ordered by the SHA-256 of their text; the first half, rounded up, is for training.
    For each other identity and camera the first image by path is a query, all others form the
    gallery. The only image of an identity in a camera is a query and in the gallery, so that other
    cameras can find it; it never matches itself, because images of the query's identity and camera
    are dropped from a ranking. Without cameras nothing is dropped, and an identity's only image is in
    the gallery alone. Junk and distractors are in the gallery.
    """
    people = [row for row in rows if row.kind == "person"]
    identities = sorted({row.identity for row in people}, key=_hash)
    training = set(identities[: (len(identities) + 1) // 2])
    splits: dict[str, list[Row]] = {"train": [], "query": [], "gallery": []}
    splits["train"] = [row for row in people if row.identity in training]
    splits["gallery"] = [row for row in rows if row.kind != "person"]
    test = [row for row in people if row.identity not in training]
    test.sort(key=lambda row: (row.identity, row.camera, row.path))
    for _, group in itertools.groupby(test, key=lambda row: (row.identity, row.camera)):
        first, *others = group
        if others or first.camera != UNKNOWN:
            splits["query"].append(first)
        splits["gallery"] += others or [first]
    return splits


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def warn_of_shared(name: str, splits: Mapping[str, Sequence[Row]]) -> None:
    """Warns of identities that are in training and in a test split."""
    test = {row.identity for split in ("query", "gallery") for row in splits[split]}
    shared = {row.identity for row in splits["train"]} & test
    if shared:
        warnings.warn(
            f"{name}: {len(shared)} identities are in train and in query or gallery "
            f"({', '.join(sorted(shared)[:5])}); results on them say little about new people",
            stacklevel=2,
        )


def protocols_of(query: Sequence[Row], gallery: Sequence[Row]) -> list[dict[str, Any]]:
    """Protocols for a test set: between platforms (A2G, …), within platforms (A2A, …), then ALL.

    Those in which some query has a match: an image of its person in the gallery from another camera,
    because the query's own is dropped. Of unknown cameras nothing is. ALL stays where there is none.
    """
    seen: dict[str, set[tuple[str, int]]] = {}
    for row in gallery:
        if row.kind == "person":
            seen.setdefault(row.identity, set()).add((row.platform, row.camera))
    unknown = any(row.camera == UNKNOWN for row in query)
    directions = {
        (row.platform, platform)
        for row in query
        for platform, camera in seen.get(row.identity, ())
        if unknown or camera != row.camera
    }
    pairs = [(a, b) for a in PLATFORMS for b in PLATFORMS if (a, b) in directions]
    pairs.sort(key=lambda pair: pair[0] == pair[1])
    # With one platform its own protocol is ALL.
    if len({row.platform for row in [*query, *gallery]}) == 1:
        pairs = []
    rows = [(f"{a[0].upper()}2{b[0].upper()}", a, b) for a, b in pairs]
    rows.append(("ALL", "any", "any"))
    return [protocol(*row, drop_same_camera=not unknown) for row in rows]
