"""Tracklets of callers, lists of images in order of time, as batches of clips."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from g2ajax.data.clips import ClipOptions, dense_clips, first_clips
from g2ajax.data.images import resize
from g2ajax.models.pictures import pixels


class ClipBatch(NamedTuple):
    """Some clips, not padded."""

    row: Int[np.ndarray, " b"]
    """Number of the tracklet of each clip."""
    image: UInt8[np.ndarray, "b T H W 3"]
    frame_mask: Bool[np.ndarray, "b T"]


def clip_batches(
    tracklets: Sequence[Sequence[Any]],
    clip: ClipOptions,
    batch_size: int,
    size: tuple[int, int],
    interpolation: str,
) -> Iterator[ClipBatch]:
    """The clips of the tracklets in order, as a test draws them; only their frames are read.

    Raises ValueError for a tracklet without images, and naming tracklet and frame for one that cannot
    be read.
    """
    planned: list[tuple[int, np.ndarray, np.ndarray]] = []
    for row, images in enumerate(tracklets):
        if not len(images):
            raise ValueError(f"tracklet {row} has no images; leave it out")
        if clip.test == "dense":
            frames = dense_clips(len(images), clip.frames)
            planned += [(row, one, np.ones(clip.frames, bool)) for one in frames]
        else:
            first = first_clips(np.array([len(images)]), clip.frames)
            real = first.real[0] | (not clip.mask_padding)
            planned.append((row, first.frame[0], real))
    for start in range(0, len(planned), batch_size):
        rows, frames, masks = zip(*planned[start : start + batch_size], strict=True)
        clips = [
            _clip(tracklets[r], r, f, size, interpolation)
            for r, f in zip(rows, frames, strict=True)
        ]
        yield ClipBatch(np.array(rows), np.stack(clips), np.stack(masks))


def mean_of_clips(
    compute: Callable[[ClipBatch], Float[np.ndarray, "b D"]],
    batches: Iterator[ClipBatch],
    count: int,
) -> Float32[np.ndarray, "N D"]:
    """The mean of the embeddings of each tracklet's clips. Raises ValueError for no tracklets."""
    if not count:
        raise ValueError("no tracklets; give at least one list of images")
    parts = [(batch.row, compute(batch)) for batch in batches]
    rows, features = (np.concatenate(column) for column in zip(*parts, strict=True))
    total = np.zeros((count, features.shape[1]), np.float32)
    np.add.at(total, rows, features)
    return total / np.bincount(rows, minlength=count)[:, None].astype(np.float32)


def _clip(
    images: Sequence[Any],
    row: int,
    frames: Int[np.ndarray, " T"],
    size: tuple[int, int],
    interpolation: str,
) -> UInt8[np.ndarray, "T H W 3"]:
    read = {
        frame: resize(pixels(images[frame], f"tracklet {row}, frame {frame}"), size, interpolation)
        for frame in dict.fromkeys(frames.tolist())
    }
    return np.stack([read[frame] for frame in frames.tolist()])
