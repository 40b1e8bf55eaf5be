"""The blocks of CLIP's two towers, and the shape of both (Radford et al., ICML 2021)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.backbones.stack import pre_norm, run_blocks
from g2ajax.backbones.tokens import Hook
from g2ajax.nn.activations import gelu, quick_gelu
from g2ajax.nn.attention import MultiHeadAttention
from g2ajax.nn.init import torch_uniform

HEAD_DIM = 64


@dataclasses.dataclass(frozen=True)
class Variant:
    """The shape of both towers. Heads are `HEAD_DIM` wide; the MLPs 4 times their tower."""

    embed_dim: int = 512
    """Width of the space shared by images and texts."""
    patch_size: int = 16
    vision_width: int = 768
    vision_layers: int = 12
    text_width: int = 512
    text_layers: int = 12
    context_length: int = 77
    vocabulary_size: int = 49408
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """OpenAI's weights and IRRA's: x sigmoid(1.702 x). open_clip's own: mostly the exact GELU; the
    file does not say which."""


@dataclasses.dataclass(frozen=True)
class Deviations:
    """Standard deviations of a transformer's first weights; PyTorch's defaults without them."""

    attention: float
    residual: float
    """Deviation of the two projections that end a branch."""
    hidden: float

    @classmethod
    def of(cls, width: int, layers: int) -> "Deviations":
        """The deviations of CLIP's text tower and of IRRA's cross-modal transformer."""
        return cls(width**-0.5, width**-0.5 * (2 * layers) ** -0.5, (2 * width) ** -0.5)


def layer_norm(dim: int, *, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with float32 statistics of centred values: CLIP has channels of a large mean."""
    return nnx.LayerNorm(dim, epsilon=1e-5, use_fast_variance=False, dtype=dtype, rngs=rngs)


def linear(
    dim: int, out: int, std: float | None = None, *, dtype: Any, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer as PyTorch draws it, or with weights N(0, std²)."""
    uniform = torch_uniform(dim)
    kernel = nnx.initializers.normal(std) if std else uniform
    return nnx.Linear(dim, out, kernel_init=kernel, bias_init=uniform, dtype=dtype, rngs=rngs)


class Mlp(nnx.Module):
    """c_proj(activation(c_fc(x))) with a hidden layer of 4 times the width."""

    def __init__(
        self,
        dim: int,
        activation: str,
        std: Deviations | None,
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden, residual = (std.hidden, std.residual) if std else (None, None)
        self.activation = quick_gelu if activation == "quick_gelu" else gelu
        self.c_fc = linear(dim, 4 * dim, hidden, dtype=dtype, rngs=rngs)
        self.c_proj = linear(4 * dim, dim, residual, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(nnx.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)).

    `causal` hides later tokens; tokens from `length` on are padding, which no token attends to.
    `first`: only that many first tokens are computed; None: all. `hooks`: those inside the block.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        activation: str,
        std: Deviations | None,
        *,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        normal = nnx.initializers.normal
        self.ln_1 = layer_norm(dim, dtype=dtype, rngs=rngs)
        self.attn = MultiHeadAttention(
            dim,
            heads,
            in_proj_init=normal(std.attention) if std else None,
            out_proj_init=normal(std.residual) if std else None,
            kernel=attention,
            dtype=dtype,
            rngs=rngs,
        )
        self.ln_2 = layer_norm(dim, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(dim, activation, std, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        causal: bool = False,
        length: int | None = None,
        first: int | None = None,
        hooks: Sequence[Hook] = (),
    ) -> Float[Array, "B T2 D"]:
        attention = functools.partial(self.attn, causal=causal, length=length)
        return pre_norm(x, self.ln_1, attention, self.ln_2, self.mlp, first=first, hooks=hooks)


class Transformer(nnx.Module):
    """Blocks one after another, [B,T,D] to [B,T,D]; `remat` recomputes them in the backward pass."""

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        heads: int | None = None,
        causal: bool = False,
        std: Deviations | None = None,
        activation: str = "quick_gelu",
        remat: bool = False,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.causal = causal
        self.remat = remat
        heads = heads or max(dim // HEAD_DIM, 1)
        options = {"attention": attention, "dtype": dtype, "rngs": rngs}
        self.resblocks = nnx.List(
            [Block(dim, heads, activation, std, **options) for _ in range(layers)]
        )

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        start: int = 0,
        stop: int | None = None,
        only_first: int | None = None,
        hooks: Sequence[Hook] = (),
    ) -> Float[Array, "B T2 D"]:
        """Tokens after the blocks `start` to `stop` (as a slice; negative counts from the end) and
        their hooks, all or the `only_first` of them."""
        return run_blocks(
            self.resblocks,
            x,
            start=start,
            stop=stop,
            only_first=only_first,
            hooks=hooks,
            remat=self.remat,
            causal=self.causal,
        )
