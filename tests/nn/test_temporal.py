"""Pooling over the frames of a clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from g2ajax.nn.temporal import FrameAttention, max_frames, mean_frames

ATTENTION = FrameAttention(2, 4, rngs=nnx.Rngs(params=0))
ATTENTION.score.kernel[...] = jnp.linspace(-2.0, 2.0, 4)[:, None]
POOLS = {
    name: (jax.jit(pool), jax.jit(jax.grad(lambda x, mask, pool=pool: pool(x, mask).sum())))
    for name, pool in (("mean", mean_frames), ("max", max_frames), ("attention", ATTENTION))
}

CLIP = jnp.array([[[1.0, -2.0], [3.0, -6.0], [8.0, 9.0]]])
MASK = jnp.array([[True, True, False]])


def test_by_hand():
    assert mean_frames(CLIP, MASK).tolist() == [[2.0, -4.0]]
    assert max_frames(CLIP, MASK).tolist() == [[3.0, -2.0]]
    fresh = FrameAttention(2, 4, rngs=nnx.Rngs(params=0))
    np.testing.assert_allclose(fresh(CLIP, MASK), [[2.0, -4.0]], rtol=1e-6)
    weights = ATTENTION.weights(CLIP, MASK)
    assert weights[0, 2] == 0 and abs(float(weights.sum()) - 1) < 1e-6
    assert weights[0, 0] != weights[0, 1]


@pytest.mark.parametrize("name", POOLS)
@settings(max_examples=25, deadline=None)
@given(
    x=arrays(np.float32, (3, 4, 2), elements=st.floats(-9, 9, width=32)),
    mask=arrays(bool, (3, 4)),
    fill=st.floats(-9, 9, width=32),
)
def test_frames_that_fill_up_change_nothing_and_all_is_finite(name, x, mask, fill):
    pool, slope = POOLS[name]
    filled = np.where(mask[..., None], x, np.float32(fill))
    np.testing.assert_array_equal(pool(x, mask), pool(filled, mask))
    gradient = slope(x, mask)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[~mask] == 0).all()
    assert (np.asarray(pool(x, mask))[~mask.any(1)] == 0).all()
    # The order of the frames does not matter.
    turned = pool(x[:, ::-1], mask[:, ::-1])
    np.testing.assert_allclose(pool(x, mask), turned, rtol=1e-4, atol=1e-5)
