"""Batch, instance and split (IBN-a) normalisation with the numerics checkpoints expect."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Buffer(nnx.Variable):
    """A tensor of the state dict that is never trained.

    It is not an `nnx.Param`, so `nnx.grad` and an optimizer with `wrt=nnx.Param` do not see it:
    no gradient, no weight decay, no optimizer state. It is stored in checkpoints and published
    state dicts like any other tensor. The zero bias of a BNNeck is one.
    """


def _per_channel(x: Array, value: Array) -> Array:
    return value.reshape((1,) * (x.ndim - 1) + (-1,))


class BatchNorm(nnx.Module):
    """Batch normalisation over every axis but the last, as PyTorch computes it.

    Input `[B,C]` or `[B,h,w,C]`. Statistics and the normalisation itself are float32 whatever
    `dtype` is. The batch is normalised by its biased variance, but `running_var` is updated with
    the UNBIASED one, n/(n-1) times larger (flax uses the biased one: 1.6 % less at 64 rows).
    Under jit with a sharded batch the statistics are those of the global batch.

    `momentum` is the share of the NEW batch (0.1), as in PyTorch and unlike flax.
    `train_bias=False` keeps the bias as a `Buffer` (zero, in the state dict, never trained).
    `nnx.view(model, use_running_average=True)` switches to the running statistics.

    Raises:
      ValueError: in training, when a channel has a single value (its variance is undefined).
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: int | float = 1e-5,
        momentum: int | float = 0.1,
        train_bias: bool = True,
        scale_init: int | float = 1.0,
        use_running_average: bool = False,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        self.scale = nnx.Param(jnp.full((num_features,), scale_init, jnp.float32))
        zeros = jnp.zeros((num_features,), jnp.float32)
        self.bias = nnx.Param(zeros) if train_bias else Buffer(zeros)
        self.mean = nnx.BatchStat(jnp.zeros((num_features,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((num_features,), jnp.float32))
        self.eps = eps
        self.momentum = momentum
        self.use_running_average = use_running_average
        self.dtype = dtype

    def set_view(self, use_running_average: bool | None = None):
        """Used by `nnx.view`.

        Args:
          use_running_average: normalise by the running statistics (evaluation).
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
        x = x.astype(jnp.float32)
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = self._batch_statistics(x)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.eps)
        y = (x - _per_channel(x, mean)) * _per_channel(x, factor)
        return (y + _per_channel(x, self.bias[...])).astype(self.dtype)

    def _batch_statistics(self, x: Array) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        if count < 2:
            raise ValueError(
                f"batch normalisation of an array of shape {x.shape} in training: one value a "
                "channel has no variance. Use a larger batch, or the running statistics "
                "(nnx.view(model, use_running_average=True))"
            )
        mean = jnp.mean(x, axes)
        # The variance does not depend on its centre to first order (sum(x - mean) = 0), so the
        # gradient through this mean is exactly zero; stopping it saves a pass over x.
        centre = jax.lax.stop_gradient(mean)
        var = jnp.mean(jnp.square(x - _per_channel(x, centre)), axes)
        unbiased = jax.lax.stop_gradient(var) * (count / (count - 1))
        keep = 1.0 - self.momentum
        self.mean[...] = keep * self.mean[...] + self.momentum * centre
        self.var[...] = keep * self.var[...] + self.momentum * unbiased
        return mean, var


class InstanceNorm(nnx.Module):
    """Instance normalisation of `[B,h,w,C]`: per sample and channel over h and w, affine.

    Never any running statistics; float32 inside. eps 1e-5.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: int | float = 1e-5,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        self.scale = nnx.Param(jnp.ones((num_features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((num_features,), jnp.float32))
        self.eps = eps
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        x = x.astype(jnp.float32)
        mean = jnp.mean(x, (1, 2), keepdims=True)
        var = jnp.mean(jnp.square(x - mean), (1, 2), keepdims=True)
        y = (x - mean) * jax.lax.rsqrt(var + self.eps)
        y = y * _per_channel(x, self.scale[...]) + _per_channel(x, self.bias[...])
        return y.astype(self.dtype)


class IBN(nnx.Module):
    """IBN-a (Pan et al., ECCV 2018): instance norm on the first half of the channels, batch norm
    on the rest.

    Names as in IBN-Net's checkpoints: `IN`, `BN`. An odd number of channels gives the batch norm
    the larger half.
    """

    def __init__(
        self,
        num_features: int,
        *,
        momentum: int | float = 0.1,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        self.half = num_features // 2
        self.IN = InstanceNorm(self.half, dtype=dtype)
        self.BN = BatchNorm(num_features - self.half, momentum=momentum, dtype=dtype)

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        first, rest = x[..., : self.half], x[..., self.half :]
        return jnp.concatenate([self.IN(first), self.BN(rest)], axis=-1)
