"""Faster R-CNN for persons on a C4 trunk (Ren et al., NeurIPS 2015), and the parts that every
two-stage method here shares: the trunk, the proposal network, drawing, pooling and coding of
regions.

A batch of frames is a dictionary of

- `image` [B,H,W,3]: pixels 0..255 (uint8 or float), resized, at the upper left of a canvas whose
  sides are multiples of 32;
- `size` int32 [B,2]: height and width of each image without its padding; (0, 0): no image;
- `boxes` float32 [B,N,4]: true boxes (x0, y0, x1, y1) in pixels of the canvas;
- `box_mask` bool [B,N]: False for padding;
- `label` int32 [B,N]: the identity's class, −1 for a person without identity.

All shapes are static: one compilation for each canvas and N. Names are torchvision's and the
reference's (`backbone.*`, `rpn.head.*`, `roi_heads.*`), so that their checkpoints fit.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from g2ajax.backbones import resnet
from g2ajax.config import options
from g2ajax.config.ranges import NonNegative
from g2ajax.detection import anchors as anchor_grid
from g2ajax.detection.boxes import ROI_WEIGHTS, clip_boxes, decode_boxes
from g2ajax.detection.options import ProposalOptions, RegionOptions
from g2ajax.detection.proposals import Detections, Proposals, filter_detections, filter_proposals
from g2ajax.detection.roi_align import roi_align
from g2ajax.detection.stages import Maps, Stages, Truth
from g2ajax.detection.targets import (
    TrainingSamples,
    flat,
    per_image,
    select_anchors,
    select_training_samples,
)
from g2ajax.losses.detection import binary_cross_entropy, box_regression, class_cross_entropy
from g2ajax.losses.oim import UNLABELLED
from g2ajax.methods import DataFacts, Detected, Detects, Method, Preprocessing
from g2ajax.methods.base import MULTIPLE
from g2ajax.nn.norm import Buffer
from g2ajax.nn.norm_aware import MaskedBatchNorm
from g2ajax.nn.pooling import global_max
from g2ajax.nn.regions import BoxPredictor, Parts, ProposalHead

STRIDE = 16

POOLED = 14
Terms = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class TrunkOptions:
    """Options of every network with a C4 trunk."""

    backbone: Mapping[str, Any]
    """`name` of a ResNet and its own options."""
    preprocessing: Preprocessing = Preprocessing()
    freeze_stem: bool = True
    """Keep the values of the first convolution and of the affine part of its norm, as the
    references do; False if nothing pretrained is loaded. Its statistics are updated either way."""
    remat: bool = False
    """Recompute each block in the backward pass: less memory, more time."""


@dataclasses.dataclass(frozen=True)
class DetectorOptions(TrunkOptions):
    """Options of every detector."""

    rpn: ProposalOptions = ProposalOptions()
    regions: RegionOptions = RegionOptions()
    padding: Literal["masked", "counted"] = "masked"
    """`masked`: the canvas has no effect; each image is computed as on the smallest canvas of a
    multiple of 32, as in the references' tests. `counted`: the whole canvas takes part, in the
    batch norms' statistics and with its anchors, as in the references' training."""


@dataclasses.dataclass(frozen=True)
class Options(DetectorOptions):
    """Options of the plain detector."""

    proposal_box_weight: NonNegative = 1.0
    """Weight of the head's box loss; 10 in SeqNet's first head."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "FasterRCNN":
    """Builds the detector. Raises ValueError for unknown options and whatever the trunk refuses."""
    return FasterRCNN(options(Options, config, "method"), facts, rngs=rngs)


class RegionHead(nnx.Module):
    """`layer4` over regions: the maxima of its input (`feat_res4`) and its output (`feat_res5`)."""

    def __init__(self, owner: "Trunk", *, rngs: nnx.Rngs):
        self.layer4 = resnet.residual_stage(
            owner.head_depth,
            owner.channels,
            owner.width * 8,
            2,
            block=owner.block,
            bn_momentum=owner.options.backbone.get("bn_momentum", 0.1),
            norm=MaskedBatchNorm,
            dtype=owner.dtype,
            rngs=rngs,
        )
        self.remat = owner.options.remat

    def __call__(
        self, x: Float[Array, "R s s C"], mask: Bool[Array, " R"] | None = None
    ) -> dict[str, Float[Array, "R _"]]:
        y = resnet.run_blocks(self.layer4, x, mask, remat=self.remat)
        return {"feat_res4": global_max(x), "feat_res5": global_max(y)}


