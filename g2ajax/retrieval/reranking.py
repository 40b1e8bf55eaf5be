"""k-reciprocal re-ranking in memory that grows with N · k, not with N².

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. Queries
and gallery together are N embeddings, queries first. The published code holds several N × N
matrices; here distances are computed for a block of rows at a time, and only neighbour lists and
sparse vectors of weights are kept.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import sparse

from g2ajax.retrieval.distances import check_metric, pairwise, unit
from g2ajax.retrieval.inputs import (
    Distances,
    Embeddings,
    Features,
    Whole,
    array,
    check_pair,
    common_exponent,
    count,
    numbers,
    read_features,
    rounded,
    unscaled,
)

VARIANTS = ("zhong", "fastreid")
# Distances whose squares float32 holds exactly enough.
LEAST, MOST = 2.0**-62, 2.0**62


def rerank_blocks(
    query: Features,
    gallery: Features,
    *,
    metric: str = "cosine",
    k1: Whole = 20,
    k2: Whole = 6,
    lambda_value: int | float = 0.3,
    variant: str = "zhong",
    block_size: Whole = 256,
) -> Iterator[tuple[slice, Float[np.ndarray, "B G"]]]:
    """Yields re-ranked distances as pairs (rows of the queries, their distances), for `evaluate_blocks`.

    (1 − λ) · Jaccard distance of k-reciprocal neighbours + λ · original distance.

    Args:
      query: embeddings [Q, D]; gallery: [G, D].
      metric: "cosine" compares embeddings scaled to unit norm, "euclidean" and "squared_euclidean"
        unscaled ones. Neighbours and weights always use squared Euclidean distances.
      k1: number of near neighbours, at most G; k2: number of neighbours whose weights are averaged,
        1 for none; lambda_value: share λ of the original distance, 0..1.
      variant: "zhong", the published form: k1 neighbours besides the embedding itself, weights
        exp(−d²/m) with m the largest d² of the row, original distance d²/m. "fastreid", the form of
        fast-reid's evaluator: k1 neighbours including the embedding itself, weights exp(−d²),
        original distance by `metric`; k2 is at most k1.
      block_size: rows in a block; memory is a few times `block_size` × (Q + G) × 4 bytes, plus the
        sparse weights (about 8 bytes × the total size of all neighbourhoods).

    An embedding is its own first neighbour; others at equal distance follow in the order queries,
    gallery. Raises ValueError for options out of range, for embeddings that are empty, not finite
    or of different widths, and for magnitudes that float32 cannot compare.
    """
    check_metric(metric)
    query, gallery = read_features(query, "query"), read_features(gallery, "gallery")
    check_pair(query.width, gallery.width)
    check_reranking(len(query), len(gallery), k1, k2, lambda_value, variant, block_size)
    source = _Features(query, gallery, metric, int(block_size), variant)
    return _blocks(source, int(k1), int(k2), lambda_value, variant)


def rerank(query: Features, gallery: Features, **options: Any) -> Float[np.ndarray, "Q G"]:
    """Re-ranked distances of all queries to all gallery entries; arguments of `rerank_blocks`.

    For `evaluate_distances`, where Q × G numbers fit the memory.
    """
    query, gallery = array(query, "query embeddings"), array(gallery, "gallery embeddings")
    blocks = rerank_blocks(query, gallery, **options)
    return _whole(blocks, len(query), len(gallery))


def rerank_distances(
    query_gallery: Distances,
    query_query: Distances,
    gallery_gallery: Distances,
    *,
    k1: Whole = 20,
    k2: Whole = 6,
    lambda_value: int | float = 0.3,
    variant: str = "zhong",
    block_size: Whole = 256,
) -> Float[np.ndarray, "Q G"]:
    """Re-ranks as `rerank`, from given distances [Q, G], [Q, Q] and [G, G].

    Pass Euclidean distances, not squared ones: they are squared here. The last two must be symmetric.
    NumPy memory maps are read a block of rows at a time. "fastreid" uses `query_gallery` itself, not
    its square, as the original distance.

    Raises what `rerank` raises, and ValueError for wrong shapes, for NaN, infinite or negative
    distances and for those whose squares float32 cannot hold.
    """
    names = "query × gallery", "query × query", "gallery × gallery"
    query_gallery, query_query, gallery_gallery = (
        _matrix(distance, f"distances {name}")
        for distance, name in zip((query_gallery, query_query, gallery_gallery), names, strict=True)
    )
    queries, entries = query_gallery.shape if query_gallery.ndim == 2 else (0, 0)
    shapes = [d.shape for d in (query_gallery, query_query, gallery_gallery)]
    if shapes != [(queries, entries), (queries, queries), (entries, entries)]:
        raise ValueError(
            "distances query × gallery, query × query, gallery × gallery have shapes "
            f"{', '.join(map(str, shapes))}; expected [Q, G], [Q, Q], [G, G]"
        )
    check_reranking(queries, entries, k1, k2, lambda_value, variant, block_size)
    source = _Matrices(query_gallery, query_query, gallery_gallery, int(block_size))
    blocks = _blocks(source, int(k1), int(k2), lambda_value, variant)
    return _whole(blocks, queries, entries)


def _matrix(distance: Distances, name: str) -> np.ndarray:
    """A matrix of real numbers; a memory map is not read yet."""
    distance = array(distance, name)
    if isinstance(distance, np.ndarray) and distance.dtype.kind in "iuf":
        return distance
    return np.asarray(numbers(distance, name))


class _Features:
    """Squared distances between all embeddings, computed on demand."""

    def __init__(
        self, query: Embeddings, gallery: Embeddings, metric: str, block_size: int, variant: str
    ):
        self.queries, self.count = len(query), len(query) + len(gallery)
        self.metric, self.size, self.exponent = metric, min(block_size, self.count), 0
        if metric == "cosine":
            sides = [np.asarray(side.directions(), np.float32) for side in (query, gallery)]
            self.all = np.array(unit(jnp.asarray(np.concatenate(sides))))
        else:
            ranges = query.magnitudes, gallery.magnitudes
            self.exponent = common_exponent(metric, query.width, *ranges)
            largest = max(of_side[0] for of_side in ranges)
            if variant == "fastreid" and largest > 2.0**50:
                raise ValueError(
                    f"embeddings of magnitude {largest:.3g} with the variant 'fastreid', whose weights "
                    "exp(−d²) depend on it: float32 does not hold d²; use 'cosine' or 'zhong'"
                )
            self.all = np.concatenate(
                [np.asarray(side.scaled(self.exponent)) for side in (query, gallery)]
            )
        self.on_device = jnp.asarray(self.all)

    def rows(self, start: int) -> Float[Array, "B N"]:
        block = self.all[start : start + self.size]
        block = np.pad(block, [(0, self.size - len(block)), (0, 0)])
        return _distances(block, self.on_device, "squared_euclidean")

    def pairs(self, i: Int[np.ndarray, " P"], j: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        result = np.empty(len(i), np.float32)
        step = max(1, 2**22 // self.all.shape[1])
        for start in range(0, len(i), step):
            part = slice(start, start + step)
            difference = self.all[i[part]] - self.all[j[part]]
            result[part] = np.einsum("pd,pd->p", difference, difference)
        return result

    def unscaled(self, square: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """Squared distances of the embeddings as they were given."""
        return unscaled(square, "squared_euclidean", self.exponent)

    def original(self, rows: slice) -> Float[np.ndarray, "B G"]:
        block = self.all[rows]
        block = np.pad(block, [(0, self.size - len(block)), (0, 0)])
        distance = _distances(block, self.on_device, self.metric)
        distance = np.asarray(distance)[: rows.stop - rows.start, self.queries :]
        return rounded(unscaled(distance, self.metric, self.exponent))


class _Matrices:
    """Squared distances between all embeddings, from given Euclidean distances."""

    def __init__(self, query_gallery, query_query, gallery_gallery, block_size: int):
        self.queries, entries = query_gallery.shape
        self.count = self.queries + entries
        self.size = min(block_size, self.count)
        self.cross, self.query, self.gallery = query_gallery, query_query, gallery_gallery
        dtypes = (matrix.dtype for matrix in (query_gallery, query_query, gallery_gallery))
        self.dtype = np.result_type(np.float32, *dtypes)

    def rows(self, start: int) -> Float[Array, "B N"]:
        stop, middle = min(start + self.size, self.count), self.queries
        upper, lower = slice(start, min(stop, middle)), slice(max(start - middle, 0), stop - middle)
        block = np.zeros((self.size, self.count), self.dtype)
        if start < middle:
            rows = upper.stop - upper.start
            block[:rows, :middle], block[:rows, middle:] = self.query[upper], self.cross[upper]
        if stop > middle:
            rows = slice(max(middle - start, 0), stop - start)
            block[rows, :middle] = np.asarray(self.cross[:, lower]).T
            block[rows, middle:] = self.gallery[lower]
        if ((block > 0) & (block < LEAST)).any() or (np.isfinite(block) & (block > MOST)).any():
            raise ValueError(
                f"rows {start} to {stop - 1} of the distances (queries first) hold values whose squares "
                f"float32 cannot hold: expected 0, or {LEAST:.3g} to {MOST:.3g}; multiply all three "
                "matrices by a constant"
            )
        if not np.isfinite(block).all() or (block < 0).any():
            raise ValueError(
                f"rows {start} to {stop - 1} of the distances (queries first) hold NaN, infinite "
                "or negative values; expected Euclidean distances"
            )
        block = block.astype(np.float32, copy=False)
        return jnp.asarray(block * block)

    def pairs(self, i: Int[np.ndarray, " P"], j: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        first, second, middle = np.minimum(i, j), np.maximum(i, j), self.queries
        result = np.empty(len(i), np.float32)
        qq, gg = second < middle, first >= middle
        qg = ~qq & ~gg
        result[qq] = self.query[first[qq], second[qq]]
        result[qg] = self.cross[first[qg], second[qg] - middle]
        result[gg] = self.gallery[first[gg] - middle, second[gg] - middle]
        return result * result

    def unscaled(self, square: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        return square

    def original(self, rows: slice) -> Float[np.ndarray, "B G"]:
        return np.asarray(self.cross[rows], np.float32)


def _blocks(
    source: _Features | _Matrices, k1: int, k2: int, lambda_value: int | float, variant: str
) -> Iterator[tuple[slice, Float[np.ndarray, "B G"]]]:
    zhong = variant == "zhong"
    near = k1 + 1 if zhong else k1
    # Python rounds halves to even, as the published code does.
    half = min(near, round(k1 / 2) + 1)
    nearest, largest = _neighbours(source, max(near, k2) if zhong else near)
    weights = _weights(source, nearest, near, half, largest if zhong else None)
    if k2 > 1:
        weights = _mean_over_neighbours(weights, nearest[:, :k2])
    of_query, of_gallery = weights[: source.queries], weights[source.queries :].T.tocsr()
    for start in range(0, source.queries, source.size):
        rows = slice(start, min(start + source.size, source.queries))
        if zhong:
            square = np.asarray(source.rows(start))[: rows.stop - start, source.queries :]
            distance = square / largest[rows, None]
        else:
            distance = source.original(rows)
        jaccard = _jaccard(of_query[rows], of_gallery)
        yield rows, ((1.0 - lambda_value) * jaccard + lambda_value * distance).astype(np.float32)


def _neighbours(
    source: _Features | _Matrices, k: int
) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, " N"]]:
    """The k nearest of each embedding (itself first), and its largest squared distance (1 for 0)."""
    nearest = np.empty((source.count, k), np.int32)
    largest = np.empty(source.count, np.float32)
    for start in range(0, source.count, source.size):
        rows = slice(start, min(start + source.size, source.count))
        index, block_largest = _nearest(source.rows(start), start, k=k)
        nearest[rows] = np.asarray(index)[: rows.stop - start]
        largest[rows] = np.asarray(block_largest)[: rows.stop - start]
    return nearest, np.where(largest > 0, largest, np.float32(1))


@functools.partial(jax.jit, static_argnames="metric")
def _distances(
    block: Float[Array, "B D"], embeddings: Float[Array, "N D"], metric: str
) -> Float[Array, "B N"]:
    # Rows have unit norm already if the metric is cosine.
    return pairwise(block, embeddings, metric, normalised=True)


@functools.partial(jax.jit, static_argnames="k")
def _nearest(
    square: Float[Array, "B N"], start: int | Int[Array, ""], *, k: int
) -> tuple[Int[Array, "B K"], Float[Array, " B"]]:
    row = start + jnp.arange(square.shape[0])
    itself = jnp.arange(square.shape[1])[None, :] == row[:, None]
    # In the published code the rank of the embedding itself depends on rounding, and its
    # neighbourhood is empty if more than k1 others are equal to it.
    _, index = jax.lax.top_k(jnp.where(itself, 1.0, -square), k)
    return index, square.max(axis=1)


def _weights(
    source: _Features | _Matrices,
    nearest: Int[np.ndarray, "N K"],
    near: int,
    half: int,
    largest: Float[np.ndarray, " N"] | None,
) -> sparse.csr_array:
    """Sparse [N, N]: weights over the expanded neighbourhood of each embedding; rows sum to 1."""
    wide, narrow = _reciprocal(nearest[:, :near]), _reciprocal(nearest[:, :half])
    members = np.diff(narrow.indptr)
    parts = []
    for start in range(0, source.count, 4096):
        own = wide[start : start + 4096]
        # A neighbour's narrower neighbourhood is added if over 2/3 of it are neighbours already.
        shared = own.multiply(own @ narrow.T).tocsr()
        shared.data = (3 * shared.data > 2 * members[shared.indices]).astype(np.int32)
        expanded = (own + shared @ narrow).tocsr()
        expanded.eliminate_zeros()
        expanded.sort_indices()
        row = np.repeat(np.arange(expanded.shape[0]), np.diff(expanded.indptr))
        square = source.pairs(start + row, expanded.indices)
        # Weights of the published form do not depend on the scale.
        scale = largest[start + row] if largest is not None else None
        square = source.unscaled(square) if scale is None else square / scale
        weight = np.exp(-square)
        total = np.bincount(row, weight, minlength=expanded.shape[0])
        expanded.data = (weight / total[row]).astype(np.float32)
        parts.append(expanded)
    return sparse.vstack(parts, format="csr")


def _reciprocal(nearest: Int[np.ndarray, "N K"]) -> sparse.csr_array:
    """Sparse [N, N]: 1 where two embeddings are in each other's lists."""
    lists = _lists(nearest, np.int32)
    return lists.multiply(lists.T.tocsr()).tocsr()


