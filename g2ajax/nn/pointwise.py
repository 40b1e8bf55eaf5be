"""A 1x1 convolution and the batch norm after it as one function, whose output is stored once.

The convolution is linear, y = x W, so the norm needs no pass over y, which has four times as many
channels as x in a bottleneck. With s = Σ x and G = xᵀx, summed over all n positions:

    mean(y) = s W / n,    var(y) = diag(Wᵀ (G / n − s sᵀ / n²) W)

and the backward pass, for the gradient g of the normalised y and T = xᵀg, needs

    Σ g = 1ᵀg,    Σ g y = diag(Wᵀ T)
    dy = a g − k − c y    (one a, k and c a channel; it is never formed)
    dW = T a − s k − G W c,    dx = g (a W)ᵀ − k Wᵀ − x (W c Wᵀ)

Neither y nor dy is read or kept; the matrix products grow by half of the convolution's own.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.norm import BatchNorm


def pointwise_norm(
    conv: nnx.Conv,
    norm: BatchNorm,
    x: Float[Array, "B h w K"],
    shortcut: Float[Array, "B h2 w2 C"] | None = None,
    *,
    relu: bool = False,
) -> Float[Array, "B h2 w2 C"]:
    """relu(norm(conv(x)) + shortcut) of a 1x1 convolution without bias; ReLU, shortcut optional.

    Runs as separate steps in evaluation, with a stride, and for a norm other than `BatchNorm`.
    """
    whole = conv.strides in (1, (1, 1))
    if type(norm) is not BatchNorm or norm.use_running_average or not whole:
        y = norm(conv(x))
        y = y if shortcut is None else y + shortcut
        return jax.nn.relu(y) if relu else y
    x = x.astype(conv.dtype)
    kernel = conv.kernel[...].reshape(x.shape[-1], -1)
    out, mean, var = _apply(x, kernel, norm.scale[...], norm.bias[...], shortcut, norm.eps, relu)
    norm.remember(mean, var, norm.check_count(out))
    return out


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _apply(x, kernel, scale, bias, shortcut, eps, relu):
    return _forward(x, kernel, scale, bias, shortcut, eps, relu)[0]


def _forward(x, kernel, scale, bias, shortcut, eps, relu):
    weight = kernel.astype(x.dtype)
    exact = weight.astype(jnp.float32)
    count = x.size // x.shape[-1]
    total = jnp.sum(x, (0, 1, 2), dtype=jnp.float32)
    gram = _rows_product(x, x)
    centred = gram / count - jnp.outer(total / count, total / count)
    mean = _exact_product(total / count, exact)
    var = jnp.maximum(jnp.sum(exact * _exact_product(centred, exact), 0), 0.0)
    root = jax.lax.rsqrt(var + eps)
    y = jnp.einsum("bhwk,kc->bhwc", x, weight)
    out = (y.astype(jnp.float32) - mean[None, None, None]) * (scale * root)[None, None, None]
    out = (out + bias[None, None, None]).astype(x.dtype)
    out = out if shortcut is None else out + shortcut
    out = jax.nn.relu(out) if relu else out
    residuals = (x, kernel, scale, total, gram, mean, root, out if relu else None, shortcut is None)
    return (out, mean, var), residuals


def _backward(eps, relu, kept, gradients):
    x, kernel, scale, total, gram, mean, root, out, alone = kept
    gradient = gradients[0]
    if relu:
        gradient = jnp.where(out > 0, gradient, 0)
    weight = kernel.astype(x.dtype)
    exact = weight.astype(jnp.float32)
    count = x.size // x.shape[-1]
    along = _rows_product(x, gradient)
    dbias = jnp.sum(gradient, (0, 1, 2), dtype=jnp.float32)
    dscale = root * (jnp.sum(exact * along, 0) - mean * dbias)
    slope = scale * root * root * dscale / count
    factor = scale * root
    constant = factor * dbias / count - mean * slope
    dkernel = along * factor[None] - jnp.outer(total, constant)
    dkernel = dkernel - _exact_product(gram, exact) * slope[None]
    back = (exact * factor[None]).astype(x.dtype)
    correction = _exact_product(exact * slope[None], exact.T).astype(x.dtype)
    dx = jnp.einsum("bhwc,kc->bhwk", gradient, back)
    dx = dx - jnp.einsum("bhwk,kj->bhwj", x, correction)
    dx = dx - _exact_product(exact, constant).astype(x.dtype)[None, None, None]
    return dx, dkernel, dscale, dbias, None if alone else gradient


_apply.defvjp(_forward, _backward)


def _rows_product(x: Float[Array, "B h w K"], y: Float[Array, "B h w C"]) -> Float[Array, "K C"]:
    """xᵀy over all positions, added up in float32."""
    return jnp.einsum("bhwk,bhwc->kc", x, y, preferred_element_type=jnp.float32)


def _exact_product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
