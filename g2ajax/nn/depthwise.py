"""Depthwise 3x3 convolution that is fast on a CPU too."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.init import conv_init


def grouped(x: Float[Array, "B h w C"], kernel: Float[Array, "3 3 1 C"]) -> Float[Array, "B h w C"]:
    """The same convolution by XLA's grouped one."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted_sum(x: jax.Array, kernel: jax.Array) -> jax.Array:
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = kernel.astype(jnp.float32)
    total = jnp.zeros(x.shape, jnp.float32)
    for i in range(3):
        for j in range(3):
            window = padded[:, i : i + height, j : j + width].astype(jnp.float32)
            total = total + window * weights[i, j, 0][None, None, None]
    return total.astype(x.dtype)


@jax.custom_vjp
def depthwise(
    x: Float[Array, "B h w C"], kernel: Float[Array, "3 3 1 C"]
) -> Float[Array, "B h w C"]:
    """Depthwise 3x3 convolution, padded by 1, as nine shifted multiply-adds summed in float32.

    These fuse into one pass over the map; XLA's grouped convolution is tens of times slower on a
    CPU. The gradient of the kernel uses the grouped convolution, because nine sums would need
    memory for nine more maps.
    """
    return _shifted_sum(x, kernel)


def _depthwise_forward(x, kernel):
    return _shifted_sum(x, kernel), (x, kernel)


def _depthwise_backward(residuals, cotangent):
    x, kernel = residuals
    _, to_kernel = jax.vjp(lambda kernel: grouped(x, kernel), kernel)
    return _shifted_sum(cotangent, kernel[::-1, ::-1]), *to_kernel(cotangent)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
_depthwise = jax.jit(depthwise)  # traced once a shape, not once a layer


class Depthwise(nnx.Conv):
    """`depthwise` as a layer, with the parameters of flax's convolution of one channel a group."""

    def __init__(self, channels: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        super().__init__(
            channels,
            channels,
            (3, 3),
            feature_group_count=channels,
            use_bias=False,
            kernel_init=conv_init,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        return _depthwise(x.astype(self.dtype), self.kernel[...].astype(self.dtype))
