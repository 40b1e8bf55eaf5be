"""The 1x1 convolution with its batch norm against the two layers one after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones.resnet import conv
from g2ajax.nn.norm import BatchNorm
from g2ajax.nn.pointwise import pointwise_norm

# A common offset and channels that nearly depend on each other: what the product of sums must bear.
X = np.random.default_rng(0).normal(2.0, 1.0, (6, 4, 3, 5)).astype(np.float32)
X[..., 4] = X[..., 3] + 0.1 * X[..., 0]


def layers(dtype=jnp.float32, stride=1):
    made = conv(5, 7, 1, stride, dtype=dtype, rngs=nnx.Rngs(params=0)), BatchNorm(7, dtype=dtype)
    made[1].scale[...] = jnp.linspace(0.5, 1.5, 7)
    made[1].bias[...] = jnp.linspace(-0.5, 0.5, 7)
    return nnx.List(made)


def plain(pair, x, shortcut, relu):
    y = pair[1](pair[0](x))
    y = y if shortcut is None else y + shortcut
    return jax.nn.relu(y) if relu else y


def fused(pair, x, shortcut, relu):
    return pointwise_norm(*pair, x, shortcut, relu=relu)


@pytest.mark.parametrize(
    ("with_shortcut", "relu", "stride"), [(True, True, 1), (False, False, 1), (False, False, 2)]
)
def test_values_statistics_and_gradients_are_those_of_the_two_layers(with_shortcut, relu, stride):
    rng = np.random.default_rng(1)
    size = (6, -(-4 // stride), -(-3 // stride), 7)
    shortcut = jnp.asarray(rng.normal(size=size), jnp.float32) if with_shortcut else None
    weight = jnp.asarray(rng.normal(size=size), jnp.float32)

    @nnx.jit(static_argnums=0)
    def results(call, x, shortcut):
        pair = layers(stride=stride)

        def loss(pair, x, shortcut):
            y = call(pair, x, shortcut, relu)
            return jnp.sum(weight * y), y

        argnums = (0, 1, 2) if with_shortcut else (0, 1)
        gradient = nnx.grad(loss, argnums=argnums, has_aux=True)(pair, x, shortcut)
        return gradient, pair[1].mean[...], pair[1].var[...]

    ours, theirs = (
        jax.tree.leaves(results(call, jnp.asarray(X), shortcut)) for call in (fused, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def test_bfloat16_differs_by_its_rounding():
    pair = layers(jnp.bfloat16)
    x = jnp.asarray(X, jnp.bfloat16)
    ours = np.asarray(fused(pair, x, None, False), np.float32)
    np.testing.assert_allclose(ours, np.asarray(plain(layers(), X, None, False)), atol=0.05)


def test_in_evaluation_the_running_statistics_are_used_and_kept():
    pair = nnx.view(layers(), use_running_average=True)
    np.testing.assert_allclose(
        fused(pair, jnp.asarray(X), None, True), plain(pair, jnp.asarray(X), None, True)
    )
    np.testing.assert_array_equal(pair[1].mean[...], np.zeros(7))
