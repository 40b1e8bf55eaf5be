"""Ranking metrics under the Market-1501 rule: mAP, mINP and CMC, exact, blocked and jitted.

Zheng et al., "Scalable Person Re-identification", ICCV 2015; mINP: Ye et al., TPAMI 2021. The rank of
a match is counted (gallery entries before it), not sorted, one block of queries at a time, so that
the whole distance matrix never exists.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from g2ajax.retrieval.distances import check_metric, pairwise, unit
from g2ajax.retrieval.inputs import (
    Distances,
    Features,
    Whole,
    array,
    check_pair,
    count,
    in_float32,
    read_distances,
    read_features,
    rounded,
    unscaled,
    whole,
)
from g2ajax.retrieval.labels import Flags, Labels, length
from g2ajax.retrieval.matching import Pairs, padded_lists
from g2ajax.retrieval.result import RetrievalResult
from g2ajax.retrieval.search import comparable
from g2ajax.retrieval.single_shot import single_gallery_shot

# Queries of a block, their distances or what ranks alike, and the distances of entries from both.
Block = tuple[
    np.ndarray,
    Float[Array | np.ndarray, "B G"],
    Callable[[np.ndarray, np.ndarray], np.ndarray],
]
RULES = ("standard", "single-gallery-shot")


def evaluate(
    query: Features,
    gallery: Features,
    query_identity: Labels,
    gallery_identity: Labels,
    query_camera: Labels | None = None,
    gallery_camera: Labels | None = None,
    *,
    metric: str = "cosine",
    ranks: Whole | Iterable[Whole] = (1, 5, 10),
    drop_same_camera: bool = True,
    junk: Flags | None = None,
    distractor: Flags | None = None,
    cmc: str = "standard",
    top: Whole = 0,
    block_size: Whole = 256,
) -> RetrievalResult:
    """Ranks the gallery for every query and scores the rankings.

    Args:
      query: embeddings [Q, D]; gallery: [G, D], which may be sharded over devices. Arrays of any
        library, or nested lists; of any magnitude.
      query_identity, gallery_identity, query_camera, gallery_camera: labels [Q] or [G], of one kind on
        both sides: integers, text, bytes, booleans or hashable objects. Without cameras nothing is
        dropped for them.
      metric: "cosine", "squared_euclidean" or "euclidean".
      ranks: CMC is computed up to the largest of these (at least 50; not beyond the gallery).
      drop_same_camera: drop gallery entries with the identity and camera of the query.
      junk: gallery entries dropped from every ranking, as booleans [G].
      distractor: gallery entries that are ranked but match no query, whatever their identity.
      cmc: "standard", or "single-gallery-shot" for CUHK03's first protocol: CMC is the mean over
        draws of one image per identity (see `single_gallery_shot`); mAP and mINP use the whole list.
      top: number of first entries of each ranking to keep in the result.
      block_size: queries in a block; memory is about `block_size` × G × 4 bytes.

    Equal distances rank in gallery order. Beyond the gallery CMC keeps its last value.

    Raises ValueError for features that are not finite or that float32 cannot compare, labels of
    different kinds or without a value, arrays that do not fit, an unknown metric or rule, an empty
    gallery, and when no query has a match.
    """
    check_metric(metric)
    query, gallery = read_features(query, "query"), read_features(gallery, "gallery")
    check_pair(query.width, gallery.width)
    block_size = count("block_size", block_size)
    labels = (query_identity, gallery_identity, query_camera, gallery_camera)
    pairs = Pairs((len(query), len(gallery)), *labels, drop_same_camera, junk, distractor)
    # Placed and normalised once, not for each block.
    query, gallery, exponent = comparable(query, gallery, metric)
    gallery = jnp.asarray(gallery)
    if metric == "cosine":
        query, gallery = np.asarray(unit(query)), unit(gallery)

    def distances() -> Iterator[Block]:
        for rows in pairs.blocks(block_size):
            block = _distances(_padded(query[rows], block_size), gallery, metric=metric)
            yield rows, block, lambda _, near: unscaled(near, metric, exponent)

    return _score(distances(), pairs, ranks, cmc, top)


def evaluate_distances(
    distance: Distances,
    query_identity: Labels,
    gallery_identity: Labels,
    query_camera: Labels | None = None,
    gallery_camera: Labels | None = None,
    *,
    block_size: Whole = 256,
    **options: Any,
) -> RetrievalResult:
    """Evaluates a given distance matrix as `evaluate`; `options` as in `evaluate_blocks`."""
    block_size, distance = count("block_size", block_size), array(distance, "the distances")
    if distance.ndim != 2:
        raise ValueError(f"distances have shape {distance.shape}; expected [Q, G]")
    blocks = (
        (slice(start, start + block_size), distance[start : start + block_size])
        for start in range(0, len(distance), block_size)
    )
    labels = (query_identity, gallery_identity, query_camera, gallery_camera)
    return evaluate_blocks(blocks, *labels, **options)


def evaluate_blocks(
    blocks: Iterable[tuple[slice | np.ndarray, Distances]],
    query_identity: Labels,
    gallery_identity: Labels,
    query_camera: Labels | None = None,
    gallery_camera: Labels | None = None,
    *,
    ranks: Whole | Iterable[Whole] = (1, 5, 10),
    drop_same_camera: bool = True,
    junk: Flags | None = None,
    distractor: Flags | None = None,
    cmc: str = "standard",
    top: Whole = 0,
) -> RetrievalResult:
    """Evaluates as `evaluate`, from pairs (rows of the queries, their distances), such as `rerank_blocks` yields.

    The whole matrix never exists. Distances rank by their exact values, whatever their kind. Raises
    ValueError for NaN, for blocks of a wrong shape and for blocks that do not give every query once.
    """
    queries, entries = length(query_identity), length(gallery_identity)
    labels = (query_identity, gallery_identity, query_camera, gallery_camera)
    pairs = Pairs((queries, entries), *labels, drop_same_camera, junk, distractor)
    return _score(_checked(blocks, pairs, queries, entries), pairs, ranks, cmc, top)


def _checked(
    blocks: Iterable[tuple[slice | np.ndarray, Distances]], pairs: Pairs, queries: int, entries: int
) -> Iterator[Block]:
    """Yields the rows of each block with a match, padded to the size of the largest block so far."""
    seen, size = np.zeros(queries, bool), 0
    for place, block in blocks:
        try:
            rows = np.arange(queries)[place]
            len(rows)
        except (IndexError, TypeError) as error:
            raise ValueError(f"rows {place!r} of {queries} queries: {error}") from error
        block = read_distances(block)
        if block.shape != (len(rows), entries):
            raise ValueError(
                f"distances of shape {block.shape} for {len(rows)} queries (from "
                f"{rows[:1].tolist()}) and {entries} gallery entries"
            )
        if seen[rows].any() or len(np.unique(rows)) < len(rows):
            raise ValueError(f"distances of some of the rows {place!r} are given twice")
        seen[rows] = True
        size = max(size, len(rows))
        kept = np.flatnonzero(pairs.counts[rows])
        if len(kept):
            part = block[kept]
            values = functools.partial(_values, part)
            yield rows[kept], _padded(in_float32(part), size), values
    if not seen.all():
        raise ValueError(f"there are no distances of {(~seen).sum()} of {queries} queries")


def _values(distance: Shaped[np.ndarray, "B G"], index: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Given distances of the entries `index`; in `near` they may be places in the ranking."""
    return np.take_along_axis(distance, index[: len(distance)], axis=1)


