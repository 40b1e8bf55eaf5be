"""The dual cluster memory of SAS-VPReID (WACV workshops 2026): a mean and a hard vector of each class.

A table [2C, D] of unit vectors: C means, then C hardest. There it is filled anew with the classes'
normalised mean features at the start of every epoch. Here it starts empty, with rows of zeros, and each
class enters with its first batch (`entered`); the methods for tracklets train with it
(`method.memory`). For your own method, whose `__init__` makes the table and whose `loss` reads and
writes it:

    self.memory = Memory(jnp.zeros((2 * classes, width)))        # g2ajax.nn.memory
    table, options = self.memory[...], self.options.memory       # a field of MemoryOptions
    loss, self.memory[...] = memory_step(table, feature, batch["label"], options)

Under jit with a sharded batch, rows are those of the global batch in their order.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.oim import update_rows
from g2ajax.losses.triplet import normalise

HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class MemoryOptions:
    """Options of the loss; the defaults are the published code's, but for its weight, 1 there."""

    weight: Annotated[float, (0, None)] = 0.0
    """Weight of the loss; 0: no memory."""
    temperature: Annotated[float, (None, None, 0)] = 0.05
    """Divisor of the similarities."""
    momentum: Annotated[float, (0, 1)] = 0.1
    """Share of the old vector in an update."""


def dual_memory(centroids: Float[Array, "C D"]) -> Float[Array, "R D"]:
    """The table [2C, D] from the mean feature of each class: both halves are the means, normalised."""
    means = normalise(centroids, 1e-12)
    return jnp.concatenate([means, means])


def entered(
    memory: Float[Array, "R D"], feature: Float[Array, "B D"], label: Int[Array, " B"]
) -> Float[Array, "R D"]:
    """The table in which the classes of the batch that have only zeros so far start: both vectors are
    the normalised mean of the class's normalised rows. No gradient flows."""
    classes = len(memory) // 2
    x = normalise(jax.lax.stop_gradient(feature.astype(jnp.float32)), 1e-12)
    total = (
        jnp.zeros((classes, x.shape[1]))
        .at[jnp.where(label < 0, classes, label)]
        .add(x, mode="drop")
    )
    return jnp.where(jnp.any(memory != 0, 1, keepdims=True), memory, dual_memory(total))


def memory_step(
    memory: Float[Array, "R D"],
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    options: MemoryOptions,
) -> tuple[Float[Array, ""], Float[Array, "R D"]]:
    """The loss of a batch, without its weight, and the table after it: `entered`, then
    `cluster_memory`."""
    table = entered(memory, feature, label)
    settings = {"temperature": options.temperature, "momentum": options.momentum}
    return cluster_memory(table, feature, label, **settings)


def cluster_memory(
    memory: Float[Array, "R D"],
    feature: Float[Array, "B D"],
    label: Int[Array, " B"],
    mask: Bool[Array, " B"] | None = None,
    *,
    temperature: float = 0.05,
    momentum: float = 0.1,
) -> tuple[Float[Array, ""], Float[Array, "R D"]]:
    """The loss of a batch, and the table after it.

    Loss: the mean of the cross-entropies of x·means/temperature and of x·hardest/temperature, x the
    normalised feature; the table gets no gradient.

    Table, with a ← norm(momentum · a + (1 − momentum) · b) as the update of a by b (`momentum` is
    the share of the OLD value): first the mean of its class by every row, one after another in their
    order; then, for each class of the batch, the mean by the mean of its rows, and the hard vector by
    the row least similar to the mean before this second update.

    Rows with `mask` False or a negative label are ignored; without rows the loss is 0.

    Raises ValueError for a table with an odd number of rows.
    """
    if len(memory) % 2:
        raise ValueError(f"a memory of {len(memory)} rows: expected a mean and a hard one a class")
    counts = label >= 0 if mask is None else (label >= 0) & mask
    label = jnp.where(counts, label, -1)
    x = normalise(jnp.where(counts[:, None], feature.astype(jnp.float32), 0.0), 1e-12)
    frozen = jax.lax.stop_gradient(memory.astype(jnp.float32))
    losses = [
        cross_entropy(jnp.matmul(x, half.T, precision=HIGHEST) / temperature, label)
        for half in jnp.split(frozen, 2)
    ]
    return sum(losses) / 2, _updated(frozen, jax.lax.stop_gradient(x), label, momentum)


def _updated(
    memory: Float[Array, "R D"], x: Float[Array, "B D"], label: Int[Array, " B"], momentum: float
) -> Float[Array, "R D"]:
    if not len(label):
        return memory
    means, hard = jnp.split(memory, 2)
    counts = (label >= 0) & (label < len(means))
    own = jnp.where(counts, label, 0)
    means = update_rows(means, x, own, counts, momentum)
    # One row of the batch speaks for its class; rows of one class write the same.
    same = (label[:, None] == label[None, :]) & counts[:, None] & counts[None, :]
    share = same / jnp.maximum(jnp.sum(same, axis=1, keepdims=True), 1)
    similarity = jnp.matmul(means[own], x.T, precision=HIGHEST)
    hardest = x[jnp.argmin(jnp.where(same, similarity, jnp.inf), axis=1)]
    mean = jnp.matmul(share, x, precision=HIGHEST)

    def moved(table: Float[Array, "C D"], new: Float[Array, "B D"]) -> Float[Array, "C D"]:
        rows = normalise(momentum * table[own] + (1.0 - momentum) * new, 1e-12)
        return table.at[jnp.where(counts, label, len(table))].set(rows, mode="drop")

    return jnp.concatenate([moved(means, mean), moved(hard, hardest)])
