"""IRRA: finding a person by a sentence (Jiang and Ye, CVPR 2023).

CLIP's two towers, trained by SDM, by an identity classifier, and by predicting masked words from
caption and image through a cross-modal transformer, which only training needs. Modules have the
names of the public checkpoints: `base_model` (CLIP), `cross_attn`, `cross_modal_transformer`, ...
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import clip
from g2ajax.config import options
from g2ajax.config.ranges import Count, NonNegative, Positive, Share
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.image_text import cmpm, itc, masked_words, sdm
from g2ajax.methods import DataFacts, EmbedsCaptions, Method, Preprocessing
from g2ajax.nn.activations import quick_gelu
from g2ajax.nn.attention import MultiHeadAttention

CLIP_PIXELS = Preprocessing(clip.MEAN, clip.STD)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the paper's."""

    backbone: Mapping[str, Any]
    """`name` of a CLIP (`clip_vit_b16`) and its own options."""
    losses: tuple[Literal["sdm", "itc", "cmpm", "id", "mlm"], ...] = ("sdm", "mlm", "id")
    """Losses whose sum is trained."""
    temperature: Positive = 0.02
    """Temperature of `sdm` and `itc`; fixed."""
    identity_weight: NonNegative = 1.0
    """Weight of the identity loss."""
    word_weight: NonNegative = 1.0
    """Weight of the loss of the masked words."""
    depth: Count = 4
    """Blocks of the cross-modal transformer."""
    labelled_share: Share = 0.25
    """Share of all positions (plus 64) that the word classifier computes; masking labels about 0.15
    of the words. Words labelled beyond that do not count."""
    preprocessing: Preprocessing = CLIP_PIXELS


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "IRRA":
    """Builds the method. Raises ValueError for unknown options."""
    return IRRA(options(Options, config, "method"), facts, rngs=rngs)


