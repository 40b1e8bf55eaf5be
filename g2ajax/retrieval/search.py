"""Exact nearest neighbours in a gallery on one device, on many devices, or larger than memory."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from g2ajax.retrieval.distances import check_metric, pairwise

AnyFloat = Float[Array | np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest gallery entries of each query, nearest first; ties are in gallery order."""

    index: Int[np.ndarray, "Q K"]
    distance: Float[np.ndarray, "Q K"]


def search(
    queries: AnyFloat,
    gallery: AnyFloat | Iterable[AnyFloat],
    k: int,
    *,
    metric: str = "cosine",
    block_size: int = 256,
    gallery_block_size: int = 16384,
) -> Neighbours:
    """The k nearest gallery entries of every query, by exact distances in float32.

    Args:
      queries: embeddings [Q, D].
      gallery: embeddings [G, D]: a NumPy array or memory map, read once, `gallery_block_size` rows at
        a time; or an iterable of arrays [rows, D], read once and numbered consecutively; or a jax
        array, which may be sharded over devices by rows: each device then ranks its own rows, and
        only Q × k candidates per device are exchanged.
      k: number of neighbours, 1..G.
      metric: "cosine", "squared_euclidean" or "euclidean".
      block_size, gallery_block_size: size of the distance matrix held at a time.

    Raises ValueError for an unknown metric, k out of range, and embeddings that are empty, not finite
    or of different widths.
    """
    check_metric(metric)
    check_count("k", k)
    check_count("block_size", block_size)
    check_count("gallery_block_size", gallery_block_size)
    queries = np.asarray(check_features(queries, "query"), np.float32)
    if not len(queries):
        raise ValueError("there are no queries")
    size = min(block_size, len(queries))
    gallery = _with_automatic_axes(gallery)
    axes = _row_axes(gallery)
    if axes is not None:
        check_pair(queries, check_features(gallery, "gallery"))
        check_count("k", k, len(gallery))
        nearest = functools.partial(
            _nearest_sharded, mesh=gallery.sharding.mesh, axes=axes, k=k, metric=metric
        )
        return _by_query_blocks(queries, size, lambda block: nearest(block, gallery))

    best, count = None, 0
    for block in _blocks(gallery, gallery_block_size):
        check_features(block, "gallery", start=count)
        check_pair(queries, block)
        rows = len(block)
        if 0 < rows < gallery_block_size:
            pad = jnp.pad if isinstance(block, jax.Array) else np.pad
            # Few different block sizes need few compilations.
            block = pad(block, [(0, min(_power_of_2(rows), gallery_block_size) - rows), (0, 0)])
        block = jnp.asarray(block)
        kept = min(k, rows)
        nearest = functools.partial(
            _nearest, gallery=block, rows=rows, k=min(k, len(block)), metric=metric
        )
        near = _by_query_blocks(queries, size, nearest)
        near = Neighbours(near.index[:, :kept] + count, near.distance[:, :kept])
        best = near if best is None else _merge(best, near, k)
        count += rows
    if not count:
        raise ValueError("the gallery is empty")
    check_count("k", k, count)
    return best


def check_count(name: str, count: int, largest: int | None = None) -> None:
    """Raises ValueError unless 1 ≤ count ≤ `largest` (the number of gallery entries)."""
    if count < 1:
        raise ValueError(f"{name} is {count}; it must be at least 1")
    if largest is not None and count > largest:
        raise ValueError(
            f"{name} is {count}, but the gallery has only {largest} entries: at most {largest}"
        )


def check_features(features: AnyFloat, name: str, start: int = 0) -> AnyFloat:
    """Returns `features`; raises ValueError unless they are [rows, D] and finite.

    `start`: number of the first row, for the message.
    """
    if features.ndim != 2:
        raise ValueError(f"{name} embeddings have shape {features.shape}; expected [rows, D]")
    numpy = jnp if isinstance(features, jax.Array) else np
    finite = numpy.isfinite(features).all(axis=1)
    # Reduced to one number first: rows of a sharded array may be on other processes.
    if not finite.all():
        bad = ~np.asarray(finite)
        raise ValueError(
            f"{bad.sum()} of {len(bad)} {name} embeddings are not finite (rows "
            f"{(start + np.flatnonzero(bad)[:5]).tolist()}...); the network has diverged, or an "
            "image is broken"
        )
    return features


def check_pair(query: AnyFloat, gallery: AnyFloat) -> None:
    """Raises ValueError unless query and gallery have the same width."""
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {query.shape[1]} dimensions, gallery ones {gallery.shape[1]}; "
            "embed both with one network"
        )


def _with_automatic_axes(gallery):
    """The gallery with the same sharding on a mesh with automatic axes.

    With explicit axes, the default of `jax.make_mesh`, `top_k` along a sharded axis fails.
    """
    if not isinstance(gallery, jax.Array) or not isinstance(gallery.sharding, NamedSharding):
        return gallery
    mesh, spec = gallery.sharding.mesh, gallery.sharding.spec
    automatic = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)
    return jax.device_put(gallery, NamedSharding(automatic, spec))


def _row_axes(gallery) -> str | tuple[str, ...] | None:
    """Mesh axes over which the rows of `gallery` are sharded; None if they are not sharded."""
    if not isinstance(gallery, jax.Array) or not isinstance(gallery.sharding, NamedSharding):
        return None
    spec = gallery.sharding.spec
    return spec[0] if len(spec) and gallery.sharding.num_devices > 1 and spec[0] else None


def _blocks(gallery: AnyFloat | Iterable[AnyFloat], size: int) -> Iterator[AnyFloat]:
    for part in [gallery] if hasattr(gallery, "ndim") else gallery:
        if part.ndim != 2:
            raise ValueError(
                f"gallery embeddings have shape {part.shape}; expected [rows, D], or an iterable "
                "of such arrays"
            )
        for start in range(0, len(part), size):
            yield part[start : start + size]


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
