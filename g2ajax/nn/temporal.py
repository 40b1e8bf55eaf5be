"""Pooling over the frames of a clip; frames that only fill it up (mask False) change nothing."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from g2ajax.nn.init import normal_linear


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
