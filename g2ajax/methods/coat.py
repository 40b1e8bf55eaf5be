"""COAT: a cascade of three transformer heads (Yu et al., "Cascade Transformers for End-to-End Person
Search", CVPR 2022). The first detects, the second and third refine and embed.

In training regions exchange a stripe of tokens, which imitates occlusion (`nn/occluded.py`). See
`faster_rcnn.py` for the batch of frames. `roi_heads.softmax_2nd` and `softmax_3rd` classify the
identities. The published code keeps them outside its model, unclipped and in no checkpoint; here
they are ordinary parts of it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from g2ajax.config import options
from g2ajax.config.ranges import Count, NonNegative, Share
from g2ajax.detection.stages import Maps, Stages, Truth
from g2ajax.detection.targets import TrainingSamples, per_image
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.detection import binary_cross_entropy
from g2ajax.losses.oim import OimRows
from g2ajax.methods import DataFacts, Detected
from g2ajax.methods.faster_rcnn import (
    DetectorOptions,
    RegionOptions,
    Terms,
    Trunk,
    classification_losses,
    region_losses,
)
from g2ajax.methods.seqnet import (
    InstanceMatching,
    MatchingOptions,
    PersonSearch,
    Regions,
)
from g2ajax.nn.norm_aware import NormAwareEmbedding, SoftmaxIdentityHead
from g2ajax.nn.occluded import Exchanges, TransformerHead, draw_exchanges
from g2ajax.nn.regions import BoxPredictor, BoxRegressor, Parts

Draw = Callable[[str, Key[Array, ""], Bool[Array, " N"]], Exchanges]
"""Function of a head's name, a key and the valid rows that returns the exchange of the head."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the losses."""

    rpn_cls: NonNegative = 1.0
    """Weight of the proposal network's classification loss."""
    rpn_reg: NonNegative = 1.0
    """Weight of the proposal network's box loss."""
    cls_1st: NonNegative = 1.0
    """Weight of the first head's classification loss."""
    cls_2nd: NonNegative = 1.0
    """Weight of the second head's classification loss."""
    cls_3rd: NonNegative = 1.0
    """Weight of the third head's classification loss."""
    reg_1st: NonNegative = 10.0
    """Weight of the first head's box loss."""
    reg_2nd: NonNegative = 10.0
    """Weight of the second head's box loss."""
    reg_3rd: NonNegative = 10.0
    """Weight of the third head's box loss."""
    reid_2nd: NonNegative = 0.5
    """Weight of the second head's identity loss."""
    reid_3rd: NonNegative = 0.5
    """Weight of the third head's identity loss."""
    softmax_2nd: NonNegative = 0.5
    """Weight of the second head's identity classifier: 0.1 for CUHK-SYSU, 3 with distillation on
    G2APS; 0: none."""
    softmax_3rd: NonNegative = 0.5
    """Weight of the third head's identity classifier; 0: none."""


