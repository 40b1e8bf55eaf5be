"""Pooling over the frames of a clip; frames that only fill it up (mask False) change nothing."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.init import normal_linear

FramePooling = Literal["mean", "max", "attention", "granular"]
"""Names of the poolings."""
GRANULARITIES = (4, 2, 1)
"""Windows of a clip at each granularity of `GranularPool`, in SAS-VPReID's order."""


def mean_frames(x: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B C"]:
    """Mean over the real frames, float32; 0 for a clip without any."""
    weight = mask.astype(jnp.float32)[..., None]
    total = jnp.sum(jnp.where(weight > 0, x.astype(jnp.float32), 0.0), 1)
    return total / jnp.maximum(jnp.sum(weight, 1), 1.0)


def max_frames(x: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B C"]:
    """Maximum over the real frames, float32; 0 for a clip without any."""
    largest = jnp.max(jnp.where(mask[..., None], x.astype(jnp.float32), -jnp.inf), 1)
    return jnp.where(jnp.any(mask, 1)[:, None], largest, 0.0)


class FrameAttention(nnx.Module):
    """Mean over the real frames with weights softmax_t(w · tanh(V x_t)), float32.

    A form of the temporal attention of Gao and Nevatia (arXiv 1805.02104) on pooled features, without
    their convolution over time: the order of the frames does not matter. w starts at 0, where the
    weights are equal.
    """

    def __init__(self, dim: int, hidden: int, *, rngs: nnx.Rngs):
        self.hidden = normal_linear(dim, hidden, dim**-0.5, rngs=rngs)
        self.score = normal_linear(hidden, 1, 0.0, use_bias=False, rngs=rngs)

    def weights(self, x: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
        """The weight of each frame; 0 for those that only fill up."""
        score = self.score(jnp.tanh(self.hidden(x.astype(jnp.float32))))[..., 0]
        largest = jnp.max(jnp.where(mask, score, -jnp.inf), 1, keepdims=True)
        largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
        weight = jnp.where(mask, jnp.exp(jnp.where(mask, score - largest, 0.0)), 0.0)
        return weight / jnp.maximum(jnp.sum(weight, 1, keepdims=True), 1e-12)

    def __call__(self, x: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B C"]:
        weight = self.weights(x, mask)[..., None]
        return jnp.sum(weight * jnp.where(mask[..., None], x.astype(jnp.float32), 0.0), 1)


class GranularPool(nnx.Module):
    """Pooling at several granularities: in windows of a quarter, of a half and of the whole clip.

    At each granularity the frames of every window are pooled by an attention of its own, then the
    windows by their mean; the granularities are summed with weights softmax(alpha), equal at the start,
    where the result is the mean over the frames if the windows are equal. A window without a real
    frame does not count; the last window takes the rest.

    Windows and weights are those of SAS-VPReID (WACV workshops 2026), following its code. There a
    bidirectional Mamba runs over all tokens of a window, here `FrameAttention` over the frames'
    features; there the sum is normalised and becomes a feature beside the mean, here it stands in
    the mean's place.
    """

    def __init__(self, dim: int, hidden: int, *, rngs: nnx.Rngs):
        self.attention = nnx.List([FrameAttention(dim, hidden, rngs=rngs) for _ in GRANULARITIES])
        self.alpha = nnx.Param(jnp.zeros(len(GRANULARITIES)))

    def __call__(self, x: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B C"]:
        pooled = []
        for count, attention in zip(GRANULARITIES, self.attention, strict=True):
            windows = _windows(x.shape[1], count)
            features = jnp.stack([attention(x[:, w], mask[:, w]) for w in windows], 1)
            real = jnp.stack([jnp.any(mask[:, w], 1) for w in windows], 1)
            pooled.append(mean_frames(features, real))
        weights = jax.nn.softmax(self.alpha[...])
        return sum(weight * part for weight, part in zip(weights, pooled, strict=True))


def _windows(length: int, count: int) -> list[slice]:
    """Equal windows of a clip, at most one a frame; the last one takes the rest."""
    count = min(count, length)
    begin = [i * (length // count) for i in range(count)]
    return [slice(a, b) for a, b in zip(begin, [*begin[1:], length], strict=True)]


POOLS = {"mean": mean_frames, "max": max_frames}
"""The poolings without parameters."""


def learned_pool(
    name: FramePooling, dim: int, hidden: int, *, rngs: nnx.Rngs
) -> FrameAttention | GranularPool | None:
    """The module of a pooling; None for those without parameters (`POOLS`)."""
    kinds = {"attention": FrameAttention, "granular": GranularPool}
    return kinds[name](dim, hidden, rngs=rngs) if name in kinds else None
