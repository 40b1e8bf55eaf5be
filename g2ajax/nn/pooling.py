"""Pooling: windows with PyTorch's output sizes, and the global poolings of re-identification."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """A max-pool window. `ceil_mode` keeps a last window that extends beyond the map."""

    kernel: int = 3
    stride: int = 2
    padding: int = 0
    ceil_mode: bool = False


# The stem max-pools of the toolboxes. fast-reid pads nothing and rounds up although it loads
# torchvision's weights, which were trained with a padding of 1: same size for even maps, other
# values. A checkpoint must be used with the pool it was trained with.
MAX_POOLS = {
    "fastreid": MaxPool(kernel=3, stride=2, padding=0, ceil_mode=True),
    "torchvision": MaxPool(kernel=3, stride=2, padding=1),
    "transreid": MaxPool(kernel=2, stride=2, padding=0),
}


def max_pool(
    x: Float[Array, "B H W C"], window: MaxPool, *, relu: bool = False
) -> Float[Array, "B h w C"]:
    """Max-pool padded with -inf, of the ReLU of x if `relu`; output sizes as PyTorch's `MaxPool2d`.

    size = floor((n + 2 padding - kernel) / stride) + 1, with ceil in place of floor in
    `ceil_mode`, where a window that would start in the right-hand padding is dropped. The gradient
    goes to the first maximum of a window, as in PyTorch.

    Raises:
      ValueError: for a map that is smaller than the window.
    """
    sizes = []
    for size in x.shape[1:3]:
        span = size + 2 * window.padding - window.kernel
        if span < 0:
            raise ValueError(
                f"max-pool of kernel {window.kernel} on a map of {x.shape[1]}x{x.shape[2]}: the "
                "image is too small for this network"
            )
        if window.ceil_mode:
            count = math.ceil(span / window.stride) + 1
            if (count - 1) * window.stride >= size + window.padding:
                count -= 1
        else:
            count = span // window.stride + 1
        sizes.append(count)
    return _max_pool(x, window, tuple(sizes), relu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, window: MaxPool, sizes: tuple[int, int], relu: bool) -> Array:
    return _largest(x, window, sizes, relu)[0]


def _largest(x: Array, window: MaxPool, sizes: tuple[int, int], relu: bool) -> tuple[Array, tuple]:
    """The maxima, and the place of each in its window, as a byte; `reduce_window` would keep a
    float32 and two int32 maps for its gradient. A ReLU's zero is at a place outside the window."""
    largest = _tap(x, window, sizes, 0)
    place = jnp.zeros(largest.shape, jnp.uint8)
    if relu:
        place = jnp.where(largest > 0, place, jnp.uint8(window.kernel**2))
        largest = jax.nn.relu(largest)
    for number in range(1, window.kernel**2):
        part = _tap(x, window, sizes, number)
        larger = (part > largest) | jnp.isnan(part)
        largest = jnp.where(larger, part, largest)
        place = jnp.where(larger, jnp.uint8(number), place)
    return largest, (place, jnp.zeros((0, *x.shape[1:3]), x.dtype))


def _tap(x: Array, window: MaxPool, sizes: tuple[int, int], number: int) -> Array:
    """The value at one place of every window."""
    place = divmod(number, window.kernel)
    low = -jnp.inf
    pads, starts = [(0, 0, 0)], [0]
    for offset, size, count in zip(place, x.shape[1:3], sizes, strict=True):
        last = offset + (count - 1) * window.stride - window.padding
        pads.append((window.padding, max(0, last + 1 - size), 0))
        starts.append(offset)
    x = jax.lax.pad(x, jnp.asarray(low, x.dtype), [*pads, (0, 0, 0)])
    stops = [o + (n - 1) * window.stride + 1 for o, n in zip(place, sizes, strict=True)]
    return jax.lax.slice(
        x,
        (0, *starts[1:], 0),
        (x.shape[0], *stops, x.shape[3]),
        (1, window.stride, window.stride, 1),
    )


def _spread(
    window: MaxPool, sizes: tuple[int, int], relu: bool, kept: tuple, gradient: Array
) -> tuple[Array]:
    """Each gradient at the place its maximum came from."""
    place, like = kept
    out = 0.0
    for number in range(window.kernel**2):
        part = jnp.where(place == number, gradient, 0)
        pads = [(0, 0, 0)]
        for offset, size, count in zip(
            divmod(number, window.kernel), like.shape[1:3], sizes, strict=True
        ):
            start = offset - window.padding
            pads.append((start, size - start - (count - 1) * window.stride - 1, window.stride - 1))
        out = out + jax.lax.pad(part, jnp.zeros((), part.dtype), [*pads, (0, 0, 0)])
    return (out,)


_max_pool.defvjp(_largest, _spread)


def global_average(x: Float[Array, "B h w C"]) -> Float[Array, "B C"]:
    """Mean over the map, float32."""
    return jnp.mean(x.astype(jnp.float32), (1, 2))


def global_max(x: Float[Array, "B h w C"]) -> Float[Array, "B C"]:
    """Maximum over the map, float32."""
    return jnp.max(x.astype(jnp.float32), (1, 2))


def average_plus_max(x: Float[Array, "B h w C"]) -> Float[Array, "B C"]:
    """Mean over the map plus maximum over the map."""
    return global_average(x) + global_max(x)


def adaptive_average(x: Float[Array, "B h w C"], size: tuple[int, int]) -> Float[Array, "B a b C"]:
    """Means over a grid of `size` cells, float32, with PyTorch's bounds; it may enlarge the map.

    Cell i of n along an axis of L averages the rows floor(i L / n) .. ceil((i + 1) L / n) - 1, so
    cells overlap where n does not divide L.
    """
    rows, columns = (_cells(length, n) for length, n in zip(x.shape[1:3], size, strict=True))
    return jnp.einsum(
        "ah,nhwc,bw->nabc",
        rows,
        x.astype(jnp.float32),
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )


