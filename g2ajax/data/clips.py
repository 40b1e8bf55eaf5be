"""Clips of tracklets: which frames of a tracklet make a clip of T, and batches of clips.

The frames of a training clip are a function of (seed, step), so a run that was stopped goes on with the
same clips. Facts of VSLA-CLIP's sampling (Zhang et al., ECCV 2024); its loader also shuffles the frames of
a clip, here they stay in order of time.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Bool, Float, Float32, Int, UInt8

from g2ajax.config.ranges import Count
from g2ajax.data.images import decode, resize
from g2ajax.data.pipeline import columns, local_rows, read_ahead, sharded_batches
from g2ajax.data.tracklet_source import TrackletSplit


@dataclasses.dataclass(frozen=True)
class ClipOptions:
    """Options of the clips that stand for a tracklet."""

    frames: Count = 8
    """Frames of a clip, T. A shorter tracklet is filled up with its last frame."""
    mask_padding: bool = False
    """Tell the method which frames only fill up, so that they change nothing; VSLA-CLIP lets them
    count."""
    test: Literal["first", "dense"] = "first"
    """Clips of a test tracklet. `first`: one, of the first frame of each of T equal blocks.
    `dense`: all its frames, in as many clips as they fill; the embeddings are averaged."""


class Clips(NamedTuple):
    """Frames of clips."""

    frame: Int[np.ndarray, "*n T"]
    """Numbers of frames in their tracklet, in order of time."""
    real: Bool[np.ndarray, "*n T"]
    """False for repetitions of the last frame that fill up a short tracklet."""


def random_clips(
    num_frames: Int[np.ndarray, "S B"], length: int, *, seed: tuple[int, ...], start: int = 0
) -> Clips:
    """One random frame of each of T blocks, for the tracklets of each batch.

    Row i of `num_frames` is the batch of step `start + i`, whose draws come from (seed, step) alone.
    The blocks are equal, the last one takes the rest.
    """
    draws = np.empty((*num_frames.shape, length))
    for i in range(len(num_frames)):
        draws[i] = np.random.default_rng((*seed, start + i)).random(draws.shape[1:])
    whole = np.maximum(num_frames, length)[..., None]
    begin, size = _blocks(whole, length)
    return _filled(begin + (draws * size).astype(np.int64), num_frames)


def first_clips(num_frames: Int[np.ndarray, "*n"], length: int) -> Clips:
    """The first frame of each of T blocks of each tracklet."""
    begin, _ = _blocks(np.maximum(num_frames, length)[..., None], length)
    return _filled(begin, num_frames)


def _blocks(
    whole: Int[np.ndarray, "*n 1"], length: int
) -> tuple[Int[np.ndarray, "*n T"], Int[np.ndarray, "*n T"]]:
    """Begin and size of the T blocks of tracklets of at least T frames."""
    begin = np.arange(length) * (whole // length)
    return begin, np.concatenate([begin[..., 1:], whole], -1) - begin


def _filled(place: Int[np.ndarray, "*n T"], num_frames: Int[np.ndarray, "*n"]) -> Clips:
    real = place < num_frames[..., None]
    return Clips(np.minimum(place, num_frames[..., None] - 1).astype(np.int32), real)


def dense_clips(num_frames: int, length: int) -> Int[np.ndarray, "K T"]:
    """All frames of a tracklet in K clips, each spread over the whole tracklet.

    Frames are repeated until they fill the last clip: as many of the last ones as are missing, or
    all where there are no more; then sorted, and clip k takes every K-th from k on.
    """
    frames = padded(num_frames, length)
    return frames.reshape(length, -1).T


def padded(num_frames: int, length: int) -> Int[np.ndarray, " L"]:
    """The frames of a tracklet, repeated to a multiple of the clip's length, and sorted."""
    frames = np.arange(num_frames, dtype=np.int32)
    while missing := -len(frames) % length:
        frames = np.concatenate([frames, frames[-missing:]])
    return np.sort(frames)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Random access to clips; grain pickles it to workers."""

    split: TrackletSplit
    rows: Int[np.ndarray, " N"]
    frames: Int[np.ndarray, "N T"]
    image_size: tuple[int, int]
    interpolation: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> UInt8[np.ndarray, "T H W 3"]:
        row, frames = int(self.rows[position]), self.frames[position]
        if row < 0:
            return np.zeros((len(frames), *self.image_size, 3), np.uint8)
        return load_clip(self.split, row, frames, self.image_size, self.interpolation)


def load_clip(
    split: TrackletSplit,
    row: int,
    frames: Int[np.ndarray, " T"],
    image_size: tuple[int, int],
    interpolation: str,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Some frames of a tracklet at the size of the network; only these are decoded.

    Raises ValueError naming a corrupt frame.
    """
    encoded = split.encoded(row)

    def read(frame: int) -> UInt8[np.ndarray, "H W 3"]:
        name = f"frame {frame} of {split.image_id[row]} ({split.name})"
        return resize(decode(encoded[frame], name), image_size, interpolation)

    return stacked(frames, read)


