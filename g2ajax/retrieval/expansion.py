"""Query expansion: replaces an embedding by a mean over the embeddings most similar to it."""

import numpy as np
from jaxtyping import Float

from g2ajax.retrieval.search import AnyFloat, check_count, check_features, check_pair, search


def expand(
    query: AnyFloat,
    gallery: AnyFloat,
    *,
    k: int = 5,
    alpha: int | float = 3.0,
    times: int = 1,
    block_size: int = 256,
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
    finite or of different widths.
    """
    query, gallery = check_features(query, "query"), check_features(gallery, "gallery")
    check_pair(query, gallery)
    check_expansion(len(query), len(gallery), k, alpha, times)
    count = len(query) + len(gallery)
    embeddings = np.concatenate([np.asarray(query, np.float32), np.asarray(gallery, np.float32)])
    for _ in range(times):
        neighbours = search(embeddings, embeddings, k, metric="cosine", block_size=block_size)
        weight = (1.0 - neighbours.distance) ** int(alpha) / k
        expanded = np.empty_like(embeddings)
        for start in range(0, count, block_size):
            rows = slice(start, start + block_size)
            expanded[rows] = np.einsum(
                "nk,nkd->nd", weight[rows], embeddings[neighbours.index[rows]]
            )
        embeddings = expanded
    return embeddings[: len(query)], embeddings[len(query) :]


def check_expansion(queries: int, entries: int, k: int, alpha: int | float, times: int = 1) -> None:
    """Raises ValueError if `expand` cannot use these options for that many embeddings."""
    if not queries or not entries:
        raise ValueError(f"{queries} queries and {entries} gallery entries: both are needed")
    count = queries + entries
    check_count("k", k)
    check_count("times", times)
    if k > count:
        raise ValueError(f"k is {k}, but there are only {count} embeddings: at most {count}")
    if alpha < 0 or not float(alpha).is_integer():
        raise ValueError(
            f"alpha is {alpha}; it must be a whole number, 0 or more: negative cosines have no other "
            "power"
        )
