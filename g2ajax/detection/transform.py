"""The detectors' resize: short side to a minimum, long side at most a maximum, then padding.

Runs resize on the host (`g2ajax.data.frames`); `resize_and_pad` and `rescale_boxes` do the same on the
device, for users of torchvision's transform.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

MIN_SIZE, MAX_SIZE = 900, 1500
BUCKETS = ((928, 1504), (1504, 928))
"""Canvases for every image resized to MIN_SIZE and MAX_SIZE; multiples of 32."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

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


def resize_and_pad(
    image: Float[Array, "H W C"] | UInt8[Array, "H W C"],
    size: Int[Array, "2"],
    new_size: Int[Array, "2"],
    canvas: Size,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Float[Array, "h w C"]:
    """Resizes and normalises the upper left `size` (height, width) of `image`, on a canvas of zeros.

    `image` is uint8, or float in [0, 1]; it may be padded, so that images of many sizes share one
    compilation. `size` and `new_size` are traced, `canvas` = (h, w) is static. Bilinear with
    half-pixel centres and without antialiasing, also when shrinking, as in the reference, whose
    checkpoints expect it. The result is float32.

    The reference normalises first and then resizes. Both are linear; here the smaller image is
    normalised.
    """
    image = image.astype(jnp.float32) / 255.0 if image.dtype == jnp.uint8 else image
    image = image.astype(jnp.float32)
    for axis in (0, 1):
        image = _interpolate(image, axis, size[axis], new_size[axis], canvas[axis])
    image = (image - _channels(mean)) / _channels(std)
    inside = (jnp.arange(canvas[0]) < new_size[0])[:, None]
    inside = inside & (jnp.arange(canvas[1]) < new_size[1])[None, :]
    return jnp.where(inside[..., None], image, 0.0)


def rescale_boxes(
    boxes: Float[Array, "N 4"], size: Int[Array, "2"], new_size: Int[Array, "2"]
) -> Float[Array, "N 4"]:
    """Scales the boxes of an image of `size` (height, width) to the image resized to `new_size`.

    Uses the exact ratio of each axis, not the nominal scale.
    """
    ratio = new_size.astype(jnp.float32) / size.astype(jnp.float32)
    return boxes.astype(jnp.float32) * jnp.stack([ratio[1], ratio[0], ratio[1], ratio[0]])[None]


def _interpolate(
    image: Float[Array, "H W C"], axis: int, old: Int[Array, ""], new: Int[Array, ""], length: int
) -> Float[Array, "_h _w C"]:
    ratio = old.astype(jnp.float32) / new.astype(jnp.float32)
    source = jnp.maximum((jnp.arange(length, dtype=jnp.float32) + 0.5) * ratio - 0.5, 0.0)
    low = jnp.minimum(jnp.floor(source).astype(jnp.int32), old - 1)
    high = jnp.minimum(low + 1, old - 1)
    share = jnp.minimum(source - low, 1.0)
    share = share[:, None, None] if axis == 0 else share[None, :, None]
    first, second = jnp.take(image, low, axis=axis), jnp.take(image, high, axis=axis)
    return first * (1.0 - share) + second * share


def _channels(values: Sequence[float]) -> Float[Array, "1 1 C"]:
    return jnp.asarray(np.asarray(values, np.float32))[None, None]
