"""Ranking metrics under the Market-1501 rule: mAP, mINP and CMC, exact, blocked and jitted.

Zheng et al., "Scalable Person Re-identification", ICCV 2015; mINP: Ye et al., TPAMI 2021. The rank of
a match is counted (gallery entries before it), not sorted, one block of queries at a time, so that
the whole distance matrix never exists.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g2ajax.retrieval.distances import check_metric, pairwise, unit
from g2ajax.retrieval.matching import Pairs, padded_lists
from g2ajax.retrieval.search import AnyFloat, check_features, check_pair
from g2ajax.retrieval.single_shot import single_gallery_shot

AnyInt = Int[Array | np.ndarray, "..."] | Sequence[int]
RULES = ("standard", "single-gallery-shot")


@dataclasses.dataclass(frozen=True)
class RetrievalResult:
    """Scores in 0..1 over the valid queries: those with a match that the filter leaves in the gallery."""

    mAP: float
    mINP: float
    cmc: Float[np.ndarray, " K"]
    """Share of valid queries with a match within rank k, at index k − 1."""
    valid: Bool[np.ndarray, " Q"]
    average_precision: Float[np.ndarray, " Q"]
    """NaN for invalid queries; likewise below."""
    inverse_negative_penalty: Float[np.ndarray, " Q"]
    first_match: Int[np.ndarray, " Q"]
    """Rank (from 1) of the first match in the whole list; 0 for invalid queries."""
    shots: Float[np.ndarray, "Q K"] | None = None
    """CMC of each query under the rule single-gallery-shot; None under the standard rule."""
    top: Int[np.ndarray, "Q T"] | None = None
    """First gallery entries of each ranking, without dropped entries; −1 beyond the end of the ranking
    and for invalid queries. None unless `top` is set."""
    top_distance: Float[np.ndarray, "Q T"] | None = None

    def rank(self, k: int) -> float:
        """CMC at rank `k`; beyond the gallery it keeps its last value."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    def hits(self, k: int) -> Float[np.ndarray, " Q"]:
        """CMC of each query at rank `k`: 1 or 0, or a share of draws; NaN for invalid queries."""
        if self.shots is not None:
            return self.shots[:, min(k, self.shots.shape[1]) - 1]
        hit = (self.first_match <= k).astype(np.float64)
        return np.where(self.valid, hit, np.nan)


def evaluate(
    query: AnyFloat,
    gallery: AnyFloat,
    query_identity: AnyInt,
    gallery_identity: AnyInt,
    query_camera: AnyInt,
    gallery_camera: AnyInt,
    *,
    metric: str = "cosine",
    ranks: Sequence[int] = (1, 5, 10),
    drop_same_camera: bool = True,
    junk: Bool[np.ndarray, " G"] | None = None,
    distractor: Bool[np.ndarray, " G"] | None = None,
    cmc: str = "standard",
    top: int = 0,
    block_size: int = 256,
) -> RetrievalResult:
    """Ranks the gallery for every query and scores the rankings.

    Args:
      query: embeddings [Q, D]; gallery: [G, D], which may be sharded over devices.
      query_identity, gallery_identity, query_camera, gallery_camera: integers [Q] or [G].
      metric: "cosine", "squared_euclidean" or "euclidean".
      ranks: CMC is computed up to the largest of these (at least 50).
      drop_same_camera: drop gallery entries with the identity and camera of the query.
      junk: gallery entries dropped from every ranking.
      distractor: gallery entries that are ranked but match no query, whatever their identity.
      cmc: "standard", or "single-gallery-shot" for CUHK03's first protocol: CMC is the mean over
        draws of one image per identity (see `single_gallery_shot`); mAP and mINP use the whole list.
      top: number of first entries of each ranking to keep in the result.
      block_size: queries in a block; memory is about `block_size` × G × 4 bytes.

    Equal distances rank in gallery order. Beyond the gallery CMC keeps its last value.

    Raises ValueError for features that are not finite, arrays that do not fit, an unknown metric or
    rule, an empty gallery, and when no query has a match.
    """
    check_metric(metric)
    query, gallery = check_features(query, "query"), check_features(gallery, "gallery")
    check_pair(query, gallery)
    labels = (query_identity, gallery_identity, query_camera, gallery_camera)
    pairs = Pairs((len(query), len(gallery)), *labels, drop_same_camera, junk, distractor)
    # Placed and normalised once, not for each block.
    query, gallery = jnp.asarray(query), jnp.asarray(gallery)
    if metric == "cosine":
        query, gallery = unit(query), unit(gallery)
    query = np.asarray(query, np.float32)
    blocks = (
        (rows, _distances(_padded(query[rows], block_size), gallery, metric=metric))
        for rows in pairs.blocks(block_size)
    )
    return _score(blocks, pairs, ranks, cmc, top)


