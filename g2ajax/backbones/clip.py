"""CLIP: an image tower and a text tower with one space of features (Radford et al., ICML 2021).

Both towers give ALL their tokens, normalised and projected, as IRRA needs them (Jiang and Ye, CVPR
2023); OpenAI's code projects only the image's class token and the text's end token, the same
values. Names are OpenAI's: `visual.conv1`, `visual.transformer.resblocks.0.attn.in_proj_weight`,
`transformer.resblocks.0...`, `token_embedding`, `text_projection`, ...
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones.clip_blocks import HEAD_DIM as HEAD_DIM
from g2ajax.backbones.clip_blocks import Deviations, Transformer, Variant, layer_norm
from g2ajax.backbones.clip_blocks import linear as linear
from g2ajax.backbones.clip_image import ImageTower
from g2ajax.backbones.vit import class_token

MEAN = tuple(255.0 * x for x in (0.48145466, 0.4578275, 0.40821073))
STD = tuple(255.0 * x for x in (0.26862954, 0.26130258, 0.27577711))
"""Deviations of the pixels 0..255 that the image towers were trained on."""

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
