"""Exact nearest neighbours: a gallery on one device, over many devices, or larger than memory."""

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
    """The nearest gallery entries of each query, nearest first, equally near in gallery order."""

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
      gallery: embeddings [G, D]: a NumPy array or memory map, read `gallery_block_size` rows at a
        time and once only; or an iterable of arrays [rows, D], read once and numbered through; or a
        jax array, which may be sharded over devices by rows: every device then ranks its own rows,
        and only Q × k candidates a device are exchanged.
      k: 1..G.
      metric: "cosine", "squared_euclidean" or "euclidean".
      block_size, gallery_block_size: sizes of the distance matrix that exists at a time.

    Raises ValueError for an unknown metric, k out of range, empty or not finite embeddings, and
    embeddings of another width.
    """
    check_metric(metric)
    check_count("k", k)
    check_count("block_size", block_size)
    check_count("gallery_block_size", gallery_block_size)
    queries = np.asarray(check_features(queries, "query"), np.float32)
    if not len(queries):
        raise ValueError("there are no queries")
    size = min(block_size, len(queries))
    gallery = _placed_by_jax(gallery)
    axes = _row_axes(gallery)
    if axes is not None:
        check_pair(queries, check_features(gallery, "gallery"))
        check_count("k", k, len(gallery))
        find = functools.partial(
            _nearest_sharded, mesh=gallery.sharding.mesh, axes=axes, k=k, metric=metric
        )
        return _by_query_blocks(queries, size, lambda block: find(block, gallery))

    best, count = None, 0
    for block in _blocks(gallery, gallery_block_size):
        check_features(block, "gallery", start=count)
        check_pair(queries, block)
        rows = len(block)
        if 0 < rows < gallery_block_size:
            pad = jnp.pad if isinstance(block, jax.Array) else np.pad
            # Blocks of few different sizes compile few times.
            block = pad(block, [(0, min(_power_of_2(rows), gallery_block_size) - rows), (0, 0)])
        block = jnp.asarray(block)
        kept = min(k, rows)
        find = functools.partial(
            _nearest, gallery=block, rows=rows, k=min(k, len(block)), metric=metric
        )
        found = _by_query_blocks(queries, size, find)
        found = Neighbours(found.index[:, :kept] + count, found.distance[:, :kept])
        best = found if best is None else _merged(best, found, k)
        count += rows
    if not count:
        raise ValueError("the gallery is empty")
    check_count("k", k, count)
    return best


def check_count(name: str, count: int, largest: int | None = None) -> None:
    """Raises ValueError unless 1 ≤ count ≤ largest, the number of gallery entries."""
    if count < 1:
        raise ValueError(f"{name} is {count}; it must be at least 1")
    if largest is not None and count > largest:
        raise ValueError(
            f"{name} is {count}, but the gallery has only {largest} entries: at most {largest}"
        )


def check_features(features: AnyFloat, name: str, start: int = 0) -> AnyFloat:
    """`features`; raises ValueError unless they are [rows, D] and finite.

    `start` is the number of the first row in the message.
    """
    if features.ndim != 2:
        raise ValueError(f"{name} embeddings have shape {features.shape}; expected [rows, D]")
    numpy = jnp if isinstance(features, jax.Array) else np
    finite = numpy.isfinite(features).all(axis=1)
    # One number first: rows of a sharded array may lie with other processes.
    if not finite.all():
        bad = ~np.asarray(finite)
        raise ValueError(
            f"{bad.sum()} of {len(bad)} {name} embeddings are not finite (rows "
            f"{(start + np.flatnonzero(bad)[:5]).tolist()}...); the network has diverged, or an "
            "image is broken"
        )
    return features


def check_pair(query: AnyFloat, gallery: AnyFloat) -> None:
    """Raises ValueError unless query and gallery have one width."""
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {query.shape[1]} dimensions, gallery ones {gallery.shape[1]}; "
            "embed both with one network"
        )


def _placed_by_jax(gallery):
    """The same placement on a mesh with automatic axes.

    With explicit ones, the default of `jax.make_mesh`, `top_k` along a sharded axis is an error.
    """
    if not isinstance(gallery, jax.Array) or not isinstance(gallery.sharding, NamedSharding):
        return gallery
    mesh, spec = gallery.sharding.mesh, gallery.sharding.spec
    automatic = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)
    return jax.device_put(gallery, NamedSharding(automatic, spec))


def _row_axes(gallery) -> str | tuple[str, ...] | None:
    """The mesh axes over which the rows of `gallery` are sharded; None if they are not."""
    if not isinstance(gallery, jax.Array) or not isinstance(gallery.sharding, NamedSharding):
        return None
    spec = gallery.sharding.spec
    return spec[0] if len(spec) and gallery.sharding.num_devices > 1 and spec[0] else None


def _blocks(gallery: AnyFloat | Iterable[AnyFloat], size: int) -> Iterator[AnyFloat]:
    for whole in [gallery] if hasattr(gallery, "ndim") else gallery:
        if whole.ndim != 2:
            raise ValueError(
                f"gallery embeddings have shape {whole.shape}; expected [rows, D], or an iterable "
                "of such arrays"
            )
        for start in range(0, len(whole), size):
            yield whole[start : start + size]


def _by_query_blocks(queries: np.ndarray, size: int, find) -> Neighbours:
    distances, indices = [], []
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        rows = len(block)
        distance, index = find(np.pad(block, [(0, size - rows), (0, 0)]))
        distances.append(np.asarray(distance)[:rows])
        indices.append(np.asarray(index)[:rows])
    return Neighbours(np.concatenate(indices).astype(np.int64), np.concatenate(distances))


def _merged(first: Neighbours, second: Neighbours, k: int) -> Neighbours:
    """The k nearest of both; every index of `first` is below every one of `second`."""
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
    """Gallery rows from `rows` on are padding: they come last."""
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

    # Candidates side by side in the order of the shards: among equals the lower index stays first.
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
