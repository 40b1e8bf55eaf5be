"""Encoded images to arrays, on the host."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from g2ajax.config import nearest

try:
    import simplejpeg
except ImportError:  # an accelerator image without it: PIL gives the same pixels, more slowly
    simplejpeg = None

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def decode(data: bytes, name: str = "image") -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels of an encoded image, turned upright if its EXIF data say so.

    Raises ValueError naming the image if it is empty, corrupt or far too large for a crop.
    """
    if not data:
        raise ValueError(f"{name} is empty (0 bytes)")
    try:
        # simplejpeg knows nothing of EXIF; the few files that have it are PIL's.
        if simplejpeg is not None and simplejpeg.is_jpeg(data) and b"Exif\0\0" not in data[:4096]:
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        image = Image.open(io.BytesIO(data))
        # PIL itself only warns here, and filters for warnings are not safe in reader threads.
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are no crop")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # damaged data makes PIL raise errors of many kinds
        raise ValueError(
            f"{name} cannot be decoded ({len(data)} bytes): {error}; "
            "`g2ajax verify` lists all such images"
        ) from error


def resize(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], interpolation: str = "bicubic"
) -> UInt8[np.ndarray, "h w 3"]:
    """The image at `size` (height, width), antialiased when it shrinks, as PIL does it.

    Raises ValueError for an unknown interpolation.
    """
    if interpolation not in FILTERS:
        raise ValueError(f"no interpolation {interpolation!r}; {nearest(interpolation, FILTERS)}")
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    resized = Image.fromarray(image).resize((width, height), FILTERS[interpolation])
    return np.asarray(resized)