class Trunk(Method):
    """`backbone`, a ResNet whose layer4 belongs to the heads; gives a map at stride 16.

    Raises:
      ValueError: for a network that is no ResNet, or has gates, non-local blocks or IBN, whose
        statistics over a padded map are undefined.
    """

    def __init__(self, options: TrunkOptions, facts: DataFacts, *, rngs: nnx.Rngs):
        spec = {"pool": "torchvision", **options.backbone}
        name = spec.pop("name")
        refused = [key for key in ("with_se", "with_nl", "with_ibn", "non_local") if spec.get(key)]
        if name not in resnet.VARIANTS or refused:
            with_them = f" with {', '.join(refused)}" if refused else ""
            raise ValueError(
                f"method.backbone = {name!r}{with_them}: detectors take a plain ResNet, one of "
                f"{', '.join(resnet.VARIANTS)}"
            )
        self.backbone = network = resnet.build(
            name, norm=MaskedBatchNorm, remat=options.remat, dtype=facts.dtype, rngs=rngs, **spec
        )
        self.head_depth = len(network.layer4)
        del network.layer4
        if options.freeze_stem:
            # Buffers have neither gradient nor weight decay; the statistics are still updated.
            network.conv1.kernel = Buffer(network.conv1.kernel[...])
            network.bn1.scale = Buffer(network.bn1.scale[...])
            network.bn1.bias = Buffer(network.bn1.bias[...])
        variant = resnet.VARIANTS[name]
        self.block, self.width = variant.block, spec.get("width", variant.width)
        self.channels = self.width * 4 * resnet.EXPANSION[self.block]
        self.options = options
        self.dtype = facts.dtype
        self.unlabelled = max(UNLABELLED, facts.num_classes + 1)
        self.preprocessing = options.preprocessing
        self.metric = "cosine"
        self.feature_name = "norm-aware embedding"


