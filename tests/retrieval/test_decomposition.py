import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.retrieval import pairwise
from g2ajax.retrieval.decomposition import (
    exclusive,
    exclusive_share,
    largest_share,
    reweighted,
    shares,
)

DK = jnp.asarray([[[1.0, 3.0, 4.0], [0.0, 0.0, 0.0]]])


def random_pairs(seed, queries=3, entries=4, attributes=6):
    rng = np.random.default_rng(seed)
    dk = rng.random((queries, entries, attributes)).astype(np.float32)
    dk[rng.random((queries, entries)) < 0.2] = 0.0
    query = rng.choice([-1, 0, 1], (queries, attributes)).astype(np.int8)
    gallery = rng.choice([-1, 0, 1], (entries, attributes)).astype(np.int8)
    return jnp.asarray(dk), jnp.asarray(query), jnp.asarray(gallery)


def test_shares_by_hand_and_of_a_pair_without_distance():
    np.testing.assert_allclose(
        shares(DK), [[[1 / 8, 3 / 8, 1 / 2], [1 / 3, 1 / 3, 1 / 3]]], rtol=1e-6
    )


def test_gradient_of_shares_is_finite_without_distance():
    gradient = jax.grad(lambda dk: (shares(dk) ** 2).sum())(DK)
    assert jnp.isfinite(gradient).all()
    assert jnp.any(gradient[0, 0] != 0)


def test_shares_of_half_precision_are_float32():
    assert shares(DK.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.float32])
def test_exclusive_by_hand_leaves_out_the_unannotated(dtype):
    query = jnp.asarray([[1, 1, -1, 0, 0]], dtype)
    gallery = jnp.asarray([[-1, 1, 1, -1, 0], [1, 0, -1, 1, 1]], dtype)
    expected = [[[True, False, True, False, False], [False] * 5]]
    np.testing.assert_array_equal(exclusive(query, gallery), expected)


def test_evidence_by_hand():
    np.testing.assert_allclose(largest_share(DK), [[1 / 2, 1 / 3]], rtol=1e-6)
    # u = (1 − a·y)/2. Entry 0: 0 (has, predicted), 1 (has not, predicted), 1/2 (predicted "no").
    query = jnp.asarray([[1, -1, 1]])
    prediction = jnp.asarray([[1, 1, 0], [1, 1, 1]])
    evidence = exclusive_share(DK, query, prediction)
    np.testing.assert_allclose(evidence, [[3 / 8 + 1 / 4, 1 / 3]], rtol=1e-6)


def test_an_unannotated_attribute_counts_half_whatever_is_predicted():
    nothing = jnp.zeros((1, 3))
    for prediction in (jnp.zeros((2, 3)), jnp.ones((2, 3))):
        np.testing.assert_allclose(exclusive_share(DK, nothing, prediction), 0.5, rtol=1e-6)


def test_reweighted_by_hand_and_by_nothing():
    distance, evidence = jnp.asarray([[2.0, 4.0]]), jnp.asarray([[0.5, 0.0]])
    np.testing.assert_allclose(reweighted(distance, evidence, 3.0), [[5.0, 4.0]])
    np.testing.assert_array_equal(reweighted(distance, evidence, 0), distance)


def test_evidence_can_turn_a_ranking():
    rng = np.random.default_rng(0)
    distance = pairwise(
        jnp.zeros((1, 2)), jnp.asarray(rng.normal(size=(2, 2)), jnp.float32), "euclidean"
    )
    near = int(jnp.argmin(distance[0]))
    evidence = jnp.zeros((1, 2)).at[0, near].set(1.0)
    assert int(jnp.argmin(reweighted(distance, evidence, 100.0)[0])) != near


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_properties(seed):
    dk, query, gallery = random_pairs(seed)
    s = shares(dk)
    np.testing.assert_allclose(s.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(shares(7.0 * dk), s, rtol=1e-5)
    largest = largest_share(dk)
    assert (largest >= 1 / 6 - 1e-6).all() and (largest <= 1 + 1e-6).all()
    prediction = (gallery > 0).astype(jnp.int32)
    evidence = exclusive_share(dk, query, prediction)
    assert (evidence >= -1e-6).all() and (evidence <= 1 + 1e-6).all()
    # Flipping every answer of both people changes nothing; of one, exclusive becomes common.
    np.testing.assert_array_equal(exclusive(query, gallery), exclusive(-query, -gallery))
    both = exclusive(query, gallery) & exclusive(-query, gallery)
    assert not both.any()


def test_jit_and_vmap_equal_eager():
    dk, query, gallery = random_pairs(1)
    prediction = (gallery > 0).astype(jnp.int32)

    def everything(dk, query):
        d = dk.mean(-1)
        return (
            exclusive(query, gallery),
            reweighted(d, largest_share(dk), 0.5),
            reweighted(d, exclusive_share(dk, query, prediction), 0.5),
        )

    eager = everything(dk, query)
    # One query at a time.
    mapped = jax.vmap(lambda a, b: everything(a[None], b[None]))(dk, query)
    for got, by_one, expected in zip(jax.jit(everything)(dk, query), mapped, eager, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        np.testing.assert_allclose(by_one[:, 0], expected, rtol=1e-6)
