"""SD-ReID's first stage: a ViT with a view prompt before its last block, and a centroid of each view.

"SD-ReID: View-aware Stable Diffusion for Aerial-Ground Person Re-Identification",
TIP 2026 (arXiv 2504.09549), following its code. A plain ViT gathers the person in its class token; a
learnt prompt joins the tokens for the last block alone and must tell aerial images from others. Its
mean over each view is kept as a centroid. The platform is needed in training alone.

The second stage is not here: it fine-tunes the UNet of Stable Diffusion 1.5 to draw features of the
other view from the class tokens of all blocks and these centroids, needs those weights, and its test
feature depends on random latents. Published numbers are of both stages.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import vit
from g2ajax.config import options
from g2ajax.config.ranges import NonNegative, Share
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.losses.views import AERIAL, view_cross_entropy, view_label
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.methods.base import HALF
from g2ajax.methods.vdt import VIEWS
from g2ajax.nn.heads import EmbeddingHead
from g2ajax.nn.memory import Memory


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the published code's."""

    backbone: Mapping[str, Any]
    """`name` of a ViT and its own options."""
    preprocessing: Preprocessing = Preprocessing(HALF, HALF)
    stage: Literal[1, 2] = 1
    """Stage of the paper; 2, the diffusion model, is refused."""
    smoothing: Share = 0.0
    """Label smoothing of the identity loss, eps/(C−1) to the other classes."""
    margin: NonNegative | None = None
    """Margin of the batch-hard triplet loss; None or 0: soft margin."""
    view_weight: NonNegative = 0.001
    """Weight of the view loss. The code's configuration names an orthogonal loss, too, which its
    code leaves out."""
    new_share: Share = 0.8
    """Share of the batch's mean in a view's centroid; the code calls it momentum, but the old
    centroid keeps 1 minus it."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "SDReID":
    """Builds the method. Raises ValueError for unknown options, another backbone than a ViT, and the
    second stage."""
    return SDReID(options(Options, config, "method"), facts, rngs=rngs)


class SDReID(Method, EmbedsCrops):
    """ViT, `view_prompt`, necks with classifiers for identities (`heads`) and views (`view_heads`),
    and `centroids` [2, D]: aerial, others; zeros at first."""

    learns_from_platforms = True
    in_batch_terms = ("triplet",)
    feature_name = "after neck, class token"

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        if options.stage == 2:
            raise ValueError(
                "method.stage = 2: SD-ReID's second stage fine-tunes Stable Diffusion 1.5, which is "
                "not part of this package, and embeds at random; train stage 1"
            )
        spec = dict(options.backbone)
        self.backbone = vit.build(
            spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        width = self.backbone.feature_dim
        self.view_prompt = nnx.Param(jnp.zeros((1, 1, width)))
        self.heads = EmbeddingHead(width, facts.num_classes, pool="Identity", rngs=rngs)
        self.view_heads = EmbeddingHead(width, VIEWS, pool="Identity", rngs=rngs)
        self.centroids = Memory(jnp.zeros((VIEWS, width)))
        self.options = options
        self.preprocessing = options.preprocessing

    def features(
        self, images: Float[Array, "B H W 3"], rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
        """The class token after the final norm and the view prompt before it, float32, from pixels
        0..255."""
        network = self.backbone
        tokens = network.embed_patches(self.preprocessing(images))
        tokens = network.run_blocks(tokens, stop=-1, rngs=rngs)
        prompt = jnp.tile(self.view_prompt[...].astype(tokens.dtype), (len(tokens), 1, 1))
        tokens = jnp.concatenate([prompt, tokens], axis=1)
        tokens = network.run_blocks(tokens, start=-1, only_first=2, rngs=rngs)
        person = network.norm(tokens[:, 1:]).astype(jnp.float32)[:, 0]
        return person, tokens[:, 0].astype(jnp.float32)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Identity + triplet + λ view loss of a batch; the centroids then take its mean."""
        options, label, platform = self.options, batch["label"], batch["platform"]
        person, view = self.features(batch["image"], rngs)
        logits = self.heads(person, label)["cls_outputs"]
        # The code's label 1 is the second view, the ground, ours the aerial one; the loss is the same.
        views = view_label(platform)
        view_logits = self.view_heads(view, views)["cls_outputs"]
        self.centroids[...] = moved_centroids(
            self.centroids[...], view, platform, new_share=options.new_share
        )
        terms = {
            "identity": cross_entropy(logits, label, smoothing=options.smoothing, form="fastreid"),
            "triplet": triplet(person, label, margin=options.margin),
            "view": view_cross_entropy(view_logits, platform),
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == label),
            "view_accuracy": jnp.mean(jnp.argmax(view_logits, -1) == views),
        }
        total = terms["identity"] + terms["triplet"] + options.view_weight * terms["view"]
        return total, terms

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: the class token after the neck."""
        return self.heads.embed(self.features(images)[0])


def moved_centroids(
    centroids: Float[Array, "V D"],
    view: Float[Array, "B D"],
    platform: Int[Array, " B"],
    *,
    new_share: float,
) -> Float[Array, "V D"]:
    """Each view's centroid (aerial, others) moved towards its mean in the batch, by `new_share`.

    A view that the batch has not keeps its centroid; a negative platform is no view. No gradient
    flows.
    """
    platform = jnp.where(platform < 0, -1, jnp.where(platform == AERIAL, 0, 1))
    own = (platform[None, :] == jnp.arange(len(centroids))[:, None]).astype(jnp.float32)
    count = own.sum(axis=1, keepdims=True)
    view = jax.lax.stop_gradient(view.astype(jnp.float32))
    mean = jnp.matmul(own, view, precision="highest") / jnp.maximum(count, 1)
    return jnp.where(count > 0, new_share * mean + (1.0 - new_share) * centroids, centroids)
