"""A 1x1 convolution and the batch norm after it as one function, whose output is stored once.

The convolution is linear, y = x W, so the norm needs no pass over y, which has four times as many
channels as x in a bottleneck. With s = Σ x and G = xᵀx, summed over all n positions:

    mean(y) = s W / n,    var(y) = diag(Wᵀ (G / n − s sᵀ / n²) W)

and the backward pass, for the gradient g of the normalised y and T = xᵀg, needs

    Σ g = 1ᵀg,    Σ g y = diag(Wᵀ T)
    dy = a g − k − c y    (one a, k and c a channel; it is never formed)
    dW = T a − s k − G W c,    dx = g (a W)ᵀ − k Wᵀ − x (W c Wᵀ)

Neither y nor dy is read or kept; the matrix products grow by half of the convolution's own. The norm's
factor goes into W, so that on a GPU its shift, the shortcut and the ReLU are ends of the product (they
must be on plain rows for that) and the output is all that it writes. In bfloat16 W times the factor
and the shift are rounded in place of y.
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

    Runs as separate steps in evaluation, and for a norm other than `BatchNorm`.
    """
    if type(norm) is not BatchNorm or norm.use_running_average:
        y = norm(conv(x))
        y = y if shortcut is None else y + shortcut
        return jax.nn.relu(y) if relu else y
    down, across = (conv.strides,) * 2 if isinstance(conv.strides, int) else conv.strides
    x = x.astype(conv.dtype)[:, ::down, ::across]
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
    folded = _folded(kernel, scale * root, x.dtype)
    shift = bias - _exact_product(total / count, folded.astype(jnp.float32))
    out = jnp.matmul(x.reshape(count, -1), folded) + shift.astype(x.dtype)[None]
    out = out if shortcut is None else out + shortcut.reshape(out.shape)
    out = jax.nn.relu(out) if relu else out
    out = out.reshape(*x.shape[:-1], -1)
    residuals = (x, kernel, scale, total, gram, mean, root, out if relu else None, shortcut is None)
    return (out, mean, var), residuals


def _backward(eps, relu, kept, gradients):
    x, kernel, scale, total, gram, mean, root, out, alone = kept
    gradient = gradients[0]
    if relu:
        # Behind a barrier, or XLA would compare, and keep, what the ReLU was given.
        gradient = jnp.where(jax.lax.optimization_barrier(out) > 0, gradient, 0)
    weight = kernel.astype(x.dtype)
    exact = weight.astype(jnp.float32)
    count = x.size // x.shape[-1]
    dbias = jnp.sum(gradient, (0, 1, 2), dtype=jnp.float32)
    if not relu:
        # A shortcut has the gradient of the last convolution: XLA would join the products with both,
        # and copy their inputs side by side.
        gradient = jax.lax.optimization_barrier(gradient)
    along = _rows_product(x, gradient)
    dscale = root * (jnp.sum(exact * along, 0) - mean * dbias)
    slope = scale * root * root * dscale / count
    factor = scale * root
    constant = factor * dbias / count - mean * slope
    dkernel = along * factor[None] - jnp.outer(total, constant)
    dkernel = dkernel - _exact_product(gram, exact) * slope[None]
    correction = _exact_product(exact * -slope[None], exact.T).astype(x.dtype)
    offset = -_exact_product(exact, constant).astype(x.dtype)
    dx = jnp.matmul(x.reshape(count, -1), correction) + offset[None]
    dx = jnp.matmul(gradient.reshape(count, -1), _folded(kernel, factor, x.dtype).T) + dx
    dx = dx.reshape(x.shape)
    return dx, dkernel, dscale, dbias, None if alone else gradient


def _folded(kernel: Array, factor: Array, dtype) -> Array:
    return (kernel * factor[None]).astype(dtype)


_apply.defvjp(_forward, _backward)


def _rows_product(x: Float[Array, "B h w K"], y: Float[Array, "B h w C"]) -> Float[Array, "K C"]:
    """xᵀy over all positions, added up in float32."""
    return jnp.einsum("bhwk,bhwc->kc", x, y, preferred_element_type=jnp.float32)


def _exact_product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
