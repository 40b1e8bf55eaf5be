"""Distances between embeddings, in float32 at the highest matrix-product precision."""

import difflib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST
METRICS = ("cosine", "squared_euclidean", "euclidean")


def check_metric(metric: str) -> None:
    """Raises ValueError with the nearest known name unless `metric` is known."""
    if metric not in METRICS:
        close = difflib.get_close_matches(str(metric), METRICS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"metric {metric!r} is unknown; {hint}known: {', '.join(METRICS)}")


def unit(x: Float[Array | np.ndarray, "N D"], eps: float = 1e-12) -> Float[Array, "N D"]:
    """Rows divided by max(norm, eps), with a finite gradient at 0."""
    x = jnp.asarray(x, jnp.float32)
    square = jnp.sum(x * x, -1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, eps * eps))


def pairwise(
    query: Float[Array | np.ndarray, "Q D"],
    gallery: Float[Array | np.ndarray, "G D"],
    metric: str = "cosine",
    *,
    normalised: bool = False,
) -> Float[Array, "Q G"]:
    """Distance of every query to every gallery entry; smaller is more similar.

    `metric`: "cosine" is 1 − cos; "squared_euclidean" is |q|² + |g|² − 2 q·g, at least 0; "euclidean"
    is its root, with a finite gradient at 0 (clamped at 1e-12 inside the root). Codebases of the
    field often call the squared distance "euclidean"; the ranking is the same. `normalised`: rows
    have norm 1, so that "cosine" need not divide. Raises ValueError for an unknown metric.
    """
    check_metric(metric)
    query, gallery = jnp.asarray(query, jnp.float32), jnp.asarray(gallery, jnp.float32)
    if metric == "cosine":
        if not normalised:
            query, gallery = unit(query), unit(gallery)
        return 1.0 - jnp.matmul(query, gallery.T, precision=HIGHEST)
    product = jnp.matmul(query, gallery.T, precision=HIGHEST)
    square = (
        jnp.sum(query * query, -1)[:, None] + jnp.sum(gallery * gallery, -1)[None, :]
    ) - 2.0 * product
    if metric == "squared_euclidean":
        return jnp.maximum(square, 0.0)
    return jnp.sqrt(jnp.maximum(square, 1e-12))
