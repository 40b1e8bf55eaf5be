"""Repeated search in one gallery, which is checked, normalised and placed once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from g2ajax.retrieval.distances import check_metric, pairwise, unit
from g2ajax.retrieval.search import Neighbours, check_count, check_features, check_pair, top


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Gallery embeddings on the device, of norm 1 for "cosine"."""

    features: Float[Array, "G D"]
    metric: str

    def __len__(self) -> int:
        return len(self.features)


def prepare(features: Float[Array | np.ndarray, "G D"], metric: str = "cosine") -> Prepared:
    """Prepares a gallery that fits the device for `search_prepared`.

    Raises ValueError for an unknown metric and for empty or not finite embeddings.
    """
    check_metric(metric)
    check_features(features, "gallery")
    if not len(features):
        raise ValueError("the gallery is empty")
    features = jnp.asarray(features, jnp.float32)
    return Prepared(unit(features) if metric == "cosine" else features, metric)


def search_prepared(
    queries: Float[Array | np.ndarray, "Q D"], gallery: Prepared, k: int
) -> Neighbours:
    """The k nearest gallery entries of every query, as `search`; all Q × G distances exist at once.

    Raises ValueError for k outside 1..G, and for queries that are empty, not finite or of another
    width.
    """
    check_features(queries, "query")
    if not len(queries):
        raise ValueError("there are no queries")
    check_pair(queries, gallery.features)
    check_count("k", k, len(gallery))
    distance, index = _nearest(
        jnp.asarray(queries, jnp.float32), gallery.features, k=k, metric=gallery.metric
    )
    return Neighbours(np.asarray(index).astype(np.int64), np.asarray(distance))


@functools.partial(jax.jit, static_argnames=("k", "metric"))
def _nearest(
    queries: Float[Array, "Q D"], gallery: Float[Array, "G D"], *, k: int, metric: str
) -> tuple[Float[Array, "Q K"], Int[Array, "Q K"]]:
    if metric == "cosine":
        queries = unit(queries)
    return top(pairwise(queries, gallery, metric, normalised=True), k)