def stacked(
    frames: Int[np.ndarray, " T"], read: Callable[[int], UInt8[np.ndarray, "H W 3"]]
) -> UInt8[np.ndarray, "T H W 3"]:
    """The images of the frames, each of which is read once."""
    images = {frame: read(frame) for frame in dict.fromkeys(frames.tolist())}
    return np.stack([images[frame] for frame in frames.tolist()])


def clip_batches(
    split: TrackletSplit,
    table: Int[np.ndarray, "S B"],
    clips: Clips,
    *,
    sharding: Sharding,
    image_size: tuple[int, int] | None,
    mask_padding: bool = False,
    interpolation: str = "bicubic",
    num_workers: int = 0,
    num_threads: int = 4,
) -> Iterator[dict[str, jax.Array]]:
    """The batches of the table, each row with its clip [S,B,T]: `image` [B,T,H,W,3], `frame_mask` [B,T]
    and the columns of its tracklet; rows of −1 are padding.

    `image_size` None: in place of the images their rows in `split.frames()`, `frame_index` [B,T].
    """
    frame, real = (local_rows(part) for part in clips)
    mask = real if mask_padding else np.ones_like(real)
    table = local_rows(table)
    first = split.first_frame()

    def host() -> Iterator[dict[str, np.ndarray]]:
        if image_size is None:
            for i, rows in enumerate(table):
                index = (first[rows][:, None] + frame[i]).astype(np.int32)
                yield {"frame_index": index, "frame_mask": mask[i], **columns(split, rows)}
            return
        flat = frame.reshape(-1, frame.shape[-1])
        reader = _Reader(split, table.reshape(-1), flat, image_size, interpolation)
        threads = {"num_workers": num_workers, "num_threads": num_threads}
        images = read_ahead(reader, table.shape[1], **threads)
        with contextlib.closing(images):  # a run that stops early leaves no reader behind
            for i, (rows, image) in enumerate(zip(table, images, strict=True)):
                yield {"image": np.asarray(image), "frame_mask": mask[i], **columns(split, rows)}

    return sharded_batches(host(), sharding)


def planned_clips(
    num_frames: Int[np.ndarray, " N"], options: ClipOptions
) -> tuple[Int[np.ndarray, " K"], Clips]:
    """The clips that stand for tracklets in a test, in order, and the number of the tracklet of each."""
    rows = np.arange(len(num_frames), dtype=np.int32)
    if options.test != "dense":
        return rows, first_clips(num_frames, options.frames)
    parts = [dense_clips(int(n), options.frames) for n in num_frames]
    rows = np.repeat(rows, [len(part) for part in parts])
    # Every repetition is a frame that counts: a clip of repetitions alone would be empty.
    return rows, Clips(np.concatenate(parts), np.ones((len(rows), options.frames), bool))


def mean_of_clips(
    features: Float[np.ndarray, "K D"], rows: Int[np.ndarray, " K"], count: int
) -> Float32[np.ndarray, "N D"]:
    """The mean of the embeddings of each tracklet's clips; `rows`: the tracklet of each clip."""
    total = np.zeros((count, features.shape[1]), np.float32)
    np.add.at(total, rows, features)
    return total / np.bincount(rows, minlength=count)[:, None].astype(np.float32)


def evaluation_clips(
    split: TrackletSplit, options: ClipOptions, batch_size: int
) -> tuple[Int[np.ndarray, "S B"], Clips]:
    """The rows and clips of every tracklet of a split, in order; the last batch is padded (−1)."""
    rows, clips = planned_clips(split.num_frames, options)
    steps = -(-len(rows) // batch_size)
    fill = steps * batch_size - len(rows)
    rows = np.pad(rows, (0, fill), constant_values=-1).reshape(steps, batch_size)
    frame = np.pad(clips.frame, ((0, fill), (0, 0)))
    real = np.pad(clips.real, ((0, fill), (0, 0)), constant_values=True)
    shape = (steps, batch_size, options.frames)
    return rows, Clips(frame.reshape(shape), real.reshape(shape))