class Detector(Trunk, Detects):
    """The trunk and the proposal network, and the steps between the heads of any method."""

    def __init__(self, options: DetectorOptions, facts: DataFacts, *, rngs: nnx.Rngs):
        super().__init__(options, facts, rngs=rngs)
        anchors = len(options.rpn.sizes) * len(options.rpn.aspect_ratios)
        self.rpn = Parts(head=ProposalHead(self.channels, anchors, dtype=facts.dtype, rngs=rngs))

    def maps(self, batch: Mapping[str, jax.Array]) -> Maps:
        """The features of the frames of a batch.

        Raises ValueError for a canvas that is no multiple of 32.
        """
        image, size = batch["image"], batch["size"]
        canvas = image.shape[1:3]
        if any(side % MULTIPLE for side in canvas):
            raise ValueError(
                f"a canvas of {canvas[0]} x {canvas[1]} pixels: expected multiples of {MULTIPLE}; "
                "pad the frames"
            )
        image = self.preprocessing(image.astype(jnp.float32))
        x = jnp.where(_cells(size, canvas)[..., None], image, 0.0)
        extent, mask = None, None
        if self.options.padding == "masked":
            own = -(-size // MULTIPLE) * MULTIPLE
            mask, extent = _cells(own, canvas), own // STRIDE
        x = self.backbone.stem(x, mask)
        for number, stride in ((1, 4), (2, 4), (3, 8)):
            cells = None if mask is None else mask[:, ::stride, ::stride]
            x = self.backbone.stage(number, x, cells)
        if mask is not None:
            x = jnp.where(mask[:, ::STRIDE, ::STRIDE, None], x, 0)
        return Maps(x, size, extent)

    def truth(self, batch: Mapping[str, jax.Array]) -> Truth:
        """The true boxes; a label of −1 is a person without identity."""
        mask, label = batch["box_mask"], batch["label"]
        pid = jnp.where(label >= 0, label + 1, self.unlabelled)
        return Truth(batch["boxes"], mask, jnp.where(mask, pid, 0).astype(jnp.int32))

    def propose(
        self, maps: Maps, truth: Truth | None = None, key: Key[Array, ""] | None = None
    ) -> tuple[Proposals, Terms]:
        """Proposals of each image, and with the truth the two losses (`rpn_cls`, `rpn_reg`)."""
        options, training = self.options.rpn, truth is not None
        logits, codes = self.rpn.head(maps.features)
        shape = maps.features.shape[1:3]
        cell = anchor_grid.cell_anchors(options.sizes, options.aspect_ratios)
        anchors = anchor_grid.grid_anchors(cell, shape, (STRIDE, STRIDE))
        mask = None
        if maps.extent is not None:
            mask = jnp.repeat(_cells(maps.extent, shape).reshape(len(logits), -1), len(cell), 1)
        proposals = jax.vmap(
            lambda logits, codes, size, mask: filter_proposals(
                logits,
                codes,
                anchors,
                size,
                pre_nms=options.train_pre_nms if training else options.test_pre_nms,
                post_nms=options.train_post_nms if training else options.test_post_nms,
                nms_threshold=options.nms,
                min_size=options.min_size,
                anchor_mask=mask,
            )
        )(logits, codes, maps.size, mask)
        if not training:
            return proposals, {}
        sample = jax.vmap(
            lambda key, boxes, there, mask: select_anchors(
                key,
                anchors,
                boxes,
                there,
                high=options.foreground_iou,
                low=options.background_iou,
                size=options.samples,
                positive_fraction=options.positive_fraction,
                anchor_mask=mask,
            )
        )(jax.random.split(key, len(logits)), truth.boxes, truth.mask, mask)
        valid, positive = sample.valid.reshape(-1), sample.positive.reshape(-1)
        of_sample = jnp.take_along_axis(logits, sample.index, axis=1).reshape(-1)
        codes = jnp.take_along_axis(codes, sample.index[..., None], axis=1)
        beta = 1.0 / 9.0 if options.box_loss == "smooth_l1" else 0.0
        return proposals, {
            "rpn_cls": binary_cross_entropy(of_sample, positive, valid),
            "rpn_reg": box_regression(flat(codes), flat(sample.codes), positive, valid, beta=beta),
        }

    def select(
        self,
        key: Key[Array, ""],
        boxes: Float[Array, "B R 4"],
        mask: Bool[Array, "B R"],
        truth: Truth,
        iou: float = 0.5,
    ) -> TrainingSamples:
        """Training regions of a head in each image, [B,S,...]: matched at `iou`, then sampled."""
        options = self.options.regions
        draw = functools.partial(
            select_training_samples,
            foreground_iou=iou,
            background_iou=iou,
            size=options.samples,
            positive_fraction=options.positive_fraction,
        )
        keys = jax.random.split(key, len(boxes))
        return jax.vmap(draw)(keys, boxes, mask, truth.boxes, truth.pid, truth.mask)

    def pool(
        self, maps: Maps, boxes: Float[Array, "B R 4"], mask: Bool[Array, "B R"]
    ) -> Float[Array, "BR s s C"]:
        """The features under the boxes of all images."""
        pool = functools.partial(
            roi_align,
            output_size=POOLED,
            spatial_scale=1.0 / STRIDE,
            chunk=self.options.regions.pool_chunk or None,
        )
        one = jax.vmap(lambda x, boxes, mask, extent: pool(x, boxes, mask, extent=extent))
        return flat(one(maps.features, boxes, mask, maps.extent))

    def refine(
        self,
        codes: Float[Array, "BR 2 4"],
        boxes: Float[Array, "B R 4"],
        size: Int[Array, "B 2"],
    ) -> Float[Array, "B R 4"]:
        """`boxes` decoded with the person's codes and clipped to the image, as constants."""
        codes = jax.lax.stop_gradient(per_image(codes[:, 1], len(boxes)))
        return jax.vmap(clip_boxes)(decode_boxes(codes, boxes, ROI_WEIGHTS), size)

    def keep(
        self,
        boxes: Float[Array, "B R 4"],
        scores: Float[Array, "B R"],
        mask: Bool[Array, "B R"],
        nms: float,
    ) -> Detections:
        """Each image's boxes above the score threshold after non-maximum suppression."""
        options = self.options.regions
        keep = functools.partial(
            filter_detections,
            score_threshold=options.score_threshold,
            min_size=options.min_size,
            nms_threshold=nms,
            max_output=options.max_detections,
        )
        return jax.vmap(keep)(boxes, scores, mask)

    def first_stage(self, batch: Mapping[str, jax.Array]) -> tuple[Maps, Stages]:
        """The features of a batch of frames, and the boxes that the first head (each method's
        `classify`) keeps: scored, refined, suppressed."""
        maps = self.maps(batch)
        proposals, _ = self.propose(maps)
        logits, codes = self.classify(maps, proposals.boxes, proposals.valid)
        scores = per_image(jax.nn.softmax(logits)[:, 1], len(maps.size))
        boxes = self.refine(codes, proposals.boxes, maps.size)
        detections = self.keep(boxes, scores, proposals.valid, self.options.regions.nms)
        return maps, Stages(proposals, logits, codes, kept=(detections,))


def region_losses(
    codes: Float[Array, "R 2 4"], samples: TrainingSamples
) -> tuple[Float[Array, ""], Bool[Array, " R"], Bool[Array, " R"]]:
    """The box loss of a head's rows, the mask of persons, and the mask of valid rows."""
    label, valid = samples.label.reshape(-1), samples.valid.reshape(-1)
    positive = label > 0
    return (
        box_regression(codes[:, 1], flat(samples.codes), positive, valid, beta=1.0),
        positive,
        valid,
    )


def classification_losses(
    logits: Float[Array, "R 2"], codes: Float[Array, "R 2 4"], samples: TrainingSamples
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy and box loss of a head that classifies by softmax."""
    regression, positive, valid = region_losses(codes, samples)
    return class_cross_entropy(logits, positive.astype(jnp.int32), valid), regression


class FasterRCNN(Detector):
    """The plain detector: `roi_heads.box_head.layer4`, `roi_heads.faster_rcnn_predictor`."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        self.roi_heads = Parts(
            box_head=RegionHead(self, rngs=rngs),
            faster_rcnn_predictor=BoxPredictor(2 * self.channels, rngs=rngs),
        )

    def classify(
        self, maps: Maps, boxes: Float[Array, "B R 4"], mask: Bool[Array, "B R"]
    ) -> tuple[Float[Array, "BR 2"], Float[Array, "BR 2 4"]]:
        """Class logits and box codes of regions."""
        pooled = self.pool(maps, boxes, mask)
        features = self.roi_heads.box_head(pooled, mask.reshape(-1))
        return self.roi_heads.faster_rcnn_predictor(features["feat_res5"])

    def loss(self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs) -> tuple[Array, Terms]:
        """The sum of the four losses of a batch of frames."""
        first, second = jax.random.split(rngs.regions())
        maps, truth = self.maps(batch), self.truth(batch)
        proposals, terms = self.propose(maps, truth, first)
        samples = self.select(second, proposals.boxes, proposals.valid, truth)
        logits, codes = self.classify(maps, samples.boxes, samples.valid)
        classes, regression = classification_losses(logits, codes, samples)
        terms["proposal_cls"] = classes
        terms["proposal_reg"] = self.options.proposal_box_weight * regression
        return sum(terms.values(), jnp.zeros(())), terms

    def detect(self, batch: Mapping[str, jax.Array]) -> Detected:
        """The persons in a batch of frames; its boxes are not used."""
        (detections,) = self.first_stage(batch)[1].kept
        return Detected(
            detections.boxes,
            jnp.where(detections.valid, detections.scores, 0.0),
            None,
            detections.valid,
        )


def _cells(size: Int[Array, "B 2"], shape: tuple[int, int]) -> Bool[Array, "B h w"]:
    """The upper left `size` (rows, columns) of a map."""
    rows = jnp.arange(shape[0])[None, :] < size[:, :1]
    columns = jnp.arange(shape[1])[None, :] < size[:, 1:]
    return rows[:, :, None] & columns[:, None, :]
