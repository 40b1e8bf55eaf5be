"""Heads of person search: batch norm over rows that may be padding, norm-aware embedding, softmax."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.heads import unit
from g2ajax.nn.norm import BatchNorm

HIGHEST = jax.lax.Precision.HIGHEST


class MaskedBatchNorm(BatchNorm):
    """`BatchNorm` whose batch statistics are over the rows or cells with `mask` True only.

    `mask` covers the first axes of the input: its rows [N], or the cells [N,h,w] of a map. What is
    padding is normalised, too, but moves nothing. Fewer than two valid values a
    channel: the running variance stays (PyTorch refuses to train on one value); none: the running
    mean stays, too, and the row statistics are 0.
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
        # Before the arithmetic: padding may hold anything.
        x = jnp.where(rows, x, 0.0)
        mean = jnp.sum(x, axes) / divisor
        flat = (1,) * (x.ndim - 1) + (-1,)
        # The gradient through this centre is zero, as in BatchNorm.
        centre = jax.lax.stop_gradient(mean)
        squares = jnp.square(jnp.where(rows, x - centre.reshape(flat), 0.0))
        var = jnp.sum(squares, axes) / divisor
        unbiased = jax.lax.stop_gradient(var) * (divisor / jnp.maximum(count - 1, 1))
        some = self.momentum * (count > 0)
        several = self.momentum * (count > 1)
        self.mean[...] = (1.0 - some) * self.mean[...] + some * centre
        self.var[...] = (1.0 - several) * self.var[...] + several * unbiased
        factor = self.scale[...] * jax.lax.rsqrt(var + self.eps)
        y = (x - mean.reshape(flat)) * factor.reshape(flat) + self.bias[...].reshape(flat)
        y = y.astype(self.dtype)
        return jax.nn.relu(y) if relu else y


def _batch_norm_init(features: int, rngs: nnx.Rngs) -> MaskedBatchNorm:
    """With a scale drawn from N(0, 0.01), as the person-search codes start theirs."""
    norm = MaskedBatchNorm(features)
    norm.scale[...] = 0.01 * jax.random.normal(rngs.params(), (features,))
    return norm


class NormAwareEmbedding(nnx.Module):
    """The norm-aware embedding (Chen et al., CVPR 2020): direction for identity, length for person.

    Each input [N, C_i] goes through a linear layer and a batch norm to dim / n numbers; their
    concatenation e gives the embedding e / max(|e|, 1e-12) [N, dim] and the person's logit
    rescaler(|e|) [N]. Names: `projectors.<name>.{0,1}`, `rescaler`. `mask` False marks padded
    rows. Float32 throughout.

    Args:
      features: name → channels of the inputs, in their order (`feat_res4`, `feat_res5` in SeqNet;
        `before_trans`, `after_trans` in COAT).
      dim: width of the embedding; the remainder of dim / n goes to the last inputs.
    """

    def __init__(self, features: dict[str, int], dim: int = 256, *, rngs: nnx.Rngs):
        projectors = {}
        share, left = divmod(dim, len(features))
        for position, (name, channels) in enumerate(features.items()):
            width = share + (position >= len(features) - left)
            linear = nnx.Linear(
                channels,
                width,
                kernel_init=nnx.initializers.normal(0.01),
                precision=HIGHEST,
                rngs=rngs,
            )
            projectors[name] = nnx.List([linear, _batch_norm_init(width, rngs)])
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
        # The norm's gradient at a zero row is not a number; padded rows are zero.
        length = jnp.sqrt(jnp.maximum(jnp.sum(joined**2, axis=-1, keepdims=True), 1e-24))
        return unit(joined), self.rescaler(length, mask)[:, 0]


class SoftmaxIdentityHead(nnx.Module):
    """COAT's identity classifier: batch norm with a fixed zero bias, linear layer without bias.

    Names: `bottleneck`, `classifier`. `mask` marks the rows that count in the batch statistics:
    persons with and without identity alike. Returns logits [N, P].
    """

    def __init__(self, dim: int, num_classes: int, *, rngs: nnx.Rngs, **options: Any):
        self.bottleneck = MaskedBatchNorm(dim, train_bias=False, **options)
        self.classifier = nnx.Linear(
            dim,
            num_classes,
            use_bias=False,
            kernel_init=nnx.initializers.normal(0.001),
            precision=HIGHEST,
            rngs=rngs,
        )

    def __call__(
        self, embedding: Float[Array, "N D"], mask: Bool[Array, " N"] | None = None
    ) -> Float[Array, "N P"]:
        return self.classifier(self.bottleneck(embedding, mask))
