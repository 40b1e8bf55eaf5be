"""SeqNet: detect, refine, then identify (Li and Miao, "Sequential End-to-end Network for Efficient
Person Search", AAAI 2021), with online instance matching and norm-aware embeddings.

A first head finds persons among the proposals; a second one, on the boxes that the first has
refined, refines them again and embeds them. See `faster_rcnn.py` for the batch of frames.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from g2ajax.config import options
from g2ajax.config.ranges import Count, Natural, NonNegative, Positive, Share
from g2ajax.detection.proposals import Detections
from g2ajax.detection.stages import Maps, Stages
from g2ajax.detection.targets import per_image
from g2ajax.losses.detection import binary_cross_entropy
from g2ajax.losses.oim import (
    UNLABELLED,
    OimRows,
    OimTables,
    Overflow,
    oim_loss,
    update_tables,
    zero_tables,
)
from g2ajax.methods import DataFacts, Detected, SearchesPersons
from g2ajax.methods.faster_rcnn import (
    Detector,
    DetectorOptions,
    RegionHead,
    Terms,
    Trunk,
    classification_losses,
    region_losses,
)
from g2ajax.nn.memory import Memory
from g2ajax.nn.norm import Buffer
from g2ajax.nn.norm_aware import NormAwareEmbedding
from g2ajax.nn.regions import BoxPredictor, BoxRegressor, Parts


@dataclasses.dataclass(frozen=True)
class MatchingOptions:
    """Online instance matching."""

    queue_size: Natural = 5000
    """Embeddings of people without identity kept as negatives: 5000 for CUHK-SYSU, 500 for PRW,
    2000 for G2APS."""
    momentum: Share = 0.5
    """Share of the old row when the table of identities is updated."""
    scale: Positive = 30.0
    """Factor of the similarities before the softmax."""
    overflow: Overflow = "unlabelled"
    """Treatment of a label beyond the classes; `queue_column`: the references' mistake with PRW."""
    header_without_target: bool = False
    """Move the queue's header, not the queue, on a batch without any identity: a mistake of
    SeqNet-HKD."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the losses."""

    rpn_cls: NonNegative = 1.0
    """Weight of the proposal network's classification loss."""
    rpn_reg: NonNegative = 1.0
    """Weight of the proposal network's box loss."""
    proposal_cls: NonNegative = 1.0
    """Weight of the first head's classification loss."""
    proposal_reg: NonNegative = 10.0
    """Weight of the first head's box loss."""
    box_cls: NonNegative = 1.0
    """Weight of the second head's classification loss."""
    box_reg: NonNegative = 1.0
    """Weight of the second head's box loss."""
    box_reid: NonNegative = 1.0
    """Weight of the identity loss."""


@dataclasses.dataclass(frozen=True)
class Options(DetectorOptions):
    """Options of the method; the defaults are the published ones."""

    embedding_dim: Count = 256
    """Width of the embedding."""
    matching: MatchingOptions = MatchingOptions()
    weights: Weights = Weights()


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "SeqNet":
    """Builds the method. Raises ValueError for unknown options and whatever the trunk refuses."""
    return SeqNet(options(Options, config, "method"), facts, rngs=rngs)


class InstanceMatching(nnx.Module):
    """The tables of online instance matching as state: `lut`, `cq`, and the queue's `header`.

    The tables are buffers: tensors of the state dict without gradient, which a training step
    carries along like the batch norms' statistics. The header is in our checkpoints only; the
    references do not store it.
    """

    def __init__(
        self, identities: int, width: int, options: MatchingOptions, unlabelled: int = UNLABELLED
    ):
        empty = zero_tables(identities, options.queue_size, width)
        self.lut, self.cq = Buffer(empty.lookup), Buffer(empty.queue)
        self.header = Memory(empty.header)
        self.options = options
        self.unlabelled = unlabelled

    def tables(self) -> OimTables:
        """The tables' contents."""
        return OimTables(self.lut[...], self.cq[...], self.header[...])

    def __call__(
        self,
        embedding: Float[Array, "N D"],
        pid: Int[Array, " N"],
        mask: Bool[Array, " N"],
        *,
        update: bool = True,
    ) -> tuple[Float[Array, ""], OimRows]:
        """The loss with the current tables, which are updated afterwards."""
        options, tables = self.options, self.tables()
        codes = {"unlabelled": self.unlabelled, "overflow": options.overflow}
        loss, rows = oim_loss(embedding, pid, tables, mask, scale=options.scale, **codes)
        if update:
            without = "advance_header" if options.header_without_target else "update"
            new = update_tables(
                *(tables, embedding, pid, mask),
                momentum=options.momentum,
                without_target=without,
                **codes,
            )
            self.lut[...], self.cq[...], self.header[...] = new
        return loss, rows


