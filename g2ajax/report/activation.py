"""Where a backbone answers: its last map summed over channels, as torchreid's tool shows it."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

GAP = 10
"""White pixels between two panels."""


def activation_map(feature_map: Float[np.ndarray, "B h w C"]) -> Float[np.ndarray, "B h w"]:
    """The sum of squares over channels, each image's map divided by its Euclidean norm."""
    energy = np.square(feature_map.astype(np.float32)).sum(-1)
    norm = np.sqrt(np.square(energy).sum((1, 2), keepdims=True))
    return energy / np.maximum(norm, 1e-12)


def to_bytes(maps: Float[np.ndarray, "B h w"], eps: float = 1e-12) -> UInt8[np.ndarray, "B h w"]:
    """Each map from its own minimum (0) to its maximum (255), rounded down; constant: all 0.

    So grey levels compare places within one map, never two maps.
    """
    low = maps.min((1, 2), keepdims=True)
    span = maps.max((1, 2), keepdims=True) - low
    return np.floor(255.0 * (maps - low) / (span + eps)).astype(np.uint8)


def panels(
    image: UInt8[np.ndarray, "H W 3"], activation: Float[np.ndarray, "h w"], alpha: float = 0.7
) -> UInt8[np.ndarray, "H W2 3"]:
    """The image, its activation map in the colours `jet`, and both blended, side by side.

    The map is enlarged bilinearly to the image before it is scaled; `alpha` is its weight in the
    blend. Raises ValueError for a map that is not finite.
    """
    if not np.isfinite(activation).all():
        raise ValueError(
            f"an activation map of shape {activation.shape} has values that are not finite; was "
            "the network's input normalised, and its checkpoint loaded?"
        )
    height, width, _ = image.shape
    small = Image.fromarray(activation.astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    colour = matplotlib.colormaps["jet"](to_bytes(large[None])[0])[..., :3] * 255.0
    blend = (1.0 - alpha) * image + alpha * colour
    white = np.full((height, GAP, 3), 255.0)
    row = np.concatenate([image, white, colour, white, blend], axis=1)
    return np.rint(row).astype(np.uint8)
