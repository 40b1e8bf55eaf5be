"""Attention of queries to other tokens, with a projection each for queries, keys and values."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.attention import attend
from g2ajax.nn.init import token_init


class CrossAttention(nnx.Module):
    """Attention under the names of Segment Anything's decoder: `q_proj`, `k_proj`, `v_proj`,
    `out_proj`. Scale head_dim^-0.5, softmax in float32, no dropout.

    `inner`: width of the projections, over which the heads are shared out; None: `dim`.

    Raises:
      ValueError: when the inner width is not divisible by `num_heads`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        inner: int | None = None,
        use_bias: bool = True,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        inner = dim if inner is None else inner
        if inner % num_heads:
            raise ValueError(f"attention width {inner} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        options = {"use_bias": use_bias, "kernel_init": token_init, "dtype": dtype, "rngs": rngs}
        self.q_proj = nnx.Linear(dim, inner, **options)
        self.k_proj = nnx.Linear(dim, inner, **options)
        self.v_proj = nnx.Linear(dim, inner, **options)
        self.out_proj = nnx.Linear(inner, dim, **options)

    def __call__(
        self, query: Float[Array, "B T D"], key: Float[Array, "B S D"], value: Float[Array, "B S D"]
    ) -> Float[Array, "B T D"]:
        value = self.v_proj(value)
        if key.shape[1] == 1:  # the softmax of a single key is 1: neither q_proj nor k_proj matters
            return jnp.broadcast_to(self.out_proj(value), query.shape)
        query, key = self.q_proj(query), self.k_proj(key)
        query, key, value = (
            x.reshape(*x.shape[:2], self.num_heads, -1) for x in (query, key, value)
        )
        y = attend(query, key, value)
        return self.out_proj(y.reshape(*y.shape[:2], -1))