class ImageTextModel(Method, EmbedsCaptions):
    """A CLIP that embeds crops and captions in one space."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        preprocessing: Preprocessing,
        facts: DataFacts,
        *,
        rngs: nnx.Rngs,
    ):
        spec = dict(backbone)
        self.base_model = clip.build(
            spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        self.preprocessing = preprocessing
        self.metric = "cosine"
        self.caption_length = self.base_model.variant.context_length
        self.feature_name = "class and end token"

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """Features of images with pixels 0..255, float32, not normalised."""
        return clip.image_feature(self.base_model.encode_image(self.preprocessing(images)))

    def embed_text(self, caption: Int[Array, "B L"]) -> Float[Array, "B D"]:
        """Features of captions (CLIP's ids), float32, not normalised."""
        return clip.text_feature(self.base_model.encode_text(caption), caption)


class WordHead(nnx.Module):
    """Scores of all words for each token: dense, QuickGELU, LayerNorm, fc."""

    def __init__(self, dim: int, words: int, std: clip.Deviations, *, dtype: Any, rngs: nnx.Rngs):
        self.dense = clip.linear(dim, dim, std.hidden, dtype=dtype, rngs=rngs)
        self.ln = clip.layer_norm(dim, dtype=dtype, rngs=rngs)
        self.fc = clip.linear(dim, words, std.residual, dtype=dtype, rngs=rngs)

    def hidden(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Input of the word classifier."""
        return self.ln(quick_gelu(self.dense(x)))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        return self.fc(self.hidden(x)).astype(jnp.float32)


class IRRA(ImageTextModel):
    """Two towers, a classifier of identities, and a cross-modal transformer with a word head."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options.backbone, options.preprocessing, facts, rngs=rngs)
        self.options = options
        self.in_batch_terms = tuple(n for n in options.losses if n in ("sdm", "itc", "cmpm"))
        self.guesses_words = "mlm" in options.losses
        dim, dtype = self.base_model.feature_dim, facts.dtype
        if "id" in options.losses:
            self.classifier = nnx.Linear(
                dim, facts.num_classes, kernel_init=nnx.initializers.normal(0.001), rngs=rngs
            )
        if "mlm" in options.losses:
            std = clip.Deviations.of(dim, options.depth)
            normal = nnx.initializers.normal
            self.cross_attn = MultiHeadAttention(
                dim,
                max(dim // clip.HEAD_DIM, 1),
                in_proj_init=normal(std.attention),
                out_proj_init=normal(std.residual),
                dtype=dtype,
                rngs=rngs,
            )
            self.cross_modal_transformer = clip.Transformer(
                dim, options.depth, std=std, dtype=dtype, rngs=rngs
            )
            self.ln_pre_t = clip.layer_norm(dim, dtype=dtype, rngs=rngs)
            self.ln_pre_i = clip.layer_norm(dim, dtype=dtype, rngs=rngs)
            self.ln_post = clip.layer_norm(dim, dtype=dtype, rngs=rngs)
            words = self.base_model.variant.vocabulary_size
            self.mlm_head = WordHead(dim, words, std, dtype=dtype, rngs=rngs)

    def cross(
        self, text: Float[Array, "B L D"], image: Float[Array, "B T D"]
    ) -> Float[Array, "B L D"]:
        """Text tokens after attention to the image's: one cross-attention (without a residual),
        then the transformer. Padding takes part, as in the reference."""
        x = self.cross_attn(self.ln_pre_t(text), self.ln_pre_i(image))
        return self.ln_post(self.cross_modal_transformer(x))

    def word_loss(
        self,
        text: Float[Array, "B L D"],
        image: Float[Array, "B T D"],
        word: Int[Array, "B L"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Cross-entropy and accuracy of the words that were masked (`word`; 0: not masked).

        The reference scores all positions and leaves most out of the loss; here only the labelled
        ones reach the classifier of 49,408 words. The result is the same.
        """
        x, label = self.cross(text, image), word.reshape(-1)
        size = min(label.size, int(label.size * self.options.labelled_share) + 64)
        where = jnp.flatnonzero(label, size=size, fill_value=-1)
        words = jnp.where(where < 0, 0, label[where])
        logits = self.mlm_head(x.reshape(-1, x.shape[-1])[where])
        right = (jnp.argmax(logits, axis=-1) == words) & (words != 0)
        accuracy = jnp.sum(right) / jnp.maximum(jnp.sum(words != 0), 1)
        return masked_words(logits, words), accuracy

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The sum of the chosen losses of a batch of (image, caption) pairs.

        `caption` are ids. `masked_word` has the words that were masked (0 elsewhere) and
        `masked_caption` the caption with the mask; without it the caption itself is the masked
        one, as in IRRA's code for all losses.
        """
        options, label, caption = self.options, batch["label"], batch["caption"]
        images = self.base_model.encode_image(self.preprocessing(batch["image"]))
        texts = self.base_model.encode_text(caption)
        image, text = clip.image_feature(images), clip.text_feature(texts, caption)
        scale = 1.0 / options.temperature
        terms, metrics = {}, {}
        if "sdm" in options.losses:
            terms["sdm"] = sdm(image, text, label, scale=scale)
        if "itc" in options.losses:
            terms["itc"] = itc(image, text, scale=scale)
        if "cmpm" in options.losses:
            terms["cmpm"] = cmpm(image, text, label)
        if "id" in options.losses:
            logits = [self.classifier(x) for x in (image, text)]
            both = sum(cross_entropy(z, label) for z in logits) / 2.0
            terms["identity"] = options.identity_weight * both
            for name, z in zip(("image", "text"), logits, strict=True):
                metrics[f"{name}_accuracy"] = jnp.mean(jnp.argmax(z, -1) == label)
        if "mlm" in options.losses:
            if "masked_caption" in batch:
                texts = self.base_model.encode_text(batch["masked_caption"])
            words, metrics["word_accuracy"] = self.word_loss(texts, images, batch["masked_word"])
            terms["words"] = options.word_weight * words
        return sum(terms.values(), jnp.zeros(())), {**terms, **metrics}
