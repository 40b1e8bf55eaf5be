"""Online instance matching (Xiao et al., CVPR 2017) as pure functions of explicit tables.

A lookup table holds one unit vector per labelled identity, a circular queue the latest persons
without identity. A pid is 0 for background, 1..P for the P identities, `unlabelled` (5555) for a
person without one; its label is pid − 1.

    loss, rows = oim_loss(embedding, pid, tables)        # differentiable in the embedding only
    tables = update_tables(tables, embedding, pid)       # afterwards, with the same rows

Under jit with a sharded batch the rows are those of the global batch in their order (image, then
index in the image), so any number of devices updates the tables as one device does.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

HIGHEST = jax.lax.Precision.HIGHEST
UNLABELLED = 5555

Overflow = Literal["unlabelled", "queue_column"]


class OimTables(NamedTuple):
    """The state: part of a checkpoint, the header too (the references forget it)."""

    lookup: Float[Array, "P D"]
    queue: Float[Array, "Q D"]
    header: Int[Array, ""]
    """The queue's row that the next person without identity takes."""


class OimRows(NamedTuple):
    """Which rows the loss saw, and their logits, e.g. for distillation."""

    logits: Float[Array, "N C"]
    """scale · x · [lookup; queue]ᵀ, C = P + Q; 0 in rows that are no person."""
    label: Int[Array, " N"]
    """pid − 1; −1 for background and padding."""
    person: Bool[Array, " N"]
    """Rows that are a person, with or without identity."""
    target: Bool[Array, " N"]
    """Rows with a class in the cross-entropy."""


def zero_tables(identities: int, queue_size: int, width: int) -> OimTables:
    """Empty tables. An all-zero row takes part with logit 0."""
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

    Only `embedding` has a gradient. Rows of background, or with `mask` False, do not count. No row
    with an identity: 0 (the reference: NaN, which stops its training).

    A pid beyond the lookup table, other than `unlabelled`, counts as unlabelled; with "queue_column"
    it stays a target, at the column of its label, which belongs to the queue: what the references
    do with two identities of PRW. A label beyond both tables is no target.
    """
    lookup, queue = jax.lax.stop_gradient((tables.lookup, tables.queue))
    table = jnp.concatenate([lookup, queue]).astype(jnp.float32)
    label, person = _labels(pid, mask)
    # Before the arithmetic: padding may hold anything.
    embedding = jnp.where(person[:, None], embedding.astype(jnp.float32), 0.0)
    logits = scale * jnp.matmul(embedding, table.T, precision=HIGHEST)
    limit = len(lookup) if overflow == "unlabelled" else len(table)
    target = person & (label != unlabelled - 1) & (label < limit)
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    of_true = jnp.take_along_axis(
        log_probability, jnp.where(target, label, 0)[:, None], axis=-1, mode="clip"
    )[:, 0]
    loss = -jnp.sum(jnp.where(target, of_true, 0.0)) / jnp.maximum(jnp.sum(target), 1)
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
    """The tables after the rows, taken one by one in their order.

    A row of identity y: lookup[y] ← momentum · lookup[y] + (1 − momentum) · x, then divided by its
    norm. Any other person: queue[header] ← x and the header moves on, around the queue's end.

    Where no row is a target of the loss, the code of head distillation moves the header but
    leaves both tables ("advance_header", a slip); by default the queue is updated.
    """
    tables, embedding = jax.lax.stop_gradient((tables, embedding))
    embedding = embedding.astype(jnp.float32)
    label, person = _labels(pid, mask)
    identities, slots = len(tables.lookup), len(tables.queue)
    identified = person & (label < identities)
    others = person & ~identified
    lookup = _update_lookup(tables.lookup, embedding, label, identified, momentum)
    queue, arrived = tables.queue, jnp.sum(others)
    header = tables.header
    if slots:
        turn = jnp.cumsum(others) - 1
        # Where more rows come than the queue has, the last of them remain.
        stays = others & (turn >= arrived - slots)
        slot = jnp.where(stays, (header + turn) % slots, slots)
        queue = queue.at[slot].set(embedding, mode="drop")
        header = ((header + arrived) % slots).astype(tables.header.dtype)
    if without_target == "advance_header":
        limit = identities if overflow == "unlabelled" else identities + slots
        some = jnp.any(person & (label != unlabelled - 1) & (label < limit))
        lookup = jnp.where(some, lookup, tables.lookup)
        queue = jnp.where(some, queue, tables.queue)
    return OimTables(lookup, queue, header)


def _update_lookup(
    lookup: Float[Array, "P D"],
    embedding: Float[Array, "N D"],
    label: Int[Array, " N"],
    identified: Bool[Array, " N"],
    momentum: float,
) -> Float[Array, "P D"]:
    """Row k of each identity in round k: identities do not depend on each other, so a step takes
    as many rounds as its most frequent identity has rows, and not one round a row."""
    rows = jnp.where(identified, label, len(lookup))
    same = (rows[:, None] == rows[None, :]) & identified[None, :]
    earlier = jnp.sum(same & jnp.tri(len(rows), k=-1, dtype=bool), axis=1)
    rounds = jnp.max(jnp.where(identified, earlier + 1, 0), initial=0)

    def update(carry):
        turn, lookup = carry
        mine = identified & (earlier == turn)
        old = lookup[jnp.where(mine, label, 0)]
        new = momentum * old + (1.0 - momentum) * embedding
        # The reference divides by the bare norm; a row that cancels out would become NaN.
        norm = jnp.linalg.norm(new, axis=-1, keepdims=True)
        new = new / jnp.maximum(norm, 1e-12)
        return turn + 1, lookup.at[jnp.where(mine, label, len(lookup))].set(new, mode="drop")

    if not len(lookup):
        return lookup
    start = (jnp.zeros((), earlier.dtype), lookup)
    return jax.lax.while_loop(lambda carry: carry[0] < rounds, update, start)[1]


def _labels(
    pid: Int[Array, " N"], mask: Bool[Array, " N"] | None
) -> tuple[Int[Array, " N"], Bool[Array, " N"]]:
    person = pid >= 1 if mask is None else (pid >= 1) & mask
    return jnp.where(person, pid - 1, -1), person
