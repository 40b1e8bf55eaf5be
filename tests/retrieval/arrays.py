"""Small problems of one shape, the forms in which arrays come, and the scores by sorting."""

import jax.numpy as jnp
import numpy as np

# One shape and one set of labels, so that everything compiles once.
QUERIES, ENTRIES, WIDTH = 5, 12, 4
Q_ID, G_ID = np.array([0, 1, 2, 0, 1]), np.arange(ENTRIES) % 4
Q_CAM, G_CAM = np.array([0, 1, 0, 1, 0]), np.arange(ENTRIES) // 4 % 2
LABELS = (Q_ID, G_ID, Q_CAM, G_CAM)


class OnlyDlpack:
    """An array that offers nothing but DLPack, as tensors of other libraries."""

    def __init__(self, values):
        self.values = np.array(values)

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class OnlyArray:
    def __init__(self, values):
        self.values = np.array(values)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


FORMS = {
    "numpy": np.asarray,
    "jax": jnp.asarray,
    "list": lambda values: np.asarray(values).tolist(),
    "dlpack": OnlyDlpack,
    "__array__": OnlyArray,
    "swapped bytes": lambda values: values.astype(values.dtype.newbyteorder()),
}


def embeddings(seed):
    """Embeddings whose distances no rounding to float32 reorders, by any metric."""
    rng = np.random.default_rng(seed)
    while True:
        sides = [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (QUERIES, ENTRIES)]
        if all(apart(distances(*sides, metric)) for metric in ("cosine", "euclidean")):
            return sides


def apart(distance):
    near = np.sort(distance, axis=1)
    return (np.diff(near) > 1e-4 * near[:, 1:]).all()


def distances(query, gallery, metric):
    """Distances in extended floats, whose range is beyond the squares of float64's."""
    query, gallery = (np.asarray(side).astype(np.longdouble) for side in (query, gallery))
    if metric == "cosine":
        query, gallery = (x / np.sqrt((x * x).sum(1, keepdims=True)) for x in (query, gallery))
        return 1 - query @ gallery.T
    square = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    return square if metric == "squared_euclidean" else np.sqrt(square)


def precision(distance, q_id=Q_ID, g_id=G_ID, q_cam=Q_CAM, g_cam=G_CAM):
    """Average precision of each query by sorting; NaN without a match."""
    scores = []
    for row, identity, camera in zip(distance, q_id, q_cam, strict=True):
        order = np.argsort(row, kind="stable")
        order = order[(g_id[order] != identity) | (g_cam[order] != camera)]
        ranks = np.flatnonzero(g_id[order] == identity) + 1
        scores.append(np.mean(np.arange(1, len(ranks) + 1) / ranks) if len(ranks) else np.nan)
    return np.array(scores)
