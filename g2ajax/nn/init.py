"""Initialisers of the reference implementations."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

# Transformer weights and tokens: normal with standard deviation 0.02. The references truncate at
# an absolute +-2, a hundred standard deviations, which has no effect.
token_init = nnx.initializers.normal(0.02)


def conv_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """N(0, 2 / (kh kw out)) for an HWIO kernel (He et al., fan out)."""
    std = math.sqrt(2.0 / (math.prod(shape[:-2]) * shape[-1]))
    return std * jax.random.normal(key, shape, dtype)


def torch_uniform(fan_in: int):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for weights and biases alike."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
