"""Stochastic depth."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def drop_path(
    x: Float[Array, "B *rest"], rate: int | float | Float[Array, ""], key: jax.Array
) -> Float[Array, "B *rest"]:
    """Zeroes whole samples of a residual branch with probability `rate`, divides others by 1 - rate.

    Stochastic depth (Huang et al., ECCV 2016), per sample.
    """
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros_like(x))


class DropPath(nnx.Module):
    """Stochastic depth as a layer. `nnx.view(model, deterministic=True)` switches it off.

    Random numbers come from the `dropout` stream of the `rngs` passed to the call.

    Raises:
      ValueError: for a rate outside [0, 1), and in training without `rngs`.
    """

    def __init__(self, rate: int | float, *, deterministic: bool = False):
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate {rate}: expected 0 <= rate < 1")
        self.rate = rate
        self.deterministic = deterministic

    def set_view(self, deterministic: bool | None = None) -> None:
        """Hook of `nnx.view`.

        Args:
          deterministic: drop nothing (evaluation).
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(
        self, x: Float[Array, "B *rest"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "B *rest"]:
        if self.deterministic or self.rate == 0.0:
            return x
        return drop_path(x, self.rate, self.check_rngs(rngs).dropout())

    def check_rngs(self, rngs: nnx.Rngs | None) -> nnx.Rngs:
        """Returns `rngs`. Raises ValueError when there are none."""
        if rngs is None:
            raise ValueError(
                f"drop path of rate {self.rate} in training needs random numbers: pass "
                "rngs=nnx.Rngs(dropout=...) with the call, or nnx.view(model, deterministic=True)"
            )
        return rngs
