"""Alignment of captions with aerial and ground images: AEA with its feature queue, pair averages.

AEA-FIRM (Wang et al., TCSVT 2025). The published code calls these losses "supkl", "supitc" and
"queue"; which term of the paper each one is follows from that code's published command.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.image_text import NEVER, counted, mean_of, row_divergence
from g2ajax.losses.triplet import HIGHEST, normalise


class Queue(NamedTuple):
    """Normalised features and identities of the most recent pairs, newest first."""

    text: Float[Array, "Q D"]
    aerial: Float[Array, "Q D"]
    ground: Float[Array, "Q D"]
    """Stored as in the reference, but never read."""
    identity: Int[Array, " Q"]


def empty_queue(length: int, dim: int) -> Queue:
    """A queue of zeros with identity 0, as in the reference.

    Until it is full, samples of identity 0 treat empty rows as positives; `aea(mask_empty=True)`
    ignores empty rows.
    """
    features = (jnp.zeros((length, dim), jnp.float32) for _ in range(3))
    return Queue(*features, jnp.zeros((length,), jnp.int32))


def push(
    queue: Queue,
    text: Float[Array, "B D"],
    aerial: Float[Array, "B D"],
    ground: Float[Array, "B D"],
    identity: Int[Array, " B"],
) -> Queue:
    """Puts the normalised features of a batch in front and drops the oldest; without gradient.

    Call it after the loss of the step. From a batch longer than the queue the first rows are kept.
    """
    length = len(queue.identity)

    def shifted(new: Array, old: Array) -> Array:
        return jax.lax.stop_gradient(jnp.concatenate([new.astype(old.dtype), old])[:length])

    new = (*(normalise(x, 1e-12) for x in (text, aerial, ground)), identity)
    return Queue(*(shifted(a, b) for a, b in zip(new, queue, strict=True)))


def aea(
    text: Float[Array, "B D"],
    aerial: Float[Array, "B D"],
    ground: Float[Array, "B D"],
    identity: Int[Array, " B"],
    queue: Queue | None = None,
    *,
    form: Literal["divergence", "contrastive"] = "divergence",
    scale: float = 50.0,
    pair_bonus: float = 0.15,
    epsilon: float = 1e-8,
    mask_empty: bool = False,
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Adaptive elastic alignment: a softmax over all positives of the other modalities and a queue.

    Captions are compared with [aerial; ground; queued aerial], aerial images with [text; ground;
    queued text]; ground images are no anchors. Every entry with the row's identity is a positive of
    weight 1, in the first block of weight 1 + `pair_bonus` (as in the code: for every entry of the
    identity, not only for the row's own pair).

    `form`: "divergence" ("supkl") is KL(prediction ‖ target) with target rows of sum 1, so that a
    row may choose its easiest positive. "contrastive" ("supitc") averages the cross-entropies of
    both directions of both anchors, with target rows of L2 norm 1. Rows with `mask` False or a
    negative identity are ignored. Memory grows with the square of the batch: [B, 2B + Q] for Q
    queued rows.
    """
    rows = counted(identity, mask)
    text, aerial, ground = (normalise(x, 1e-12) for x in (text, aerial, ground))
    column_identity, columns = [identity, identity], [rows, rows]
    queued_text = queued_aerial = None
    if queue is not None:
        queue = jax.lax.stop_gradient(queue)
        queued_text, queued_aerial = queue.text, queue.aerial
        filled = jnp.any(queue.text != 0, axis=1)
        # A masked row that was pushed has a negative identity.
        columns.append((queue.identity >= 0) & (filled | (not mask_empty)))
        column_identity.append(queue.identity)
    columns = jnp.concatenate(columns)
    label = (identity[:, None] == jnp.concatenate(column_identity)[None]).astype(jnp.float32)
    label = label.at[:, : len(identity)].multiply(1.0 + pair_bonus)
    label = jnp.where(rows[:, None] & columns[None], label, 0.0)
    blocks = ((text, [aerial, ground, queued_aerial]), (aerial, [text, ground, queued_text]))
    total = jnp.zeros(())
    for anchor, parts in blocks:
        entries = jnp.concatenate([part for part in parts if part is not None])
        logits = scale * jnp.matmul(anchor, entries.T, precision=HIGHEST)
        if form == "divergence":
            target = label / jnp.maximum(jnp.sum(label, axis=1, keepdims=True), 1e-12)
            total += row_divergence(logits, target, rows=rows, columns=columns, epsilon=epsilon)
        else:
            forward = _soft_cross_entropy(logits, label, rows, columns)
            total += (forward + _soft_cross_entropy(logits.T, label.T, columns, rows)) / 4.0
    return total


def _soft_cross_entropy(
    logits: Float[Array, "N M"],
    label: Float[Array, "N M"],
    rows: Bool[Array, " N"],
    columns: Bool[Array, " M"],
) -> Float[Array, ""]:
    log_p = jax.nn.log_softmax(jnp.where(columns[None], logits, NEVER), axis=1)
    return mean_of(-jnp.sum(normalise(label, 1e-12) * log_p, axis=1), rows)


def over_pairs(
    loss: Callable[[Float[Array, "B D"], Float[Array, "B D"]], Float[Array, ""]],
    text: Float[Array, "B D"],
    aerial: Float[Array, "B D"],
    ground: Float[Array, "B D"],
    *,
    between_views: bool = True,
) -> Float[Array, ""]:
    """Mean of a two-sided loss (SDM, ITC) over aerial-text, ground-text and aerial-ground pairs.

    Without `between_views` the last one is left out. Names in the published code: "sdm", "itc"
    (with), "bisdm", "biitc" (without).
    """
    pairs = [(aerial, text), (ground, text), *([(aerial, ground)] if between_views else [])]
    return sum(loss(a, b) for a, b in pairs) / len(pairs)
