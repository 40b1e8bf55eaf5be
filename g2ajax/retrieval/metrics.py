"""Ranking metrics under the Market-1501 rule: mAP, mINP and CMC, exact, blocked and jitted.

Zheng et al., "Scalable Person Re-identification", ICCV 2015; mINP: Ye et al., TPAMI 2021. Nothing is
sorted: the rank of a match is the number of gallery entries before it, counted block by block, so
the whole distance matrix never exists.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from g2ajax.retrieval.distances import check_metric, pairwise, unit

AnyFloat = Float[Array | np.ndarray, "..."]
AnyInt = Int[Array | np.ndarray, "..."] | Sequence[int]


@dataclasses.dataclass(frozen=True)
class RetrievalResult:
    """Scores in 0..1, over the valid queries (those with a correct match left in the gallery)."""

    mAP: float
    mINP: float
    cmc: Float[np.ndarray, " K"]
    """Share of valid queries with a match within rank k, at index k − 1."""
    valid: Bool[np.ndarray, " Q"]
    average_precision: Float[np.ndarray, " Q"]
    """NaN where not valid; likewise below."""
    inverse_negative_penalty: Float[np.ndarray, " Q"]
    first_match: Int[np.ndarray, " Q"]
    """Rank (from 1) of the first correct match; 0 where not valid."""

    def rank(self, k: int) -> float:
        """CMC at rank `k`; ranks beyond the gallery have the last value."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


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
    block_size: int = 256,
) -> RetrievalResult:
    """Ranks the gallery for every query and scores the rankings.

    Args:
      query: embeddings [Q, D]; gallery: [G, D], which may be sharded over devices.
      query_identity, gallery_identity, query_camera, gallery_camera: integers [Q] or [G].
      metric: "cosine", "squared_euclidean" or "euclidean".
      ranks: CMC is kept up to the largest of these (at least 50).
      drop_same_camera: leave out gallery entries of the query's own identity AND camera.
      junk: gallery entries left out of every ranking.
      distractor: gallery entries that stay, but match no query whatever their identity says.
      block_size: queries a block; memory is about `block_size` × G × 4 bytes.

    Equal distances rank in gallery order. A CMC entry beyond the kept gallery has the last value.

    Raises ValueError for features that are not finite, arrays that do not fit, an unknown metric,
    an empty gallery, and when no query has a match.
    """
    check_metric(metric)
    query, gallery = _features(query, "query"), _features(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {query.shape[1]} dimensions, gallery ones {gallery.shape[1]}"
        )
    pairs = _Pairs(
        _labels(query_identity, len(query), "query_identity"),
        _labels(gallery_identity, len(gallery), "gallery_identity"),
        _labels(query_camera, len(query), "query_camera"),
        _labels(gallery_camera, len(gallery), "gallery_camera"),
        drop_same_camera,
        _flags(junk, len(gallery), "junk"),
        _flags(distractor, len(gallery), "distractor"),
    )
    # Once here, not once a block.
    query, gallery = jnp.asarray(query), jnp.asarray(gallery)
    if metric == "cosine":
        query, gallery = unit(query), unit(gallery)
    query = np.asarray(query, np.float32)
    found = []
    for rows, matches, dropped in pairs.blocks(block_size):
        block = _padded(query[rows], block_size)
        found.append((rows, _match_ranks(block, gallery, matches, dropped, metric=metric)))
    return _summary(found, pairs.matches, len(query), max(50, *ranks))


def evaluate_distances(
    distance: Float[Array | np.ndarray, "Q G"],
    query_identity: AnyInt,
    gallery_identity: AnyInt,
    query_camera: AnyInt,
    gallery_camera: AnyInt,
    *,
    ranks: Sequence[int] = (1, 5, 10),
    drop_same_camera: bool = True,
    junk: Bool[np.ndarray, " G"] | None = None,
    distractor: Bool[np.ndarray, " G"] | None = None,
    block_size: int = 256,
) -> RetrievalResult:
    """As `evaluate`, from a distance matrix that is already there (after re-ranking, say)."""
    distance = np.asarray(distance, np.float32)
    if np.isnan(distance).any():
        raise ValueError(f"{np.isnan(distance).any(1).sum()} rows of the distances hold NaN")
    queries, entries = distance.shape
    pairs = _Pairs(
        _labels(query_identity, queries, "query_identity"),
        _labels(gallery_identity, entries, "gallery_identity"),
        _labels(query_camera, queries, "query_camera"),
        _labels(gallery_camera, entries, "gallery_camera"),
        drop_same_camera,
        _flags(junk, entries, "junk"),
        _flags(distractor, entries, "distractor"),
    )
    found = []
    for rows, matches, dropped in pairs.blocks(block_size):
        block = _padded(distance[rows], block_size)
        found.append((rows, _ranks_in(jnp.asarray(block), matches, dropped)))
    return _summary(found, pairs.matches, queries, max(50, *ranks))


