"""Reads who the tracks of a folder's videos are; errors name the line."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from g2ajax.data.tracklet_files import Tracklet
from tfds_builders.crops_from_csv.listing import (
    SPLITS,
    UNKNOWN,
    Row,
    divide,
    labels,
    read_table,
    rows_of,
    values_of,
)

TABLE = "identities.csv"
COLUMNS = ("video", "track", "identity", "platform")
OPTIONAL = ("camera", "altitude", "split")
NOT_KNOWN = float("nan")


@dataclasses.dataclass(frozen=True)
class Track(Row):
    """A track with its person; `path` is its name, the video and the number."""

    altitude: float = NOT_KNOWN
    """In metres."""


def name_of(video: str, track: int) -> str:
    """The name of a track of a video."""
    return f"{video} track {track}"


def read_identities(table: pathlib.Path) -> list[Track]:
    """Reads the lines of a table of tracks and people.

    Raises ValueError, naming the line, for what `crops_from_csv.listing.labels` refuses, an unknown
    column, a track or altitude that is no number, a track that is listed twice in a split, and cameras
    as `rows_of`.
    """
    header, lines = read_table(table, COLUMNS)
    unknown = [name for name in header if name not in (*COLUMNS, *OPTIONAL)]
    if unknown:
        raise ValueError(
            f"{table.name}, line 1: unknown column {unknown[0]!r}; there are "
            f"{', '.join((*COLUMNS, *OPTIONAL))}"
        )
    return rows_of(
        table.name, lines, lambda cells, line: _row(line, values_of(header, cells)), "tracks"
    )


def _row(line: int, value: Mapping[str, str]) -> Track:
    if not re.fullmatch(r"[0-9]{1,9}", value["track"]):
        raise ValueError(f"track {value['track']!r} is not a whole number from 0")
    altitude = value.get("altitude", "")
    try:
        metres = float(altitude or "nan")
    except ValueError:
        metres = -1.0
    if metres < 0.0 or metres == float("inf"):
        raise ValueError(f"altitude {altitude!r} is not a number of metres from 0")
    name = name_of(value["video"], int(value["track"]))
    return Track(line=line, path=name, attributes=(), altitude=metres, **labels(value))


def splits_of(rows: Sequence[Track]) -> dict[str, list[Track]]:
    """The rows of each split, as they say or as `divide` chooses."""
    if rows[0].split:
        return {split: [row for row in rows if row.split == split] for split in SPLITS}
    return divide(rows)


def halves(
    tracklets: Mapping[str, Tracklet],
) -> tuple[dict[str, list[Track]], dict[str, Tracklet]]:
    """The splits where nobody says who the tracks are, and their tracklets by name.

    Every track is a person. Half of them, by the hash of their names, train; each other track is cut in
    the middle, a query and its match. One of a single image is in the gallery alone.
    """
    rows = [Track(0, name, name, UNKNOWN, "", "", ()) for name in tracklets]
    divided = divide(rows)
    splits: dict[str, list[Track]] = {"train": divided["train"], "query": [], "gallery": []}
    named = {row.path: tracklets[row.path] for row in divided["train"]}
    for row in (*divided["query"], *divided["gallery"]):
        boxes = tracklets[row.path].boxes
        first, second = np.split(np.arange(len(boxes)), [len(boxes) // 2])
        for split, places in (("query", first), ("gallery", second)):
            if len(places):
                half = dataclasses.replace(row, path=f"{row.path}, {split}")
                part = boxes.take(places)
                named[half.path] = dataclasses.replace(tracklets[row.path], boxes=part)
                splits[split].append(half)
    return splits, named
