"""Turns a split of frames into batches of device arrays: resized, padded to one of a few canvases.

All frames of a batch have one canvas, so that a run compiles one program a canvas. Which frames make
which batch, and which are mirrored, depends on (seed, step) alone: a run that starts at step t reads
what an uninterrupted one would.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import grain
import jax
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Bool, Float32, Int, Int32, UInt8

from g2ajax.data.frame_source import FrameSplit
from g2ajax.data.images import decode
from g2ajax.data.pipeline import PREFETCH, local_rows, sharded_batches
from g2ajax.data.samplers import Sampler

Size = tuple[int, int]
"""Height, width."""


@dataclasses.dataclass(frozen=True)
class FittedFrames:
    """A split with the size and the canvas that each frame gets."""

    split: FrameSplit
    new_size: Int32[np.ndarray, "N 2"]
    canvas: Int32[np.ndarray, " N"]
    """Index into `canvases`."""
    canvases: tuple[Size, ...]
    max_boxes: int

    def __len__(self) -> int:
        return len(self.split)

    def boxes(self, row: int) -> Float32[np.ndarray, "n 4"]:
        """The boxes of a frame's people in its new size, by the realised ratio of each axis."""
        split = self.split
        height, width = self.new_size[row]
        ratio = np.array([width / split.width[row], height / split.height[row]] * 2, np.float32)
        return split.boxes[split.people(row)] * ratio


