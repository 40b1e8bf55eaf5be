"""The non-local block of fast-reid's ResNets."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.init import torch_uniform
from g2ajax.nn.norm import BatchNorm


class NonLocal(nnx.Module):
    """Non-local block (Wang et al., CVPR 2018) in dot-product form: x + BN(W(theta phi^T g / N)).

    fast-reid's inner width is ONE channel (its reduction divided by itself), where the paper
    halves the channels; its checkpoints need the one. There is no softmax, so phi^T g is formed
    first and no N x N matrix exists. The last norm starts at zero: an identity at the start.
    """

    def __init__(
        self,
        channels: int,
        inner: int = 1,
        *,
        bn_momentum: int | float = 0.1,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        def point(features_in, features_out):
            return nnx.Conv(
                features_in,
                features_out,
                (1, 1),
                kernel_init=torch_uniform(features_in),
                bias_init=torch_uniform(features_in),
                dtype=dtype,
                rngs=rngs,
            )

        self.g = point(channels, inner)
        self.theta = point(channels, inner)
        self.phi = point(channels, inner)
        norm = BatchNorm(channels, momentum=bn_momentum, scale_init=0.0, dtype=dtype)
        self.W = nnx.List([point(inner, channels), norm])

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        batch, height, width, _ = x.shape

        def flat(layer):
            return layer(x).reshape(batch, height * width, -1)

        context = jnp.einsum(
            "bnk,bnc->bkc", flat(self.phi), flat(self.g), preferred_element_type=jnp.float32
        ) / (height * width)
        y = jnp.einsum("bnk,bkc->bnc", flat(self.theta), context.astype(x.dtype))
        y = self.W[0](y.reshape(batch, height, width, -1))
        return x + self.W[1](y)
