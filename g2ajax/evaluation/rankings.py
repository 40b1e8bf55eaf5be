"""The rankings of a gallery, by name, and the distances of the explained rankings.

d is the distance of two images, d^k their distance under attribute k, s^k = d^k / Σ d^k its share
(Chen et al., ICCV 2021; the variants are those of its evaluation code):

- `reid`: the method's own distance;
- `query_expansion`, `rerank`, `query_expansion_rerank`: average query expansion, k-reciprocal
  re-ranking, and one after the other, of the method's own embeddings (`evaluation.embedded`);
- `distance`: d, Euclidean, of features that are not normalised; the d^k explain it;
- `decomposed`: Σ_k d^k, "+ Explainable" in AG-ReID's Table III;
- `reweighted_max`: d (1 + w max_k s^k);
- `reweighted_exclusive`: d (1 + w Σ_k s^k u^k), u^k the disagreement of the query's ANNOTATED with
  the gallery's predicted attributes. It uses more than the images, so its results form a
  protocol of their own. The reference chooses w by rank-1 on the test set; here it is a constant of
  the configuration.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from g2ajax.config import nearest
from g2ajax.evaluation.embedded import EMBEDDED
from g2ajax.evaluation.explanation import distance_gap, pair_sums
from g2ajax.methods import Explains, PredictsAttributes
from g2ajax.retrieval.decomposition import exclusive_share, largest_share, reweighted

# Ranking → the capability that it needs of a method besides embedding crops.
REQUIREMENTS: dict[str, type | None] = {
    **dict.fromkeys(EMBEDDED),
    "distance": Explains,
    "decomposed": Explains,
    "reweighted_max": Explains,
    "reweighted_exclusive": PredictsAttributes,
}
ANNOTATED = ("reweighted_exclusive",)
HIGHEST = jax.lax.Precision.HIGHEST


def requirement(ranking: str) -> type | None:
    """The capability that a ranking needs of a method. Raises ValueError for an unknown ranking."""
    if ranking not in REQUIREMENTS:
        raise ValueError(f"no ranking {ranking!r}; {nearest(ranking, REQUIREMENTS)}")
    return REQUIREMENTS[ranking]


def described(ranking: str, weight: float) -> str:
    """The distance of a ranking for a table's head."""
    return {
        "distance": "euclidean",
        "decomposed": "sum of euclidean over attributes",
        "reweighted_max": f"euclidean x (1 + {weight:g} largest share)",
        "reweighted_exclusive": f"euclidean x (1 + {weight:g} exclusive share, query annotated)",
    }[ranking]


class Side(NamedTuple):
    """One side of a comparison: embeddings and attributes of its images, row for row."""

    embedding: Float[Array | np.ndarray, "N D"]
    attribute_embedding: Float[Array | np.ndarray, "N M D"]
    attributes: Num[Array | np.ndarray, "N M"]
    """Annotated: +1, −1 and 0 (not annotated)."""
    prediction: Num[Array | np.ndarray, "N M"] | None = None
    """Predicted: 1 and 0."""


class Compared(NamedTuple):
    """Queries against the whole gallery."""

    distances: Mapping[str, Float[np.ndarray, "Q G"]]
    """Distances by ranking."""
    pairs: Mapping[str, Float[np.ndarray, " Q"]]
    """Each query's sums over the gallery, as of `explanation.pair_sums`; empty if not measured."""
    gap: Mapping[str, Float[np.ndarray, " Q"]]
    """Each query's sum of |d − mean_k d^k| / d over the gallery, and the number of its pairs."""


def between(
    query: Float[Array | np.ndarray, "Q M D"], gallery: Float[Array | np.ndarray, "G M D"]
) -> Float[Array, "Q G M"]:
    """Euclidean distances attribute by attribute, float32 at full precision."""
    center = jnp.mean(query, 0, keepdims=True)  # near the origin the squares cancel less
    query, gallery = query - center, gallery - center
    gram = jnp.einsum("qmd,gmd->qgm", query, gallery, precision=HIGHEST)
    squares = jnp.sum(query * query, -1)[:, None] + jnp.sum(gallery * gallery, -1)[None]
    return jnp.sqrt(jnp.maximum(squares - 2.0 * gram, 1e-12))


def make_compare(
    rankings: Iterable[str], weight: float, *, measure: bool
) -> Callable[[Side, Side, Bool[Array, " G"]], tuple[dict[str, Array], ...]]:
    """The jitted comparison of queries with a block of the gallery, `(query, gallery, mask) ->
    (distances, pairs, gap)`. `measure` adds the sums of the explanation metrics (they cost two
    sorts of [Q, G, M]).
    """
    rankings = tuple(rankings)

    def compare(query: Side, gallery: Side, mask: Bool[Array, " G"]):
        distance = between(query.embedding[:, None], gallery.embedding[:, None])[..., 0]
        attribute_distance = between(query.attribute_embedding, gallery.attribute_embedding)
        distances = {"distance": distance, "decomposed": jnp.sum(attribute_distance, -1)}
        if "reweighted_max" in rankings:
            evidence = largest_share(attribute_distance)
            distances["reweighted_max"] = reweighted(distance, evidence, weight)
        if "reweighted_exclusive" in rankings:
            evidence = exclusive_share(attribute_distance, query.attributes, gallery.prediction)
            distances["reweighted_exclusive"] = reweighted(distance, evidence, weight)
        valid = jnp.broadcast_to(mask[None], distance.shape)
        mean = jnp.mean(attribute_distance, -1)
        gap = jax.vmap(distance_gap)(distance, mean, valid)
        pairs = {}
        if measure:
            annotated = query.attributes, gallery.attributes
            pairs = pair_sums(attribute_distance, *annotated, valid, by_query=True)
        return {name: distances[name] for name in rankings}, pairs, gap

    return jax.jit(compare)


def compare(
    query: Side,
    gallery: Iterable[tuple[Side, Bool[np.ndarray, " B"]]],
    rankings: Iterable[str],
    *,
    weight: float = 1.0,
    measure: bool = True,
    queries: int = 256,
) -> Compared:
    """Distances of queries to a gallery that comes in blocks `(side, mask)`, the last one padded.

    Only the queries' attribute features are held ([Q, M, D]); `queries` of them are compared with a
    block at a time.
    """
    rankings = tuple(rankings)
    block_of = make_compare(rankings, weight, measure=measure)
    total = len(query.embedding)
    pieces = [
        jax.tree.map(lambda x, s=s: x[s : s + queries], query) for s in range(0, total, queries)
    ]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in rankings}
    totals: list[dict[str, np.ndarray]] = [{}, {}]
    for side, mask in gallery:
        results = [block_of(piece, side, jnp.asarray(mask)) for piece in pieces]
        valid = np.asarray(mask)
        for name in rankings:
            rows = np.concatenate([np.asarray(part[0][name]) for part in results])
            columns[name].append(rows[:, valid])
        for place, total in enumerate(totals, start=1):
            for name in results[0][place]:
                values = np.concatenate([np.asarray(part[place][name]) for part in results])
                total[name] = total.get(name, 0.0) + values.astype(np.float64)
    return Compared(
        {name: np.concatenate(parts, axis=1) for name, parts in columns.items()}, *totals
    )
