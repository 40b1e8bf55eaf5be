"""The position table of a transformer's file, fitted to a network of other patches or tokens."""

from collections.abc import Container, Sequence

import numpy as np
from jaxtyping import Float

from g2ajax.interop.families import Family
from g2ajax.nn.patches import resize_pos_embed


def fit_positions(
    table: Float[np.ndarray, "1 T D"],
    grid: tuple[int, int],
    tokens: Sequence[str],
    *,
    family: Family,
    names: Container[str],
    old_grid: tuple[int, ...],
    notes: list[str],
) -> Float[np.ndarray, "1 T2 D"]:
    """A file's position table for a network with a grid of (rows, columns) patches.

    `tokens`: our names of the network's special tokens behind the class token. A token
    missing from the file (`names`: our names of its tensors) gets the position of the first patch.
    `old_grid`: the file's grid, if known. Changes are described in `notes`.

    Raises ValueError for a table that is no grid and of no known size.
    """
    table = np.asarray(table, np.float32)
    if family.distilled:
        table = np.concatenate([table[:, :1], table[:, 2:]], 1)
    new = [name for name in tokens if name not in names]
    special = 1 + len(tokens) - len(new)
    places = table.shape[1] - special
    side = round(places**0.5)
    # A table that is not square has been resized already, by whoever fine-tuned the file.
    if not old_grid and family.square_grid and side * side == places:
        old_grid = (side, side)
    same = tuple(old_grid) == grid or (not old_grid and places == grid[0] * grid[1])
    if same and not new:
        return table
    try:
        resized = resize_pos_embed(
            table,
            grid,
            class_tokens=special,
            extra_tokens=len(new),
            old_grid=grid if same else tuple(old_grid) or None,
        )
    except ValueError as error:
        raise ValueError(f"{error}; say so in init.position_grid") from error
    size = "x".join(map(str, old_grid)) if old_grid else f"{places} places"
    if not same:
        notes.append(f"positions resized from {size} to {grid[0]}x{grid[1]}")
    notes += [f"{name} is not in the file and gets the first patch's position" for name in new]
    return np.asarray(resized)
