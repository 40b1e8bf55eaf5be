"""Surface colours: patterns of garments, in the local coordinates of their shapes."""

import numpy as np
from jaxtyping import Float, Int

from g2ajax.synthetic import skeleton as s
from g2ajax.synthetic.skeleton import Shapes


def _stripe(x: np.ndarray, period: np.ndarray) -> np.ndarray:
    u = x / period
    return (u - np.floor(u)) < np.float32(0.42)


def surface(
    shapes: Shapes, number: Int[np.ndarray, "n"], p: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Albedo of surface points; `p`: local coordinates of each point, `number`: its shape."""
    material = shapes.material[number]
    metres = shapes.scale.astype(np.float32)
    x, y = p[:, 0] * metres[number, 0], p[:, 1]
    z = p[:, 2] * metres[number, 2] + shapes.offset.astype(np.float32)[number]
    figures = shapes.figures.astype(np.float32)
    size = figures[material, 0]
    pattern = shapes.pattern[material]
    second = np.zeros(len(material), bool)
    present = set(np.unique(pattern).tolist())
    if s.HORIZONTAL in present:
        second |= (pattern == s.HORIZONTAL) & _stripe(z, size)
    if s.VERTICAL in present:
        second |= (pattern == s.VERTICAL) & _stripe(x + size * np.float32(0.21), size)
    if s.CHECK in present:
        second |= (pattern == s.CHECK) & (_stripe(x, size) ^ _stripe(z, size))
    if s.LOGO in present:
        figure = figures[material]
        width = np.where(y > 0, figure[:, 3], figure[:, 3] * np.float32(1.7))
        inside = np.abs(x - np.where(y > 0, figure[:, 1], 0)) < width
        second |= (
            (pattern == s.LOGO) & inside & (np.abs(z - figure[:, 2]) < width * np.float32(0.6))
        )
    if s.TWO_TONE in present:
        second |= (pattern == s.TWO_TONE) & (z < size * np.float32(1.6))
    if s.OPEN in present:
        second |= (
            (pattern == s.OPEN) & (y > 0) & (np.abs(x) < np.float32(0.028) + z * np.float32(0.07))
        )
    if s.SUIT in present:
        vee = (np.abs(x) < (z - np.float32(0.12)) * np.float32(0.22)) & (y > 0)
        second |= (pattern == s.SUIT) & vee & (np.abs(x) > np.float32(0.016))
    if s.SIDE in present:
        second |= (pattern == s.SIDE) & (np.abs(y) < np.float32(0.018)) & (np.abs(x) > 0.02)
    if s.BUTTONS in present:
        second |= (pattern == s.BUTTONS) & (y > 0) & (np.abs(x) < np.float32(0.013))
    if s.POCKET in present:
        pocket = (
            (y < 0)
            & (np.abs(p[:, 0]) < np.float32(0.7))
            & (p[:, 2] < np.float32(-0.05))
            & (p[:, 2] > np.float32(-0.75))
        )
        second |= (pattern == s.POCKET) & (
            pocket | (np.abs(p[:, 2] - np.float32(0.45)) < np.float32(0.05))
        )
    colours = shapes.colours.astype(np.float32)[material, second.astype(np.int8)]
    if s.JEANS in present:
        faded = np.where((pattern == s.JEANS) & (y > 0), np.float32(1.22), np.float32(1.0))
        colours = colours * faded[:, None]
    # Folds: broad light and dark bands across the cloth.
    fold = (z * np.float32(8.0) + x * np.float32(9.0)) % np.float32(1.0)
    fold = np.abs(fold - np.float32(0.5)) * np.float32(0.18) + np.float32(0.955)
    part = shapes.part[number]
    cloth = (part == s.UPPER) | (part == s.LOWER) | (part == s.HAIR)
    return colours * np.where(cloth, fold, np.float32(1.0))[:, None]