def _largest_rank(ranks: Whole | Iterable[Whole], entries: int) -> int:
    """Rank up to which CMC is computed. Raises ValueError for ranks that are no whole numbers from 1."""
    if not isinstance(ranks, Iterable) or getattr(ranks, "ndim", 1) == 0:
        ranks = (ranks,)
    return max(50, min(max((count("a rank", rank) for rank in ranks), default=1), entries))


def _score(
    blocks: Iterable[Block],
    pairs: Pairs,
    ranks: Whole | Iterable[Whole],
    cmc: str,
    top: Whole,
) -> RetrievalResult:
    """Scores the rankings of blocks of distances; rows of a block beyond `rows` are padding."""
    if cmc not in RULES:
        raise ValueError(f"CMC rule {cmc!r} is not known; expected one of {', '.join(RULES)}")
    top = whole("top", top)
    if top < 0:
        raise ValueError(f"top is {top}; it must be at least 0")
    queries, entries = len(pairs.counts), len(pairs.labels[1])
    max_rank, ranks_of_rows = _largest_rank(ranks, entries), []
    shots = np.full((queries, max_rank), np.nan)
    first = np.full((queries, min(top, entries)), -1, np.int64)
    near = np.full(first.shape, np.nan, np.float32)
    match, match_distance = np.full(queries, -1, np.int64), np.full(queries, np.nan, np.float32)
    nothing = np.zeros(0, np.int64)
    match_ranks, match_entries = [nothing] * queries, [nothing] * queries
    for rows, block, values in blocks:
        matches = padded_lists([np.sort(pairs.matches[row]) for row in rows], len(block))
        left_out = [np.concatenate([pairs.dropped[row], pairs.junk]) for row in rows]
        dropped = padded_lists(left_out, len(block))
        block = jnp.asarray(block)
        ranks = np.asarray(_ranks_in(block, matches, dropped))
        ranks_of_rows.append((rows, ranks))
        if top:
            nearest = np.argmin(np.where(matches < 0, entries, ranks), axis=1)[:, None]
            entry = np.take_along_axis(matches, nearest, axis=1)
            distance = np.asarray(jnp.take_along_axis(block, jnp.asarray(entry), axis=1))[
                : len(rows)
            ]
            match[rows] = entry[: len(rows), 0]
            match_distance[rows] = rounded(values(entry, distance))[:, 0]
            for row, entries_of, ranks_of in zip(rows, matches, ranks, strict=False):
                order = np.argsort(ranks_of[entries_of >= 0], kind="stable")
                match_ranks[row] = ranks_of[order].astype(np.int64) + 1
                match_entries[row] = entries_of[order].astype(np.int64)
            index, distance = map(np.asarray, _top_in(block, dropped, top=first.shape[1]))
            index, distance = index[: len(rows)], distance[: len(rows)]
            end = np.isposinf(distance)
            first[rows] = np.where(end, -1, index)
            near[rows] = np.where(end, np.nan, rounded(values(index, distance)))
        if cmc == "single-gallery-shot":
            q_id, g_id, q_cam, g_cam = pairs.labels
            shots[rows] = single_gallery_shot(
                np.asarray(block)[: len(rows)],
                q_id[rows],
                g_id,
                q_cam[rows],
                g_cam,
                drop_same_camera=pairs.drop_same_camera,
                junk=pairs.is_junk,
                distractor=pairs.is_distractor,
                max_rank=max_rank,
                number=rows,
            )
    result = _summary(ranks_of_rows, pairs.matches, queries, max_rank)
    result = dataclasses.replace(result, gallery=entries)
    if top:
        result = dataclasses.replace(
            result,
            top=first,
            top_distance=near,
            match=match,
            match_distance=match_distance,
            match_ranks=tuple(match_ranks),
            match_entries=tuple(match_entries),
            listed=pairs.listed,
        )
    if cmc == "single-gallery-shot":
        result = dataclasses.replace(result, shots=shots, cmc=shots[result.valid].mean(0))
    return result


