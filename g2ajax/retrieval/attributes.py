"""Attributes as +1 (present), −1 (absent) and 0 (not annotated)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def signed(codes: Int[Array, "N G"], sizes: Sequence[int]) -> Float[Array, "N M"]:
    """Converts class codes, one a group, to M columns of +1, −1 and 0, one a class.

    A code is the position of the class in its group; `sizes` are the numbers of classes of the
    groups, M is their sum. A code of −1 (no class annotated, or several) gives zeros.
    """
    columns = []
    for group, size in enumerate(sizes):
        code = codes[:, group, None]
        has = jnp.where(code == jnp.arange(size)[None], 1.0, -1.0)
        columns.append(jnp.where(code < 0, 0.0, has))
    return jnp.concatenate(columns, axis=1)
