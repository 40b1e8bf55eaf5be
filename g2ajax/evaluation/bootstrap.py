"""Bootstrap intervals of a score over the people of a test set."""

import numpy as np
from jaxtyping import Float, Int


def interval(
    scores: Float[np.ndarray, " Q"],
    identity: Int[np.ndarray, " Q"],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """The bootstrap interval of the mean of per-query scores, resampling IDENTITIES.

    The queries of one person are alike, so resampling queries would overstate precision. The mean
    of a draw weighs its queries equally, as the score itself does. One identity: the interval is
    the score itself. Raises ValueError without scores or samples.
    """
    if not len(scores):
        raise ValueError("no scores to resample")
    if samples < 1:
        raise ValueError(f"{samples} bootstrap samples; at least 1 is needed")
    people, person = np.unique(identity, return_inverse=True)
    total = np.bincount(person, weights=scores)
    count = np.bincount(person)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(people), (samples, len(people)))
    means = total[draws].sum(1) / count[draws].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
