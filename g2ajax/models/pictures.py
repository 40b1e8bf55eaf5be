"""Converts images from callers, in any accepted form, to pixels of a model's size."""

import collections
import os
import pathlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PIL

from g2ajax.data.images import decode, pixels_of, resize

# Whatever else a caller gives is refused by `pixels`, in a sentence.
Image = str | os.PathLike | PIL.Image | np.ndarray
"""A path, an image of PIL, or RGB pixels 0..255 [H, W, 3]."""
Images = Sequence[Any] | np.ndarray
"""Several `Image`, or pixels [B, H, W, 3]."""
AHEAD = 2
"""Batches that are read while one is computed."""


def as_sequence(images: Any) -> Sequence[Any] | np.ndarray:
    """The images as a sequence; one alone becomes a sequence of one.

    Raises ValueError for an array of another shape or kind, and for a value that is not a sequence.
    """
    if isinstance(images, str | os.PathLike | PIL.Image):
        return [images]
    if isinstance(images, np.ndarray) or hasattr(images, "__array__"):
        images = np.asarray(images)
        if images.ndim == 3:
            images = images[None]
        _check(images, "the array", 4)
        return images
    try:
        return images if isinstance(images, Sequence) else list(images)
    except TypeError:
        raise ValueError(
            f"expected a list of images or an array [B, H, W, 3], got a {type(images).__name__}"
        ) from None


def pixels(image: Any, name: str = "image") -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels 0..255 of an image; photos are turned upright.

    Raises FileNotFoundError for a missing file, and ValueError for a file that is not an image.
    """
    if isinstance(image, str | os.PathLike):
        path = pathlib.Path(image)
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give its files, sorted(path.iterdir())")
        return decode(path.read_bytes(), str(path))
    if isinstance(image, PIL.Image):
        return pixels_of(image)
    array = np.asarray(image)
    _check(array, name, 3)
    return array.astype(np.uint8, copy=False)


def _check(array: np.ndarray, name: str, ndim: int) -> None:
    shape = "[H, W, 3]" if ndim == 3 else "[B, H, W, 3]"
    if array.ndim != ndim or array.shape[-1] != 3 or 0 in array.shape[1:-1]:
        hint = ""
        if array.ndim == ndim and 3 in array.shape[1:2]:
            hint = "; channels come last here: np.moveaxis(images, -3, -1)"
        raise ValueError(f"{name} has shape {list(array.shape)}; expected RGB pixels {shape}{hint}")
    if array.dtype == np.uint8:
        return
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name} has {array.dtype} values; expected uint8 pixels 0 to 255, not normalised (of values "
            "from 0 to 1: (255 * images).round().astype('uint8'))"
        )
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ValueError(
            f"{name} has values from {array.min()} to {array.max()}; expected pixels 0 to 255"
        )


def batches(
    images: Images,
    batch_size: int,
    size: tuple[int, int],
    interpolation: str,
    *,
    num_threads: int,
) -> Iterator[UInt8[np.ndarray, "b h w 3"]]:
    """The images at `size` (height, width) in batches, the last one smaller; read ahead by threads."""
    if isinstance(images, np.ndarray) and images.shape[1:3] == tuple(size):
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size].astype(np.uint8, copy=False)
        return

    def read(number: int) -> UInt8[np.ndarray, "h w 3"]:
        return resize(pixels(images[number], f"image {number}"), size, interpolation)

    waiting: collections.deque[list[Future]] = collections.deque()
    with ThreadPoolExecutor(num_threads) as threads:
        try:
            for start in range(0, len(images), batch_size):
                numbers = range(start, min(start + batch_size, len(images)))
                waiting.append([threads.submit(read, number) for number in numbers])
                if len(waiting) > AHEAD:
                    yield np.stack([one.result() for one in waiting.popleft()])
            while waiting:
                yield np.stack([one.result() for one in waiting.popleft()])
        finally:
            for futures in waiting:  # after an error nothing more is read
                for one in futures:
                    one.cancel()


def check_box(box: Sequence[float] | np.ndarray, image: np.ndarray) -> None:
    """Raises ValueError for a box without area, or one that is not inside the image."""
    left, top, right, bottom = box
    height, width = image.shape[:2]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"the box {left:g},{top:g},{right:g},{bottom:g} is not inside the image of {width} x "
            f"{height} pixels; expected x0,y0,x1,y1 with x0 < x1 and y0 < y1"
        )
