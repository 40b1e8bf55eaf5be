"""Initialisers of the reference implementations, and layers that start from them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

# Transformer weights and tokens: normal with standard deviation 0.02. The references truncate at
# an absolute +-2, a hundred standard deviations, which has no effect.
token_init = nnx.initializers.normal(0.02)


def conv_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """N(0, 2 / (kh kw out)) for an HWIO kernel (He et al., fan out)."""
    std = math.sqrt(2.0 / (math.prod(shape[:-2]) * shape[-1]))
    return std * jax.random.normal(key, shape, dtype)


def normal_linear(
    features_in: int, features_out: int, std: int | float, *, use_bias: bool = True, rngs: nnx.Rngs
) -> nnx.Linear:
    """A float32 linear layer, at full precision, with weights N(0, std²) and biases 0."""
    return nnx.Linear(
        features_in,
        features_out,
        use_bias=use_bias,
        kernel_init=nnx.initializers.normal(std),
        precision=jax.lax.Precision.HIGHEST,
        rngs=rngs,
    )


def torch_uniform(fan_in: int) -> nnx.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for weights and biases alike."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def redraw_as_torch(module: nnx.Module, *, rngs: nnx.Rngs) -> None:
    """Draws weights and biases of all linear layers and convolutions of a module again, from
    PyTorch's default, U(±1/sqrt(fan_in))."""
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, nnx.Linear | nnx.Conv):
            shape = layer.kernel[...].shape
            init = torch_uniform(math.prod(shape[:-1]))
            layer.kernel[...] = init(rngs.params(), shape)
            if layer.bias is not None:
                layer.bias[...] = init(rngs.params(), layer.bias[...].shape)