def fit_frames(
    split: FrameSplit,
    *,
    resized: Callable[[int, int], Size],
    choose: Callable[[Size, Sequence[Size]], int],
    canvases: Sequence[Size],
    max_boxes: int,
) -> FittedFrames:
    """Sizes and canvases of all frames, by `resized_size` and `bucket_of` of
    `g2ajax.detection.transform`.

    Raises ValueError naming the frame that has more than `max_boxes` people, and one that fits no
    canvas.
    """
    counts = np.diff(split.offsets)
    if len(counts) and counts.max() > max_boxes:
        crowded = int(np.argmax(counts))
        raise ValueError(
            f"{split.image_id[crowded]} ({split.name}) has {counts[crowded]} people, more than "
            f"max_boxes = {max_boxes}; set it to {counts[crowded]} or more (none is ever cut)"
        )
    fits: dict[Size, tuple[Size, int]] = {}
    for row in range(len(split)):
        size = int(split.height[row]), int(split.width[row])
        if size not in fits:
            try:
                new_size = resized(*size)
                fits[size] = new_size, choose(new_size, canvases)
            except ValueError as error:
                raise ValueError(f"{split.image_id[row]} ({split.name}): {error}") from error
    frames = [fits[int(h), int(w)] for h, w in zip(split.height, split.width, strict=True)]
    return FittedFrames(
        split,
        np.array([size for size, _ in frames], np.int32).reshape(-1, 2),
        np.array([canvas for _, canvas in frames], np.int32),
        tuple((int(height), int(width)) for height, width in canvases),
        max_boxes,
    )


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """A pass over the frames in batches of one canvas; an incomplete batch is left out.

    The frames of a canvas that has fewer than a batch are repeated to make one.
    """

    canvas: np.ndarray
    size: int

    def __call__(self, rng: np.random.Generator) -> Int[np.ndarray, "S B"]:
        order = rng.permutation(len(self.canvas)).astype(np.int32)
        batches = []
        for canvas in np.unique(self.canvas):
            rows = order[self.canvas[order] == canvas]
            if len(rows) < self.size:
                rows = np.resize(rows, self.size)
            batches.append(rows[: len(rows) // self.size * self.size].reshape(-1, self.size))
        table = np.concatenate(batches)
        return table[rng.permutation(len(table))]


def frame_sampler(fitted: FittedFrames, batch_size: int, seed: tuple[int, ...] = (0,)) -> Sampler:
    """Shuffled batches of frames of one canvas. Raises ValueError for an empty split or batch."""
    if batch_size < 1 or not len(fitted):
        raise ValueError(f"a batch of {batch_size} from {len(fitted)} frames is empty")
    return Sampler(_Shuffled(fitted.canvas, batch_size), seed, batch_size)


def eval_frame_table(fitted: FittedFrames, batch_size: int) -> Int32[np.ndarray, "S B"]:
    """Every frame once, in batches of one canvas; −1 fills the last batch of each canvas."""
    batches = []
    for canvas in np.unique(fitted.canvas):
        rows = np.flatnonzero(fitted.canvas == canvas)
        part = np.full((-(-len(rows) // batch_size), batch_size), -1, np.int32)
        part.reshape(-1)[: len(rows)] = rows
        batches.append(part)
    return np.concatenate([np.zeros((0, batch_size), np.int32), *batches])


def resize_bilinear(
    image: UInt8[np.ndarray, "H W 3"] | Float32[np.ndarray, "H W 3"], size: Size
) -> Float32[np.ndarray, "h w 3"]:
    """The image at `size`, bilinear with half-pixel centres and WITHOUT antialiasing, also when it
    shrinks, as the detectors' references do and their checkpoints expect."""
    for axis in (0, 1):
        old, new = image.shape[axis], size[axis]
        if old == new:
            continue
        at = np.maximum((np.arange(new, dtype=np.float32) + 0.5) * np.float32(old / new) - 0.5, 0)
        low = np.minimum(at.astype(np.int32), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = np.minimum(at - low, 1.0).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first = np.take(image, low, axis=axis).astype(np.float32)
        first += (np.take(image, high, axis=axis) - first) * share.astype(np.float32)
        image = first
    return image.astype(np.float32)


def load_frame(fitted: FittedFrames, row: int, *, flip: bool = False) -> UInt8[np.ndarray, "H W 3"]:
    """One frame at the upper left of its canvas; the rest is 0.

    Pixels are rounded, at most 0.5 of 255 away from the reference, which resizes floating-point
    pixels.

    Raises ValueError naming a corrupt frame and one whose size is not the recorded one.
    """
    split = fitted.split
    name = f"{split.image_id[row]} ({split.name})"
    image = decode(split.read(row), name)
    expected = int(split.height[row]), int(split.width[row])
    if image.shape[:2] != expected:
        raise ValueError(
            f"{name} has {image.shape[0]} x {image.shape[1]} pixels, the dataset says {expected[0]} "
            f"x {expected[1]}; if its EXIF data turn it, save it upright and build again"
        )
    height, width = (int(side) for side in fitted.new_size[row])
    canvas = fitted.canvases[fitted.canvas[row]]
    return place(image, (height, width), canvas, flip=flip)


def place(
    image: UInt8[np.ndarray, "H W 3"],
    size: Size,
    canvas: Size,
    *,
    flip: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """An image resized to `size` at the upper left of a canvas [h, w, 3]; see `load_frame`."""
    pixels = resize_bilinear(image, size)
    if flip:
        pixels = pixels[:, ::-1]
    padded = np.zeros((*canvas, 3), np.uint8)
    padded[: size[0], : size[1]] = np.rint(pixels)
    return padded


def frame_columns(
    fitted: FittedFrames, rows: Int[np.ndarray, " B"], flip: Bool[np.ndarray, " B"]
) -> dict[str, np.ndarray]:
    """The columns of a batch of frames; `rows` of −1 are padding.

    `size` [B,2] height and width without padding, (0, 0) for no frame; `boxes` [B,N,4] in pixels of
    the canvas, zeros where `box_mask` [B,N] is False; `label` and `identity` [B,N], −1 for people
    without identity and for padding; `camera`, `platform`, `index`, `mask` [B].
    """
    split, batch, slots = fitted.split, len(rows), fitted.max_boxes
    real = rows >= 0
    at = np.where(real, rows, 0)
    columns = {
        "size": np.where(real[:, None], fitted.new_size[at], 0).astype(np.int32),
        "boxes": np.zeros((batch, slots, 4), np.float32),
        "box_mask": np.zeros((batch, slots), bool),
        "label": np.full((batch, slots), -1, np.int32),
        "identity": np.full((batch, slots), -1, np.int32),
        "camera": split.camera[at].astype(np.int32),
        "platform": split.platform[at].astype(np.int32),
        "index": rows.astype(np.int32),
        "mask": real,
    }
    for i in np.flatnonzero(real):
        row = int(rows[i])
        people, boxes = split.people(row), fitted.boxes(row)
        if flip[i]:
            width = np.float32(fitted.new_size[row, 1])
            boxes = np.stack(
                [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
            )
        count = len(boxes)
        columns["boxes"][i, :count] = boxes
        columns["box_mask"][i, :count] = True
        columns["label"][i, :count] = split.label[people]
        columns["identity"][i, :count] = split.identity[people]
    return columns


def flips(
    seed: tuple[int, ...], first_step: int, shape: tuple[int, int], probability: float
) -> Bool[np.ndarray, "S B"]:
    """Mask of mirrored frames, in batches from `first_step` on; whole batches, over all hosts."""
    rows = [
        np.random.default_rng((*seed, first_step + i)).random(shape[1]) < probability
        for i in range(shape[0])
    ]
    return np.array(rows, bool).reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Frames:
    """Random access to the run's frames in the order of the table; grain pickles it to workers."""

    fitted: FittedFrames
    table: np.ndarray
    flip: np.ndarray
    canvas: np.ndarray
    """Index of the canvas of each batch."""
    skip: bool

    def __len__(self) -> int:
        return self.table.size

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        step, place = divmod(int(position), self.table.shape[1])
        row = int(self.table[step, place])
        canvas = self.fitted.canvases[self.canvas[step]]
        empty = np.zeros((*canvas, 3), np.uint8)
        if row < 0:
            return {"image": empty, "readable": np.bool_(True)}
        try:
            flip = bool(self.flip[step, place])
            image = load_frame(self.fitted, row, flip=flip)
        except ValueError:
            if not self.skip:
                raise
            return {"image": empty, "readable": np.bool_(False)}
        return {"image": image, "readable": np.bool_(True)}


def _read_ahead(source: _Frames, num_workers: int, num_threads: int) -> Iterator[dict]:
    """Batches of the table, read ahead by threads or worker processes."""
    batch = source.table.shape[1]
    dataset = grain.MapDataset.source(source)
    if num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # a notebook: grain's workers read absl flags
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
        batches = dataset.batch(batch, drop_remainder=True).to_iter_dataset(options)
        return iter(batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers)))
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * batch)
    batches = dataset.to_iter_dataset(options).batch(batch, drop_remainder=True)
    ahead = PREFETCH if num_threads else 0
    return iter(grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=ahead))


def canvas_of(fitted: FittedFrames, table: Int[np.ndarray, "S B"]) -> Int32[np.ndarray, " S"]:
    """The canvas of each batch: that of its frames, which are never all padding."""
    return fitted.canvas[table.max(axis=1, initial=0)]


def host_frame_batches(
    fitted: FittedFrames,
    table: Int[np.ndarray, "S B"],
    flip: Bool[np.ndarray, "S B"] | None = None,
    *,
    canvas: Int[np.ndarray, " S"] | None = None,
    skipped: list[str] | None = None,
    num_workers: int = 0,
    num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of the table as NumPy arrays: `image` [B,H,W,3] and `frame_columns`.

    A frame that cannot be read is an error that names it; given a list `skipped`, its name goes
    there and the frame takes no part in its batch (`mask` False, `size` (0, 0), no boxes).
    `canvas` of each batch: needed where the table is a process's share, which may be all padding.
    """
    flip = np.zeros(table.shape, bool) if flip is None else flip
    canvas = canvas_of(fitted, table) if canvas is None else canvas
    source = _Frames(fitted, table, flip, canvas, skipped is not None)
    batches = _read_ahead(source, num_workers, num_threads)
    with contextlib.closing(batches):  # a run that stops early leaves no reader behind
        for rows, mirrored, read in zip(table, flip, batches, strict=True):
            readable = np.asarray(read["readable"], bool)
            columns = frame_columns(fitted, np.where(readable, rows, -1), mirrored)
            if skipped is not None:
                skipped += fitted.split.image_id[rows[~readable]].tolist()
            yield {"image": np.asarray(read["image"]), **columns}


def frame_batches(
    fitted: FittedFrames,
    table: Int[np.ndarray, "S B"],
    *,
    sharding: Sharding,
    flip: Bool[np.ndarray, "S B"] | None = None,
    skipped: list[str] | None = None,
    num_workers: int = 0,
    num_threads: int = 4,
) -> Iterator[dict[str, jax.Array]]:
    """The batches of the table as global device arrays; each process reads its share of a batch.

    With `flip=flips(seed, first_step, table.shape, 0.5)` a resumed run mirrors the same frames.
    """
    columns = local_rows(np.arange(table.shape[1])[None])[0]
    host = host_frame_batches(
        fitted,
        table[:, columns],
        None if flip is None else flip[:, columns],
        canvas=canvas_of(fitted, table),
        skipped=skipped,
        num_workers=num_workers,
        num_threads=num_threads,
    )
    return sharded_batches(host, sharding)