def _mean_over_neighbours(
    weights: sparse.csr_array, nearest: Int[np.ndarray, "N K"]
) -> sparse.csr_array:
    means = []
    for start in range(0, len(nearest), 4096):
        part = nearest[start : start + 4096]
        means.append(_lists(part, np.float32, width=len(nearest)) @ weights / part.shape[1])
    return sparse.vstack(means, format="csr")


def _lists(nearest: Int[np.ndarray, "B K"], dtype, width: int | None = None) -> sparse.csr_array:
    rows, k = nearest.shape
    return sparse.csr_array(
        (np.ones(rows * k, dtype), nearest.ravel(), np.arange(0, rows * k + 1, k)),
        shape=(rows, width or rows),
    )


def _jaccard(query: sparse.csr_array, gallery: sparse.csr_array) -> Float[np.ndarray, "B G"]:
    """1 − Σ min / Σ max between rows of `query` [B, N] and columns of `gallery` [N, G], of sum 1."""
    result = np.ones((query.shape[0], gallery.shape[1]), np.float32)
    for row, (start, stop) in enumerate(zip(query.indptr[:-1], query.indptr[1:], strict=True)):
        touched = gallery[query.indices[start:stop]]
        own = np.repeat(query.data[start:stop], np.diff(touched.indptr))
        smaller = np.minimum(own, touched.data)
        minimum = np.bincount(touched.indices, smaller, minlength=gallery.shape[1])
        # Rounding may push a sum of minima above 1.
        result[row] = np.maximum(1.0 - minimum / (2.0 - minimum), 0.0)
    return result


def _whole(blocks, queries: int, entries: int) -> Float[np.ndarray, "Q G"]:
    result = np.empty((queries, entries), np.float32)
    for rows, block in blocks:
        result[rows] = block
    return result


def check_reranking(
    queries: int,
    entries: int,
    k1: Whole,
    k2: Whole,
    lambda_value: int | float,
    variant: str = "zhong",
    block_size: Whole = 256,
) -> None:
    """Raises ValueError if `rerank` cannot use these options for that many embeddings."""
    if not queries or not entries:
        raise ValueError(f"{queries} queries and {entries} gallery entries: both are needed")
    count("k1", k1, entries)
    count("k2", k2, entries)
    count("block_size", block_size)
    if not 0.0 <= lambda_value <= 1.0:
        raise ValueError(f"lambda_value is {lambda_value}; expected a share from 0 to 1")
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; known: {', '.join(VARIANTS)}")
