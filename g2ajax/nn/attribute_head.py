"""The attribute decomposition head of explainable re-identification (Chen et al., ICCV 2021)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from g2ajax.nn.init import torch_uniform
from g2ajax.nn.norm import BatchNorm


class AttributeDecompositionHead(nnx.Module):
    """3x3 convolution C → hidden, 1x1 → M, nothing between them, no biases; logits in float32.

    `tokens`: the map is a ViT's, and a batch norm and a ReLU precede the convolutions, as they end a
    ResNet: tokens have a mean far larger than what tells images apart. (The paper says nothing here.)
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        attributes: int,
        *,
        tokens: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.tokens = tokens
        if tokens:
            self.norm = BatchNorm(channels, dtype=dtype)
        settings = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Conv(
            channels,
            hidden,
            (3, 3),
            padding=1,
            kernel_init=torch_uniform(9 * channels),
            **settings,
        )
        self.conv2 = nnx.Conv(
            hidden, attributes, (1, 1), kernel_init=torch_uniform(hidden), **settings
        )

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w M"]:
        if self.tokens:
            x = jax.nn.relu(self.norm(x))
        return self.conv2(self.conv1(x)).astype(jnp.float32)


def activation(
    x: Float[Array, "..."], k: int | float = 1.0, t: int | float = 0.5
) -> Float[Array, "..."]:
    """K (x+1)^T for x ≥ 0, K e^x below: positive, continuous, unbounded above (AMD's eq. 1).

    The derivative at 0 is K T, the right-hand one, as the reference's.
    """
    below = x < 0
    # Each branch is given only what it can take: a NaN in the one not chosen would spoil gradients.
    falling = jnp.exp(jnp.where(below, x, 0.0))
    rising = jnp.power(jnp.where(below, 0.0, x) + 1.0, t)
    return k * jnp.where(below, falling, rising)
