"""CUHK03's first protocol: repeated random galleries of one image per identity."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Int

AnyInt = Int[Array | np.ndarray, "..."] | Sequence[int]
REPEATS = 10


def single_gallery_shot(
    distance: Float[Array | np.ndarray, "Q G"],
    query_identity: AnyInt,
    gallery_identity: AnyInt,
    query_camera: AnyInt,
    gallery_camera: AnyInt,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    max_rank: int = 50,
    drop_same_camera: bool = True,
    junk: Bool[np.ndarray, " G"] | None = None,
    distractor: Bool[np.ndarray, " G"] | None = None,
    number: Int[np.ndarray, " Q"] | None = None,
) -> Float[np.ndarray, "Q K"]:
    """CMC of each query: the share of `repeats` galleries in which its match is within rank k.

    For every query and repeat, one image of each identity is drawn from the filtered gallery (without
    the query's identity in the query's camera), as in Li et al., "DeepReID", CVPR 2014, and
    torchreid's `cuhk03` metric. The draws depend only on `seed` and the query's number (its row, or
    `number`), so that they are the same for every model and block size; torchreid uses NumPy's global
    state. Equal distances rank in gallery order.

    Junk is never drawn. Distractors of one identity form one more identity, which matches nobody. A
    query without a match gets NaN. K is `max_rank`; beyond the number of identities CMC is 1.

    Raises ValueError for fewer than one repeat and for arrays of the wrong length.
    """
    if repeats < 1:
        raise ValueError(f"{repeats} repeats; at least 1 is needed")
    distance = np.asarray(distance)
    queries, entries = distance.shape
    of_query = [np.asarray(x) for x in (query_identity, query_camera)]
    of_gallery = [np.asarray(x) for x in (gallery_identity, gallery_camera)]
    if any(len(x) != queries for x in of_query) or any(len(x) != entries for x in of_gallery):
        raise ValueError(
            f"distances {distance.shape} with identities and cameras of "
            f"{[len(x) for x in of_query]} queries and {[len(x) for x in of_gallery]} entries"
        )
    (q_id, q_cam), (g_id, g_cam) = of_query, of_gallery
    junk = np.zeros(entries, bool) if junk is None else junk
    distractor = np.zeros(entries, bool) if distractor is None else distractor
    number = np.arange(queries) if number is None else number
    # Entries sorted by identity, distractors after people, each in gallery order.
    order = np.lexsort((g_id, distractor))
    order = order[~junk[order]]
    keys = np.stack([distractor[order], g_id[order]], 1)
    new = np.append(True, (keys[1:] != keys[:-1]).any(1)) if len(order) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(order)))
    people = starts[~distractor[order[starts]]]
    result = np.full((queries, max_rank), np.nan)
    for row in range(queries):
        own = int(np.searchsorted(g_id[order[people]], q_id[row]))
        if own == len(people) or g_id[order[people[own]]] != q_id[row]:
            continue
        same = order[starts[own] : starts[own] + counts[own]]
        if drop_same_camera:
            same = same[g_cam[same] != q_cam[row]]
        if not len(same):
            continue
        draw = np.random.default_rng((seed, int(number[row]))).random((repeats, len(starts)))
        drawn = order[starts + (draw * counts).astype(int)]
        drawn[:, own] = same[(draw[:, own] * len(same)).astype(int)]
        drawn_distance = distance[row, drawn]
        match, match_distance = drawn[:, [own]], drawn_distance[:, [own]]
        tied = (drawn_distance == match_distance) & (drawn < match)
        before = (drawn_distance < match_distance) | tied
        rank = before.sum(1)
        histogram = np.bincount(np.minimum(rank, max_rank), minlength=max_rank + 1)[:max_rank]
        result[row] = np.cumsum(histogram) / repeats
    return result
