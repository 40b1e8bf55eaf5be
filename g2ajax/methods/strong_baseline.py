"""The strong baseline ("bag of tricks"): a backbone, a batch-norm neck, identity and triplet losses.

Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019; the
recipes of fast-reid (BoT, and with other options SBS and AGW) and of TransReID's baseline. On a
ViT this is the crop system on which AG-ReID (Nguyen et al., ICME 2023) builds.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax import backbones
from g2ajax.backbones.split import patch_map
from g2ajax.backbones.vit import ViT, class_token
from g2ajax.config import options
from g2ajax.config.ranges import Natural, NonNegative, Positive, Range
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.nn.heads import EmbeddingHead, FCHead


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """The embedding head; names of pools and classifiers are fast-reid's."""

    pool: str = "GlobalAvgPool"
    """`Identity` for a ViT's class token; any other pools its patch tokens."""
    embedding_dim: Natural = 0
    """Width of a reduction before the neck; 0: none."""
    neck_feature: Literal["before", "after"] = "before"
    """Feature given to the triplet loss: before or after the neck."""
    classifier: str = "Linear"
    """Classifier: `Linear`, or one with a margin (`CircleSoftmax`, ...)."""
    scale: Positive = 1.0
    """Scale of the logits of a classifier with a margin."""
    margin: NonNegative = 0.0
    """Margin of that classifier."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are fast-reid's BoT on ResNet-50."""

    backbone: Mapping[str, Any]
    """`name` of a backbone and its own options."""
    head: HeadOptions = HeadOptions()
    """Embedding head."""
    fc_dim: Natural = 0
    """Width of torchreid's head in place of fast-reid's: a linear map, batch norm, ReLU, and a
    classifier with a bias (its OSNets: 512); 0: the head of `head`. With it, `head` chooses the
    pooling only, and both losses and the test use its feature."""
    preprocessing: Preprocessing = Preprocessing()
    camera_embedding: bool = False
    """Side information of the camera, added to every token of a ViT (TransReID)."""
    smoothing: Annotated[float, Range(0, 1, also=-1)] = 0.1
    """Label smoothing; 0: none; −1: adaptive (fast-reid)."""
    smoothing_form: Literal["fastreid", "uniform"] = "fastreid"
    """Spread of the smoothed mass: eps/(C−1) to the other classes, or eps/C to all."""
    margin: NonNegative | None = 0.3
    """Margin of the batch-hard triplet loss; None or 0: soft margin."""
    hard_mining: bool = True
    """Mine the hardest pairs; False: the weighted triplet of AGW."""
    identity_weight: NonNegative = 1.0
    """Weight of the identity loss."""
    triplet_weight: NonNegative = 1.0
    """Weight of the triplet loss; 0: none."""
    test_feature: Literal["after", "before"] = "after"
    """Embedding after or before the neck's batch norm."""
    metric: Literal["cosine", "squared_euclidean"] = "cosine"
    """Distance used in the evaluation."""

    def __post_init__(self) -> None:
        if self.smoothing < 0 and self.smoothing_form != "fastreid":
            raise ValueError(
                f"method.smoothing = {self.smoothing:g} (adaptive) needs "
                f"method.smoothing_form='fastreid', not {self.smoothing_form!r}"
            )


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "StrongBaseline":
    """Builds the method. Raises ValueError for unknown options."""
    return StrongBaseline(options(Options, config, "method"), facts, rngs=rngs)


def _head(width: int, num_classes: int, options: Options, rngs: nnx.Rngs) -> EmbeddingHead | FCHead:
    head = options.head
    if not options.fc_dim:
        return EmbeddingHead(width, num_classes, **dataclasses.asdict(head), rngs=rngs)
    if head != HeadOptions(pool=head.pool):
        raise ValueError(
            f"method.fc_dim = {options.fc_dim}: torchreid's head takes nothing of method.head but "
            f"its pool, got {head}; leave the rest out, or set fc_dim to 0"
        )
    return FCHead(width, num_classes, options.fc_dim, pool=head.pool, rngs=rngs)


class StrongBaseline(Method, EmbedsCrops):
    """Backbone, head and the two losses."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        if options.camera_embedding:
            spec["cameras"] = facts.num_cameras
        self.backbone = backbones.build(
            spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        self.heads = _head(self.backbone.feature_dim, facts.num_classes, options, rngs)
        self.options = options
        self.metric = options.metric
        self.preprocessing = options.preprocessing
        self.needs_camera = options.camera_embedding
        self.feature_name = f"{options.test_feature} neck"
        self.in_batch_terms = ("triplet",) if options.triplet_weight else ()

    def features(
        self,
        images: Float[Array, "B H W 3"],
        camera: Int[Array, " B"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B ..."]:
        """The input of the head, from pixels 0..255: a map [B,h,w,D], or [B,D], the class token of
        a ViT whose head has the pooling `Identity` (with any other it pools the patch tokens).
        """
        images = self.preprocessing(images)
        if isinstance(self.backbone, ViT):
            camera = camera if self.needs_camera else None
            if self.options.head.pool == "Identity":
                return class_token(self.backbone(images, camera=camera, only_first=1, rngs=rngs))
            return patch_map(self.backbone, self.backbone(images, camera=camera, rngs=rngs))
        return self.backbone(images)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Identity + triplet loss of a batch; the head chooses the feature of the triplet loss."""
        features, label = self.features(batch["image"], batch["camera"], rngs), batch["label"]
        return self.losses(self.heads(features, label), label)

    def losses(
        self, out: Mapping[str, Array], label: Int[Array, " B"]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss and its terms, from the output of the head."""
        options = self.options
        identity = cross_entropy(
            out["cls_outputs"], label, smoothing=options.smoothing, form=options.smoothing_form
        )
        ranking = triplet(
            out["features"], label, margin=options.margin, hard_mining=options.hard_mining
        )
        accuracy = jnp.mean(jnp.argmax(out["pred_class_logits"], -1) == label)
        total = options.identity_weight * identity + options.triplet_weight * ranking
        return total, {"identity": identity, "triplet": ranking, "accuracy": accuracy}

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255, float32, not normalised."""
        before, after = self.heads.features(self.features(images, camera))
        return after if self.options.test_feature == "after" else before
