"""A tracklet as one picture: some of its images side by side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

HEIGHT = 288
"""Pixels of a strip's height."""
GAP = 4
"""Pixels of white between its images."""
WIDEST = 3
"""Most widths of a strip in its heights; a page shows no wider picture undistorted."""


def strip(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], height: int = HEIGHT
) -> UInt8[np.ndarray, "h w 3"]:
    """The images at one height in order, with white between them; of more than fit into `WIDEST` as
    many as do, evenly spaced. Raises ValueError without images.
    """
    if not len(images):
        raise ValueError("a strip of no images; give one or more")
    widths = [max(1, round(image.shape[1] * height / image.shape[0])) for image in images]
    places = np.arange(len(images))
    while len(places) > 1 and sum(widths[i] + GAP for i in places) - GAP > WIDEST * height:
        places = np.linspace(0, len(images) - 1, len(places) - 1).round().astype(int)
    parts = []
    for i in places:
        picture = Image.fromarray(images[i]).resize((widths[i], height), Image.Resampling.BICUBIC)
        parts += [np.full((height, GAP, 3), 255, np.uint8), np.asarray(picture)]
    return np.concatenate(parts[1:], axis=1)
