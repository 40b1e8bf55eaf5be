"""Annotated attributes as +1 (has it), −1 (has it not) and 0 (not annotated)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def signed(codes: Int[Array, "N G"], sizes: Sequence[int]) -> Float[Array, "N M"]:
    """One column for each class of each group, from the position of each row's class in its group.

    `sizes` are the groups' numbers of classes, M is their sum. A code of −1 (no class annotated, or
    several) makes its group's columns 0.
    """
    columns = []
    for group, size in enumerate(sizes):
        code = codes[:, group, None]
        has = jnp.where(code == jnp.arange(size)[None], 1.0, -1.0)
        columns.append(jnp.where(code < 0, 0.0, has))
    return jnp.concatenate(columns, axis=1)
