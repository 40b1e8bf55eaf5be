"""Frames supplied by the user: a folder of images, or a video."""

import importlib
import pathlib
from collections.abc import Iterator
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
                skipped.append(f"packet after frame {number}")
                continue
            for frame in decoded:
                if number % every == 0:
                    pixels = frame.to_ndarray(format="rgb24")
                    yield f"frame {number}", upright(pixels, _orientation(frame))
                number += 1


def _orientation(frame: Any) -> int:
    """How a frame of a video is turned upright, as an orientation of EXIF."""
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
