"""Frames supplied by the user: a folder of images, or a video."""

import importlib
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from g2ajax.data.images import decode

Named = tuple[str, UInt8[np.ndarray, "_ _ 3"]]
"""The name of a frame, and its pixels."""


def footage(path: pathlib.Path, skipped: list[str], *, every: int = 1) -> Iterator[Named]:
    """The frames of a folder (its images at any depth, by name) or of a video, one by one.

    `every`: step between the frames of a video. Unreadable files are left out and named in
    `skipped`.

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
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if not file.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        try:
            yield str(name), decode(file.read_bytes(), str(file))
        except ValueError:
            skipped.append(str(name))


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
                    yield f"frame {number}", frame.to_ndarray(format="rgb24")
                number += 1