def identity_parts(
    owner: Trunk, matching: MatchingOptions, dim: int, classes: int, rngs: nnx.Rngs
) -> dict[str, nnx.Module]:
    """Modules that embed and learn identities: `reid_head`, `embedding_head`, `reid_loss`."""
    features = {"feat_res4": owner.channels, "feat_res5": 2 * owner.channels}
    return {
        "reid_head": RegionHead(owner, rngs=rngs),
        "embedding_head": NormAwareEmbedding(features, dim, rngs=rngs),
        "reid_loss": InstanceMatching(classes, dim, matching, owner.unlabelled),
    }


class Regions(NamedTuple):
    """The regions that identities are learned from, one image after the other."""

    pooled: Float[Array, "N s s C"]
    embedding: Float[Array, "N D"]
    pid: Int[Array, " N"]
    mask: Bool[Array, " N"]
    rows: OimRows


class PersonSearch(Detector, SearchesPersons):
    """Base of the methods that detect persons and embed them. Each method defines `terms`,
    `detect_stages` and `embed_boxes`."""

    def loss(self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs) -> tuple[Array, Terms]:
        """The weighted sum of all losses of a batch of frames; the tables are then updated."""
        terms, _ = self.terms(batch, rngs.regions())
        return sum(terms.values(), jnp.zeros(())), terms

    def detect(
        self,
        batch: Mapping[str, jax.Array],
        query_boxes: Float[Array, "B 4"] | None = None,
    ) -> Detected:
        """The persons in a batch of gallery frames; an embedding is multiplied by its score.

        With `query_boxes`, one a frame, the frames are those of queries: the given box comes out
        first with score 1 (unless it is empty), and embeddings are not multiplied by scores, as
        context matching needs.
        """
        return self.detect_stages(batch, query_boxes)[0]

    def embed_queries(self, batch: Mapping[str, jax.Array]) -> Float[Array, "B N D"]:
        """The embeddings of the batch's `boxes`, without a score; 0 where `box_mask` is False.

        Used for queries, and for the true boxes of gallery frames, which bound the gain of a better
        detector.
        """
        return self.embed_boxes(self.maps(batch), batch["boxes"], batch["box_mask"])

    def finish(
        self,
        maps: Maps,
        boxes: Float[Array, "B R 4"],
        kept: Detections,
        embedding: Float[Array, "BR D"],
        query_boxes: Float[Array, "B 4"] | None,
        nms: float,
    ) -> Detected:
        """The last suppression, with the queries' boxes where there are any."""
        scores, valid = jnp.where(kept.valid, kept.scores, 0.0), kept.valid
        embedding = per_image(embedding, len(boxes))
        if query_boxes is None:
            embedding = embedding * scores[..., None]
        else:
            # In front, where the references append them: a detection of score 1 cannot win.
            query_boxes = query_boxes[:, None]
            query = self.embed_boxes(maps, query_boxes, jnp.ones(query_boxes.shape[:2], bool))
            boxes = jnp.concatenate([query_boxes, boxes], axis=1)
            scores = jnp.pad(scores, ((0, 0), (1, 0)), constant_values=1.0)
            valid = jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)
            embedding = jnp.concatenate([query, embedding], axis=1)
        last = self.keep(boxes, scores, valid, nms)
        embedding = jnp.take_along_axis(embedding, last.index[..., None], axis=1)
        return Detected(
            last.boxes,
            jnp.where(last.valid, last.scores, 0.0),
            jnp.where(last.valid[..., None], embedding, 0.0),
            last.valid,
        )


