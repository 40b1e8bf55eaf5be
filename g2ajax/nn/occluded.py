"""COAT's transformer head on regions, and the exchange of tokens that simulates occlusion.

Yu et al., "Cascade Transformers for End-to-End Person Search", CVPR 2022.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from g2ajax.nn.attention import attend
from g2ajax.nn.init import torch_uniform
from g2ajax.nn.pooling import global_max


class Exchange(NamedTuple):
    """An exchange: every region takes the cells of one stripe from another region."""

    source: Int[Array, " N"]
    """Row from which each row takes its stripe."""
    stripe: Bool[Array, "h w"]

    def __call__(self, x: Float[Array, "N h w C"]) -> Float[Array, "N h w C"]:
        return jnp.where(self.stripe[None, :, :, None], x[self.source], x)


class Exchanges(NamedTuple):
    """Exchanges of the tokens of a head (the same at every scale) and of its bypass."""

    tokens: Exchange
    bypass: Exchange


def draw_exchanges(key: Key[Array, ""], mask: Bool[Array, " N"], size: int = 14) -> Exchanges:
    """Draws two exchanges between the rows with `mask` True, each with its own stripe."""
    first, second = jax.random.split(key)
    return Exchanges(draw_exchange(first, mask, size), draw_exchange(second, mask, size))


def draw_exchange(key: Key[Array, ""], mask: Bool[Array, " N"], size: int = 14) -> Exchange:
    """Draws a column or row of the map (with equal probability) and a permutation of the valid rows.

    The last column and row are never drawn, as in the published code. Masked rows are unchanged.
    """
    axis_key, index_key, rows_key = jax.random.split(key, 3)
    cells = jnp.arange(size) == jax.random.randint(index_key, (), 0, size - 1)
    shape = (size, size)
    stripe = jnp.where(
        jax.random.bernoulli(axis_key),
        jnp.broadcast_to(cells[None, :], shape),
        jnp.broadcast_to(cells[:, None], shape),
    )
    priority = jnp.where(mask, jax.random.uniform(rows_key, mask.shape), 2.0)
    # Both lists end with the masked rows, in order.
    valid_first, shuffled = jnp.argsort(~mask), jnp.argsort(priority)
    source = jnp.zeros(mask.shape, shuffled.dtype).at[valid_first].set(shuffled)
    return Exchange(source, stripe)


def _linear(features_in: int, features_out: int, *, dtype: Any, rngs: nnx.Rngs) -> nnx.Linear:
    init = torch_uniform(features_in)
    return nnx.Linear(
        features_in, features_out, kernel_init=init, bias_init=init, dtype=dtype, rngs=rngs
    )


def _conv(
    features_in: int, features_out: int, kernel: int, *, bias: bool, dtype: Any, rngs: nnx.Rngs
) -> nnx.Conv:
    init = torch_uniform(features_in * kernel**2)
    return nnx.Conv(
        features_in,
        features_out,
        (kernel, kernel),
        padding=kernel // 2,
        use_bias=bias,
        kernel_init=init,
        bias_init=init,
        dtype=dtype,
        rngs=rngs,
    )


class TokenAttention(nnx.Module):
    """Multi-head attention with scale head_dim^-0.5 and a float32 softmax.

    Names: `query_embedding`, `key_embedding`, `value_embedding`, `output_linear`.
    """

    def __init__(self, dim: int, num_heads: int, *, dtype: Any, rngs: nnx.Rngs):
        if dim % num_heads:
            raise ValueError(f"tokens of width {dim} cannot be split into {num_heads} heads")
        for name in ("query_embedding", "value_embedding", "key_embedding", "output_linear"):
            setattr(self, name, _linear(dim, dim, dtype=dtype, rngs=rngs))
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.dtype = dtype
        self.kernel = "auto"

    def __call__(self, x: Float[Array, "N T D"]) -> Float[Array, "N T D"]:
        query, key, value = (
            layer(x).reshape(*x.shape[:2], self.num_heads, -1)
            for layer in (self.query_embedding, self.key_embedding, self.value_embedding)
        )
        return self.output_linear(attend(query, key, value, kernel=self.kernel).reshape(x.shape))


class FeedForward(nnx.Module):
    """D → 4 D → D with a ReLU; names `conv.0` and `conv.3`."""

    def __init__(self, dim: int, *, dtype: Any, rngs: nnx.Rngs):
        # Positions 1 and 2 are the activation and a dropout of 0.
        self.conv = nnx.List(
            [
                _linear(dim, 4 * dim, dtype=dtype, rngs=rngs),
                jax.nn.relu,
                None,
                _linear(4 * dim, dim, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(self, x: Float[Array, "N T D"]) -> Float[Array, "N T D"]:
        return self.conv[3](jax.nn.relu(self.conv[0](x)))


class TransformerBlock(nnx.Module):
    """Transformer block: t = LN(z); t ← t + attention(t); t + feed-forward(LN(t)).

    Unlike in a ViT, the residual starts from the normalised tokens.
    """

    def __init__(self, dim: int, num_heads: int, *, dtype: Any, rngs: nnx.Rngs):
        norm = {"epsilon": 1e-5, "dtype": dtype, "use_fast_variance": False, "rngs": rngs}
        self.attention = TokenAttention(dim, num_heads, dtype=dtype, rngs=rngs)
        self.ffn = FeedForward(dim, dtype=dtype, rngs=rngs)
        self.norm1 = nnx.LayerNorm(dim, **norm)
        self.norm2 = nnx.LayerNorm(dim, **norm)

    def __call__(self, z: Float[Array, "N T D"]) -> Float[Array, "N T D"]:
        tokens = self.norm1(z)
        tokens = tokens + self.attention(tokens)
        return tokens + self.ffn(self.norm2(tokens))


class PatchWriter(nnx.Module):
    """Maps every token to a k x k patch (linear layer `embedding`); overlapping patches are summed.

    Computed as one convolution with the mirrored kernel, so that the patches are never stored.
    """

    def __init__(self, dim: int, channels: int, kernel: int, *, dtype: Any, rngs: nnx.Rngs):
        self.embedding = _linear(dim, channels * kernel**2, dtype=dtype, rngs=rngs)
        self.kernel = kernel
        self.dtype = dtype

    def __call__(self, tokens: Float[Array, "N h w D"]) -> Float[Array, "N h w C"]:
        if self.kernel == 1:
            return self.embedding(tokens)
        dim, size = tokens.shape[-1], self.kernel

        def mirrored(values: Float[Array, "D out"]) -> Float[Array, "k k D C"]:
            # Output index of the layer: channel · k² + row · k + column.
            patches = values.reshape(values.shape[0], -1, size, size).transpose(2, 3, 0, 1)
            return patches[::-1, ::-1].astype(self.dtype)

        def convolve(x: Float[Array, "_N h w _D"], kernel: Float[Array, "k k _D C"]) -> Array:
            return jax.lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(1, 1),
                padding=[(size // 2, size // 2)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )

        tokens = tokens.astype(self.dtype)
        ones = jnp.ones((1, *tokens.shape[1:3], 1), self.dtype)
        weights = self.embedding.kernel[...].reshape(dim, -1)
        return convolve(tokens, mirrored(weights)) + convolve(
            ones, mirrored(self.embedding.bias[...][None])
        )


class Scale(nnx.Module):
    """The transformer at one patch size. Names: `patch2vec`, `transformer.0`, `vec2patch`."""

    def __init__(self, channels: int, kernel: int, num_heads: int, *, dtype: Any, rngs: nnx.Rngs):
        dim = channels // 2
        options = {"dtype": dtype, "rngs": rngs}
        self.patch2vec = _conv(channels, dim, kernel, bias=True, **options)
        self.transformer = nnx.List([TransformerBlock(dim, num_heads, **options)])
        self.vec2patch = PatchWriter(dim, channels, kernel, **options)

    def __call__(
        self, x: Float[Array, "N h w C"], exchange: Exchange | None
    ) -> Float[Array, "N h w C"]:
        tokens = self.patch2vec(x)
        if exchange is not None:
            tokens = exchange(tokens)
        count, height, width, dim = tokens.shape
        tokens = self.transformer[0](tokens.reshape(count, height * width, dim))
        return x + self.vec2patch(tokens.reshape(count, height, width, dim))


class TransformerHead(nnx.Module):
    """Maps regions [N,14,14,C] to `before_trans` [N,C] and `after_trans` [N,2C], float32.

    A 1x1 convolution to C / 2 channels; a share of the channels through a transformer at each scale
    (kernels 1 and 3); both shortcuts; a 1x1 convolution; the maximum. `before_trans` bypasses this:
    it is the maximum of the input, with `bypass` after a 1x1 convolution of its own (`conv0`). Names
    are the published ones; the published convolution after the scales is unused and left out.
    """

    def __init__(
        self,
        channels: int,
        *,
        bypass: bool,
        kernels: Sequence[int] = (1, 3),
        num_heads: int = 8,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        inner = channels // 2
        options = {"dtype": dtype, "rngs": rngs}
        scales = {
            f"scale{number}": nnx.List([Scale(inner // len(kernels), k, num_heads, **options)])
            for number, k in enumerate(kernels, start=1)
        }
        self.bypass = bypass
        self.dtype = dtype
        self.transformer_encoder = TransformerScales(scales)
        if bypass:
            self.conv0 = _conv(channels, channels, 1, bias=False, **options)
        self.conv1 = _conv(channels, inner, 1, bias=False, **options)
        self.conv2 = _conv(inner, 2 * channels, 1, bias=False, **options)

    def __call__(
        self, x: Float[Array, "N h w C"], exchanges: Exchanges | None = None
    ) -> dict[str, Float[Array, "N _"]]:
        """Returns both features; `exchanges` only in training, for heads with a bypass."""
        x = x.astype(self.dtype)
        skip = self.conv0(x) if self.bypass else x
        if exchanges is not None:
            skip = exchanges.bypass(skip)
        inner = self.conv1(x)
        inner = inner + self.transformer_encoder(inner, exchanges and exchanges.tokens)
        return {"before_trans": global_max(skip), "after_trans": global_max(self.conv2(inner))}


class TransformerScales(nnx.Module):
    """All scales, each on its share of the channels. Names: `blocks.<scale>.0`."""

    def __init__(self, scales: dict[str, nnx.List]):
        self.blocks = nnx.Dict(scales)
        self.names = tuple(scales)

    def __call__(
        self, x: Float[Array, "N h w C"], exchange: Exchange | None
    ) -> Float[Array, "N h w C"]:
        shares = jnp.split(x, len(self.names), axis=-1)
        parts = [
            self.blocks[name][0](share, exchange)
            for name, share in zip(self.names, shares, strict=True)
        ]
        return jnp.concatenate(parts, axis=-1)
