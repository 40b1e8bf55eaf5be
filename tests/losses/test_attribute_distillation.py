"""The terms by hand, their guards, and that padding and duplicates spoil nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.attribute_distillation import (
    attribute_distances,
    attribute_distillation,
    contributions,
    exclusive_mask,
    thresholds,
)

B, M = 5, 6


def batch(seed: int = 0, rows: int = B):
    rng = np.random.default_rng(seed)
    distance = rng.uniform(1, 3, (rows, rows)).astype(np.float32)
    parts = rng.uniform(0.5, 3, (rows, rows, M)).astype(np.float32)
    attributes = rng.choice([-1.0, 1.0], (rows, M)).astype(np.float32)
    return jnp.asarray(distance), jnp.asarray(parts), jnp.asarray(attributes)


loss = jax.jit(attribute_distillation, static_argnames=("reduction",))
gradient = jax.jit(jax.grad(lambda dk, *rest: attribute_distillation(rest[0], dk, *rest[1:]).total))


def test_one_pair_by_hand():
    """Two images, two attributes, one exclusive: M_E/M = 1/2, p = 1/sqrt 2."""
    distance = jnp.array([[0.0, 2.0], [2.0, 0.0]])
    parts = jnp.broadcast_to(jnp.array([1.0, 3.0])[None, None], (2, 2, 2))
    terms = loss(distance, parts, jnp.array([[1.0, 1.0], [-1.0, 1.0]]))
    p = 0.5**0.5
    # The exclusive attribute has 1/4 of the distance, and both pairs of four are alike.
    assert float(terms.group_exclusive) == pytest.approx((p - 0.25) / 2, abs=1e-6)
    assert float(terms.group_common) == pytest.approx((0.75 - (1 - p)) / 2, abs=1e-6)
    t = (p * (1 - p)) ** 0.5
    assert float(terms.single_exclusive) == pytest.approx((t - 0.25) / 2, abs=1e-3)
    assert float(terms.single_common) == pytest.approx((0.75 - t) / 2, abs=1e-3)
    # The mean of 1 and 3 is the distance: only the diagonal's constants are left.
    assert float(terms.distillation) == pytest.approx(1e-9 / 2, rel=1e-5)
    total = loss(distance, parts, jnp.array([[1.0, 1.0], [-1.0, 1.0]]), reduction="sum")
    assert float(total.distillation) == pytest.approx(2.0 / 2, rel=1e-6)


@pytest.mark.parametrize("attributes", [15, 26, 88])
def test_thresholds_meet_and_can_be_met(attributes):
    """Low and high are their geometric mean, which uniform shares inside the groups satisfy."""
    count = jnp.arange(1, attributes)
    found = thresholds(count, attributes)
    p = np.sqrt(np.arange(1, attributes) / attributes)
    mean = np.sqrt(p * (1 - p) / (count * (attributes - count)))
    np.testing.assert_allclose(found.low, mean, rtol=5e-3)
    np.testing.assert_allclose(found.high, mean, rtol=5e-3)
    assert np.all(np.asarray(found.low) <= p / count + 1e-4)
    assert np.all(np.asarray(found.high) >= (1 - p) / (attributes - count) - 1e-4)


@pytest.mark.parametrize("attributes", [15, 88, 105])
def test_no_digits_are_lost_where_nearly_all_attributes_differ(attributes):
    count = np.arange(attributes + 1)
    bounded = np.minimum(count, attributes - 0.1)
    share = (bounded / attributes) ** 0.5
    above = (attributes - bounded) * share + 4e-3
    exact = 0.5 * (np.log(above) - np.log(bounded * (1 - share) + 1e-3))
    found = thresholds(jnp.asarray(count), attributes)
    np.testing.assert_allclose(found.log_ratio, exact, rtol=5e-6)


def test_no_exclusive_attribute_lets_a_share_reach_twice_the_uniform():
    found = thresholds(jnp.array(0), 88)
    assert float(found.log_ratio) == pytest.approx(np.log(2), abs=1e-4)
    assert float(found.high) == pytest.approx(2 / 88, rel=1e-4)
    assert np.isfinite([float(x) for x in thresholds(jnp.array(88), 88)]).all()


def test_not_annotated_is_common_to_everyone():
    mask = exclusive_mask(jnp.array([[1, -1, 0], [-1, -1, 1]]))
    np.testing.assert_array_equal(mask[0, 1], [1, 0, 0])


def test_padding_changes_nothing_even_if_it_is_not_a_number():
    distance, parts, attributes = batch(rows=4)
    alone = loss(distance, parts, attributes)
    wide = [
        jnp.full((6, 6), jnp.nan).at[:4, :4].set(distance),
        jnp.full((6, 6, M), jnp.nan).at[:4, :4].set(parts),
        jnp.zeros((6, M)).at[:4].set(attributes),
    ]
    mask = jnp.arange(6) < 4
    padded = loss(*wide, mask)
    np.testing.assert_allclose(padded, alone, rtol=1e-6)
    slope = gradient(wide[1], wide[0], wide[2], mask)
    np.testing.assert_allclose(slope[:4, :4], gradient(parts, distance, attributes), atol=1e-7)
    assert not np.any(slope[4:]) and not np.any(slope[:, 4:])


def test_pairs_of_one_image_are_constants():
    distance, parts, attributes = batch()
    image = jnp.array([0, 1, 2, 3, 0])
    slope = gradient(parts, distance, attributes, jnp.ones(B, bool), image)
    assert not np.any(slope[0, 4]) and not np.any(slope[4, 0])
    assert np.any(slope[0, 1])
    share = contributions(parts, image[:, None] == image[None])
    np.testing.assert_allclose(share[0, 4], 1 / M)


def test_the_target_gets_no_gradient():
    distance, parts, attributes = batch()
    slope = jax.grad(lambda d: attribute_distillation(d, parts, attributes).total)(distance)
    assert not np.any(slope)


@given(st.integers(0, 2**16), st.sampled_from(["same", "opposite", "mixed", "zero"]))
@settings(deadline=None, max_examples=20)
def test_always_finite_and_never_negative(seed, kind):
    distance, parts, attributes = batch(seed)
    if kind == "same":
        attributes = jnp.ones_like(attributes)
    if kind == "opposite":
        attributes = jnp.where(jnp.arange(B)[:, None] % 2 == 0, 1.0, -1.0) * jnp.ones((1, M))
    if kind == "zero":
        parts = jnp.zeros_like(parts)
    terms = loss(distance, parts, attributes)
    assert all(np.isfinite(float(t)) and float(t) >= 0 for t in terms)
    assert np.isfinite(gradient(parts, distance, attributes)).all()
    assert float(terms.group_exclusive) == pytest.approx(float(terms.group_common), abs=1e-5)


@given(st.integers(0, 2**16))
@settings(deadline=None, max_examples=10)
def test_order_of_images_and_attributes_is_irrelevant(seed):
    distance, parts, attributes = batch(seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(B), rng.permutation(M)
    moved = loss(
        distance[np.ix_(rows, rows)],
        parts[np.ix_(rows, rows)][..., columns],
        attributes[np.ix_(rows, columns)],
    )
    np.testing.assert_allclose(moved, loss(distance, parts, attributes), rtol=2e-5)


def test_uniform_shares_satisfy_both_priors():
    """Shares p/M_E inside the exclusive group and (1−p)/(M−M_E) outside cost nothing."""
    _, _, attributes = batch(3)
    exclusive = np.asarray(exclusive_mask(attributes))
    count = exclusive.sum(-1, keepdims=True)
    p = np.sqrt(count / M)
    share = np.where(exclusive > 0, p / np.maximum(count, 1), (1 - p) / np.maximum(M - count, 1))
    terms = loss(jnp.ones((B, B)), jnp.asarray(share), attributes)
    assert float(terms.group) < 1e-6 and float(terms.single) < 1e-3


def test_distances_of_duplicates_have_finite_gradients():
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)), jnp.float32)
    feature = feature.at[1].set(feature[0])
    found = attribute_distances(feature)
    expected = np.linalg.norm(np.asarray(feature)[:, None] - np.asarray(feature)[None], axis=-1)
    np.testing.assert_allclose(found, np.maximum(expected, 1e-6), rtol=1e-4, atol=2e-3)
    slope = jax.grad(lambda f: jnp.sum(attribute_distances(f)))(feature)
    assert np.isfinite(slope).all()


def test_works_under_vmap():
    many = [jnp.stack(x) for x in zip(batch(1), batch(2), strict=True)]
    together = jax.vmap(lambda *x: attribute_distillation(*x).total)(*many)
    one = attribute_distillation(*batch(2)).total
    assert float(together[1]) == pytest.approx(float(one), rel=1e-5)
