import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.detection.roi_align import roi_align
from tests.detection import oracles

FEATURES = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
ODD = np.asarray(
    [
        [0, 0, 112, 80],
        [-60, -60, -30, -30],
        [-12, 30, 50, 400],
        [40, 40, 41, 41],
        [60, 60, 60, 60],
        [70, 50, 20, 10],
        [100, 70, 130, 100],
    ],
    np.float32,
)


@functools.partial(jax.jit, static_argnames="aligned")
def pooled(features, boxes, aligned=False):
    return roi_align(features, boxes, output_size=4, aligned=aligned)


@pytest.mark.parametrize("aligned", [False, True])
def test_equals_the_loop_for_odd_boxes(aligned):
    got = pooled(jnp.asarray(FEATURES), jnp.asarray(ODD), aligned=aligned)
    expected = [oracles.roi_align(FEATURES, box, 4, 2, 1 / 16, aligned) for box in ODD]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_equals_the_loop_for_random_boxes(seed):
    boxes = np.random.default_rng(seed).uniform(-30, 150, (7, 4)).astype(np.float32)
    got = pooled(jnp.asarray(FEATURES), jnp.asarray(boxes))
    expected = [oracles.roi_align(FEATURES, box, 4, 2, 1 / 16, False) for box in boxes]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_masked_boxes_are_zero_and_leave_no_gradient():
    mask = jnp.arange(len(ODD)) < 3

    def total(features, boxes, mask):
        grid = roi_align(features, boxes, mask, output_size=4)
        return jnp.sum(grid**2), grid

    both = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    (got, of_boxes), masked = both(jnp.asarray(FEATURES), jnp.asarray(ODD), mask)
    (expected, _), alone = both(jnp.asarray(FEATURES), jnp.asarray(ODD[:3]), mask[:3])
    np.testing.assert_allclose(masked[:3], alone, atol=1e-6)
    assert not np.asarray(masked[3:]).any()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.asarray(got).any() and not np.asarray(of_boxes).any()


def test_chunks_change_nothing():
    whole = pooled(jnp.asarray(FEATURES), jnp.asarray(ODD))
    chunked = jax.jit(functools.partial(roi_align, output_size=4, chunk=3))
    parts = chunked(jnp.asarray(FEATURES), jnp.asarray(ODD))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    none = pooled(jnp.asarray(FEATURES), jnp.zeros((0, 4)))
    assert none.shape == (0, 4, 4, 3)


def test_half_precision_stays_half_precision():
    got = pooled(jnp.asarray(FEATURES, jnp.bfloat16), jnp.asarray(ODD))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(got, np.float32), pooled(jnp.asarray(FEATURES), jnp.asarray(ODD)), atol=0.05
    )
