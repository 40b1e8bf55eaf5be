"""Query expansion: replaces an embedding by a mean over the embeddings most similar to it."""

import math

import numpy as np
from jaxtyping import Float

from g2ajax.retrieval.inputs import (
    PLAIN,
    Features,
    Whole,
    check_pair,
    count,
    read_features,
    rounded,
)
from g2ajax.retrieval.search import search


def expand(
    query: Features,
    gallery: Features,
    *,
    k: Whole = 5,
    alpha: int | float = 3.0,
    times: Whole = 1,
    block_size: Whole = 256,
) -> tuple[Float[np.ndarray, "Q D"], Float[np.ndarray, "G D"]]:
    """Weighted average query expansion of queries and gallery together.

    Every embedding becomes the mean of cos^alpha × embedding over its k most similar embeddings (by
    cosine, itself included). The result is not normalised. Use it before computing distances and
    before re-ranking. Chum et al., "Total recall", ICCV 2007, with the weights of Radenovic et al.,
    "Fine-tuning CNN image retrieval", TPAMI 2019, on both sides as in fast-reid.

    Args:
      query: embeddings [Q, D]; gallery: [G, D]; from the network, of any norm.
      k: number of neighbours, at most Q + G.
      alpha: exponent of the cosine; a whole number, because a cosine may be negative.
      times: how often the expansion is repeated.
      block_size: memory is about `block_size` × 16384 × 4 bytes besides the embeddings.

    Raises ValueError for k, alpha or times out of range, and for embeddings that are empty, not
    finite, of different widths or beyond the range of float32.
    """
    query, gallery = read_features(query, "query"), read_features(gallery, "gallery")
    check_pair(query.width, gallery.width)
    check_expansion(len(query), len(gallery), k, alpha, times)
    block_size = count("block_size", block_size)
    exponent = _mean_exponent(query.magnitudes, gallery.magnitudes)
    sides = [np.asarray(side.scaled(exponent)) for side in (query, gallery)]
    embeddings = np.concatenate(sides)
    for _ in range(int(times)):
        neighbours = search(embeddings, embeddings, k, metric="cosine", block_size=block_size)
        # A cosine rounded to more than 1 has powers without end.
        with np.errstate(over="ignore"):
            weight = (1.0 - neighbours.distance) ** int(alpha) / int(k)
        if not np.isfinite(weight).all():
            raise ValueError(f"alpha is {alpha}: float32 does not hold such powers of a cosine")
        expanded = np.empty_like(embeddings)
        for start in range(0, len(embeddings), block_size):
            rows = slice(start, start + block_size)
            expanded[rows] = np.einsum(
                "nk,nkd->nd", weight[rows], embeddings[neighbours.index[rows]]
            )
        embeddings = expanded
    if exponent:
        embeddings = rounded(np.ldexp(embeddings.astype(np.float64), exponent))
    return embeddings[: len(query)], embeddings[len(query) :]


def _mean_exponent(*ranges: tuple[float, float]) -> int:
    """Exponent of the power of 2 by which embeddings are divided before means are taken.

    Raises ValueError for embeddings beyond the range of float32, as their means would be.
    """
    largest, smallest = max(r[0] for r in ranges), min(r[1] for r in ranges)
    least, most = PLAIN
    if not largest or (largest <= most and smallest >= least):
        return 0
    # Room for sums above, and for the components of the smallest row below.
    exponent = math.frexp(largest)[1] - 60
    if largest >= 2.0**127 or smallest < 2.0**-125 or math.ldexp(smallest, -exponent) < 2.0**-100:
        raise ValueError(
            f"embeddings of magnitudes from {smallest:.3g} to {largest:.3g}: float32 does not hold means "
            "of both; divide each embedding by its norm, or leave out broken rows"
        )
    return exponent


def check_expansion(
    queries: int, entries: int, k: Whole, alpha: int | float, times: Whole = 1
) -> None:
    """Raises ValueError if `expand` cannot use these options for that many embeddings."""
    if not queries or not entries:
        raise ValueError(f"{queries} queries and {entries} gallery entries: both are needed")
    total = queries + entries
    k = count("k", k)
    count("times", times)
    if k > total:
        raise ValueError(f"k is {k}, but there are only {total} embeddings: at most {total}")
    if alpha < 0 or not float(alpha).is_integer():
        raise ValueError(
            f"alpha is {alpha}; it must be a whole number, 0 or more: negative cosines have no other "
            "power"
        )
