"""Tracklets supplied by the user: folders of images, and the tracks of a video."""

import dataclasses
import hashlib
import os
import pathlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from g2ajax.data.folders import Passed, files_below
from g2ajax.data.footage import frames_at, numbered, picture_size
from g2ajax.data.mot import Tracks, clipped, pixel_corners, read_tracks

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".mpo")
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")
TABLE = ".txt"
EXPECTED = (
    "a gallery of tracklets is a folder with a folder of images for each tracklet, or with videos and, "
    "beside each, its table of tracks (walk.mp4 and walk.txt, in MOTChallenge's format)"
)

Crops = dict[int, Any]
"""Images of a tracklet, or what was made of them, by their place in it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tracklet:
    """A tracklet in the user's files; `len` is the number of its images."""

    name: str
    source: pathlib.Path
    """The folder of its images, or its video."""
    files: tuple[pathlib.Path, ...] = dataclasses.field(default=(), repr=False)
    """The images of a folder, in order of time."""
    boxes: Tracks | None = dataclasses.field(default=None, repr=False)
    """The boxes of a track in its video."""

    def __len__(self) -> int:
        return len(self.files) if self.boxes is None else len(self.boxes)

    @property
    def track(self) -> int | None:
        """The track's number in the table of its video; None for a folder."""
        return None if self.boxes is None else int(self.boxes.track[0])

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last frame of a track, counted from 1 as in its table; None for a folder."""
        if self.boxes is None:
            return None
        return int(self.boxes.frame[0]) + 1, int(self.boxes.frame[-1]) + 1

    def without(self, place: int) -> "Tracklet":
        """The tracklet of a folder without one of its images."""
        return dataclasses.replace(self, files=(*self.files[:place], *self.files[place + 1 :]))


def tracklets_below(folder: str | os.PathLike, skipped: list[Passed]) -> tuple[Tracklet, ...]:
    """The tracklets of a folder: each folder in it, at any depth, that holds images, and each track of
    each video (or folder of numbered images) with a table of the same name.

    What is none of them is added to `skipped`, with the reason. Raises FileNotFoundError without the
    folder, and ValueError for one without tracklets and for a table that cannot be read.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {EXPECTED}")
    files, passed = files_below(folder)
    videos = videos_of(files)
    own = set(videos.values())
    images: dict[pathlib.Path, list[pathlib.Path]] = defaultdict(list)
    loose: list[Passed] = []
    for file in files:
        suffix = file.suffix.lower()
        if file in videos or not own.isdisjoint((file, file.parent)):
            continue
        if suffix in IMAGES and file.parent != folder:
            images[file.parent].append(file)
        elif suffix in IMAGES:
            loose.append((file, "an image outside a tracklet's folder"))
        elif suffix in VIDEOS:
            loose.append((file, f"a video without a table of tracks {file.stem}{TABLE} beside it"))
        else:
            loose.append((file, "neither an image nor a video's table of tracks"))
    tracklets = [
        Tracklet(str(where.relative_to(folder)), where, in_order(inside))
        for where, inside in sorted(images.items())
    ]
    for _, video in sorted(videos.items()):
        tracklets += video_tracks(video, skipped, below=folder)
    if not tracklets:
        why = f"; {len(loose)} other files, such as {loose[0][0].name}: {loose[0][1]}" * bool(loose)
        raise ValueError(f"{folder} has no tracklets{why}; {EXPECTED}")
    skipped += [*passed, *loose]
    return tuple(tracklets)


