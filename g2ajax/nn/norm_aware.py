"""Heads of person search: batch norm over masked rows, norm-aware embedding, identity classifier."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.heads import unit
from g2ajax.nn.init import normal_linear
from g2ajax.nn.norm import BatchNorm


class MaskedBatchNorm(BatchNorm):
    """`BatchNorm` whose batch statistics use only rows or cells with `mask` True.

    `mask` covers the first axes of the input: rows [N], or cells [N,h,w] of a map. Padding is
    normalised too, but changes no statistics. With fewer than two valid values per channel the
    running variance is kept (PyTorch refuses to train on one value); without any the running mean is
    kept as well, and the batch statistics are 0.
    """

    def __call__(
        self,
        x: Float[Array, "N *map C"],
        mask: Bool[Array, "N *cells"] | None = None,
        *,
        relu: bool = False,
    ) -> Float[Array, "N *map C"]:
        if mask is None or self.use_running_average:
            return super().__call__(x, relu=relu)
        x = x.astype(jnp.float32)
        axes = tuple(range(x.ndim - 1))
        rows = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        count = jnp.sum(mask) * (x.size // x.shape[-1] // mask.size)
        divisor = jnp.maximum(count, 1)
        # Masked before the arithmetic: padding may hold anything.
        x = jnp.where(rows, x, 0.0)
        mean = jnp.sum(x, axes) / divisor
        flat = (1,) * (x.ndim - 1) + (-1,)
        # The exact gradient through this centre is zero, as in BatchNorm.
        centre = jax.lax.stop_gradient(mean)
        squares = jnp.square(jnp.where(rows, x - centre.reshape(flat), 0.0))
        var = jnp.sum(squares, axes) / divisor
        unbiased = jax.lax.stop_gradient(var) * (divisor / jnp.maximum(count - 1, 1))
        mean_momentum = self.momentum * (count > 0)
        var_momentum = self.momentum * (count > 1)
        self.mean[...] = (1.0 - mean_momentum) * self.mean[...] + mean_momentum * centre
        self.var[...] = (1.0 - var_momentum) * self.var[...] + var_momentum * unbiased
        factor = self.scale[...] * jax.lax.rsqrt(var + self.eps)
        y = (x - mean.reshape(flat)) * factor.reshape(flat) + self.bias[...].reshape(flat)
        y = y.astype(self.dtype)
        return jax.nn.relu(y) if relu else y


def small_batch_norm(features: int, rngs: nnx.Rngs) -> MaskedBatchNorm:
    """Batch norm with scales drawn from N(0, 0.01), as in the person-search codes."""
    norm = MaskedBatchNorm(features)
    norm.scale[...] = 0.01 * jax.random.normal(rngs.params(), (features,))
    return norm


class NormAwareEmbedding(nnx.Module):
    """Norm-aware embedding (Chen et al., CVPR 2020): the direction encodes identity, the norm "person".

    A linear layer and a batch norm map each input [N, C_i] to dim / n numbers. Their concatenation e
    gives the embedding e / max(|e|, 1e-12) [N, dim] and the logit rescaler(|e|) [N] for "is a
    person". Names: `projectors.<name>.{0,1}`, `rescaler`. Rows with `mask` False are padding. All of
    it is float32.

    Args:
      features: name → channels of the inputs, in order (`feat_res4`, `feat_res5` in SeqNet;
        `before_trans`, `after_trans` in COAT).
      dim: width of the embedding; the last inputs get the remainder of dim / n.
    """

    def __init__(self, features: dict[str, int], dim: int = 256, *, rngs: nnx.Rngs):
        projectors = {}
        quotient, remainder = divmod(dim, len(features))
        for position, (name, channels) in enumerate(features.items()):
            width = quotient + (position >= len(features) - remainder)
            linear = normal_linear(channels, width, 0.01, rngs=rngs)
            projectors[name] = nnx.List([linear, small_batch_norm(width, rngs)])
        self.projectors = nnx.Dict(projectors)
        self.rescaler = MaskedBatchNorm(1)
        self.names = tuple(features)

    def __call__(
        self, features: dict[str, Float[Array, "N _"]], mask: Bool[Array, " N"] | None = None
    ) -> tuple[Float[Array, "N D"], Float[Array, " N"]]:
        parts = []
        for name in self.names:
            linear, norm = self.projectors[name]
            parts.append(norm(linear(features[name].astype(jnp.float32)), mask))
        joined = jnp.concatenate(parts, axis=-1)
        # The gradient of the norm is NaN at a row of zeros, such as a padded one.
        length = jnp.sqrt(jnp.maximum(jnp.sum(joined**2, axis=-1, keepdims=True), 1e-24))
        return unit(joined), self.rescaler(length, mask)[:, 0]


class SoftmaxIdentityHead(nnx.Module):
    """COAT's identity classifier: batch norm with a fixed zero bias, linear layer without bias.

    Names: `bottleneck`, `classifier`. `mask` selects the rows for the batch statistics: persons with
    and without identity. Returns logits [N, P].
    """

    def __init__(self, dim: int, num_classes: int, *, rngs: nnx.Rngs, **options: Any):
        self.bottleneck = MaskedBatchNorm(dim, train_bias=False, **options)
        self.classifier = normal_linear(dim, num_classes, 0.001, use_bias=False, rngs=rngs)

    def __call__(
        self, embedding: Float[Array, "N D"], mask: Bool[Array, " N"] | None = None
    ) -> Float[Array, "N P"]:
        return self.classifier(self.bottleneck(embedding, mask))
