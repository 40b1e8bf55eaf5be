"""ArcFace's margin with the easy fallback; the field's other margins are `nn.heads.margin_logits`."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def arcface_logits(
    cosine: Float[Array, "B C"],
    label: Int[Array, " B"],
    scale: int | float = 30.0,
    margin: int | float = 0.5,
) -> Float[Array, "B C"]:
    """Scaled logits of ArcFace (Deng et al., CVPR 2019) from cosines c, as TransReID computes them.

    True class: s cos(θ + m) while θ + m stays below π, else s (c − m sin m), which keeps falling
    where cos(θ + m) would rise again; other classes: s c. fast-reid's ArcSoftmax has no such
    fallback. A row labelled −1 has no true class. c is kept 1e-7 inside ±1, where the reference's
    gradient is not a number.
    """
    true = jax.nn.one_hot(label, cosine.shape[-1], dtype=jnp.bool_)
    inside = jnp.clip(cosine, -1.0 + 1e-7, 1.0 - 1e-7)
    sine = jnp.sqrt(1.0 - jnp.square(inside))
    moved = inside * math.cos(margin) - sine * math.sin(margin)
    fallback = cosine - margin * math.sin(margin)
    of_true = jnp.where(cosine > math.cos(math.pi - margin), moved, fallback)
    return scale * jnp.where(true, of_true, cosine)
