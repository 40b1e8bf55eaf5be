"""Sampling of training rows with a bounded share of positives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key


class Sampled(NamedTuple):
    """Indices of the sampled candidates in ascending order; unused slots (index 0) come last."""

    index: Int[Array, " S"]
    valid: Bool[Array, " S"]


def sample_balanced(
    key: Key[Array, ""], label: Int[Array, " N"], *, size: int, positive_fraction: float
) -> Sampled:
    """Samples up to `size` of N candidates, uniformly without replacement.

    Takes min(positives, int(size · positive_fraction)) positives (label ≥ 1) and fills up with
    negatives (label 0), as far as there are any; label −1 is ignored. There are S = min(size, N)
    slots. A `size` of at least N / positive_fraction takes all candidates, whatever the key.
    """
    candidates = label.shape[0]
    slots = min(size, candidates)
    most = min(int(size * positive_fraction), candidates)
    if not slots:
        return Sampled(jnp.zeros((0,), jnp.int32), jnp.zeros((0,), bool))
    priority = jax.random.uniform(key, (candidates,))
    is_positive, is_negative = label >= 1, label == 0
    positives = jnp.minimum(jnp.sum(is_positive), most)
    negatives = jnp.minimum(jnp.sum(is_negative), size - positives)
    _, first = jax.lax.top_k(jnp.where(is_positive, priority, -1.0), most)
    _, second = jax.lax.top_k(jnp.where(is_negative, priority, -1.0), slots)
    # Unused slots get an index beyond every candidate, so that they sort last.
    first = jnp.where(jnp.arange(most) < positives, first, candidates)
    second = jnp.where(jnp.arange(slots) < negatives, second, candidates)
    index = jnp.sort(jnp.concatenate([first, second]))[:slots]
    valid = index < candidates
    return Sampled(jnp.where(valid, index, 0).astype(jnp.int32), valid)
