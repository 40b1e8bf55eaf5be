"""Turns a split into batches of device arrays: sampler → read, decode, resize → batch → shards.

The index table of the whole run is known beforehand, so a run that starts at step t reads exactly what
an uninterrupted one would, with any number of threads, worker processes and hosts.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import grain
import jax
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Int, Shaped, UInt8

from g2ajax.data.captioned import CaptionedImages
from g2ajax.data.crop_source import CropSplit
from g2ajax.data.images import decode, resize

# Batches ready on the device while a step runs.
PREFETCH = 2


def load(
    split: CropSplit, row: int, image_size: tuple[int, int], interpolation: str
) -> UInt8[np.ndarray, "H W 3"]:
    """One image at the size of the network. Raises ValueError naming a corrupt image."""
    name = f"{split.image_id[row]} ({split.name})"
    return resize(decode(split.read(row), name), image_size, interpolation)


def columns(split: CropSplit, rows: Int[np.ndarray, " B"]) -> dict[str, np.ndarray]:
    """The columns of a batch of images; `rows` of −1 are padding."""
    real = rows >= 0
    at = np.where(real, rows, 0)
    return {
        "index": rows.astype(np.int32),
        "label": np.where(real, split.label[at], -1).astype(np.int32),
        "identity": np.where(real, split.identity[at], -1).astype(np.int32),
        "camera": split.camera[at].astype(np.int32),
        "platform": split.platform[at].astype(np.int32),
        "attributes": split.attributes[at].astype(np.int8),
        "mask": real,
    }


def caption_columns(
    examples: CaptionedImages, rows: Int[np.ndarray, " B"]
) -> dict[str, np.ndarray]:
    """The columns of a batch of (image, caption) pairs: those of its images, the captions' ids, and
    the rows and attributes of the paired images."""
    result = {**columns(examples.images, examples.image_row[rows]), "caption": examples.ids[rows]}
    if examples.paired:
        other = columns(examples.images, examples.pair_row[rows])
        result |= {f"paired_{name}": other[name] for name in ("index", "attributes")}
    return result


def image_table(examples: CaptionedImages, table: Int[np.ndarray, "S B"]) -> np.ndarray:
    """The rows of the images that batches of pairs need; paired images after the others."""
    first = examples.image_row[table]
    if examples.paired:
        first = np.concatenate([first, examples.pair_row[table]], axis=1)
    return first.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class _Images:
    """Random access to the run's images in the order of the table; grain pickles it to workers."""

    split: CropSplit
    table: np.ndarray
    image_size: tuple[int, int]
    interpolation: str

    def __len__(self) -> int:
        return self.table.size

    def __getitem__(self, position: int) -> np.ndarray:
        row = int(self.table.reshape(-1)[position])
        if row < 0:
            return np.zeros((*self.image_size, 3), np.uint8)
        return load(self.split, row, self.image_size, self.interpolation)


def image_batches(
    split: CropSplit,
    table: Int[np.ndarray, "S B"],
    *,
    image_size: tuple[int, int],
    interpolation: str,
    num_workers: int = 0,
    num_threads: int = 4,
) -> Iterator[UInt8[np.ndarray, "B H W 3"]]:
    """The images of each row of the table, read ahead by threads or worker processes."""
    images = _Images(split, table, image_size, interpolation)
    return read_ahead(images, table.shape[1], num_workers=num_workers, num_threads=num_threads)


def read_ahead(
    source: grain.sources.RandomAccessDataSource, batch: int, *, num_workers: int, num_threads: int
) -> Iterator[np.ndarray]:
    """The arrays of a source in order, stacked in batches, read ahead by threads or by worker
    processes, which get a pickled copy of it."""
    source = grain.MapDataset.source(source)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    if num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # a notebook: grain's workers read absl flags
            flags.FLAGS.mark_as_parsed()
        dataset = source.batch(batch, drop_remainder=True).to_iter_dataset(options)
        workers = grain.MultiprocessingOptions(num_workers=num_workers)
        return iter(dataset.mp_prefetch(workers))
    # Threads take single images, so that the first batch is there soon; 2 batches are read ahead.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * batch)
    dataset = source.to_iter_dataset(options).batch(batch, drop_remainder=True)
    # Stacking copies megabytes: another thread does it while the step's thread continues.
    ahead = PREFETCH if num_threads else 0
    return iter(grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=ahead))


def sharded_batches(
    batches: Iterator[Mapping[str, np.ndarray]], sharding: Sharding
) -> Iterator[dict[str, jax.Array]]:
    """Host batches (this process's rows) as global device arrays, `PREFETCH` of them ahead."""

    def put(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        processes = jax.process_count()
        return {
            name: jax.make_array_from_process_local_data(
                sharding, np.asarray(value), (len(value) * processes, *value.shape[1:])
            )
            for name, value in batch.items()
        }

    ready = collections.deque()
    for batch in batches:
        ready.append(put(batch))
        if len(ready) > PREFETCH:
            yield ready.popleft()
    yield from ready


def local_rows(table: Shaped[np.ndarray, "S B *_"]) -> Shaped[np.ndarray, "S b *_"]:
    """This process's share of each batch: a contiguous piece, so the global order is the table's."""
    share = table.shape[1] // jax.process_count()
    if share * jax.process_count() != table.shape[1]:
        raise ValueError(
            f"a batch of {table.shape[1]} cannot be dealt to {jax.process_count()} processes"
        )
    return table[:, share * jax.process_index() :][:, :share]


def train_batches(
    split: CropSplit | CaptionedImages,
    table: Int[np.ndarray, "S B"],
    *,
    sharding: Sharding,
    image_size: tuple[int, int] | None,
    interpolation: str = "bicubic",
    num_workers: int = 0,
    num_threads: int = 4,
) -> Iterator[dict[str, jax.Array]]:
    """The batches of the table. `image_size` None leaves the images out (they are on the device).

    Batches of (image, caption) pairs also have `caption` and, where images are paired, `paired_image`.
    """
    table = local_rows(table)
    describe, source, places = columns, split, table
    if isinstance(split, CaptionedImages):
        describe, source, places = caption_columns, split.images, image_table(split, table)

    def host() -> Iterator[dict[str, np.ndarray]]:
        if image_size is None:
            for rows in table:
                yield describe(split, rows)
            return
        images = image_batches(
            source,
            places,
            image_size=image_size,
            interpolation=interpolation,
            num_workers=num_workers,
            num_threads=num_threads,
        )
        with contextlib.closing(images):  # a run that stops early leaves no reader behind
            for rows, image in zip(table, images, strict=True):
                parts = np.split(np.asarray(image), [len(rows)])
                arrays = {
                    name: part
                    for name, part in zip(("image", "paired_image"), parts, strict=True)
                    if len(part)
                }
                yield {**arrays, **describe(split, rows)}

    return sharded_batches(host(), sharding)


def eval_batches(
    split: CropSplit,
    *,
    batch_size: int,
    sharding: Sharding,
    image_size: tuple[int, int],
    interpolation: str = "bicubic",
    num_threads: int = 4,
) -> Iterator[dict[str, jax.Array]]:
    """Every row of a split once, in order; the last batch is padded (`mask` False, index −1)."""
    steps = -(-len(split) // batch_size)
    table = np.full((steps, batch_size), -1, np.int32)
    table.reshape(-1)[: len(split)] = np.arange(len(split))
    return train_batches(
        split,
        table,
        sharding=sharding,
        image_size=image_size,
        interpolation=interpolation,
        num_threads=num_threads,
    )
