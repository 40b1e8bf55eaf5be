"""Depthwise convolution: values and gradients are those of the grouped one."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from g2ajax.nn.depthwise import depthwise, grouped


def test_depthwise_is_the_grouped_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))
    weight = jax.random.normal(jax.random.key(2), x.shape)

    def both(function):
        return jax.value_and_grad(lambda *xs: jnp.sum(weight * function(*xs)), (0, 1))(x, kernel)

    expected = nnx.Conv(4, 4, (3, 3), feature_group_count=4, use_bias=False, rngs=nnx.Rngs(0))
    expected.kernel[...] = kernel
    np.testing.assert_allclose(depthwise(x, kernel), expected(x), atol=1e-5)
    for a, b in zip(jax.tree.leaves(both(depthwise)), jax.tree.leaves(both(grouped)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
