"""Large-margin Gaussian mixture loss, L-GM (Wan et al., CVPR 2018).

Each class k is a Gaussian with mean μ_k and a diagonal covariance Σ_k = diag(exp s_k), or the
identity; d_k = ½ (x−μ_k)ᵀ Σ_k⁻¹ (x−μ_k) replaces the inner product of a linear classifier.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

LOG_VARIANCE_LIMIT = 8.0
"""Log-variances are clamped to ± this: standard deviations from 1/55 to 55."""


class Mixture(NamedTuple):
    """The loss and its parts."""

    loss: Float[Array, ""]
    """Classification + weight · likelihood."""
    classification: Float[Array, ""]
    """Mean cross-entropy of the training logits."""
    likelihood: Float[Array, ""]
    """Mean of d_y + ½ log|Σ_y|."""
    logits: Float[Array, "B C"]
    """Logits for prediction: log p(k) − ½ log|Σ_k| − d_k."""
    margin_logits: Float[Array, "B C"]
    """Logits for training: as above with d of the true class multiplied by 1 + alpha."""
    clamped: Float[Array, ""]
    """Share of log-variances at or beyond the clamp; above 0, a covariance explodes or collapses."""


def large_margin_gaussian_mixture(
    feature: Float[Array, "B D"],
    means: Float[Array, "C D"],
    label: Int[Array, " B"],
    *,
    log_variance: Float[Array, "C D"] | None = None,
    log_prior: Float[Array, " C"] | None = None,
    alpha: float = 0.1,
    likelihood_weight: float = 0.1,
    scaled_likelihood: bool = True,
    limit: float = LOG_VARIANCE_LIMIT,
    mask: Bool[Array, " B"] | None = None,
) -> Mixture:
    """L-GM of a batch: mean cross-entropy with the margin alpha · d_y, plus the likelihood term.

    `log_variance` None: identity covariances, as in the published settings. `log_prior` None: a
    uniform prior (its constant is left out). Log-variances are clamped to ±`limit`, see
    `clamp_log_variance`. Rows with `mask` False or a negative label are ignored; without rows the
    loss is 0.

    The paper sums the likelihood over the batch; here it is the mean, as in all implementations. A
    popular PyTorch code leaves Σ⁻¹ out of it, which is another loss once Σ is learned:
    `scaled_likelihood=False` gives that one.
    """
    feature, means = feature.astype(jnp.float32), means.astype(jnp.float32)
    counts = label >= 0 if mask is None else (label >= 0) & mask
    count = jnp.maximum(jnp.sum(counts), 1)
    half_log_determinant, clamped = jnp.zeros(means.shape[0]), jnp.zeros(())
    if log_variance is not None:
        raw = log_variance.astype(jnp.float32)
        clamped = jnp.mean(jnp.abs(jax.lax.stop_gradient(raw)) >= limit)
        log_variance = clamp_log_variance(raw, limit)
        half_log_determinant = 0.5 * jnp.sum(log_variance, -1)
    distance = half_mahalanobis(feature, means, log_variance)
    logits = -half_log_determinant[None] - distance
    if log_prior is not None:
        logits = logits + log_prior[None]
    true = jax.nn.one_hot(label, means.shape[0], dtype=jnp.bool_)
    margin_logits = logits - jnp.where(true, alpha * distance, 0.0)

    def mean_of_true(value: Float[Array, "B C"]) -> Float[Array, ""]:
        rows = jnp.sum(jnp.where(true, value, 0.0), -1)
        return jnp.sum(jnp.where(counts, rows, 0.0)) / count

    classification = -mean_of_true(jax.nn.log_softmax(margin_logits, -1))
    if not scaled_likelihood:
        distance = half_mahalanobis(feature, means)
    likelihood = mean_of_true(distance + half_log_determinant[None])
    loss = classification + likelihood_weight * likelihood
    return Mixture(loss, classification, likelihood, logits, margin_logits, clamped)


@jax.checkpoint
def half_mahalanobis(
    feature: Float[Array, "B D"],
    means: Float[Array, "C D"],
    log_variance: Float[Array, "C D"] | None = None,
) -> Float[Array, "B C"]:
    """½ Σ_j (x_j − μ_kj)² exp(−s_kj) for every row and class; `log_variance` None: s = 0.

    Computed from differences, because |x|² + |μ|² − 2 x·μ loses all digits of a row's small distance
    to its own class. Recomputed in the backward pass, so that no [B,C,D] array is kept.
    """
    square = jnp.square(feature[:, None] - means[None])
    if log_variance is not None:
        square = square * jnp.exp(-log_variance)[None]
    return 0.5 * jnp.sum(square, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def clamp_log_variance(
    value: Float[Array, "C D"], limit: float = LOG_VARIANCE_LIMIT
) -> Float[Array, "C D"]:
    """Clips to ±`limit`; beyond it, only gradients whose descent leads back inside pass.

    A plain clip has no gradient outside, so a value outside would never return.
    """
    return jnp.clip(value, -limit, limit)


def _clamp_forward(value, limit):
    return clamp_log_variance(value, limit), value


def _clamp_backward(limit, value, gradient):
    outward = ((value >= limit) & (gradient < 0)) | ((value <= -limit) & (gradient > 0))
    return (jnp.where(outward, 0.0, gradient),)


clamp_log_variance.defvjp(_clamp_forward, _clamp_backward)
