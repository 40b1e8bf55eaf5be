"""Repeated search in one gallery, which is checked, normalised and placed once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g2ajax.retrieval.distances import check_metric, pairwise, unit
from g2ajax.retrieval.inputs import (
    Features,
    Whole,
    check_pair,
    common_exponent,
    count,
    read_features,
    rounded,
    unscaled,
)
from g2ajax.retrieval.labels import Flags, flags
from g2ajax.retrieval.search import Neighbours, top


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Gallery embeddings on the device, of norm 1 for "cosine"."""

    features: Float[Array, "G D"]
    metric: str
    exponent: int = 0
    """The embeddings are divided by 2 to this power."""
    magnitudes: tuple[float, float] = (1.0, 1.0)
    """Largest component of the largest row and of the smallest one, before that division; not needed for
    "cosine"."""

    def __len__(self) -> int:
        return len(self.features)


def prepare(features: Features, metric: str = "cosine") -> Prepared:
    """Prepares a gallery that fits the device for `search_prepared`.

    Raises ValueError for an unknown metric, for empty or not finite embeddings, and for magnitudes so far
    apart that float32 does not hold the squares of both.
    """
    check_metric(metric)
    entries = read_features(features, "gallery")
    if not len(entries):
        raise ValueError("the gallery is empty")
    if metric == "cosine":
        return Prepared(unit(entries.directions()), metric)
    exponent = common_exponent(metric, entries.width, entries.magnitudes)
    features = jnp.asarray(entries.scaled(exponent))
    return Prepared(features, metric, exponent, entries.magnitudes)


def search_prepared(
    queries: Features,
    gallery: Prepared,
    k: Whole,
    *,
    among: Flags | None = None,
) -> Neighbours:
    """The k nearest gallery entries of every query, as `search`; all Q × G distances exist at once.

    `among`: the entries that may be found, as booleans [G]; None: all. Where they are fewer than k, all
    of them are found.

    Raises ValueError for k outside 1..G, for `among` of another length or kind, for queries that are
    empty, not finite or of another width, and for magnitudes too far from the gallery's for float32.
    """
    queries = read_features(queries, "query")
    if not len(queries):
        raise ValueError("there are no queries")
    check_pair(queries.width, gallery.features.shape[1])
    k = count("k", k, len(gallery))
    metric, entries, exponent = gallery.metric, gallery.features, 0
    if metric == "cosine":
        rows = queries.directions()
    else:
        exponent = common_exponent(metric, queries.width, queries.magnitudes, gallery.magnitudes)
        rows = queries.scaled(exponent)
        if exponent != gallery.exponent:
            entries = jnp.ldexp(entries, gallery.exponent - exponent)
    everything = np.ones(len(gallery), bool)
    allowed = everything if among is None else flags(among, len(gallery), "among")
    distance, index = _nearest(jnp.asarray(rows), entries, allowed, k=k, metric=metric)
    # Entries that may not be found rank last; `k` is static, so that few are compiled.
    kept = min(k, int(allowed.sum()))
    distance, index = distance[:, :kept], index[:, :kept]
    distance = rounded(unscaled(np.asarray(distance), metric, exponent))
    return Neighbours(np.asarray(index).astype(np.int64), distance)


@functools.partial(jax.jit, static_argnames=("k", "metric"))
def _nearest(
    queries: Float[Array, "Q D"],
    gallery: Float[Array, "G D"],
    among: Bool[Array, " G"],
    *,
    k: int,
    metric: str,
) -> tuple[Float[Array, "Q K"], Int[Array, "Q K"]]:
    if metric == "cosine":
        queries = unit(queries)
    distance = pairwise(queries, gallery, metric, normalised=True)
    return top(jnp.where(among[None, :], distance, jnp.inf), k)
