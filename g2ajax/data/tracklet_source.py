"""Built datasets of tracklets: a row is the images of one person in one camera, in order of time.

A record holds its frames encoded, so that only those which a clip draws are decoded.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int32

from g2ajax.data.builders import records
from g2ajax.data.column_cache import Columns, columns_of
from g2ajax.data.crop_source import COLUMNS, CropSplit, Dataset, open_crops, sorted_columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackletSplit(CropSplit):
    """One split of tracklets; `image_id` is a tracklet's name, and `read` gives its first frame."""

    num_frames: Int32[np.ndarray, " N"]
    omitted: Mapping[int, frozenset[int]] = dataclasses.field(default_factory=dict)
    """Frames that are passed over as if they were not stored, by the `position` of their tracklet."""

    ROWS: ClassVar[tuple[str, ...]] = (*CropSplit.ROWS, "num_frames")
    DESCRIBED: ClassVar[tuple[str, ...]] = (*CropSplit.DESCRIBED, "num_frames")

    def read(self, row: int) -> bytes:
        """The encoded first frame of a row."""
        return self.encoded(row)[0]

    def encoded(self, row: int) -> tuple[bytes, ...]:
        """The frames of a row, encoded, in order of time."""
        frames, omitted = self.stored(row), self.omitted.get(int(self.position[row]))
        if not omitted:
            return frames
        return tuple(frame for i, frame in enumerate(frames) if i not in omitted)

    def stored(self, row: int) -> tuple[bytes, ...]:
        """The frames of a row with those that are passed over."""
        return _frames(self.folder, self.name, int(self.position[row]))

    def without(self, lost: Bool[np.ndarray, " F"]) -> "TrackletSplit":
        """The same split without some of the frames, and without the tracklets that have none left.

        `lost`: of each row of `frames()`, whether it is passed over. Raises ValueError if all are, and
        for a split from which frames were taken before.
        """
        if self.omitted:
            raise ValueError(f"frames were taken from the split {self.name} before")
        rows, omitted = self.frames(), dict[int, frozenset[int]]()
        for row in np.unique(rows.tracklet[lost]).tolist():
            numbers = rows.number[lost & (rows.tracklet == row)]
            omitted[int(self.position[row])] = frozenset(numbers.tolist())
        left = np.bincount(rows.tracklet[~lost], minlength=len(self)).astype(np.int32)
        if not left.any():
            raise ValueError(f"no frame of the split {self.name} is left")
        return dataclasses.replace(self, num_frames=left, omitted=omitted).take(
            np.flatnonzero(left)
        )

    def frames(self) -> "FrameRows":
        """The same split with a row for each frame: tracklet by tracklet, in order of time."""
        of = np.repeat(np.arange(len(self)), self.num_frames)
        number = np.arange(len(of)) - self.first_frame()[of]
        columns = {name: getattr(self, name)[of] for name in CropSplit.ROWS}
        names = np.array(
            [f"{name} frame {i}" for name, i in zip(columns["image_id"], number, strict=True)]
        )
        columns |= {"image_id": names, "number": number.astype(np.int32), "tracklet": of}
        return FrameRows(name=self.name, folder=self.folder, source=self, **columns)

    def first_frame(self) -> np.ndarray:
        """The row in `frames` of each tracklet's first frame."""
        return np.concatenate([[0], np.cumsum(self.num_frames)[:-1]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameRows(CropSplit):
    """The frames of a split of tracklets, one a row."""

    source: TrackletSplit
    tracklet: np.ndarray
    """Row of the tracklet of each frame."""
    number: Int32[np.ndarray, " N"]
    """Number of each frame in its tracklet."""

    ROWS: ClassVar[tuple[str, ...]] = (*CropSplit.ROWS, "tracklet", "number")

    def read(self, row: int) -> bytes:
        """The encoded frame."""
        return self.source.encoded(int(self.tracklet[row]))[int(self.number[row])]


# Frames are mostly read tracklet by tracklet, and a record is read whole.
@functools.lru_cache(maxsize=8)
def _frames(folder: str, split: str, position: int) -> tuple[bytes, ...]:
    return tuple(records(folder, split)[position]["frames"])


def open_tracklets(name: str, builder: Any) -> Dataset:
    """The dataset of tracklets that a builder has built; its splits are `TrackletSplit`."""
    return open_crops(name, builder, _split)


def _split(folder: pathlib.Path, name: str, num_protocols: int) -> TrackletSplit:
    columns = columns_of(
        folder,
        f"columns-{name}.npz",
        lambda: _columns(records(str(folder), name), num_protocols),
        lambda stored: set(stored) == {"position", "num_frames", *COLUMNS},
    )
    return TrackletSplit(name=name, folder=str(folder), **columns)


def _columns(records: Any, num_protocols: int) -> Columns:
    rows = []
    for record in (records[i] for i in range(len(records))):
        if not len(record["frames"]):
            raise ValueError(
                f"the tracklet {record['tracklet_id'].decode()} is stored without frames; leave it out "
                "and build the dataset again"
            )
        names = [name for name in COLUMNS if name in record]
        rows.append(
            {
                **{name: record[name] for name in names},
                "image_id": record["tracklet_id"],
                "num_frames": len(record["frames"]),
            }
        )
    columns = sorted_columns(rows, num_protocols)
    frames = np.array([row["num_frames"] for row in rows], np.int32)
    return {**columns, "num_frames": frames[columns["position"]]}
