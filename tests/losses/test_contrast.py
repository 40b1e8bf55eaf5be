"""Supervised contrast between two sets: by hand, and finite whatever they hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.contrast import supcon

ANCHORS = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
OTHERS = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
LABELS = (jnp.array([0, 1, 7]), jnp.array([0, 0, 1, -1]))


def test_supcon_by_hand():
    # Logits [1, 2, 0] and [0, 0, 2]; the third anchor has no positive, the fourth other no label.
    first = np.log(np.exp(1) + np.exp(2) + 1) - 1.5
    second = np.log(2 + np.exp(2)) - 2
    np.testing.assert_allclose(supcon(ANCHORS, OTHERS, *LABELS), (first + second) / 2, rtol=1e-6)
    # A temperature of two halves the logits.
    got = supcon(2 * ANCHORS, OTHERS, *LABELS, temperature=2.0)
    np.testing.assert_allclose(got, (first + second) / 2, rtol=1e-6)


@jax.jit
def value_and_gradients(x, y, labels, masks):
    def loss(x, y):
        return supcon(x, y, *labels, anchor_mask=masks[0], other_mask=masks[1])

    return jax.value_and_grad(loss, argnums=(0, 1))(x, y)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "strangers", "all masked", "huge"]),
)
def test_finite_blind_to_order_and_to_what_is_masked(seed, kind):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    labels = [rng.integers(0, 3, 5), rng.integers(0, 3, 6)]
    masks = [rng.random(5) < 0.7, rng.random(6) < 0.7]
    if kind == "duplicates":
        x[:], y[:] = x[0], x[0]
    elif kind == "zeros":
        x[:], y[:] = 0, 0
    elif kind == "strangers":
        labels[1] += 3
    elif kind == "all masked":
        masks[0][:] = False
    elif kind == "huge":
        x *= 1e4
    value, gradients = value_and_gradients(x, y, labels, masks)
    assert np.isfinite(value) and value >= 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if kind in ("strangers", "all masked"):
        assert value == 0
    orders = rng.permutation(5), rng.permutation(6)
    moved = [
        [a[order] for a, order in zip(pair, orders, strict=True)]
        for pair in ((x, y), labels, masks)
    ]
    again, _ = value_and_gradients(*moved[0], *moved[1:])
    np.testing.assert_allclose(again, value, rtol=1e-4, atol=1e-6)
    # What is masked changes nothing and gets no gradient.
    x[~masks[0]], y[~masks[1]] = 9.0, -9.0
    labels = [np.where(mask, label, -1) for mask, label in zip(masks, labels, strict=True)]
    again, gradients = value_and_gradients(x, y, labels, masks)
    np.testing.assert_allclose(again, value, rtol=1e-5, atol=1e-6)
    assert not gradients[0][~masks[0]].any() and not gradients[1][~masks[1]].any()


def test_many_anchors_in_blocks():
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(n, 2)), jnp.float32) for n in (700, 9))
    labels = jnp.asarray(rng.integers(0, 3, 700)), jnp.asarray(rng.integers(0, 3, 9))
    halves = [
        supcon(x[part], y, labels[0][part], labels[1]) for part in (slice(350), slice(350, 700))
    ]
    np.testing.assert_allclose(supcon(x, y, *labels), np.mean(halves), rtol=1e-5)


def test_one_row_of_each():
    one = jnp.ones((1, 2))
    assert supcon(one, one, jnp.array([3]), jnp.array([3])) == pytest.approx(0.0, abs=1e-6)
