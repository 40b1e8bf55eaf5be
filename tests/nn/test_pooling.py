"""Pooling windows and global poolings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.nn.pooling import MAX_POOLS, GeM, build_pool, generalized_mean, max_pool


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("fastreid", {(33, 17): (16, 8), (32, 16): (16, 8), (7, 4): (3, 2)}),
        ("torchvision", {(33, 17): (17, 9), (32, 16): (16, 8), (7, 4): (4, 2)}),
        ("transreid", {(33, 17): (16, 8), (32, 16): (16, 8), (7, 4): (3, 2)}),
    ],
)
def test_max_pool_sizes(kind, size):
    for (height, width), expected in size.items():
        x = jnp.zeros((1, height, width, 2))
        assert max_pool(x, MAX_POOLS[kind]).shape[1:3] == expected


def test_max_pool_values_by_hand():
    x = -jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1) * jnp.ones((1, 4, 1, 1))  # rows -1 -2 -3 -4
    # Windows of fast-reid start at 0 and 2, the last one is partial; padding never wins.
    np.testing.assert_array_equal(max_pool(x, MAX_POOLS["fastreid"])[0, 0, :, 0], [-1, -3])
    np.testing.assert_array_equal(max_pool(x, MAX_POOLS["torchvision"])[0, 0, :, 0], [-1, -2])
    np.testing.assert_array_equal(max_pool(x, MAX_POOLS["transreid"])[0, 0, :, 0], [-1, -3])


def test_max_pool_of_too_small_a_map():
    with pytest.raises(ValueError, match="image is too small"):
        max_pool(jnp.zeros((1, 2, 2, 1)), MAX_POOLS["fastreid"])


def test_global_poolings_by_hand():
    x = jnp.array([0.0, 1.0, 2.0, 5.0]).reshape(1, 2, 2, 1)
    expected = {
        "GlobalAvgPool": 2.0,
        "FastGlobalAvgPool": 2.0,
        "GlobalMaxPool": 5.0,
        "AdaptiveAvgMaxPool": 7.0,
        "ClipGlobalAvgPool": 1.0,
        "GeneralizedMeanPooling": (134.0 / 4) ** (1 / 3),
        "GeneralizedMeanPoolingP": (134.0 / 4) ** (1 / 3),
    }
    for kind, value in expected.items():
        np.testing.assert_allclose(build_pool(kind)(x), [[value]], rtol=1e-5, err_msg=kind)
    np.testing.assert_array_equal(build_pool("Identity")(jnp.ones((2, 3))), np.ones((2, 3)))


def test_unknown_pooling():
    with pytest.raises(ValueError, match="pooling 'gem' is unknown; expected one of GlobalAvgPool"):
        build_pool("gem")


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), p=st.floats(1.0, 6.0))
def test_generalized_mean_lies_between_mean_and_maximum(seed, p):
    x = jax.random.uniform(jax.random.key(seed), (2, 3, 2, 4), minval=0.01)
    pooled = generalized_mean(x, jnp.array([p], jnp.float32))
    assert (pooled >= x.mean((1, 2)) * (1 - 1e-4)).all()
    assert (pooled <= x.max((1, 2)) * (1 + 1e-4)).all()


def test_gem_gradients_are_finite_on_a_dead_map():
    x = jnp.zeros((2, 3, 3, 4))
    grad_x, grad_p = jax.grad(lambda x, p: generalized_mean(x, p).sum(), argnums=(0, 1))(
        x, jnp.array([3.0])
    )
    assert np.isfinite(grad_x).all()
    assert np.isfinite(grad_p).all()


def test_gem_has_a_parameter_p():
    assert GeM(3.0).p[...].shape == (1,)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_max_pool_gradient_goes_to_the_largest(dtype):
    x = jnp.asarray([[1, 5], [2, 3]], dtype).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool(x, MAX_POOLS["transreid"]).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0].astype(jnp.float32), [[0, 1], [0, 0]])


def test_max_pool_with_a_relu_is_the_pool_of_the_relu():
    x = jnp.asarray(np.random.default_rng(0).normal(-0.5, 1.0, (2, 7, 6, 3)), jnp.float32)

    @jax.jit
    def both(x):
        window = MAX_POOLS["fastreid"]
        ours = jax.vjp(lambda x: max_pool(x, window, relu=True), x)
        theirs = jax.vjp(lambda x: max_pool(jax.nn.relu(x), window), x)
        return [(value, back(jnp.cos(value))) for value, back in (ours, theirs)]

    for a, b in zip(*both(x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_max_pool_passes_on_a_value_that_is_no_number():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    for relu in (True, False):
        y = max_pool(x, MAX_POOLS["transreid"], relu=relu)
        np.testing.assert_array_equal(jnp.isnan(y)[0, :, :, 0], [[True, False], [False, False]])
