"""A gallery prepared once answers as `search` does."""

import numpy as np
import pytest

from g2ajax.retrieval.prepared import prepare, search_prepared
from g2ajax.retrieval.search import search


@pytest.mark.parametrize("metric", ["cosine", "squared_euclidean"])
def test_finds_what_search_finds(metric):
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(40, 6)).astype(np.float32)
    gallery[7] = gallery[31]
    queries = rng.normal(size=(3, 6)).astype(np.float32)
    queries[0] = gallery[7]
    found = search_prepared(queries, prepare(gallery, metric), 5)
    expected = search(queries, gallery, 5, metric=metric)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_allclose(found.distance, expected.distance, atol=1e-5)
    assert found.index[0, :2].tolist() == [7, 31]


def test_refuses_what_search_refuses():
    rows = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="the gallery is empty"):
        prepare(rows[:0])
    with pytest.raises(ValueError, match="not finite"):
        prepare(rows * np.nan)
    with pytest.raises(ValueError, match="metric 'cosin' is unknown; did you mean 'cosine'"):
        prepare(rows, "cosin")
    with pytest.raises(ValueError, match="at most 3"):
        search_prepared(rows, prepare(rows), 4)
    with pytest.raises(ValueError, match="embed both with one network"):
        search_prepared(rows[:, :2], prepare(rows), 1)
    with pytest.raises(ValueError, match="there are no queries"):
        search_prepared(rows[:0], prepare(rows), 1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_entries_that_may_not_be_found_are_as_if_absent(metric):
    rng = np.random.default_rng(1)
    gallery = rng.normal(size=(30, 6)).astype(np.float32)
    queries = rng.normal(size=(2, 6)).astype(np.float32)
    among = rng.random(30) < 0.4
    rows = np.flatnonzero(among)
    near = search_prepared(queries, prepare(gallery, metric), 30, among=among)
    expected = search(queries, gallery[rows], len(rows), metric=metric)
    np.testing.assert_array_equal(near.index, rows[expected.index])
    np.testing.assert_allclose(near.distance, expected.distance, atol=1e-5)
    assert search_prepared(queries, prepare(gallery), 3, among=among & False).index.shape == (2, 0)
    with pytest.raises(ValueError, match="among"):
        search_prepared(queries, prepare(gallery, metric), 3, among=among[1:])
    with pytest.raises(ValueError, match="among is of kind int64; expected booleans"):
        search_prepared(queries, prepare(gallery, metric), 3, among=rows.repeat(3)[:30])
