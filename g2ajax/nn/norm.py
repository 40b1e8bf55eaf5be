"""Batch, instance and split (IBN-a) normalisation with the numerics checkpoints expect."""

import functools
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


def moments(x: Float[Array, "*batch C"]) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
    """Mean and biased variance of each channel, float32.

    Two passes over a float32 x: one pass with a shift near the mean reads less, but its rounding was
    seen to drive the losses of one and of four devices apart. One pass over a narrower x, whose own
    rounding changes the variance more than that of float32 sums does.
    """
    axes, narrow, x = tuple(range(x.ndim - 1)), x.dtype.itemsize < 4, x.astype(jnp.float32)
    mean = jnp.mean(x, axes)
    if narrow:
        return mean, jnp.maximum(jnp.mean(jnp.square(x), axes) - jnp.square(mean), 0.0)
    return mean, jnp.mean(jnp.square(x - _per_channel(x, mean)), axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(
    x: Float[Array, "*batch C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    eps: float,
    relu: bool,
) -> tuple[Float[Array, "*batch C"], Float[Array, " C"], Float[Array, " C"]]:
    """x normalised by its own moments, scaled and shifted, with a ReLU if `relu`; in x's dtype.
    Also returns the moments, which take no gradient.

    The derivative is written out rather than traced: only x is kept, and the backward pass reads x
    and the gradient twice; the traced one would also write and read the masked gradient.
    """
    return _normalise(x, scale, bias, eps, relu)[0]


def _normalise(x, scale, bias, eps, relu):
    mean, var = moments(x)
    root = jax.lax.rsqrt(var + eps)
    y = _affine(x, mean, scale * root, bias)
    y = jax.nn.relu(y) if relu else y
    return (y.astype(x.dtype), mean, var), (x, mean, root, scale, bias)


def _affine(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    x = x.astype(jnp.float32)
    return (x - _per_channel(x, mean)) * _per_channel(x, factor) + _per_channel(x, bias)


def _normalise_backward(eps, relu, kept, gradients):
    x, mean, root, scale, bias = kept
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    factor = scale * root
    slope, offset = (_per_channel(x, v) for v in (factor, bias - mean * factor))
    raised = x.astype(jnp.float32) * slope
    gradient = gradients[0].astype(jnp.float32)
    unit = _affine(x, mean, root, jnp.zeros_like(bias))
    # Two passes over x and the gradient, each with its own expression for the ReLU's mask: equal
    # expressions would be computed once and go through memory.
    first = jnp.where(raised + offset > 0, gradient, 0.0) if relu else gradient
    total, along = jnp.sum(first, axes), jnp.sum(first * unit, axes)
    second = jnp.where(raised > -offset, gradient, 0.0) if relu else gradient
    rest = _per_channel(x, total / count) + unit * _per_channel(x, along / count)
    dx = _per_channel(x, factor) * (second - rest)
    return dx.astype(x.dtype), along, total


normalise.defvjp(_normalise, _normalise_backward)


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

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Used by `nnx.view`.

        Args:
          use_running_average: normalise by the running statistics (evaluation).
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(
        self, x: Float[Array, "*batch C"], *, relu: bool = False
    ) -> Float[Array, "*batch C"]:
        """Normalises x; `relu` adds a ReLU."""
        if self.use_running_average:
            factor = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.eps)
            y = _affine(x, self.mean[...], factor, self.bias[...]).astype(self.dtype)
            return jax.nn.relu(y) if relu else y
        count = self.check_count(x)
        y, mean, var = normalise(
            x.astype(self.dtype), self.scale[...], self.bias[...], self.eps, relu
        )
        self.remember(mean, var, count)
        return y

    def check_count(self, x: Float[Array, "*batch C"]) -> int:
        """Counts the values of a channel. Raises ValueError for a single one: it has no variance."""
        count = x.size // x.shape[-1]
        if count < 2:
            raise ValueError(
                f"batch normalisation of an array of shape {x.shape} in training: one value a "
                "channel has no variance. Use a larger batch, or the running statistics "
                "(nnx.view(model, use_running_average=True))"
            )
        return count

    def remember(self, mean: Float[Array, " C"], var: Float[Array, " C"], count: int) -> None:
        """Moves the running statistics towards the moments of a batch of `count` values."""
        mean, var = jax.lax.stop_gradient((mean, var))
        keep = 1.0 - self.momentum
        self.mean[...] = keep * self.mean[...] + self.momentum * mean
        self.var[...] = keep * self.var[...] + self.momentum * (var * (count / (count - 1)))


class InstanceNorm(nnx.Module):
    """Instance normalisation of `[B,h,w,C]`: per sample and channel over h and w, affine.

    No running statistics; float32 inside. eps 1e-5.
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

    def __call__(
        self, x: Float[Array, "B h w C"], *, relu: bool = False
    ) -> Float[Array, "B h w C"]:
        """Normalises x; `relu` adds a ReLU."""
        first, rest = x[..., : self.half], x[..., self.half :]
        y = jnp.concatenate([self.IN(first), self.BN(rest)], axis=-1)
        return jax.nn.relu(y) if relu else y
