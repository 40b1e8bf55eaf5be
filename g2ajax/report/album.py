"""Small copies of images for a page, each kept once."""

import io
from collections.abc import Callable, Hashable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

HEIGHT, WIDEST = 128, 224
"""Pixels of a small copy at most."""
QUALITY = 68


def small(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A copy of the image within `WIDEST` x `HEIGHT` pixels, as WebP."""
    picture = Image.fromarray(image)
    scale = min(HEIGHT / picture.height, WIDEST / picture.width, 1.0)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=QUALITY, method=2)
    return data.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of an encoded picture of ours."""
    return Image.open(io.BytesIO(data)).size


class Album:
    """The pictures of a page; one that is asked for again is the same picture."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []
        self._places: dict[Hashable, int] = {}

    def add(self, key: Hashable, image: Callable[[], UInt8[np.ndarray, "H W 3"]]) -> int:
        """The place of the picture of `key`; `image` is called only when it is new."""
        if key not in self._places:
            self._places[key] = len(self.pictures)
            self.pictures.append(small(image()))
        return self._places[key]

    def place(self, key: Hashable) -> int | None:
        """The place of the picture of `key`; None if it is not there."""
        return self._places.get(key)