@dataclasses.dataclass(frozen=True)
class Options(DetectorOptions):
    """Options of the method; the defaults are those published for PRW."""

    regions: RegionOptions = RegionOptions(positive_fraction=0.25)
    iou: tuple[Share, Share, Share] = (0.5, 0.6, 0.7)
    """Overlap with a person that a region needs to train each head as one."""
    embedding_dim: Count = 256
    """Width of the embedding of each of the two heads."""
    matching: MatchingOptions = MatchingOptions(queue_size=500)
    kernels: tuple[Count, ...] = (1, 3)
    """Kernel of each scale of the transformer heads."""
    num_heads: Count = 8
    """Attention heads at each scale."""
    weights: Weights = Weights()
    feature: Literal["concat", "stage2", "stage3"] = "concat"
    """Embedding used in tests: both heads' or one head's; `stage2` leaves the third head out."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "COAT":
    """Builds the method. Raises ValueError for unknown options and whatever the trunk refuses."""
    return COAT(options(Options, config, "method"), facts, rngs=rngs)


def transformer_head(owner: Trunk, head: Any, *, bypass: bool, rngs: nnx.Rngs) -> TransformerHead:
    """A transformer head for the trunk of `owner`; `head` has `kernels` and `num_heads`."""
    return TransformerHead(
        owner.channels,
        bypass=bypass,
        kernels=head.kernels,
        num_heads=head.num_heads,
        dtype=owner.dtype,
        rngs=rngs,
    )


def embedding_head(owner: Trunk, dim: int, *, rngs: nnx.Rngs) -> NormAwareEmbedding:
    """The norm-aware embedding of a transformer head."""
    features = {"before_trans": owner.channels, "after_trans": 2 * owner.channels}
    return NormAwareEmbedding(features, dim, rngs=rngs)


def softmax_loss(
    head: SoftmaxIdentityHead, embedding: Float[Array, "N D"], rows: OimRows
) -> Float[Array, ""]:
    """Identity classification; persons without identity move the batch norm only."""
    logits = head(embedding, rows.person)
    # Logits of rows without a person may have any value.
    logits = jnp.where(rows.person[:, None], logits, 0.0)
    return cross_entropy(logits, rows.label, mask=rows.person & (rows.label < logits.shape[1]))


def draw(name: str, key: Key[Array, ""], mask: Bool[Array, " N"]) -> Exchanges:
    """Draws random exchanges, for any head."""
    return draw_exchanges(key, mask)


class COAT(PersonSearch):
    """Trunk, proposal network, three transformer heads, and the tables of the identities."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        features, dim = 2 * self.channels, options.embedding_dim
        regressor = BoxRegressor(features, rngs=rngs)
        embedding = embedding_head(self, dim, rngs=rngs)
        self.roi_heads = heads = Parts(
            box_head_1st=transformer_head(self, options, bypass=False, rngs=rngs),
            box_head_2nd=transformer_head(self, options, bypass=True, rngs=rngs),
            box_head_3rd=transformer_head(self, options, bypass=True, rngs=rngs),
            box_predictor_1st=BoxPredictor(features, rngs=rngs),
            box_predictor_2nd=regressor,
            # The third head starts as a copy of the second one, except for the transformer.
            box_predictor_3rd=nnx.clone(regressor),
            embedding_head_2nd=embedding,
            embedding_head_3rd=nnx.clone(embedding),
        )
        for stage in ("2nd", "3rd"):
            table = InstanceMatching(facts.num_classes, dim, options.matching, self.unlabelled)
            setattr(heads, f"reid_loss_{stage}", table)
            if getattr(options.weights, f"softmax_{stage}"):
                head = SoftmaxIdentityHead(dim, facts.num_classes, rngs=rngs)
                setattr(heads, f"softmax_{stage}", head)
        self.feature_name = f"norm-aware embedding, {options.feature}"

    def _transformed(
        self, stage: str, pooled: Float[Array, "N s s C"], exchanges: Exchanges | None
    ) -> dict[str, Float[Array, "N _"]]:
        head = getattr(self.roi_heads, f"box_head_{stage}")
        if self.options.remat:
            return nnx.remat(lambda head, x, exchanges: head(x, exchanges))(head, pooled, exchanges)
        return head(pooled, exchanges)

    def classify(
        self, maps: Maps, boxes: Float[Array, "B R 4"], mask: Bool[Array, "B R"]
    ) -> tuple[Float[Array, "BR 2"], Float[Array, "BR 2 4"]]:
        """Class logits and box codes of the first head."""
        features = self._transformed("1st", self.pool(maps, boxes, mask), None)
        return self.roi_heads.box_predictor_1st(features["after_trans"])

    def identify(
        self,
        stage: str,
        pooled: Float[Array, "N s s C"],
        mask: Bool[Array, " N"],
        exchanges: Exchanges | None = None,
    ) -> tuple[Float[Array, "N 2 4"], Float[Array, "N D"], Float[Array, " N"]]:
        """Box codes, unit embedding and norm-aware logit of the head "2nd" or "3rd"."""
        features = self._transformed(stage, pooled, exchanges)
        codes = getattr(self.roi_heads, f"box_predictor_{stage}")(features["after_trans"], mask)
        return codes, *getattr(self.roi_heads, f"embedding_head_{stage}")(features, mask)

    def terms(
        self, batch: Mapping[str, jax.Array], key: Key[Array, ""], draw: Draw = draw
    ) -> tuple[Terms, Stages]:
        """Each weighted loss, and the regions that were drawn."""
        of_rpn, of_first, of_second, of_third, of_teacher = jax.random.split(key, 5)
        maps, truth = self.maps(batch), self.truth(batch)
        proposals, terms = self.propose(maps, truth, of_rpn)
        first = self.select(of_first, proposals.boxes, proposals.valid, truth, self.options.iou[0])
        logits, codes = self.classify(maps, first.boxes, first.valid)
        terms["cls_1st"], terms["reg_1st"] = classification_losses(logits, codes, first)
        step = functools.partial(self._stage_terms, maps, truth, draw=draw)
        second, codes2, of_2nd, _ = step("2nd", codes, first, self.options.iou[1], of_second)
        third, _, of_3rd, regions = step("3rd", codes2, second, self.options.iou[2], of_third)
        terms |= of_2nd | of_3rd
        terms = {name: getattr(self.options.weights, name) * terms[name] for name in terms}
        terms |= self.distil(regions, of_teacher, draw)
        return terms, Stages(proposals, logits, codes, samples=(first, second, third))

    def _stage_terms(
        self,
        maps: Maps,
        truth: Truth,
        stage: str,
        codes: Float[Array, "N 2 4"],
        before: TrainingSamples,
        iou: float,
        key: Key[Array, ""],
        *,
        draw: Draw,
    ) -> tuple[TrainingSamples, Float[Array, "M 2 4"], Terms, Regions]:
        """The loss terms of the head "2nd" or "3rd" on the previous head's refined regions."""
        of_rows, of_exchange = jax.random.split(key)
        boxes = self.refine(codes, before.boxes, maps.size)
        samples = self.select(of_rows, boxes, before.valid, truth, iou)
        mask, pid = samples.valid.reshape(-1), samples.label.reshape(-1)
        pooled = self.pool(maps, samples.boxes, samples.valid)
        exchanges = draw(f"box_head_{stage}", of_exchange, mask)
        codes, embedding, logit = self.identify(stage, pooled, mask, exchanges)
        regression, positive, _ = region_losses(codes, samples)
        matching, rows = getattr(self.roi_heads, f"reid_loss_{stage}")(embedding, pid, mask)
        terms = {
            f"cls_{stage}": binary_cross_entropy(logit, positive, mask),
            f"reg_{stage}": regression,
            f"reid_{stage}": matching,
        }
        if hasattr(self.roi_heads, f"softmax_{stage}"):
            head = getattr(self.roi_heads, f"softmax_{stage}")
            terms[f"softmax_{stage}"] = softmax_loss(head, embedding, rows)
        return samples, codes, terms, Regions(pooled, embedding, pid, mask, rows)

    def distil(self, regions: Regions, key: Key[Array, ""], draw: Draw) -> Terms:
        """Further weighted losses on the third head's regions; none here."""
        return {}

    def detect_stages(
        self,
        batch: Mapping[str, jax.Array],
        query_boxes: Float[Array, "B 4"] | None = None,
    ) -> tuple[Detected, Stages]:
        """`detect` with the results of the earlier stages. The score is always the first head's."""
        maps, stages = self.first_stage(batch)
        options, (first,) = self.options.regions, stages.kept

        def identified(stage, kept):
            pooled = self.pool(maps, kept.boxes, kept.valid)
            codes, embedding, _ = self.identify(stage, pooled, kept.valid.reshape(-1))
            return self.refine(codes, kept.boxes, maps.size), embedding

        boxes, embedding = identified("2nd", first)
        if self.options.feature == "stage2":
            last = self.finish(maps, boxes, first, embedding, query_boxes, options.nms)
            return last, stages
        second = self.keep(boxes, first.scores, first.valid, options.nms)
        boxes, embedding = identified("3rd", second)
        if self.options.feature == "concat":
            embedding = jnp.concatenate([identified("2nd", second)[1], embedding], axis=-1)
        last = self.finish(maps, boxes, second, embedding, query_boxes, options.final_nms)
        return last, stages._replace(kept=(first, second))

    def embed_boxes(
        self, maps: Maps, boxes: Float[Array, "B N 4"], mask: Bool[Array, "B N"]
    ) -> Float[Array, "B N D"]:
        """Embeddings of given boxes, each head's of unit length; 0 where `mask` is False."""
        pooled, rows = self.pool(maps, boxes, mask), mask.reshape(-1)
        stages = {"concat": ("2nd", "3rd"), "stage2": ("2nd",), "stage3": ("3rd",)}
        parts = [self.identify(stage, pooled, rows)[1] for stage in stages[self.options.feature]]
        embedding = per_image(jnp.concatenate(parts, axis=-1), len(boxes))
        return jnp.where(mask[..., None], embedding, 0.0)
