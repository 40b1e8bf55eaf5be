"""Tables of tracks in the text format of MOTChallenge (Milan et al., arXiv 1603.00831).

A line is `frame,id,left,top,width,height,conf[,...]`. Frames, and the pixels of corners, are counted
from 1: the picture's first pixel is 1, so a box at left 1 begins at its edge. In ground truth `conf` 0
marks boxes that do not count. What follows `conf` (class and visibility, or x, y, z) is not read.
"""

import dataclasses
import math
import os
import pathlib
import warnings

import numpy as np
from jaxtyping import Float64, Int64

FORM = "frame,id,left,top,width,height,conf[,...]"
LONG_GAP = 250
"""Frames without a track, ten seconds of most videos, after which its number may be another person's."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """The boxes of a table, track by track in order of time."""

    name: str
    """Name of the table, for messages."""
    track: Int64[np.ndarray, " N"]
    """Number of the track of each box, as in the table."""
    frame: Int64[np.ndarray, " N"]
    """Frame of the video, counted from 0."""
    box: Float64[np.ndarray, "N 4"]
    """x0, y0, x1, y1 in pixels from the upper left corner of the picture."""
    left_out: int = 0
    """Boxes that do not count: those with `conf` 0, and after `clipped` those outside the picture."""

    def __len__(self) -> int:
        return len(self.track)

    @property
    def ids(self) -> Int64[np.ndarray, " M"]:
        """The numbers of the tracks, in rising order."""
        return np.unique(self.track)

    def of(self, track: int) -> "Tracks":
        """The boxes of one track. Raises ValueError, listing the tracks there are, for a missing one."""
        rows = self.track == track
        if not rows.any():
            ids = self.ids.tolist()
            text = ", ".join(map(str, ids[:20])) + f", ... ({len(ids)} tracks)" * (len(ids) > 20)
            raise ValueError(f"{self.name} has no track {track}; it has {text or 'none'}")
        return self.take(rows)

    def take(self, rows: np.ndarray) -> "Tracks":
        """The same table with some of its boxes."""
        columns = {name: getattr(self, name)[rows] for name in ("track", "frame", "box")}
        return dataclasses.replace(self, **columns)


def read_tracks(path: str | os.PathLike) -> Tracks:
    """Reads a table of tracks; boxes with `conf` 0 are left out and counted.

    Warns of tracks that come back after more than `LONG_GAP` frames: some trackers give the number of
    a person who has left to another one.

    Raises FileNotFoundError without the file, and ValueError, naming file and line, for what is not
    numbers, a number of frame or track that is not whole, a frame below 1, a track below 0 (a table of
    detections), a box without area, and a track twice in a frame; also for a table without boxes.
    """
    path = pathlib.Path(path)
    rows, lines, ignored = [], [], 0
    for line, text in enumerate(_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            row = _row(text)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        if row[6] == 0.0:
            ignored += 1
            continue
        rows.append(row)
        lines.append(line)
    if not rows:
        why = f"; conf is 0 in all {ignored} of its lines" if ignored else ""
        raise ValueError(f"{path} has no boxes{why}; expected lines {FORM}")
    table = np.array(rows)
    order = np.lexsort((table[:, 0], table[:, 1]))
    table, number = table[order], np.array(lines)[order]
    frame, track = table[:, 0].astype(np.int64) - 1, table[:, 1].astype(np.int64)
    again = np.flatnonzero((np.diff(frame) == 0) & (np.diff(track) == 0))
    if len(again):
        first, second = sorted(number[again[0] : again[0] + 2].tolist())
        raise ValueError(
            f"{path}, line {second}: track {track[again[0]]} has a box in frame {frame[again[0]] + 1} "
            f"already (line {first}); a track is one person, so keep one of the two lines"
        )
    corner = table[:, 2:4] - 1.0
    box = np.concatenate([corner, corner + table[:, 4:6]], axis=1)
    tracks = Tracks(path.name, track, frame, box, ignored)
    late = returning(tracks)
    if late:
        more = f" and {len(late) - 10} more" * (len(late) > 10)
        warnings.warn(
            f"{path}: the tracks {', '.join(map(str, late[:10]))}{more} come back after more than "
            f"{LONG_GAP} frames; if the tracker gives a number to a second person, split them",
            stacklevel=2,
        )
    return tracks


def returning(tracks: Tracks, gap: int = LONG_GAP) -> list[int]:
    """The tracks that come back after more than `gap` frames without a box."""
    late = (np.diff(tracks.track) == 0) & (np.diff(tracks.frame) - 1 > gap)
    return np.unique(tracks.track[1:][late]).tolist()


def clipped(tracks: Tracks, width: int, height: int) -> Tracks:
    """The boxes cut at the edges of a picture; those without a pixel in it are left out and counted."""
    box = np.clip(tracks.box, 0.0, [[width, height, width, height]])
    inside = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    left_out = tracks.left_out + int((~inside).sum())
    return dataclasses.replace(tracks, box=box, left_out=left_out).take(inside)


def pixel_corners(box: Float64[np.ndarray, "N 4"]) -> Int64[np.ndarray, "N 4"]:
    """The whole pixels that boxes touch: image[y0:y1, x0:x1] is the crop of a box inside its picture."""
    return np.concatenate([np.floor(box[:, :2]), np.ceil(box[:, 2:])], axis=1).astype(np.int64)


def _text(path: pathlib.Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: is not text; expected lines {FORM}") from None


def _row(text: str) -> list[float]:
    """The first seven numbers of a line."""
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) < 7:
        raise ValueError(f"{text.strip()[:60]!r} has {len(cells)} values; expected {FORM}")
    try:
        row = [float(cell) for cell in cells[:7]]
    except ValueError:
        raise ValueError(
            f"{text.strip()[:60]!r} has values that are no numbers; expected {FORM}"
        ) from None
    if not all(map(math.isfinite, row)):
        raise ValueError(f"{text.strip()[:60]!r} has values that are not finite")
    frame, track, _, _, width, height, _ = row
    if frame != int(frame) or track != int(track):
        raise ValueError(f"frame {cells[0]} and track {cells[1]}: expected whole numbers")
    if frame < 1:
        raise ValueError(f"frame {cells[0]}; frames are counted from 1: add one to all of them")
    if track < 0:
        raise ValueError(
            f"track {cells[1]}: a table of detections, which belong to no track; run a tracker first"
        )
    if width <= 0 or height <= 0:
        raise ValueError(f"a box of {cells[4]} x {cells[5]} pixels has no area")
    return row
