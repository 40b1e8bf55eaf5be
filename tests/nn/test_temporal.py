"""Pooling over the frames of a clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from g2ajax.nn.temporal import FrameAttention, GranularPool, max_frames, mean_frames

ATTENTION = FrameAttention(2, 4, rngs=nnx.Rngs(params=0))
ATTENTION.score.kernel[...] = jnp.linspace(-2.0, 2.0, 4)[:, None]
GRANULAR = GranularPool(2, 4, rngs=nnx.Rngs(params=1))
GRANULAR.alpha[...] = jnp.asarray([0.3, -1.0, 0.5])
for number, attention in enumerate(GRANULAR.attention):
    attention.score.kernel[...] = jnp.linspace(-2.0, 1.0 + number, 4)[:, None]
FUNCTIONS = {
    "mean": mean_frames,
    "max": max_frames,
    "attention": ATTENTION,
    "granular": GRANULAR,
}
POOLS = {
    name: (jax.jit(pool), jax.jit(jax.grad(lambda x, mask, pool=pool: pool(x, mask).sum())))
    for name, pool in FUNCTIONS.items()
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


def attended(attention, x):
    """The attention's pooling of the frames of one window, from its parameters."""
    kernel, bias, score = (
        np.asarray(p[...], np.float64)
        for p in (attention.hidden.kernel, attention.hidden.bias, attention.score.kernel)
    )
    scores = np.tanh(x @ kernel + bias) @ score[:, 0]
    weights = np.exp(scores - scores.max())
    return weights @ x / weights.sum()


@pytest.mark.parametrize(
    ("length", "real", "windows"),
    [
        (8, 8, ([2, 2, 2, 2], [4, 4], [8])),
        (8, 5, ([2, 2, 1], [4, 1], [5])),  # the last quarter only fills up
        (7, 7, ([1, 1, 1, 4], [3, 4], [7])),  # the last window takes the rest
        (3, 3, ([1, 1, 1], [1, 2], [3])),  # no window without a frame
        (1, 1, ([1], [1], [1])),
    ],
)
def test_windows_of_each_granularity(length, real, windows):
    x = np.random.default_rng(length).normal(size=(1, length, 2))
    shares = np.exp([0.3, -1.0, 0.5]) / np.exp([0.3, -1.0, 0.5]).sum()
    expected = np.zeros(2)
    for share, attention, sizes in zip(shares, GRANULAR.attention, windows, strict=True):
        parts = np.split(x[0, :real], np.cumsum(sizes)[:-1])
        expected += share * np.mean([attended(attention, part) for part in parts], 0)
    mask = jnp.arange(length)[None] < real
    clip = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(GRANULAR(clip, mask)[0], expected, rtol=1e-4, atol=1e-5)
    fresh = GranularPool(2, 4, rngs=nnx.Rngs(params=0))
    if len({len(set(sizes)) for sizes in windows}) == 1:  # equal windows
        np.testing.assert_allclose(fresh(clip, mask), mean_frames(clip, mask), rtol=1e-4)
