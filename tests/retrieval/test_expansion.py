import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.retrieval import expand


def features(seed, rows, width=6):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def test_by_hand():
    query = np.array([[2.0, 0.0]], np.float32)
    gallery = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)
    new_query, new_gallery = expand(query, gallery, k=2, alpha=1)
    # Cosines: query with the first 0.6, the first with the second 0.8, query with the second 0.
    np.testing.assert_allclose(new_query, [[(2 + 0.6 * 3) / 2, 0.6 * 4 / 2]], atol=1e-6)
    np.testing.assert_allclose(
        new_gallery, [[3 / 2, (4 + 0.8 * 5) / 2], [0.8 * 3 / 2, (5 + 0.8 * 4) / 2]], atol=1e-6
    )


def test_one_neighbour_is_the_embedding_itself():
    query, gallery = features(0, 3), features(1, 9)
    new_query, new_gallery = expand(query, gallery, k=1, alpha=3, times=2)
    np.testing.assert_allclose(new_query, query, rtol=1e-5)
    np.testing.assert_allclose(new_gallery, gallery, rtol=1e-5)


def test_identical_features_stay_as_they_are():
    new_query, new_gallery = expand(np.ones((2, 4), np.float32), np.ones((7, 4), np.float32), k=5)
    np.testing.assert_allclose(new_query, np.ones((2, 4)), rtol=1e-5)
    np.testing.assert_allclose(new_gallery, np.ones((7, 4)), rtol=1e-5)


def test_opposite_features_are_finite():
    query, gallery = features(0, 2), -features(0, 2)
    for result in expand(query, gallery, k=4, alpha=3):
        assert np.isfinite(result).all()


def test_times_is_repetition():
    query, gallery = features(2, 4), features(3, 16)
    np.testing.assert_allclose(
        expand(query, gallery, k=3, times=2)[1],
        expand(*expand(query, gallery, k=3), k=3)[1],
        rtol=1e-6,
    )


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_permutation_and_blocks(seed):
    query, gallery = features(seed, 4), features(seed + 1, 20)
    order = np.random.default_rng(seed).permutation(20)
    new_query, new_gallery = expand(query, gallery, k=4)
    permuted_query, permuted_gallery = expand(query, gallery[order], k=4, block_size=7)
    np.testing.assert_allclose(permuted_query, new_query, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(permuted_gallery, new_gallery[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 8}, "k is 8, but there are only 7 embeddings: at most 7"),
        ({"k": 0}, "k is 0; it must be at least 1"),
        ({"times": 0}, "times is 0; it must be at least 1"),
        ({"alpha": 2.5}, "alpha is 2.5; it must be a whole number"),
        ({"alpha": -1.0}, "alpha is -1.0; it must be a whole number"),
        ({"query": features(0, 2, 5)}, "query embeddings have 5 dimensions, gallery ones 6"),
        ({"query": features(0, 0)}, "0 queries and 5 gallery entries: both are needed"),
        ({"gallery": features(0, 0)}, "2 queries and 0 gallery entries: both are needed"),
        ({"gallery": features(0, 5) * np.nan}, "5 of 5 gallery embeddings are not finite"),
    ],
)
def test_bad_input(change, message):
    arguments = {"query": features(0, 2), "gallery": features(1, 5)} | change
    with pytest.raises(ValueError, match=message):
        expand(**arguments)
