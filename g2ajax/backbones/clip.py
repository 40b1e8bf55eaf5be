"""CLIP: an image tower and a text tower with one space of features (Radford et al., ICML 2021).

Both towers give ALL their tokens, normalised and projected, as IRRA needs them (Jiang and Ye, CVPR
2023); OpenAI's code projects only the image's class token and the text's end token, the same
values. Names are OpenAI's: `visual.conv1`, `visual.transformer.resblocks.0.attn.in_proj_weight`,
`transformer.resblocks.0...`, `token_embedding`, `text_projection`, ...
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones.vit import class_token
from g2ajax.nn.activations import gelu, quick_gelu
from g2ajax.nn.attention import MultiHeadAttention, pad_tokens
from g2ajax.nn.init import torch_uniform
from g2ajax.nn.patches import grid_size, project_patches

MEAN = tuple(255.0 * x for x in (0.48145466, 0.4578275, 0.40821073))
STD = tuple(255.0 * x for x in (0.26862954, 0.26130258, 0.27577711))
"""Deviations of the pixels 0..255 that the image towers were trained on."""
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


VARIANTS = {
    "clip_vit_b16": Variant(),
    "clip_vit_b32": Variant(patch_size=32),
    "clip_vit_l14": Variant(
        embed_dim=768, patch_size=14, vision_width=1024, vision_layers=24, text_width=768
    ),
    "clip_mini": Variant(
        embed_dim=128, vision_width=192, vision_layers=4, text_width=128, text_layers=3
    ),
    "clip_test": Variant(
        embed_dim=32, vision_width=64, vision_layers=2, text_width=64, text_layers=2
    ),
}


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
        self, x: Float[Array, "B T D"], *, causal: bool = False, length: int | None = None
    ) -> Float[Array, "B T D"]:
        # Plain rows [B*T, D] for norms and MLP, as in a ViT's block.
        rows = x.reshape(-1, x.shape[-1])
        y = self.attn(self.ln_1(rows).reshape(x.shape), causal=causal, length=length)
        rows = rows + y.reshape(rows.shape)
        return (rows + self.mlp(self.ln_2(rows))).reshape(x.shape)


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

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        length = x.shape[1]

        def call(block: Block, x: Array) -> Array:
            return block(x, causal=self.causal, length=length)

        x = pad_tokens(x, self.resblocks[-1].attn)
        for block in self.resblocks:
            x = (nnx.remat(call) if self.remat else call)(block, x)
        return x[:, :length]


class ImageTower(nnx.Module):
    """Normalised images [B,H,W,3] to projected tokens [B,1+h*w,E]; the class token is first.

    `image_size` (H, W) is fixed: another size raises. `stride` below the patch size makes patches
    overlap.

    Raises:
      ValueError: an image smaller than a patch, or of another size.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        image_size: tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        remat: bool = False,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        width, patch = variant.vision_width, variant.patch_size
        stride = patch if stride is None else stride
        strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
        self.image_size = tuple(image_size)
        self.grid = grid_size(self.image_size, patch, strides)
        self.feature_dim = variant.embed_dim
        self.dtype = dtype
        self.conv1 = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=strides,
            padding=0,
            use_bias=False,
            kernel_init=torch_uniform(3 * patch * patch),
            dtype=dtype,
            rngs=rngs,
        )
        normal = nnx.initializers.normal(width**-0.5)
        places = 1 + self.grid[0] * self.grid[1]
        self.class_embedding = nnx.Param(normal(rngs.params(), (width,), jnp.float32))
        self.positional_embedding = nnx.Param(normal(rngs.params(), (places, width), jnp.float32))
        self.ln_pre = layer_norm(width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            width,
            variant.vision_layers,
            activation=variant.activation,
            remat=remat,
            attention=attention,
            dtype=dtype,
            rngs=rngs,
        )
        self.ln_post = layer_norm(width, dtype=dtype, rngs=rngs)
        self.proj = nnx.Param(normal(rngs.params(), (width, variant.embed_dim), jnp.float32))

    def embed_patches(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """The patches alone, row by row, before class token and positions."""
        if images.shape[1:3] != self.image_size:
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} pixels; this tower was built for "
                f"{self.image_size[0]}x{self.image_size[1]} (its position table fixes the size)"
            )
        return project_patches(self.conv1, images)

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B T E"]:
        patches = self.embed_patches(images)
        token = jnp.tile(self.class_embedding[...].astype(self.dtype), (images.shape[0], 1, 1))
        x = jnp.concatenate([token, patches], axis=1)
        x = self.ln_pre(x + self.positional_embedding[...].astype(self.dtype)[None])
        return self.ln_post(self.transformer(x)) @ self.proj[...].astype(self.dtype)