@functools.partial(jax.jit, static_argnames="metric")
def _distances(
    query: Float[Array | np.ndarray, "B D"], gallery: Float[Array, "G D"], *, metric: str
) -> Float[Array, "B G"]:
    return pairwise(jnp.asarray(query), gallery, metric, normalised=True)


@functools.partial(jax.jit, static_argnames="top")
def _top_in(
    distance: Float[Array, "B G"], dropped: Int[Array | np.ndarray, "B R"], *, top: int
) -> tuple[Int[Array, "B T"], Float[Array, "B T"]]:
    """First entries of each ranking and their distances; infinite beyond the end of the ranking."""
    entries = distance.shape[1]

    def one(distance: Float[Array, " G"], dropped: Int[Array, " R"]) -> Float[Array, " G"]:
        at = jnp.where(dropped < 0, entries, dropped)
        return distance.at[at].set(jnp.inf, mode="drop")

    # `top_k` puts the lower index first among equals, as the ranks do.
    near, index = jax.lax.top_k(-jax.vmap(one)(distance, jnp.asarray(dropped)), top)
    return index, -near


@jax.jit
def _ranks_in(
    distance: Float[Array, "B G"],
    matches: Int[Array, "B M"],
    dropped: Int[Array, "B R"],
) -> Int[Array, "B M"]:
    """Rank (from 0) of each match among the entries that are not dropped.

    Index −1 is padding. An entry precedes a match if it is nearer, or as near and earlier.
    """
    entries = distance.shape[1]
    column = jnp.arange(entries)

    def one(row: tuple[Array, Array, Array]) -> Int[Array, " M"]:
        distance, matches, dropped = row
        at = distance[jnp.maximum(matches, 0)]
        # NaN compares false with everything: a dropped entry precedes no match.
        kept = distance.at[jnp.where(dropped < 0, entries, dropped)].set(jnp.nan, mode="drop")
        nearer = kept[None, :] < at[:, None]
        tied = (kept[None, :] == at[:, None]) & (column[None, :] < matches[:, None])
        return jnp.sum(nearer | tied, axis=1)

    return jax.lax.map(one, (distance, matches, dropped))


def _summary(ranks_of_rows, matches, queries: int, max_rank: int) -> RetrievalResult:
    precision = np.full(queries, np.nan)
    penalty = np.full(queries, np.nan)
    first = np.zeros(queries, np.int64)
    for rows, ranks in ranks_of_rows:
        for row, row_ranks in zip(rows, np.asarray(ranks), strict=False):
            count = len(matches[row])
            positions = np.sort(row_ranks[:count].astype(np.int64)) + 1
            precision[row] = np.mean(np.arange(1, count + 1) / positions)
            penalty[row] = count / positions[-1]
            first[row] = positions[0]
    valid = first > 0
    histogram = np.bincount(np.minimum(first[valid], max_rank + 1), minlength=max_rank + 2)
    return RetrievalResult(
        mAP=float(precision[valid].mean()),
        mINP=float(penalty[valid].mean()),
        cmc=np.cumsum(histogram[1 : max_rank + 1]) / valid.sum(),
        valid=valid,
        average_precision=precision,
        inverse_negative_penalty=penalty,
        first_match=first,
    )


def _padded(block: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(block, [(0, rows - len(block)), (0, 0)]) if len(block) < rows else block
