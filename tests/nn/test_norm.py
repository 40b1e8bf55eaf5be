"""Batch, instance and split normalisation against numbers worked out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from g2ajax.nn.norm import IBN, BatchNorm, Buffer, InstanceNorm, moments


def test_batch_norm_by_hand():
    norm = BatchNorm(1)
    y = norm(jnp.array([[1.0], [2.0], [6.0]]))
    # mean 3, biased variance (4 + 1 + 9) / 3, unbiased 7
    np.testing.assert_allclose(y[:, 0], np.array([-2.0, -1.0, 3.0]) / np.sqrt(14 / 3), rtol=1e-5)
    np.testing.assert_allclose(norm.mean[...], [0.1 * 3.0], rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], [0.9 * 1.0 + 0.1 * 7.0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 2, 4)])
def test_batch_norm_against_numpy(shape):
    x = np.random.default_rng(0).normal(3.0, 2.0, shape).astype(np.float32)
    norm = BatchNorm(4)
    norm.scale[...] = jnp.arange(1.0, 5.0)
    norm.bias[...] = jnp.arange(4.0)
    y = norm(jnp.asarray(x))
    rows = x.reshape(-1, 4).astype(np.float64)
    expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * np.arange(1, 5) + np.arange(4)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-5)
    before = np.asarray(norm.mean[...])
    evaluated = nnx.view(norm, use_running_average=True)(jnp.asarray(x))
    expected = (x - np.asarray(norm.mean[...])) / np.sqrt(np.asarray(norm.var[...]) + 1e-5)
    np.testing.assert_allclose(evaluated, expected * np.arange(1, 5) + np.arange(4), rtol=1e-4)
    np.testing.assert_array_equal(norm.mean[...], before)


def test_variance_survives_a_large_mean():
    x = 1000.0 + 0.5 * jax.random.normal(jax.random.key(0), (512, 3))
    norm = BatchNorm(3)
    norm(x)
    expected = 0.9 + 0.1 * np.asarray(x, np.float64).var(0, ddof=1)
    np.testing.assert_allclose(norm.var[...], expected, rtol=1e-4)


def test_variance_of_bfloat16_is_nearer_than_its_rounding():
    x = np.random.default_rng(0).normal(20.0, 1.0, (64, 16, 16, 4))
    narrow = jnp.asarray(x, jnp.bfloat16)
    error = np.abs(moments(narrow)[1] / np.asarray(narrow, np.float64).var((0, 1, 2)) - 1)
    rounding = np.abs(np.asarray(narrow, np.float64).var((0, 1, 2)) / x.var((0, 1, 2)) - 1)
    assert error.max() < 0.2 * rounding.max()


def test_gradient_is_that_of_the_textbook_formula():
    x = jax.random.normal(jax.random.key(0), (5, 3)) + 2.0
    weight = jax.random.normal(jax.random.key(1), (5, 3))

    def ours(x):
        return jnp.sum(weight * BatchNorm(3)(x))

    def textbook(x):
        mean = x.mean(0, keepdims=True)
        var = jnp.square(x - mean).mean(0, keepdims=True)
        return jnp.sum(weight * (x - mean) / jnp.sqrt(var + 1e-5))

    np.testing.assert_allclose(jax.grad(ours)(x), jax.grad(textbook)(x), rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_global_batch():
    x = np.random.default_rng(1).normal(size=(8, 2, 2, 3)).astype(np.float32)
    x[:2] += 5.0  # devices see different means
    graph, state = nnx.split(BatchNorm(3))

    @jax.jit
    def step(state, x):
        norm = nnx.merge(graph, state)
        return norm(x), nnx.state(norm)

    alone, alone_state = step(state, jnp.asarray(x))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
    together, together_state = step(jax.device_put(state, NamedSharding(mesh, P())), sharded)
    np.testing.assert_allclose(together, alone, atol=2e-6)
    for a, b in zip(jax.tree.leaves(alone_state), jax.tree.leaves(together_state), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_bfloat16_keeps_float32_statistics_and_parameters():
    norm = BatchNorm(3, dtype=jnp.bfloat16)
    assert norm(jax.random.normal(jax.random.key(0), (4, 3))).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(norm))} == {jnp.dtype("float32")}


def test_a_single_value_has_no_variance():
    with pytest.raises(ValueError, match="one value a channel has no variance"):
        BatchNorm(3)(jnp.ones((1, 3)))


def test_the_frozen_bias_is_out_of_the_optimizers_sight():
    norm = BatchNorm(3, train_bias=False)
    assert isinstance(norm.bias, Buffer)
    assert list(nnx.state(norm, nnx.Param)) == ["scale"]
    x = jax.random.normal(jax.random.key(0), (4, 3))
    grads = nnx.grad(lambda norm: jnp.sum(norm(x) ** 3))(norm)
    assert list(grads) == ["scale"]
    assert "bias" in nnx.state(norm)


def test_instance_norm_is_per_sample_and_channel():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    norm = InstanceNorm(5)
    norm.scale[...] = jnp.arange(1.0, 6.0)
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * np.arange(1, 6)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5)


def test_ibn_splits_the_channels():
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 6))
    y = IBN(6)(x)
    np.testing.assert_allclose(y[..., :3], InstanceNorm(3)(x[..., :3]), atol=1e-6)
    np.testing.assert_allclose(y[..., 3:], BatchNorm(3)(x[..., 3:]), atol=1e-6)
