"""Losses over all pairs of a batch in blocks of rows, so that no array of all pairs exists."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, Shaped

# Up to so many rows all pairs are at most 1 MiB in float32, and a loop gains nothing.
ROWS = 512


def over_rows(
    function: Callable[..., PyTree[Array]], *rows: Shaped[Array, "B ..."], block: int = ROWS
) -> Any:
    """`function(*rows)`, which treats every row on its own, for at most `block` rows at a time.

    Intermediate values of all rows need not fit in memory together: the backward pass computes each block
    again. Arrays of the result have a first axis of B as well. A
    batch of at most `block` rows is one call.
    """
    count = len(rows[0])
    blocks = -(-count // block)
    if blocks == 1:
        return function(*rows)

    def split(x: Shaped[Array, "B ..."]) -> Shaped[Array, "blocks rows ..."]:
        # The last row once more where the blocks are larger than the batch: what is computed from
        # it is cut off again, and no made-up value can give a gradient that is not a number.
        x = jnp.pad(x, ((0, -count % blocks), *((0, 0),) * (x.ndim - 1)), mode="edge")
        # A block takes every `blocks`-th row, and so rows of each device of a mesh.
        return x.reshape(-1, blocks, *x.shape[1:]).swapaxes(0, 1)

    @jax.checkpoint
    def one(parts: tuple[Array, ...]) -> PyTree[Array]:
        return function(*parts)

    out = jax.lax.map(one, tuple(map(split, rows)))
    return jax.tree.map(lambda y: y.swapaxes(0, 1).reshape(-1, *y.shape[2:])[:count], out)
