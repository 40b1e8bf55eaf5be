"""VDT: a ViT with a view token that is subtracted from the class token after every block.

Zhang et al., "View-decoupled Transformer for Person Re-identification under Aerial-ground Camera
Network", CVPR 2024, following its code. The class token gathers all of a person (the "meta"
feature), the view token what the platform adds; their difference identifies the person from either
side. Two losses see the view token: it must tell aerial images from others, and be orthogonal to
the identity feature. The platform is needed in training alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import vit
from g2ajax.backbones.tokens import Hook
from g2ajax.config import options
from g2ajax.config.ranges import NonNegative, Probability, Share
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.losses.views import orthogonal, view_cross_entropy, view_label
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.methods.base import HALF
from g2ajax.nn.heads import EmbeddingHead

VIEWS = 2


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the published code's, which gave the numbers."""

    backbone: Mapping[str, Any]
    """`name` of a ViT and its own options."""
    preprocessing: Preprocessing = Preprocessing(HALF, HALF)
    hierarchical: bool = True
    """Subtract the view token from the class token after every block, too; False: only at the end,
    after the final norm."""
    second_update: bool = True
    """Move the running statistics of the identity neck by the class token's moments as well, after
    those of the identity feature. The code does so by calling the head twice in a step, the paper
    does not say it; the test feature is normalised by these statistics, so True is what the
    published weights and numbers need. False: by the identity feature's alone."""
    smoothing: Share = 0.0
    """Label smoothing of the identity loss, eps/(C−1) to the other classes."""
    margin: NonNegative | None = None
    """Margin of the batch-hard triplet loss on the identity feature; None or 0: soft margin."""
    view_weight: NonNegative = 0.001
    """λ, the weight of the view loss and of the orthogonal loss."""
    cap: Probability | None = None
    """Largest |cosine| that counts in the orthogonal loss (TAG-CLIP: 0.1); None: none, as in VDT."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "VDT":
    """Builds the method. Raises ValueError for unknown options and another backbone than a ViT."""
    return VDT(options(Options, config, "method"), facts, rngs=rngs)


class VDT(Method, EmbedsCrops):
    """ViT with a view token, and a neck with a classifier for identities and one for views.

    Names are the code's: `backbone.view_token`, `heads`, `view_heads`. The position table has a row
    for the view token behind that of the class token; from weights with one special token it gets
    the row of the first patch, as in the code.

    Raises ValueError for another backbone than a ViT.
    """

    learns_from_platforms = True
    in_batch_terms = ("triplet",)
    feature_name = "after neck, class token without view token"

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        self.backbone = vit.build(
            spec.pop("name"),
            image_size=facts.image_size,
            tokens=("view",),
            dtype=facts.dtype,
            rngs=rngs,
            **spec,
        )
        width = self.backbone.feature_dim
        self.heads = EmbeddingHead(width, facts.num_classes, pool="Identity", rngs=rngs)
        self.view_heads = EmbeddingHead(width, VIEWS, pool="Identity", rngs=rngs)
        self.options = options
        self.preprocessing = options.preprocessing

    def subtract(self, tokens: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Takes the view token from the class token; the other tokens stay."""
        layout = self.backbone.layout
        difference = layout.token(tokens, "cls") - layout.token(tokens, "view")
        return layout.replace(tokens, "cls", difference)

    @property
    def hooks(self) -> list[Hook]:
        """The subtraction after every block, if it is hierarchical."""
        return [Hook(self.subtract, "after")] if self.options.hierarchical else []

    def read(
        self, tokens: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
        """Class and view token, float32."""
        layout, tokens = self.backbone.layout, tokens.astype(jnp.float32)
        return layout.token(tokens, "cls"), layout.token(tokens, "view")

    def features(
        self, images: Float[Array, "B H W 3"], rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
        """Class and view token after the final norm, float32, from pixels 0..255."""
        images = self.preprocessing(images)
        return self.read(self.backbone(images, only_first=2, hooks=self.hooks, rngs=rngs))

    def losses(
        self,
        whole: Float[Array, "B D"],
        view: Float[Array, "B D"],
        label: Int[Array, " B"],
        platform: Int[Array, " B"],
    ) -> dict[str, Float[Array, ""]]:
        """The four losses of class and view token, without their weights, and two accuracies."""
        identity, views = whole - view, view_label(platform)
        logits = self.heads(identity, label)["cls_outputs"]
        if self.options.second_update:
            self.heads.neck(whole)
        view_logits = self.view_heads(view, views)["cls_outputs"]
        smoothing = self.options.smoothing
        return {
            "identity": cross_entropy(logits, label, smoothing=smoothing, form="fastreid"),
            "triplet": triplet(identity, label, margin=self.options.margin),
            "view": view_cross_entropy(view_logits, platform),
            "orthogonal": orthogonal(identity, view, cap=self.options.cap),
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == label),
            "view_accuracy": jnp.mean(jnp.argmax(view_logits, -1) == views),
        }

    def total(self, terms: Mapping[str, Float[Array, ""]]) -> Float[Array, ""]:
        """Identity + triplet + λ (view + orthogonal) loss."""
        views = terms["view"] + terms["orthogonal"]
        return terms["identity"] + terms["triplet"] + self.options.view_weight * views

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The weighted sum of the four losses of a batch."""
        tokens = self.features(batch["image"], rngs)
        terms = self.losses(*tokens, batch["label"], batch["platform"])
        return self.total(terms), terms

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: the identity feature after the neck."""
        whole, view = self.features(images)
        return self.heads.embed(whole - view)
