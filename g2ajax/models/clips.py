"""Tracklets of callers, lists of images in order of time, as batches of clips."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from g2ajax.data.clips import ClipOptions, mean_of_clips, planned_clips, stacked
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
    for row, images in enumerate(tracklets):
        if not len(images):
            raise ValueError(f"tracklet {row} has no images; leave it out")
    rows, (frames, real) = planned_clips(np.array([len(one) for one in tracklets]), clip)
    masks = real | (not clip.mask_padding)
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        clips = [
            _clip(tracklets[row], row, of_clip, size, interpolation)
            for row, of_clip in zip(rows[part].tolist(), frames[part], strict=True)
        ]
        yield ClipBatch(rows[part], np.stack(clips), masks[part])


def embed_clips(
    compute: Callable[[ClipBatch], Float[np.ndarray, "b D"]],
    batches: Iterator[ClipBatch],
    count: int,
) -> Float32[np.ndarray, "N D"]:
    """The mean of the embeddings of each tracklet's clips. Raises ValueError for no tracklets."""
    if not count:
        raise ValueError("no tracklets; give at least one list of images")
    parts = [(batch.row, compute(batch)) for batch in batches]
    rows, features = (np.concatenate(column) for column in zip(*parts, strict=True))
    return mean_of_clips(features, rows, count)


def _clip(
    images: Sequence[Any],
    row: int,
    frames: Int[np.ndarray, " T"],
    size: tuple[int, int],
    interpolation: str,
) -> UInt8[np.ndarray, "T H W 3"]:
    def read(frame: int) -> UInt8[np.ndarray, "H W 3"]:
        image = pixels(images[frame], f"tracklet {row}, frame {frame}")
        return resize(image, size, interpolation)

    return stacked(frames, read)
