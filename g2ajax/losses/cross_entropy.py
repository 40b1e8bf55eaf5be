"""Identity losses on logits: cross-entropy with two forms of label smoothing, and focal loss."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "B C"],
    label: Int[Array, " B"],
    *,
    smoothing: float = 0.0,
    form: Literal["fastreid", "uniform"] = "uniform",
    adaptive_share: float = 0.2,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy with label smoothing eps, in one of the field's two forms.

    "uniform" (reid-strong-baseline, TransReID, torchreid; Szegedy et al., CVPR 2016): the target is
    (1-eps) onehot + eps/C, averaged over the rows.
    "fastreid": 1-eps for the class, eps/(C-1) for the others, summed and divided by the number of
    rows whose loss is not zero (at least 1). There, smoothing = -1 adapts eps to each row: it is
    `adaptive_share` times the predicted probability of the true class, without gradient.

    Rows with `mask` False or a negative label are ignored. Without rows the loss is 0.
    """
    logits = logits.astype(jnp.float32)
    classes = logits.shape[-1]
    counts = _counts(label, mask)
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    true = jax.nn.one_hot(label, classes, dtype=jnp.float32)
    true_log_p = jnp.sum(true * log_probability, axis=-1)
    if form == "uniform":
        rows = -(1.0 - smoothing) * true_log_p - smoothing * jnp.mean(log_probability, axis=-1)
        return jnp.sum(jnp.where(counts, rows, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
    if smoothing < 0:
        eps = adaptive_share * jax.lax.stop_gradient(jnp.exp(true_log_p))
    else:
        eps = jnp.full(label.shape, smoothing, jnp.float32)
    other_log_p = jnp.sum((1.0 - true) * log_probability, axis=-1)
    rows = -(1.0 - eps) * true_log_p - eps / max(classes - 1, 1) * other_log_p
    rows = jnp.where(counts, rows, 0.0)
    return jnp.sum(rows) / jnp.maximum(jnp.sum(rows != 0.0), 1)


def focal(
    logits: Float[Array, "B C"],
    label: Int[Array, " B"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Focal loss, -alpha (1-p)^gamma log p of the true class, averaged over the rows.

    Lin et al., ICCV 2017. Rows with `mask` False or a negative label are ignored. For your own method:
    no method here trains with it.
    """
    logits = logits.astype(jnp.float32)
    counts = _counts(label, mask)
    true = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    log_p = jnp.sum(true * jax.nn.log_softmax(logits, axis=-1), axis=-1)
    rows = -alpha * (1.0 - jnp.exp(log_p)) ** gamma * log_p
    return jnp.sum(jnp.where(counts, rows, 0.0)) / jnp.maximum(jnp.sum(counts), 1)


def _counts(label: Int[Array, " B"], mask: Bool[Array, " B"] | None) -> Bool[Array, " B"]:
    labelled = label >= 0
    return labelled if mask is None else labelled & mask
