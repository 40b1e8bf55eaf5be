"""Frames supplied by the user: a folder of images, or a video."""

import contextlib
import importlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from g2ajax.data.folders import files_below
from g2ajax.data.images import TURNS, decode, upright

Named = tuple[str, UInt8[np.ndarray, "_ _ 3"]]
"""The name of a frame, and its pixels."""


def footage(path: pathlib.Path, skipped: list[str], *, every: int = 1) -> Iterator[Named]:
    """The frames of a folder (its images at any depth, by name) or of a video, one by one.

    `every`: step between the frames of a video, which is turned upright as its data say. Unreadable
    files, and links that `files_below` passes over, are left out and named in `skipped`.

    Raises FileNotFoundError for a missing path, and ValueError for a file that is no video, a video
    without the package that reads videos, an `every` below 1, and when no frame can be read.
    """
    if every < 1:
        raise ValueError(f"every = {every}; take every frame (1), every second one (2), ...")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name a folder of images or a video")
    frames = _images(path, skipped) if path.is_dir() else _video(path, skipped, every)
    some = False
    for frame in frames:
        some = True
        yield frame
    if not some:
        unread = f"; {len(skipped)} cannot be read, such as {skipped[0]}" if skipped else ""
        raise ValueError(f"{path} has no frame{unread}")


def _images(folder: pathlib.Path, skipped: list[str]) -> Iterator[Named]:
    files, passed = files_below(folder)
    skipped += [f"{path.relative_to(folder)} ({why})" for path, why in passed]
    for file in files:
        name = str(file.relative_to(folder))
        try:
            yield name, decode(file.read_bytes(), str(file))
        except (OSError, ValueError):
            skipped.append(name)


def _video(path: pathlib.Path, skipped: list[str], every: int) -> Iterator[Named]:
    for number, frame in _decoded(path):
        if frame is None:
            skipped.append(f"packet after frame {number}")
        elif number % every == 0:
            yield f"frame {number}", _pixels(frame)


def frames_at(
    path: pathlib.Path, numbers: Sequence[int]
) -> Iterator[tuple[int, UInt8[np.ndarray, "_ _ 3"]]]:
    """The frames with these numbers (from 0, rising) of a video, or of a folder of images named by
    their number from 1 on (000001.jpg, ...).

    A codec needs the frames between them, which never become pixels; nothing is read after the last.
    Raises ValueError as `footage`, and naming the first frame (from 1) that is missing or unreadable:
    after a damaged packet nobody knows the number of a frame.
    """
    if path.is_dir():
        yield from _numbered_images(path, numbers)
        return
    goals, count = iter(numbers), 0
    goal = next(goals, None)
    if goal is None:
        return
    with contextlib.closing(_decoded(path)) as frames:
        for number, frame in frames:
            if frame is None:
                raise ValueError(
                    f"{path} is damaged after frame {number}; write it again with ffmpeg"
                )
            count = number + 1
            if number == goal:
                yield number, _pixels(frame)
                goal = next(goals, None)
                if goal is None:
                    return
    raise ValueError(f"{path} ends after frame {count}, before frame {goal + 1}")


def picture_size(path: pathlib.Path) -> tuple[int, int]:
    """Height and width of the first frame of a video or of a folder of images, upright.

    Raises ValueError as `footage`, and naming a first frame that cannot be read.
    """
    if path.is_dir():
        files = numbered(path)
        _, image = next(_numbered_images(path, [min(files) - 1]))
    else:
        _, image = next(frames_at(path, [0]))
    return image.shape[0], image.shape[1]


def numbered(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """The images of a folder by the number that is their name. Raises ValueError without any."""
    files = {int(file.stem): file for file in folder.iterdir() if file.stem.isdecimal()}
    if not files:
        raise ValueError(
            f"{folder} has no images named by their number from 1 on (000001.jpg, 000002.jpg, ...)"
        )
    if 0 in files:
        raise ValueError(
            f"{files[0]}: tables of tracks count frames from 1; name the first image 000001"
        )
    return files


def _numbered_images(
    folder: pathlib.Path, numbers: Sequence[int]
) -> Iterator[tuple[int, UInt8[np.ndarray, "_ _ 3"]]]:
    files = numbered(folder)
    for number in numbers:
        if number + 1 not in files:
            raise ValueError(f"{folder} has no image of frame {number + 1}")
        yield number, decode(files[number + 1].read_bytes(), str(files[number + 1]))


def _decoded(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """Number (from 0) and frame of a video; None for what a damaged packet holds."""
    try:
        av = importlib.import_module("av")
    except ImportError as error:
        raise ValueError(
            f"{path} is no folder; reading a video needs PyAV (pip install 'g2ajax[video]'), or make "
            "a folder of its frames"
        ) from error
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error
    with container:
        if not container.streams.video:
            raise ValueError(f"{path} has no pictures, only {len(container.streams)} other streams")
        stream, number = container.streams.video[0], 0
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                yield number, None
                continue
            for frame in decoded:
                yield number, frame
                number += 1


def _pixels(frame: Any) -> UInt8[np.ndarray, "_ _ 3"]:
    return upright(frame.to_ndarray(format="rgb24"), _orientation(frame))


def _orientation(frame: Any) -> int:
    """The EXIF orientation that turns a video frame upright."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for another of the frame's data
        return (1, 8, 3, 6)[round(frame.rotation / 90) % 4]
    if matrix is None:
        return 1
    # x and y of a pixel become a x + c y and b x + d y.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    across = abs(b) + abs(c) > abs(a) + abs(d)
    turn = (across, b < 0, c < 0) if across else (across, d < 0, a < 0)
    return next(number for number, one in TURNS.items() if one == turn)