def _cells(length: int, count: int) -> Float[np.ndarray, "n L"]:
    weights = np.zeros((count, length), np.float32)
    for i, row in enumerate(weights):
        span = slice(i * length // count, -(-(i + 1) * length // count))
        row[span] = 1.0 / (span.stop - span.start)
    return weights


def clip_average(x: Float[Array, "B h w C"]) -> Float[Array, "B C"]:
    """Mean over the map, clipped to [0, 1]."""
    return jnp.clip(global_average(x), 0.0, 1.0)


def generalized_mean(
    x: Float[Array, "B h w C"], p: int | float | Float[Array, "1"] = 3.0, eps: int | float = 1e-6
) -> Float[Array, "B C"]:
    """GeM (Radenović et al., TPAMI 2018): mean(max(x, eps)^p)^(1/p) over the map, float32."""
    p = jnp.asarray(p, jnp.float32).reshape(())
    x = jnp.maximum(x.astype(jnp.float32), eps)
    return jnp.power(jnp.mean(jnp.power(x, p), (1, 2)), 1.0 / p)


def identity(x: Float[Array, "B C"] | Float[Array, "B 1 1 C"]) -> Float[Array, "B C"]:
    """No pooling: a feature vector (a class token) as it is, float32."""
    return x.astype(jnp.float32).reshape(x.shape[0], x.shape[-1])


class GeM(nnx.Module):
    """Generalised mean with a learnable exponent `p`, shape (1,), initially 3.

    `p` is a parameter like any other and receives weight decay as in fast-reid.
    """

    def __init__(
        self, p: int | float = 3.0, *, eps: int | float = 1e-6, rngs: nnx.Rngs | None = None
    ):
        self.p = nnx.Param(jnp.full((1,), p, jnp.float32))
        self.eps = eps

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B C"]:
        return generalized_mean(x, self.p[...], self.eps)


class Pool(nnx.Module):
    """One of the parameterless global poolings (or GeM with a fixed exponent), by name."""

    def __init__(self, kind: str, *, p: int | float = 3.0, eps: int | float = 1e-6):
        self.kind = kind
        self.p = p
        self.eps = eps

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "B C"]:
        if self.kind == "GeneralizedMeanPooling":
            return generalized_mean(x, self.p, self.eps)
        return POOLS[self.kind](x)


# fast-reid's names. FastGlobalAvgPool is the average computed another way; Flatten on a 1x1 map
# is Identity.
POOLS = {
    "GlobalAvgPool": global_average,
    "FastGlobalAvgPool": global_average,
    "GlobalMaxPool": global_max,
    "AdaptiveAvgMaxPool": average_plus_max,
    "ClipGlobalAvgPool": clip_average,
    "Identity": identity,
    "Flatten": identity,
    "GeneralizedMeanPooling": generalized_mean,
    "GeneralizedMeanPoolingP": GeM,
}


def build_pool(kind: str, *, p: int | float = 3.0, eps: int | float = 1e-6) -> Pool | GeM:
    """The pooling layer called `kind` (a key of `POOLS`).

    Raises:
      ValueError: for a name that is not one of them.
    """
    if kind not in POOLS:
        raise ValueError(f"pooling {kind!r} is unknown; expected one of {', '.join(POOLS)}")
    if kind == "GeneralizedMeanPoolingP":
        return GeM(p, eps=eps)
    return Pool(kind, p=p, eps=eps)


def guided(
    pool: Pool | GeM, features: Float[Array, "B h w C"], attention: Float[Array, "B h w M"]
) -> Float[Array, "B M C"]:
    """The pooled features under each of M attention maps: pool(features * attention_k), float32.

    The M masked maps are never formed: an average, or a generalised mean of non-negative values, of
    a product of two factors is ONE matrix product over the places,
    (mean(max(F, eps)^p A^p))^(1/p). Below eps the exact form clamps each product and this one
    each factor; the difference is of the order of eps.

    Raises:
      ValueError: for a pooling that does not factor so (any with a maximum).
    """
    features, attention = features.astype(jnp.float32), attention.astype(jnp.float32)

    def mean(x: Float[Array, "B h w C"], a: Float[Array, "B h w M"]) -> Float[Array, "B M C"]:
        places = x.shape[1] * x.shape[2]
        return jnp.einsum("bhwc,bhwm->bmc", x, a, precision=jax.lax.Precision.HIGHEST) / places

    if isinstance(pool, Pool) and pool.kind in ("GlobalAvgPool", "FastGlobalAvgPool"):
        return mean(features, attention)
    if isinstance(pool, Pool) and pool.kind != "GeneralizedMeanPooling":
        raise ValueError(
            f"pooling {pool.kind!r} under attention maps: expected GlobalAvgPool, "
            "GeneralizedMeanPooling or GeneralizedMeanPoolingP"
        )
    p = jnp.asarray(pool.p[...] if isinstance(pool, GeM) else pool.p, jnp.float32).reshape(())
    eps = pool.eps
    x = jnp.power(jnp.maximum(features, eps), p)
    a = jnp.power(jnp.maximum(attention, eps), p)
    # eps^p leaves float32's range from p of about 6: the least mean is a normal number.
    floor = jnp.maximum(jnp.power(eps, p), jnp.finfo(jnp.float32).tiny)
    return jnp.power(jnp.maximum(mean(x, a), floor), 1.0 / p)