class SeqNet(PersonSearch):
    """Trunk, proposal network, two heads, and the tables of the identities."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        features = 2 * self.channels
        matching, dim = options.matching, options.embedding_dim
        self.roi_heads = Parts(
            box_head=RegionHead(self, rngs=rngs),
            faster_rcnn_predictor=BoxPredictor(features, rngs=rngs),
            box_predictor=BoxRegressor(features, rngs=rngs),
            **identity_parts(self, matching, dim, facts.num_classes, rngs),
        )

    def classify(
        self, maps: Maps, boxes: Float[Array, "B R 4"], mask: Bool[Array, "B R"]
    ) -> tuple[Float[Array, "BR 2"], Float[Array, "BR 2 4"]]:
        """Class logits and box codes of the first head."""
        features = self.roi_heads.box_head(self.pool(maps, boxes, mask), mask.reshape(-1))
        return self.roi_heads.faster_rcnn_predictor(features["feat_res5"])

    def identify(
        self, pooled: Float[Array, "N s s C"], mask: Bool[Array, " N"]
    ) -> tuple[Float[Array, "N 2 4"], Float[Array, "N D"], Float[Array, " N"]]:
        """Box codes, unit embedding and norm-aware logit of the second head."""
        heads = self.roi_heads
        features = heads.reid_head(pooled, mask)
        return heads.box_predictor(features["feat_res5"], mask), *heads.embedding_head(
            features, mask
        )

    def terms(self, batch: Mapping[str, jax.Array], key: Key[Array, ""]) -> tuple[Terms, Stages]:
        """Each weighted loss, and the regions that were drawn."""
        keys = jax.random.split(key, 4)
        maps, truth = self.maps(batch), self.truth(batch)
        proposals, terms = self.propose(maps, truth, keys[0])
        first = self.select(keys[1], proposals.boxes, proposals.valid, truth)
        logits, codes = self.classify(maps, first.boxes, first.valid)
        terms["proposal_cls"], terms["proposal_reg"] = classification_losses(logits, codes, first)
        boxes = self.refine(codes, first.boxes, maps.size)
        second = self.select(keys[2], boxes, first.valid, truth)
        mask, pid = second.valid.reshape(-1), second.label.reshape(-1)
        pooled = self.pool(maps, second.boxes, second.valid)
        box_codes, embedding, logit = self.identify(pooled, mask)
        terms["box_reg"], positive, _ = region_losses(box_codes, second)
        terms["box_cls"] = binary_cross_entropy(logit, positive, mask)
        terms["box_reid"], rows = self.roi_heads.reid_loss(embedding, pid, mask)
        terms = {name: getattr(self.options.weights, name) * terms[name] for name in terms}
        terms |= self.distil(Regions(pooled, embedding, pid, mask, rows), keys[3])
        return terms, Stages(proposals, logits, codes, samples=(first, second))

    def distil(self, regions: Regions, key: Key[Array, ""]) -> Terms:
        """Further weighted losses on the second head's regions; none here."""
        return {}

    def detect_stages(
        self,
        batch: Mapping[str, jax.Array],
        query_boxes: Float[Array, "B 4"] | None = None,
    ) -> tuple[Detected, Stages]:
        """`detect` with the results of the earlier stages. The score is always the first head's."""
        maps, stages = self.first_stage(batch)
        (detections,) = stages.kept
        mask = detections.valid.reshape(-1)
        codes2, embedding, _ = self.identify(
            self.pool(maps, detections.boxes, detections.valid), mask
        )
        boxes = self.refine(codes2, detections.boxes, maps.size)
        nms = self.options.regions.final_nms
        return self.finish(maps, boxes, detections, embedding, query_boxes, nms), stages

    def embed_boxes(
        self, maps: Maps, boxes: Float[Array, "B N 4"], mask: Bool[Array, "B N"]
    ) -> Float[Array, "B N D"]:
        """Unit embeddings of given boxes; 0 where `mask` is False."""
        _, embedding, _ = self.identify(self.pool(maps, boxes, mask), mask.reshape(-1))
        return jnp.where(mask[..., None], per_image(embedding, len(boxes)), 0.0)
