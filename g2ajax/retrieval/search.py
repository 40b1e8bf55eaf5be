"""Exact nearest neighbours in a gallery on one device, on many devices, or larger than memory."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from g2ajax.retrieval.distances import check_metric, pairwise
from g2ajax.retrieval.inputs import (
    Embeddings,
    Features,
    Whole,
    array,
    check_pair,
    common_exponent,
    count,
    read_features,
    rounded,
    unscaled,
)


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest gallery entries of each query, nearest first; ties are in gallery order."""

    index: Int[np.ndarray, "Q K"]
    distance: Float[np.ndarray, "Q K"]


def search(
    queries: Features,
    gallery: Features | Iterable[Features],
    k: Whole,
    *,
    metric: str = "cosine",
    block_size: Whole = 256,
    gallery_block_size: Whole = 16384,
) -> Neighbours:
    """The k nearest gallery entries of every query, by exact distances in float32.

    Args:
      queries: embeddings [Q, D], an array of any library or nested lists.
      gallery: embeddings [G, D]: a NumPy array or memory map, read once, `gallery_block_size` rows at
        a time; or an iterable of arrays [rows, D], read once and numbered consecutively; or a jax
        array, which may be sharded over devices by rows: each device then ranks its own rows, and
        only Q × k candidates per device are exchanged.
      k: number of neighbours, 1..G.
      metric: "cosine", "squared_euclidean" or "euclidean".
      block_size, gallery_block_size: size of the distance matrix held at a time.

    The order is right for embeddings of any magnitude; a distance beyond the range of float32 is
    infinite or 0.

    Raises ValueError for an unknown metric, k out of range, embeddings that are empty, not finite or of
    different widths, and magnitudes so far apart that float32 does not hold the squares of both.
    """
    check_metric(metric)
    k, block_size = count("k", k), count("block_size", block_size)
    gallery_block_size = count("gallery_block_size", gallery_block_size)
    queries = read_features(queries, "query")
    if not len(queries):
        raise ValueError("there are no queries")
    size = min(block_size, len(queries))
    if isinstance(gallery, jax.Array):
        gallery = array(gallery, "gallery embeddings")
    axes = _row_axes(gallery)
    if axes is not None:
        entries = read_features(gallery, "gallery")
        check_pair(queries.width, entries.width)
        count("k", k, len(entries))
        ready, entries, exponent = comparable(queries, entries, metric)
        nearest = functools.partial(
            _nearest_sharded, mesh=gallery.sharding.mesh, axes=axes, k=k, metric=metric
        )
        near = _by_query_blocks(ready, size, lambda block: nearest(block, entries))
        return Neighbours(near.index, rounded(unscaled(near.distance, metric, exponent)))

    best, total = None, 0
    for part in _blocks(gallery, gallery_block_size):
        entries = read_features(part, "gallery", start=total)
        check_pair(queries.width, entries.width)
        rows = len(entries)
        ready, block, exponent = comparable(queries, entries, metric)
        if 0 < rows < gallery_block_size:
            pad = jnp.pad if isinstance(block, jax.Array) else np.pad
            # Few different block sizes need few compilations.
            block = pad(block, [(0, min(_power_of_2(rows), gallery_block_size) - rows), (0, 0)])
        block = jnp.asarray(block)
        kept = min(k, rows)
        nearest = functools.partial(
            _nearest, gallery=block, rows=rows, k=min(k, len(block)), metric=metric
        )
        near = _by_query_blocks(ready, size, nearest)
        distance = unscaled(near.distance[:, :kept], metric, exponent)
        near = Neighbours(near.index[:, :kept] + total, distance)
        best = near if best is None else _merge(best, near, k)
        total += rows
    if best is None or not total:
        raise ValueError("the gallery is empty")
    count("k", k, total)
    return Neighbours(best.index, rounded(best.distance))


def comparable(
    queries: Embeddings, entries: Embeddings, metric: str
) -> tuple[Float[np.ndarray, "Q D"], Float[Array | np.ndarray, "G D"], int]:
    """Both sides in float32, of magnitudes whose distances float32 can hold, and the exponent of the
    power of 2 that `unscaled` gives back to the distances.

    Raises ValueError for magnitudes too far apart for a Euclidean distance.
    """
    if metric == "cosine":
        return np.asarray(queries.directions()), entries.directions(), 0
    exponent = common_exponent(metric, queries.width, queries.magnitudes, entries.magnitudes)
    return np.asarray(queries.scaled(exponent)), entries.scaled(exponent), exponent


