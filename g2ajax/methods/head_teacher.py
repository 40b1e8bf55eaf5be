"""The teacher of head distillation, trained on crops (Zhang et al., ACM MM 2023).

The trunk's map of a crop is averaged to 14 x 14 cells (which enlarges it), in place of a region of a
frame, and goes through the re-identification head of SeqNet or COAT. Heads and tables have the same
names as in the student, which loads them as its teacher.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.config import options
from g2ajax.config.ranges import Count, NonNegative
from g2ajax.methods import DataFacts, EmbedsCrops, coat
from g2ajax.methods.faster_rcnn import POOLED, Terms, Trunk, TrunkOptions
from g2ajax.methods.seqnet import InstanceMatching, MatchingOptions, identity_parts
from g2ajax.nn.norm_aware import SoftmaxIdentityHead
from g2ajax.nn.occluded import Exchanges, draw_exchanges
from g2ajax.nn.pooling import adaptive_average
from g2ajax.nn.regions import Parts


@dataclasses.dataclass(frozen=True)
class Options(TrunkOptions):
    """Options of the method."""

    head: Literal["seqnet", "coat"] = "seqnet"
    """Method whose head is trained."""
    embedding_dim: Count = 256
    """Width of the embedding."""
    matching: MatchingOptions = MatchingOptions()
    kernels: tuple[Count, ...] = (1, 3)
    """Kernel of each scale of COAT's transformer head."""
    num_heads: Count = 8
    """Attention heads at each of its scales."""
    matching_weight: NonNegative = 1.0
    """Weight of the identity loss: 11, 1 and 7 for CUHK-SYSU, G2APS and PRW with SeqNet; 11, 0.5
    and 15 with COAT."""
    softmax_weight: NonNegative = 0.0
    """Weight of an identity classifier; 3, 3 and 0.5 with COAT; 0: none."""
    drop_first_identity: bool = False
    """Never train identity 0: a mistake of the published code."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "HeadTeacher":
    """Builds the method. Raises ValueError for unknown options and whatever the trunk refuses."""
    return HeadTeacher(options(Options, config, "method"), facts, rngs=rngs)


class HeadTeacher(Trunk, EmbedsCrops):
    """Trunk, one head, its embedding, and the table of the identities."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        dim = options.embedding_dim
        if options.head == "seqnet":
            parts = identity_parts(self, options.matching, dim, facts.num_classes, rngs)
        else:
            table = InstanceMatching(facts.num_classes, dim, options.matching, self.unlabelled)
            parts = {
                "box_head_3rd": coat.transformer_head(self, options, bypass=True, rngs=rngs),
                "embedding_head_3rd": coat.embedding_head(self, dim, rngs=rngs),
                "reid_loss_3rd": table,
            }
        self.roi_heads = Parts(**parts)
        if options.softmax_weight:
            self.roi_heads.softmax = SoftmaxIdentityHead(dim, facts.num_classes, rngs=rngs)

    def _embedded(
        self, images: Float[Array, "B H W 3"], exchanges: Exchanges | None
    ) -> Float[Array, "B D"]:
        x = self.backbone.stem(self.preprocessing(images))
        for number in (1, 2, 3):
            x = self.backbone.stage(number, x)
        pooled = adaptive_average(x, (POOLED, POOLED)).astype(self.dtype)
        heads = self.roi_heads
        if self.options.head == "seqnet":
            return heads.embedding_head(heads.reid_head(pooled))[0]
        return heads.embedding_head_3rd(heads.box_head_3rd(pooled, exchanges))[0]

    def loss(self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs) -> tuple[Array, Terms]:
        """The weighted identity losses of a batch of crops; the tables are then updated."""
        exchanges = None
        if self.options.head == "coat":
            everyone = jnp.ones(batch["label"].shape, bool)
            exchanges = draw_exchanges(rngs.regions(), everyone)
        terms = self.terms(batch, exchanges)
        return sum(terms.values(), jnp.zeros(())), terms

    def terms(self, batch: Mapping[str, jax.Array], exchanges: Exchanges | None) -> Terms:
        """Each weighted loss."""
        options, label = self.options, batch["label"]
        embedding = self._embedded(batch["image"], exchanges)
        counts = label > 0 if options.drop_first_identity else label >= 0
        table = getattr(self.roi_heads, "reid_loss" + "_3rd" * (options.head == "coat"))
        loss, rows = table(embedding, label + 1, counts)
        terms = {"matching": options.matching_weight * loss}
        if options.softmax_weight:
            value = coat.softmax_loss(self.roi_heads.softmax, embedding, rows)
            terms["softmax"] = options.softmax_weight * value
        return terms

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The unit embedding of crops with pixels 0..255."""
        return self._embedded(images, None)
