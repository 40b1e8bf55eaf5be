import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.triplet import (
    mine_hardest,
    squared_distances,
    triplet,
    triplet_cosine,
    triplet_transreid,
)

POINTS = jnp.asarray([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
LABEL = jnp.asarray([0, 0, 1, 1])


def transreid(feature, label, mask=None, **kw):
    return triplet_transreid(feature, label, mask=mask, **kw)[0]


FORMS = {
    "hard_margin": functools.partial(triplet, margin=0.3),
    "hard_soft": triplet,
    "hard_chord": functools.partial(triplet, margin=0.3, normalise_feature=True),
    "weighted": functools.partial(triplet, hard_mining=False),
    "weighted_chord": functools.partial(triplet, hard_mining=False, normalise_feature=True),
    "cosine": triplet_cosine,
    "transreid": transreid,
    "transreid_unit": functools.partial(transreid, margin=0.3, normalise_feature=True),
}
COMPILED = {
    name: jax.jit(jax.value_and_grad(lambda f, y, m, form=form: form(f, y, mask=m)))
    for name, form in FORMS.items()
}


def test_mines_the_hardest_by_hand():
    root = np.sqrt(np.asarray(squared_distances(POINTS, POINTS)).clip(0))
    same = LABEL[:, None] == LABEL[None]
    mined = mine_hardest(jnp.asarray(root), same, ~same)
    np.testing.assert_allclose(mined.positive, [5.0, 5.0, np.sqrt(85), np.sqrt(85)])
    np.testing.assert_allclose(mined.negative, [1.0, np.sqrt(18), 1.0, 5.0], rtol=1e-6)
    assert mined.valid.all()


def test_margin_and_soft_margin_by_hand():
    gap = np.asarray([5 - 1, 5 - np.sqrt(18), np.sqrt(85) - 1, np.sqrt(85) - 5])
    assert triplet(POINTS, LABEL, margin=0.3) == pytest.approx(np.mean(gap + 0.3), rel=1e-5)
    assert triplet(POINTS, LABEL) == pytest.approx(np.mean(np.log1p(np.exp(gap))), rel=1e-5)
    hard, mined = triplet_transreid(POINTS, LABEL, margin=0.3, hard_factor=0.1)
    np.testing.assert_allclose(mined.positive[0], 5.5, rtol=1e-6)
    np.testing.assert_allclose(mined.negative[0], 0.9, rtol=1e-5)
    assert hard > triplet(POINTS, LABEL, margin=0.3)


def test_cosine_by_hand():
    # Cosine 1 of a pair, 0.8 of two pairs.
    points = jnp.asarray([[3.0, 4.0], [6.0, 8.0], [0.0, 1.0], [0.0, 5.0]])
    expected = np.mean([-1 + 0.8 + 0.3] * 4)
    assert triplet_cosine(points, LABEL, margin=0.3) == pytest.approx(expected, rel=1e-5)
    assert triplet_cosine(points[:3], LABEL[:3], margin=0.1) == 0.0


@pytest.mark.parametrize("name", FORMS)
def test_masked_rows_count_as_removed(name):
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.float32)
    label = jnp.asarray([0, 0, 1, 1, 2, 2, 0, -1])
    mask = jnp.asarray([True] * 6 + [False, True])
    np.testing.assert_allclose(
        FORMS[name](feature, label, mask=mask), FORMS[name](feature[:6], label[:6]), rtol=1e-5
    )


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "one identity", "all masked", "huge"]),
)
def test_finite_with_finite_gradients_and_blind_to_order(name, seed, kind):
    rng = np.random.default_rng(seed)
    feature = rng.normal(size=(6, 4)).astype(np.float32)
    label = rng.integers(0, 3, 6)
    mask = np.ones(6, bool)
    if kind == "duplicates":
        feature[:] = feature[0]
    elif kind == "zeros":
        feature[:] = 0
    elif kind == "one identity":
        label[:] = 1
    elif kind == "all masked":
        mask[:] = False
    elif kind == "huge":
        feature *= 1e4
    form = COMPILED[name]
    arguments = jnp.asarray(feature), jnp.asarray(label), jnp.asarray(mask)
    value, gradient = form(*arguments)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    assert value >= 0
    if kind in ("one identity", "all masked"):
        assert value == 0
    order = rng.permutation(6)
    np.testing.assert_allclose(form(*(a[order] for a in arguments))[0], value, rtol=1e-4, atol=1e-6)


def test_works_under_vmap():
    features = jnp.stack([POINTS, 2 * POINTS])
    each = jax.vmap(lambda f: triplet(f, LABEL, margin=0.3))(features)
    np.testing.assert_allclose(each[1], triplet(2 * POINTS, LABEL, margin=0.3), rtol=1e-6)
