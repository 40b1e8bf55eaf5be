"""Losses of head knowledge distillation (Zhang et al., "Ground-to-Aerial Person Search", ACM MM 2023).

A teacher head and a student head see the same regions. As in the published code neither side is
detached: the gradient reaches both; use stop_gradient outside to freeze one. Rows with `mask` False
(and their columns of a similarity matrix) are ignored; without rows a loss is 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

HIGHEST = jax.lax.Precision.HIGHEST
# A finite logit for ignored columns: −inf would turn gradients into NaN.
ABSENT = -1e30


def logit_divergence(
    student: Float[Array, "N P"],
    teacher: Float[Array, "N P"],
    mask: Bool[Array, " N"] | None = None,
    *,
    temperature: float = 2.0,
    bidirectional: bool = False,
) -> Float[Array, ""]:
    """L_prob: T²/N Σ KL(softmax(teacher / T) ‖ softmax(student / T)).

    The logits are each side's 30 · x · lookupᵀ. `bidirectional` adds the reverse divergence.
    """
    valid = _valid(student, mask)
    log_s = jax.nn.log_softmax(_masked(student, valid) / temperature, axis=-1)
    log_t = jax.nn.log_softmax(_masked(teacher, valid) / temperature, axis=-1)
    rows = _divergence(log_t, log_s)
    if bidirectional:
        rows = rows + _divergence(log_s, log_t)
    return temperature**2 * _mean(rows, valid)


def similarity_divergence(
    student: Float[Array, "N D"],
    teacher: Float[Array, "N D"],
    mask: Bool[Array, " N"] | None = None,
    *,
    temperature: float = 4.0,
    bidirectional: bool = False,
) -> Float[Array, ""]:
    """L_rela: T²/N Σ KL(teacher ‖ student) between softmaxes of the rows of x xᵀ / T.

    `student` and `teacher` are unit embeddings; the diagonal is included. `bidirectional` takes the
    mean of both directions, unlike `logit_divergence`, which adds them.
    """
    valid = _valid(student, mask)

    def log_softmax(x: Float[Array, "N D"]) -> Float[Array, "N N"]:
        similarity = jnp.where(valid[None, :], _gram(x, valid) / temperature, ABSENT)
        return jax.nn.log_softmax(similarity, axis=-1)

    log_s, log_t = log_softmax(student), log_softmax(teacher)
    rows = _divergence(log_t, log_s)
    if bidirectional:
        rows = 0.5 * (rows + _divergence(log_s, log_t))
    return temperature**2 * _mean(rows, valid)


def similarity_distance(
    student: Float[Array, "N D"],
    teacher: Float[Array, "N D"],
    mask: Bool[Array, " N"] | None = None,
) -> Float[Array, ""]:
    """Σ (S_s − S_t)² / N² between the similarity matrices x xᵀ, scaled to rows of norm 1."""
    valid = _valid(student, mask)
    difference = _unit_rows(_gram(student, valid)) - _unit_rows(_gram(teacher, valid))
    return jnp.sum(difference**2) / jnp.maximum(jnp.sum(valid), 1) ** 2


def feature_distance(
    student: Float[Array, "N D"],
    teacher: Float[Array, "N D"],
    mask: Bool[Array, " N"] | None = None,
) -> Float[Array, ""]:
    """Mean of 1 − x · y between unit embeddings."""
    valid = _valid(student, mask)
    return _mean(1.0 - jnp.sum(_masked(student, valid) * _masked(teacher, valid), axis=-1), valid)


def probability_transfer(
    student: Float[Array, "N D"],
    teacher: Float[Array, "N D"],
    mask: Bool[Array, " N"] | None = None,
    *,
    eps: float = 1e-7,
) -> Float[Array, ""]:
    """Probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018) between unit embeddings.

    P = (1 + x xᵀ) / 2 scaled to rows of sum 1; the loss is the mean over all N² pairs of
    P_t log((P_t + eps) / (P_s + eps)).
    """
    valid = _valid(student, mask)
    pairs = valid[:, None] & valid[None, :]

    def probability(x: Float[Array, "N D"]) -> Float[Array, "N N"]:
        similarity = jnp.where(pairs, 0.5 * (1.0 + _gram(x, valid)), 0.0)
        total = jnp.sum(similarity, axis=1, keepdims=True)
        return similarity / jnp.where(total > 0.0, total, 1.0)

    p_s, p_t = probability(student), probability(teacher)
    terms = p_t * (jnp.log(p_t + eps) - jnp.log(p_s + eps))
    return jnp.sum(jnp.where(pairs, terms, 0.0)) / jnp.maximum(jnp.sum(valid), 1) ** 2


def _valid(x: Float[Array, "N D"], mask: Bool[Array, " N"] | None) -> Bool[Array, " N"]:
    return jnp.ones((x.shape[0],), bool) if mask is None else mask


def _masked(x: Float[Array, "N D"], valid: Bool[Array, " N"]) -> Float[Array, "N D"]:
    """Float32, with zeros in the ignored rows, which may hold anything."""
    return jnp.where(valid[:, None], x.astype(jnp.float32), 0.0)


def _gram(x: Float[Array, "N D"], valid: Bool[Array, " N"]) -> Float[Array, "N N"]:
    x = _masked(x, valid)
    return jnp.matmul(x, x.T, precision=HIGHEST)


def _unit_rows(x: Float[Array, "N N"]) -> Float[Array, "N N"]:
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(square, 1e-24))


def _divergence(log_p: Float[Array, "N C"], log_q: Float[Array, "N C"]) -> Float[Array, " N"]:
    """KL(p ‖ q) of each row."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _mean(rows: Float[Array, " N"], valid: Bool[Array, " N"]) -> Float[Array, ""]:
    return jnp.sum(jnp.where(valid, rows, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
