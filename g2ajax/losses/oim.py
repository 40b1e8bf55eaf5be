"""Online instance matching (Xiao et al., CVPR 2017) as pure functions of explicit tables.

A lookup table holds one unit vector per labelled identity; a circular queue holds the most recent
persons without identity. A pid is 0 for background, 1..P for the P identities and `unlabelled`
(5555) for a person without identity; the label is pid − 1.

    loss, rows = oim_loss(embedding, pid, tables)        # differentiable in the embedding only
    tables = update_tables(tables, embedding, pid)       # afterwards, with the same rows

Under jit with a sharded batch, rows are those of the global batch in their order (image, then index
in the image), so that any number of devices updates the tables as one device does.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

HIGHEST = jax.lax.Precision.HIGHEST
UNLABELLED = 5555

Overflow = Literal["unlabelled", "queue_column"]


class OimTables(NamedTuple):
    """State of the loss; all of it belongs into checkpoints (the references forget the header)."""

    lookup: Float[Array, "P D"]
    queue: Float[Array, "Q D"]
    header: Int[Array, ""]
    """Row of the queue where the next person without identity is stored."""


class OimRows(NamedTuple):
    """Rows used by the loss, and their logits (for distillation, for example)."""

    logits: Float[Array, "N C"]
    """scale · x · [lookup; queue]ᵀ, C = P + Q; 0 in rows without a person."""
    label: Int[Array, " N"]
    """pid − 1; −1 for background and padding."""
    person: Bool[Array, " N"]
    """Rows of persons, with or without identity."""
    target: Bool[Array, " N"]
    """Rows with a class in the cross-entropy."""


def zero_tables(identities: int, queue_size: int, width: int) -> OimTables:
    """Empty tables. A row of zeros takes part in the softmax with logit 0."""
    return OimTables(
        jnp.zeros((identities, width), jnp.float32),
        jnp.zeros((queue_size, width), jnp.float32),
        jnp.zeros((), jnp.int32),
    )


def oim_loss(
    embedding: Float[Array, "N D"],
    pid: Int[Array, " N"],
    tables: OimTables,
    mask: Bool[Array, " N"] | None = None,
    *,
    scale: float = 30.0,
    unlabelled: int = UNLABELLED,
    overflow: Overflow = "unlabelled",
) -> tuple[Float[Array, ""], OimRows]:
    """Cross-entropy of scale · x · [lookup; queue]ᵀ, mean over the rows with an identity.

    Only `embedding` gets a gradient. Rows of background or with `mask` False are ignored. Without
    identities the loss is 0 (in the reference it is NaN, which stops training).

    `overflow`: a pid beyond the lookup table, other than `unlabelled`, counts as "unlabelled"; with
    "queue_column" it stays a target, at the column of its label, which belongs to the queue. The
    references do the latter with two identities of PRW. A label beyond both tables is ignored.
    """
    lookup, queue = jax.lax.stop_gradient((tables.lookup, tables.queue))
    table = jnp.concatenate([lookup, queue]).astype(jnp.float32)
    label, person = _labels(pid, mask)
    # Masked before the arithmetic: padding may hold anything.
    embedding = jnp.where(person[:, None], embedding.astype(jnp.float32), 0.0)
    logits = scale * jnp.matmul(embedding, table.T, precision=HIGHEST)
    limit = len(lookup) if overflow == "unlabelled" else len(table)
    target = person & (label != unlabelled - 1) & (label < limit)
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    target_log_p = jnp.take_along_axis(
        log_probability, jnp.where(target, label, 0)[:, None], axis=-1, mode="clip"
    )[:, 0]
    loss = -jnp.sum(jnp.where(target, target_log_p, 0.0)) / jnp.maximum(jnp.sum(target), 1)
    return loss, OimRows(logits, label, person, target)


def update_tables(
    tables: OimTables,
    embedding: Float[Array, "N D"],
    pid: Int[Array, " N"],
    mask: Bool[Array, " N"] | None = None,
    *,
    momentum: float = 0.5,
    unlabelled: int = UNLABELLED,
    without_target: Literal["update", "advance_header"] = "update",
    overflow: Overflow = "unlabelled",
) -> OimTables:
    """Updates the tables with the rows, one after another in their order.

    Identity y: lookup[y] ← momentum · lookup[y] + (1 − momentum) · x, divided by its norm. Any other
    person: queue[header] ← x, and the header moves on, around the end of the queue.

    `without_target`: when no row is a target of the loss, "update" still updates the queue;
    "advance_header" moves the header but leaves both tables, a slip of head distillation's code.
    """
    tables, embedding = jax.lax.stop_gradient((tables, embedding))
    embedding = embedding.astype(jnp.float32)
    label, person = _labels(pid, mask)
    identities, slots = len(tables.lookup), len(tables.queue)
    identified = person & (label < identities)
    unidentified = person & ~identified
    lookup = update_rows(tables.lookup, embedding, label, identified, momentum)
    queue, count = tables.queue, jnp.sum(unidentified)
    header = tables.header
    if slots:
        turn = jnp.cumsum(unidentified) - 1
        # If there are more rows than slots, the last ones remain.
        kept = unidentified & (turn >= count - slots)
        slot = jnp.where(kept, (header + turn) % slots, slots)
        queue = queue.at[slot].set(embedding, mode="drop")
        header = ((header + count) % slots).astype(tables.header.dtype)
    if without_target == "advance_header":
        limit = identities if overflow == "unlabelled" else identities + slots
        any_target = jnp.any(person & (label != unlabelled - 1) & (label < limit))
        lookup = jnp.where(any_target, lookup, tables.lookup)
        queue = jnp.where(any_target, queue, tables.queue)
    return OimTables(lookup, queue, header)


def update_rows(
    lookup: Float[Array, "P D"],
    embedding: Float[Array, "N D"],
    label: Int[Array, " N"],
    identified: Bool[Array, " N"],
    momentum: float,
) -> Float[Array, "P D"]:
    """Table with lookup[y] ← momentum · lookup[y] + (1 − momentum) · x, divided by its norm, for one
    row after another; rows that are not `identified` are ignored.

    Identities are independent, so this updates row k of every identity in round k, and takes as many
    rounds as the most frequent identity has rows, instead of one round a row.
    """
    rows = jnp.where(identified, label, len(lookup))
    same = (rows[:, None] == rows[None, :]) & identified[None, :]
    earlier = jnp.sum(same & jnp.tri(len(rows), k=-1, dtype=bool), axis=1)
    rounds = jnp.max(jnp.where(identified, earlier + 1, 0), initial=0)

    def update(carry):
        turn, lookup = carry
        current = identified & (earlier == turn)
        old = lookup[jnp.where(current, label, 0)]
        new = momentum * old + (1.0 - momentum) * embedding
        # The reference divides by the norm itself; a row that cancels to 0 would become NaN.
        norm = jnp.linalg.norm(new, axis=-1, keepdims=True)
        new = new / jnp.maximum(norm, 1e-12)
        return turn + 1, lookup.at[jnp.where(current, label, len(lookup))].set(new, mode="drop")

    if not len(lookup):
        return lookup
    start = (jnp.zeros((), earlier.dtype), lookup)
    return jax.lax.while_loop(lambda carry: carry[0] < rounds, update, start)[1]


def _labels(
    pid: Int[Array, " N"], mask: Bool[Array, " N"] | None
) -> tuple[Int[Array, " N"], Bool[Array, " N"]]:
    person = pid >= 1 if mask is None else (pid >= 1) & mask
    return jnp.where(person, pid - 1, -1), person
