"""Activations whose backward pass is computed again from their input."""

import jax
from jaxtyping import Array, Float


@jax.checkpoint
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The exact (erf) GELU. Its derivative is a function of x alone: `checkpoint` keeps x and none
    of the intermediate arrays, which are as large as x and would go to memory."""
    return jax.nn.gelu(x, approximate=False)


@jax.checkpoint
def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x sigmoid(1.702 x), CLIP's; keeps x alone, as `gelu` does."""
    return x * jax.nn.sigmoid(1.702 * x)
