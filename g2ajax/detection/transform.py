"""Sizes of the detectors' resize: short side to a minimum, long side at most a maximum, then padding."""

import math
from collections.abc import Sequence

MIN_SIZE, MAX_SIZE = 900, 1500
BUCKETS = ((928, 1504), (1504, 928))
"""Canvases for every image resized to MIN_SIZE and MAX_SIZE; multiples of 32."""

Size = tuple[int, int]


def resized_size(
    height: int, width: int, min_size: int = MIN_SIZE, max_size: int = MAX_SIZE
) -> Size:
    """Size (⌊height s⌋, ⌊width s⌋) for s = min(min_size / short side, max_size / long side).

    Computed in double precision, as in torchvision before and after 0.11, whose float32 loses a
    pixel for some sizes. Raises ValueError for an image that would have no pixels.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} pixels cannot be resized")
    scale = min(min_size / min(height, width), max_size / max(height, width))
    size = math.floor(height * scale), math.floor(width * scale)
    if min(size) < 1:
        raise ValueError(
            f"an image of {height} x {width} pixels has no pixels left with a long side of "
            f"{max_size}; cut it into parts"
        )
    return size


def bucket_of(size: Size, buckets: Sequence[Size]) -> int:
    """Index of the smallest canvas in `buckets` that holds an image of `size`.

    Raises ValueError if none does.
    """
    fitting = [
        (height * width, index)
        for index, (height, width) in enumerate(buckets)
        if height >= size[0] and width >= size[1]
    ]
    if not fitting:
        raise ValueError(
            f"an image of {size[0]} x {size[1]} pixels fits none of the canvases {list(buckets)}; "
            "add a larger one or lower the maximal size"
        )
    return min(fitting)[1]