def _row_axes(gallery) -> str | tuple[str, ...] | None:
    """Mesh axes over which the rows of `gallery` are sharded; None if they are not sharded."""
    if not isinstance(gallery, jax.Array) or not isinstance(gallery.sharding, NamedSharding):
        return None
    spec = gallery.sharding.spec
    return spec[0] if len(spec) and gallery.sharding.num_devices > 1 and spec[0] else None


def _blocks(gallery: Features | Iterable[Features], size: int) -> Iterator[np.ndarray | Array]:
    for part in _parts(gallery):
        part = array(part, "gallery embeddings")
        if part.ndim != 2:
            raise ValueError(
                f"gallery embeddings have shape {part.shape}; expected [rows, D], or an iterable "
                "of such arrays"
            )
        for start in range(0, len(part), size):
            yield part[start : start + size]


def _parts(gallery: Features | Iterable[Features]) -> Iterable[Features]:
    """The arrays of a gallery: itself, or those that it yields. A list is one array unless its first element
    has two axes."""
    if any(hasattr(gallery, name) for name in ("__array__", "__dlpack__")):
        return [gallery]
    if isinstance(gallery, list | tuple):
        first = array(gallery[0], "gallery embeddings") if len(gallery) else None
        return gallery if first is None or first.ndim == 2 else [gallery]
    return gallery if isinstance(gallery, Iterable) else [gallery]


def _by_query_blocks(queries: np.ndarray, size: int, nearest) -> Neighbours:
    distances, indices = [], []
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        rows = len(block)
        distance, index = nearest(np.pad(block, [(0, size - rows), (0, 0)]))
        distances.append(np.asarray(distance)[:rows])
        indices.append(np.asarray(index)[:rows])
    return Neighbours(np.concatenate(indices).astype(np.int64), np.concatenate(distances))


def _merge(first: Neighbours, second: Neighbours, k: int) -> Neighbours:
    """The k nearest of both; indices of `first` are below those of `second`."""
    distance = np.concatenate([first.distance, second.distance], axis=1)
    index = np.concatenate([first.index, second.index], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return Neighbours(
        np.take_along_axis(index, order, axis=1), np.take_along_axis(distance, order, axis=1)
    )


def top(distance: Float[Array, "B G"], k: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The k smallest distances of each row and their columns, smallest first."""
    # `top_k` puts the lower index first among equals.
    negative, index = jax.lax.top_k(-distance, k)
    return -negative, index


@functools.partial(jax.jit, static_argnames=("k", "metric"))
def _nearest(
    query: Float[Array, "B D"],
    gallery: Float[Array, "G D"],
    rows: int | Int[Array, ""],
    *,
    k: int,
    metric: str,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """Gallery rows from `rows` on are padding and rank last."""
    distance = pairwise(query, gallery, metric)
    padding = jnp.arange(len(gallery))[None, :] >= rows
    return top(jnp.where(padding, jnp.inf, distance), k)


@functools.partial(jax.jit, static_argnames=("mesh", "axes", "k", "metric"))
def _nearest_sharded(
    query: Float[Array, "B D"],
    gallery: Float[Array, "G D"],
    *,
    mesh: Mesh,
    axes: str | tuple[str, ...],
    k: int,
    metric: str,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    def local(query: Array, part: Array) -> tuple[Array, Array]:
        distance, index = top(pairwise(query, part, metric), min(k, len(part)))
        return distance, index + jax.lax.axis_index(axes) * len(part)

    # Candidates are in the order of the shards, so that ties keep the lower index first.
    candidates = PartitionSpec(None, axes)
    distance, index = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(axes)),
        out_specs=(candidates, candidates),
    )(query, gallery)
    everywhere = NamedSharding(mesh, PartitionSpec())
    distance = jax.lax.with_sharding_constraint(distance, everywhere)
    index = jax.lax.with_sharding_constraint(index, everywhere)
    distance, column = top(distance, k)
    return distance, jnp.take_along_axis(index, column, axis=1)


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()
