"""CUHK03's first protocol: repeated random galleries of one image per identity."""

import numpy as np
from jaxtyping import Float

from g2ajax.retrieval.inputs import Distances, Whole, array, count, read_distances, whole
from g2ajax.retrieval.labels import Flags, Labels, camera_pair, flags, label_pair, length

REPEATS = 10


def single_gallery_shot(
    distance: Distances,
    query_identity: Labels,
    gallery_identity: Labels,
    query_camera: Labels | None = None,
    gallery_camera: Labels | None = None,
    *,
    repeats: Whole = REPEATS,
    seed: int = 0,
    max_rank: Whole = 50,
    drop_same_camera: bool = True,
    junk: Flags | None = None,
    distractor: Flags | None = None,
    number: Labels | None = None,
) -> Float[np.ndarray, "Q K"]:
    """CMC of each query: the share of `repeats` galleries in which its match is within rank k.

    For every query and repeat, one image of each identity is drawn from the filtered gallery (without
    the query's identity in the query's camera), as in Li et al., "DeepReID", CVPR 2014, and
    torchreid's `cuhk03` metric. The draws depend only on `seed` and the query's number (its row, or
    `number`), so that they are the same for every model and block size; torchreid uses NumPy's global
    state. Equal distances rank in gallery order.

    Junk is never drawn. Distractors of one identity form one more identity, which matches nobody. A
    query without a match gets NaN. K is `max_rank`; beyond the number of identities CMC is 1.

    Raises ValueError for fewer than one repeat, for NaN, and for arrays of the wrong length or labels of
    different kinds.
    """
    repeats, max_rank = whole("repeats", repeats), count("max_rank", max_rank)
    if repeats < 1:
        raise ValueError(f"{repeats} repeats; at least 1 is needed")
    distance = read_distances(distance)
    if distance.ndim != 2:
        raise ValueError(f"distances have shape {distance.shape}; expected [Q, G]")
    queries, entries = distance.shape
    _check_lengths(distance, (query_identity, query_camera), (gallery_identity, gallery_camera))
    identity = label_pair(query_identity, gallery_identity, distance.shape, "identity")
    camera = camera_pair(query_camera, gallery_camera, distance.shape)
    (q_id, g_id, _), drop_same_camera = identity, drop_same_camera and camera is not None
    q_cam, g_cam = (camera.query, camera.gallery) if camera else (q_id, g_id)
    junk, distractor = flags(junk, entries, "junk"), flags(distractor, entries, "distractor")
    number = np.arange(queries) if number is None else array(number, "number")
    if number.shape != (queries,) or not np.issubdtype(number.dtype, np.integer):
        raise ValueError(
            f"number is {number.dtype} of shape {number.shape}; expected {queries} integers"
        )
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


def _check_lengths(distance: np.ndarray, of_query: tuple, of_gallery: tuple) -> None:
    """Raises ValueError, naming all lengths, unless there is a label for each row or column."""
    sides = [
        [length(labels) for labels in side if labels is not None] for side in (of_query, of_gallery)
    ]
    expected = [[size] * len(side) for size, side in zip(distance.shape, sides, strict=True)]
    if sides != expected:
        raise ValueError(
            f"distances {distance.shape} with identities and cameras of "
            f"{sides[0]} queries and {sides[1]} entries"
        )
