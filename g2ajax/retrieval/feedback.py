"""Relevance feedback: a query that has been moved by the answers marked right and wrong."""

import numpy as np
from jaxtyping import Float, Float32

ALPHA, BETA, GAMMA = 1.0, 0.75, 0.15
"""Weights of the query, of the right answers and of the wrong ones."""


def rocchio(
    query: Float[np.ndarray, " D"],
    right: Float[np.ndarray, "R D"],
    wrong: Float[np.ndarray, "W D"],
    *,
    beta: float = BETA,
    gamma: float = GAMMA,
) -> Float32[np.ndarray, " D"]:
    """The query after relevance feedback: q' = (q + β mean(right) − γ mean(wrong)) / (1 + β − γ).

    The term of an empty set and its weight are left out. The division changes no cosine; it makes the
    weights sum to one, so that Euclidean distances keep their scale. For the cosine all rows have norm
    1, as `Model.embed` gives them.

    Source: Rocchio, "Relevance feedback in information retrieval", 1971, with the weights 1, 0.75 and
    0.15 of Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 9.1.1.

    Raises ValueError for weights outside 0 ≤ β, 0 ≤ γ < 1.
    """
    if not (beta >= 0 and 0 <= gamma < 1):
        raise ValueError(f"beta {beta} and gamma {gamma}; expected beta >= 0 and 0 <= gamma < 1")
    total, moved = ALPHA, ALPHA * query.astype(np.float64)
    for rows, weight in ((right, beta), (wrong, -gamma)):
        if len(rows):
            moved += weight * rows.mean(axis=0, dtype=np.float64)
            total += weight
    return (moved / total).astype(np.float32)