class CLIP(nnx.Module):
    """Both towers. The loss has the temperature: there is no `logit_scale` here.

    `image_size`, `stride`: of the image tower; `remat`, `attention`, `dtype` of both. Parameters
    are float32, LayerNorm statistics and softmax too.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        image_size: tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        remat: bool = False,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        width, layers = variant.text_width, variant.text_layers
        options = {"remat": remat, "attention": attention, "dtype": dtype, "rngs": rngs}
        self.variant = variant
        self.dtype = dtype
        self.feature_dim = variant.embed_dim
        self.visual = ImageTower(variant, image_size=image_size, stride=stride, **options)
        self.transformer = Transformer(
            width,
            layers,
            causal=True,
            std=Deviations.of(width, layers),
            activation=variant.activation,
            **options,
        )
        self.token_embedding = nnx.Embed(
            variant.vocabulary_size,
            width,
            embedding_init=nnx.initializers.normal(0.02),
            rngs=rngs,
        )
        self.positional_embedding = nnx.Param(
            nnx.initializers.normal(0.01)(
                rngs.params(), (variant.context_length, width), jnp.float32
            )
        )
        self.ln_final = layer_norm(width, dtype=dtype, rngs=rngs)
        self.text_projection = nnx.Param(
            nnx.initializers.normal(width**-0.5)(
                rngs.params(), (width, variant.embed_dim), jnp.float32
            )
        )

    def encode_image(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B T E"]:
        """All projected tokens of normalised images; `image_feature` picks the image's."""
        return self.visual(images)

    def encode_text(self, ids: Int[Array, "B L"]) -> Float[Array, "B L E"]:
        """All projected tokens of captions; `text_feature` picks the caption's.

        Attention is causal, so padding after a caption's end does not change its feature, and
        columns that are padding in every row may be cut off.

        Raises:
          ValueError: for more columns than the context has places.
        """
        return self.encode_embedded(jnp.take(self.token_embedding.embedding[...], ids, axis=0))

    def encode_embedded(self, words: Float[Array, "B L D"]) -> Float[Array, "B L E"]:
        """The same as `encode_text`, from the words' embeddings (learned prompts)."""
        length, places = words.shape[1], self.variant.context_length
        if length > places:
            raise ValueError(f"captions of {length} tokens; this text tower has {places} places")
        positions = self.positional_embedding[...][:length].astype(self.dtype)
        x = self.transformer(words.astype(self.dtype) + positions[None])
        return self.ln_final(x) @ self.text_projection[...].astype(self.dtype)


def image_feature(tokens: Float[Array, "B T E"]) -> Float[Array, "B E"]:
    """The class token, in float32, not normalised."""
    return class_token(tokens)


def text_feature(tokens: Float[Array, "B L E"], ids: Int[Array, "B L"]) -> Float[Array, "B E"]:
    """The token at the (first) largest id, the caption's end; float32, not normalised."""
    end = jnp.argmax(ids, axis=1)
    return jnp.take_along_axis(tokens, end[:, None, None], axis=1)[:, 0].astype(jnp.float32)


def variant_of(shapes: Mapping[str, Sequence[int]], activation: str = "quick_gelu") -> Variant:
    """The towers of tensors with these shapes (OpenAI's names); no file states `activation`.

    Raises:
      ValueError: when a tensor that decides the shape is missing.
    """

    def layers(prefix: str) -> int:
        pattern = rf"^{prefix}transformer\.resblocks\.(\d+)\.attn\.in_proj_weight$"
        return sum(bool(re.match(pattern, name)) for name in shapes)

    try:
        width, _, patch, _ = shapes["visual.conv1.weight"]
        return Variant(
            embed_dim=shapes["text_projection"][1],
            patch_size=patch,
            vision_width=width,
            vision_layers=layers(r"visual\."),
            text_width=shapes["ln_final.weight"][0],
            text_layers=layers(""),
            context_length=shapes["positional_embedding"][0],
            vocabulary_size=shapes["token_embedding.weight"][0],
            activation=activation,
        )
    except KeyError as error:
        raise ValueError(
            f"not CLIP with a vision transformer: {error.args[0]} is not there (a CLIP with a "
            "ResNet is not built here)"
        ) from None


def build(
    name: str,
    *,
    image_size: Sequence[int],
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> CLIP:
    """The CLIP called `name` (a key of `VARIANTS`) for images of `image_size` (H, W) pixels.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"CLIP {name!r} is unknown; expected one of {', '.join(VARIANTS)}")
    return CLIP(VARIANTS[name], image_size=tuple(image_size), dtype=dtype, rngs=rngs, **options)