class _Pairs:
    """Which gallery entries match a query and which are dropped for it, as padded index lists."""

    def __init__(self, q_id, g_id, q_cam, g_cam, drop_same_camera, junk, distractor):
        if not len(g_id):
            raise ValueError("the gallery is empty")
        if not len(q_id):
            raise ValueError("there are no queries")
        order = np.argsort(g_id, kind="stable")
        starts = np.searchsorted(g_id[order], q_id, side="left")
        ends = np.searchsorted(g_id[order], q_id, side="right")
        self.junk = np.flatnonzero(junk).astype(np.int32)
        self.matches, self.dropped = [], []
        for start, end, camera in zip(starts, ends, q_cam, strict=True):
            same = order[start:end]
            out = (g_cam[same] == camera) & ~distractor[same] & bool(drop_same_camera)
            self.dropped.append(same[out | junk[same]])
            self.matches.append(same[~out & ~junk[same] & ~distractor[same]])
        self.counts = np.array([len(m) for m in self.matches])
        if not self.counts.any():
            absent = ~np.isin(q_id, g_id)
            raise ValueError(
                f"none of the {len(q_id)} queries has a match in the gallery: "
                f"{absent.sum()} have an identity that the gallery lacks (the first: "
                f"{q_id[absent][:5].tolist()}), {(~absent).sum()} only matches of their own camera; "
                "check that identities of query and gallery are numbered alike"
            )

    def blocks(
        self, size: int
    ) -> Iterator[tuple[np.ndarray, Int[np.ndarray, "B M"], Int[np.ndarray, "B R"]]]:
        """Rows with about equally many matches, so that few widths M and R, powers of 2, occur."""
        by_count = np.argsort(self.counts, kind="stable")
        by_count = by_count[self.counts[by_count] > 0]
        for start in range(0, len(by_count), size):
            rows = by_count[start : start + size]
            matches = [np.sort(self.matches[row]) for row in rows]
            dropped = [np.concatenate([self.dropped[row], self.junk]) for row in rows]
            yield rows, _lists(matches, size), _lists(dropped, size)


@functools.partial(jax.jit, static_argnames="metric")
def _match_ranks(
    query: Float[Array, "B D"],
    gallery: Float[Array, "G D"],
    matches: Int[Array, "B M"],
    dropped: Int[Array, "B R"],
    *,
    metric: str,
) -> Int[Array, "B M"]:
    distance = pairwise(query, gallery, metric, normalised=True)
    return _ranks_in(distance, matches, dropped)


@jax.jit
def _ranks_in(
    distance: Float[Array, "B G"],
    matches: Int[Array, "B M"],
    dropped: Int[Array, "B R"],
) -> Int[Array, "B M"]:
    """The 0-based rank of each match among the entries that are not dropped.

    Index −1 pads both lists. An entry is before a match if it is nearer, or as near and earlier.
    """
    entries = distance.shape[1]
    column = jnp.arange(entries)

    def one(row: tuple[Array, Array, Array]) -> Int[Array, " M"]:
        distance, matches, dropped = row
        at = distance[jnp.maximum(matches, 0)]
        # NaN compares false with everything: a dropped entry is before no match.
        kept = distance.at[jnp.where(dropped < 0, entries, dropped)].set(jnp.nan, mode="drop")
        nearer = kept[None, :] < at[:, None]
        tied = (kept[None, :] == at[:, None]) & (column[None, :] < matches[:, None])
        return jnp.sum(nearer | tied, axis=1)

    return jax.lax.map(one, (distance, matches, dropped))


def _summary(found, matches, queries: int, max_rank: int) -> RetrievalResult:
    precision = np.full(queries, np.nan)
    penalty = np.full(queries, np.nan)
    first = np.zeros(queries, np.int64)
    for rows, ranks in found:
        for row, of_row in zip(rows, np.asarray(ranks), strict=False):
            count = len(matches[row])
            positions = np.sort(of_row[:count].astype(np.int64)) + 1
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


def _lists(lists: list[np.ndarray], rows: int) -> Int[np.ndarray, "B M"]:
    width = 1
    while width < max(len(indices) for indices in lists):
        width *= 2
    table = np.full((rows, width), -1, np.int32)
    for row, indices in zip(table, lists, strict=False):
        row[: len(indices)] = indices
    return table


def _padded(block: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(block, [(0, rows - len(block)), (0, 0)]) if len(block) < rows else block


def _features(features: AnyFloat, name: str) -> AnyFloat:
    if features.ndim != 2:
        raise ValueError(f"{name} embeddings have shape {features.shape}; expected [rows, D]")
    bad = ~np.asarray(jnp.isfinite(features).all(axis=1))
    if bad.any():
        raise ValueError(
            f"{bad.sum()} of {len(bad)} {name} embeddings are not finite (rows "
            f"{np.flatnonzero(bad)[:5].tolist()}...); the network has diverged, or an image is broken"
        )
    return features


def _labels(labels, length: int, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (length,):
        raise ValueError(f"{name} has shape {labels.shape}, but there are {length} embeddings")
    return labels


def _flags(flags: Bool[np.ndarray, " G"] | None, length: int, name: str) -> Bool[np.ndarray, " G"]:
    return np.zeros(length, bool) if flags is None else _labels(np.asarray(flags), length, name)
