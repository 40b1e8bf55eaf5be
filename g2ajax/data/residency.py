"""The resized training images in device memory, so that only indices travel during training."""

import concurrent.futures
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Int, UInt8

from g2ajax.data.crop_source import CropSplit
from g2ajax.data.pipeline import load


def load_resident(
    split: CropSplit,
    *,
    sharding: Sharding,
    parts: int,
    image_size: tuple[int, int],
    interpolation: str = "bicubic",
    num_threads: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> UInt8[Array, "N H W 3"]:
    """All images of a split, decoded and resized once, on the device.

    `sharding` splits the rows over `parts` devices, and zero images pad the end; each process
    decodes all and keeps its own part. `progress(done, total)` is called after each thousand.
    Raises ValueError naming a corrupt image.
    """
    total = len(split)
    images = np.zeros((-(-total // parts) * parts, *image_size, 3), np.uint8)

    def fill(row: int) -> None:
        images[row] = load(split, row, image_size, interpolation)

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for done, _ in enumerate(pool.map(fill, range(total)), start=1):
            if done % 1000 == 0 or done == total:
                progress(done, total)
    return jax.make_array_from_callback(images.shape, sharding, lambda index: images[index])


def gather_batch(
    store: UInt8[Array, "N H W 3"], index: Int[Array, " B"]
) -> UInt8[Array, "B H W 3"]:
    """The images of a batch, inside jit; with the store sharded, devices exchange what they need."""
    return store.at[index].get(mode="promise_in_bounds")
