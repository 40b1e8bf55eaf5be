"""Activation maps of a backbone, as torchreid's `visualize_actmap` computes them.

For users who come from torchreid; the pages of this package show `overlay.overlay` instead.
"""

import numpy as np
from jaxtyping import Float, UInt8


def activation_map(feature_map: Float[np.ndarray, "B h w C"]) -> Float[np.ndarray, "B h w"]:
    """Sum of squares over channels; each image's map is divided by its Euclidean norm."""
    energy = np.square(feature_map.astype(np.float32)).sum(-1)
    norm = np.sqrt(np.square(energy).sum((1, 2), keepdims=True))
    return energy / np.maximum(norm, 1e-12)


def to_bytes(maps: Float[np.ndarray, "B h w"], eps: float = 1e-12) -> UInt8[np.ndarray, "B h w"]:
    """Scales each map from its minimum (0) to its maximum (255), rounded down; a constant map is 0.

    Grey levels compare places within one map, not between maps.
    """
    low = maps.min((1, 2), keepdims=True)
    span = maps.max((1, 2), keepdims=True) - low
    return np.floor(255.0 * (maps - low) / (span + eps)).astype(np.uint8)
