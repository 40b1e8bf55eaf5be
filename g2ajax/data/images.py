"""Encoded images to arrays, on the host."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image

try:
    import simplejpeg
except ImportError:  # an accelerator image without it: PIL gives the same pixels, more slowly
    simplejpeg = None

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def decode(data: bytes, name: str = "image") -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels of an encoded image. Raises ValueError naming the image if it is corrupt."""
    if not data:
        raise ValueError(f"{name} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if simplejpeg is not None and simplejpeg.is_jpeg(data):
                return simplejpeg.decode_jpeg(data, colorspace="RGB")
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} cannot be decoded ({len(data)} bytes): {error}; "
            "`python -m g2ajax verify` lists all such images"
        ) from error


def resize(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], interpolation: str = "bicubic"
) -> UInt8[np.ndarray, "h w 3"]:
    """The image at `size` (height, width), antialiased when it shrinks, as PIL does it."""
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    resized = Image.fromarray(image).resize((width, height), FILTERS[interpolation])
    return np.asarray(resized)