def folder_tracklet(folder: pathlib.Path) -> Tracklet:
    """The tracklet of a folder's images. Raises ValueError for a folder without images."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is neither a folder of the images of a tracklet nor a video"
        )
    files = in_order(file for file in folder.iterdir() if file.suffix.lower() in IMAGES)
    files = tuple(file for file in files if not file.name.startswith("."))
    if not files:
        raise ValueError(
            f"{folder} has no images; a tracklet is a folder of the images of one person, named in order "
            "of time"
        )
    return Tracklet(folder.name, folder, files)


def video_tracks(
    video: pathlib.Path, skipped: list[Passed], *, below: pathlib.Path | None = None
) -> list[Tracklet]:
    """The tracks of a video by the table of its name; their boxes are cut at the picture's edges.

    `below`: folder whose name is left out of the names. The number of boxes that do not count (`conf` 0,
    or outside the picture) goes to `skipped`. Raises FileNotFoundError without the table, and ValueError
    as `read_tracks` and `frames_at`, and without a box in the picture.
    """
    table = table_of(video)
    if not table.is_file():
        raise FileNotFoundError(
            f"there is no {table}; the tracks of {video.name} stand there, in MOTChallenge's format"
        )
    tracks = clipped(read_tracks(table), *picture_size(video)[::-1])
    if tracks.left_out:
        skipped.append((table, f"{tracks.left_out} boxes with conf 0 or outside the picture"))
    if not len(tracks):
        raise ValueError(
            f"{table}: no box lies in the picture of {video.name}; is it of this video?"
        )
    name = str(video.relative_to(below) if below else video.name)
    ends = np.flatnonzero(np.diff(tracks.track, append=tracks.track[-1] + 1)) + 1
    rows = np.split(np.arange(len(tracks)), ends[:-1])
    return [
        Tracklet(f"{name} track {tracks.track[own[0]]}", video, boxes=tracks.take(own))
        for own in rows
    ]


def table_of(video: pathlib.Path) -> pathlib.Path:
    """The table of tracks beside a video or a folder of images."""
    return video.parent / f"{video.name if video.is_dir() else video.stem}{TABLE}"


def videos_of(files: Sequence[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
    """The videos, and folders of images, with a table of tracks among the files, by their table."""
    with_table = {table_of(file): file for file in files if file.suffix.lower() in VIDEOS}
    for file in files:
        if file.suffix == TABLE and file.with_suffix("").is_dir():
            with_table.setdefault(file, file.with_suffix(""))
    return {file: with_table[file] for file in files if file in with_table}


def in_order(files: Sequence[pathlib.Path] | Iterator[pathlib.Path]) -> tuple[pathlib.Path, ...]:
    """Files by name, numbers by their value: frame2.jpg comes before frame10.jpg."""

    def key(file: pathlib.Path) -> tuple[list, str]:
        parts = re.split(r"([0-9]+)", file.name)
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], file.name

    return tuple(sorted(files, key=key))


def video_crops(
    video: pathlib.Path,
    parts: Sequence[tuple[Tracklet, Int[np.ndarray, " _"]]],
    change: Callable[[np.ndarray], Any] = np.asarray,
) -> Iterator[tuple[int, Crops]]:
    """The crops of some tracks of a video at some places, changed by `change`, in one pass: the number
    of a track in `parts` with its crops, when they are complete.

    Raises ValueError as `frames_at`, and naming a frame in which a box does not lie.
    """
    places = [np.unique(place).tolist() for _, place in parts]
    at: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, (tracklet, _) in enumerate(parts):
        for place in places[number]:
            at[int(tracklet.boxes.frame[place])].append((number, place))
    crops: dict[int, Crops] = defaultdict(dict)
    for frame, image in frames_at(video, sorted(at)):
        for number, place in at[frame]:
            tracklet = parts[number][0]
            ((x0, y0, x1, y1),) = pixel_corners(tracklet.boxes.box[place : place + 1]).tolist()
            crop = image[y0:y1, x0:x1]
            if crop.shape[:2] != (y1 - y0, x1 - x0):
                raise ValueError(
                    f"{video}: frame {frame + 1} is smaller than the first, and the box of track "
                    f"{tracklet.track} does not lie in it"
                )
            crops[number][place] = change(crop)
            if len(crops[number]) == len(places[number]):
                yield number, crops.pop(number)


def content_of(video: pathlib.Path) -> str:
    """The SHA-256 of a video, or of a folder's numbered images."""
    digest = hashlib.sha256()
    files = numbered(video) if video.is_dir() else {0: video}
    for number in sorted(files):
        digest.update(f"{number} {files[number].stat().st_size} ".encode())
        with files[number].open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