def evaluate_distances(
    distance: Float[Array | np.ndarray, "Q G"],
    query_identity: AnyInt,
    gallery_identity: AnyInt,
    query_camera: AnyInt,
    gallery_camera: AnyInt,
    *,
    block_size: int = 256,
    **options: Any,
) -> RetrievalResult:
    """As `evaluate`, from a given distance matrix; `options` as in `evaluate_blocks`."""
    distance = np.asarray(distance, np.float32)
    blocks = (
        (slice(start, start + block_size), distance[start : start + block_size])
        for start in range(0, len(distance), block_size)
    )
    labels = (query_identity, gallery_identity, query_camera, gallery_camera)
    return evaluate_blocks(blocks, *labels, **options)


def evaluate_blocks(
    blocks: Iterable[tuple[slice, Float[Array | np.ndarray, "B G"]]],
    query_identity: AnyInt,
    gallery_identity: AnyInt,
    query_camera: AnyInt,
    gallery_camera: AnyInt,
    *,
    ranks: Sequence[int] = (1, 5, 10),
    drop_same_camera: bool = True,
    junk: Bool[np.ndarray, " G"] | None = None,
    distractor: Bool[np.ndarray, " G"] | None = None,
    cmc: str = "standard",
    top: int = 0,
) -> RetrievalResult:
    """As `evaluate`, from pairs (rows of the queries, their distances), such as `rerank_blocks` yields.

    The whole matrix never exists. Raises ValueError for NaN, for blocks of a wrong shape and for
    blocks that do not cover every query.
    """
    queries, entries = len(np.asarray(query_identity)), len(np.asarray(gallery_identity))
    labels = (query_identity, gallery_identity, query_camera, gallery_camera)
    pairs = Pairs((queries, entries), *labels, drop_same_camera, junk, distractor)
    return _score(_checked(blocks, pairs, queries, entries), pairs, ranks, cmc, top)


def _checked(blocks, pairs, queries: int, entries: int):
    """Yields the rows of each block with a match, padded to the size of the largest block so far."""
    seen, size = np.zeros(queries, bool), 0
    for place, block in blocks:
        rows, block = np.arange(queries)[place], np.asarray(block, np.float32)
        if block.shape != (len(rows), entries):
            raise ValueError(
                f"distances of shape {block.shape} for {len(rows)} queries (from "
                f"{rows[:1].tolist()}) and {entries} gallery entries"
            )
        if np.isnan(block).any():
            raise ValueError(f"{np.isnan(block).any(1).sum()} rows of the distances hold NaN")
        seen[rows] = True
        size = max(size, len(rows))
        kept = np.flatnonzero(pairs.counts[rows])
        if len(kept):
            yield rows[kept], _padded(block[kept], size)
    if not seen.all():
        raise ValueError(f"there are no distances of {(~seen).sum()} of {queries} queries")


def _score(
    blocks: Iterable[tuple[np.ndarray, Float[Array | np.ndarray, "B G"]]],
    pairs: Pairs,
    ranks: Sequence[int],
    cmc: str,
    top: int,
) -> RetrievalResult:
    """Scores the rankings of blocks of distances; rows of a block beyond `rows` are padding."""
    if cmc not in RULES:
        raise ValueError(f"CMC rule {cmc!r} is not known; expected one of {', '.join(RULES)}")
    queries, entries, max_rank = len(pairs.counts), len(pairs.labels[1]), max(50, *ranks)
    ranks_of_rows = []
    shots = np.full((queries, max_rank), np.nan)
    first = np.full((queries, min(top, entries)), -1, np.int64)
    near = np.full(first.shape, np.nan, np.float32)
    for rows, block in blocks:
        matches = padded_lists([np.sort(pairs.matches[row]) for row in rows], len(block))
        left_out = [np.concatenate([pairs.dropped[row], pairs.junk]) for row in rows]
        dropped = padded_lists(left_out, len(block))
        block = jnp.asarray(block)
        ranks_of_rows.append((rows, _ranks_in(block, matches, dropped)))
        if top:
            index, distance = map(np.asarray, _top_in(block, dropped, top=first.shape[1]))
            first[rows] = np.where(np.isinf(distance), -1, index)[: len(rows)]
            near[rows] = np.where(np.isinf(distance), np.nan, distance)[: len(rows)]
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
    if top:
        result = dataclasses.replace(result, top=first, top_distance=near)
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
