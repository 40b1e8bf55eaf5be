"""Attention over an image: one hue, laid over the image's luminance so that the person stays visible."""

import numpy as np
from jaxtyping import Float, UInt8

HUE = np.array([255.0, 106.0, 0.0])
"""Colour of the highest value."""
STRENGTH = 0.7
"""Weight of the colour there; below, the weight falls with the value."""
LUMA = np.array([0.299, 0.587, 0.114])


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    attention: Float[np.ndarray, "h w"],
    low: float,
    top: float,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws a map over its image in shades of one hue, from `low` (the grey image) to `top`.

    Maps with one scale can be compared. The map is resized bilinearly (half-pixel centres, edges
    repeated); values beyond the scale count as its end. Raises ValueError for a map that is not finite.
    """
    if not np.isfinite(attention).all():
        raise ValueError(
            f"an attention map of shape {attention.shape} has values that are not finite"
        )
    rows, columns = (
        _bilinear(small, large)
        for small, large in zip(attention.shape, image.shape[:2], strict=True)
    )
    value = rows @ attention.astype(np.float64) @ columns.T
    weight = STRENGTH * np.clip((value - low) / max(top - low, 1e-12), 0.0, 1.0)[..., None]
    grey = (image @ LUMA)[..., None]
    return np.rint((1.0 - weight) * grey + weight * HUE).astype(np.uint8)


def _bilinear(small: int, large: int) -> Float[np.ndarray, "large small"]:
    """Weights to resize an axis; pixel i of the large one lies at (i + ½) small / large − ½."""
    place = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(small)))
