"""Alignment of captions with aerial AND ground images: AEA with its feature queue, and averages.

AEA-FIRM (Wang et al., TCSVT 2025), whose code calls these losses "supkl", "supitc" and "queue"; the
correspondence with the paper's terms is taken from that code's published command.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.image_text import NEVER, counted, mean_of, row_divergence
from g2ajax.losses.triplet import HIGHEST, normalise


class Queue(NamedTuple):
    """Normalised features and identities of the last pairs, the newest first."""

    text: Float[Array, "Q D"]
    aerial: Float[Array, "Q D"]
    ground: Float[Array, "Q D"]
    """Kept as in the reference, where nothing reads it."""
    identity: Int[Array, " Q"]


def empty_queue(length: int, dim: int) -> Queue:
    """Zeros of identity 0, as the reference starts: until it is full, samples of identity 0 take
    the empty places for positives. `aea(mask_empty=True)` leaves such places out."""
    features = (jnp.zeros((length, dim), jnp.float32) for _ in range(3))
    return Queue(*features, jnp.zeros((length,), jnp.int32))


def push(
    queue: Queue,
    text: Float[Array, "B D"],
    aerial: Float[Array, "B D"],
    ground: Float[Array, "B D"],
    identity: Int[Array, " B"],
) -> Queue:
    """The queue after a batch: its normalised features in front, the oldest gone; no gradient.

    Call it after the loss of the step. Of a batch longer than the queue the first rows stay.
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
    """Adaptive elastic alignment: one softmax over all positives of both other kinds and a memory.

    Captions are compared with [aerial; ground; queued aerial], aerial images with [text; ground;
    queued text]; ground images anchor nothing. Every entry of the row's identity is a positive of
    weight 1, those of the first block of 1 + `pair_bonus` (all of the identity there, as in the
    code, not the own pair alone).

    `form` "divergence" ("supkl"): rows made distributions, prediction first, so that a row may
    choose the easiest positive. "contrastive" ("supitc"): cross-entropies of both directions
    against rows of L2 norm 1, averaged over the four.

    Memory grows with the square of the batch: [B, 2B + Q] for Q queued rows.
    """
    rows = counted(identity, mask)
    text, aerial, ground = (normalise(x, 1e-12) for x in (text, aerial, ground))
    others, columns = [identity, identity], [rows, rows]
    queued_text = queued_aerial = None
    if queue is not None:
        queue = jax.lax.stop_gradient(queue)
        queued_text, queued_aerial = queue.text, queue.aerial
        filled = jnp.any(queue.text != 0, axis=1)
        # A masked row that was pushed has a negative identity.
        columns.append((queue.identity >= 0) & (filled | (not mask_empty)))
        others.append(queue.identity)
    columns = jnp.concatenate(columns)
    label = (identity[:, None] == jnp.concatenate(others)[None]).astype(jnp.float32)
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
            there = _soft_cross_entropy(logits, label, rows, columns)
            total += (there + _soft_cross_entropy(logits.T, label.T, columns, rows)) / 4.0
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
    """The mean of a two-sided loss (SDM, ITC) over aerial-text, ground-text and, with
    `between_views`, aerial-ground (that code's "sdm", "itc"; without: "bisdm", "biitc")."""
    pairs = [(aerial, text), (ground, text), *([(aerial, ground)] if between_views else [])]
    return sum(loss(a, b) for a, b in pairs) / len(pairs)
