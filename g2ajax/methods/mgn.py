"""MGN, the multiple granularity network: one trunk, three branches, two of them cut into stripes.

Wang et al., "Learning Discriminative Features with Multiple Granularities for Person
Re-Identification", ACM MM 2018, as fast-reid builds it (its heads and losses are not the paper's):
each of eight heads has an identity loss, and the triplet losses take the whole maps, and the
joined stripes of a branch.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax import backbones
from g2ajax.backbones.resnet import ResNet
from g2ajax.backbones.split import keep_upper
from g2ajax.config import options
from g2ajax.config.ranges import Natural, NonNegative, Positive, Range
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing, strong_baseline
from g2ajax.nn.heads import EmbeddingHead
from g2ajax.nn.pooling import max_pool

STRIPES = {"b2": 2, "b3": 3}
# The heads in the order of the test feature.
HEADS = ("b1", "b2", "b3", "b21", "b22", "b31", "b32", "b33")
# Heads whose features each triplet loss takes, joined.
RANKED = (("b1",), ("b2",), ("b3",), ("b21", "b22"), ("b31", "b32", "b33"))


@dataclasses.dataclass(frozen=True)
class HeadOptions(strong_baseline.HeadOptions):
    """Each of the eight heads; the defaults are fast-reid's for MGN."""

    pool: str = "GeneralizedMeanPoolingP"
    embedding_dim: Natural = 256
    neck_feature: Literal["before", "after"] = "after"
    classifier: str = "CircleSoftmax"
    scale: Positive = 64.0
    margin: NonNegative = 0.35


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are fast-reid's MGN."""

    backbone: Mapping[str, Any]
    """`name` of a ResNet and its own options."""
    head: HeadOptions = HeadOptions()
    preprocessing: Preprocessing = Preprocessing()
    smoothing: Annotated[float, Range(0, 1, also=-1)] = 0.1
    """Label smoothing in fast-reid's form; 0: none; −1: adaptive."""
    margin: NonNegative | None = 0.0
    """Margin of the batch-hard triplet losses; None or 0: soft margin."""
    identity_weight: NonNegative = 1.0
    """Weight of the mean of the eight identity losses (fast-reid: 8 x 0.125)."""
    triplet_weight: NonNegative = 1.0
    """Weight of the mean of the five triplet losses (fast-reid: 5 x 0.2)."""
    metric: Literal["cosine", "squared_euclidean"] = "cosine"
    """Distance used in the evaluation."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "MGN":
    """Builds the method. Raises ValueError for unknown options and whatever `MGN` refuses."""
    return MGN(options(Options, config, "method"), facts, rngs=rngs)


def stripes(x: Float[Array, "B h w C"], count: int) -> list[Float[Array, "B s w C"]]:
    """A map cut along its height in `count` parts of ceil(h / count) rows, the last one shorter.

    Raises ValueError where that gives fewer parts (a height below `count`, or 4 in 3: 2 + 2).
    """
    height = x.shape[1]
    _check_height(height, count)
    size = math.ceil(height / count)
    return [x[:, i * size : (i + 1) * size] for i in range(count)]


def _check_height(height: int, count: int) -> None:
    if math.ceil(height / count) * (count - 1) >= height:
        raise ValueError(
            f"MGN cuts a map in {count} stripes of ceil(h/{count}) rows; one of height {height} "
            f"gives fewer than {count}: use taller images (the map has 1/16 of their height)"
        )


def map_height(backbone: ResNet, height: int) -> int:
    """Rows of the map that is cut, for images of `height` pixels: stem, layer2 and layer3 halve."""
    rows = (height - 1) // 2 + 1
    shape = jax.ShapeDtypeStruct((1, rows, rows, 1), jnp.float32)
    rows = jax.eval_shape(lambda x: max_pool(x, backbone.pool), shape).shape[1]
    for _ in ("layer2", "layer3"):
        rows = (rows - 1) // 2 + 1
    return rows


class MGN(Method, EmbedsCrops):
    """Trunk and branch 1 (`backbone`), the upper parts of branches 2 and 3, eight heads.

    The trunk ends after the first block of layer3. `backbone` is the whole ResNet, so that its
    files fit; branches 2 and 3 (`b2`, `b3`) are the layers above the trunk, under the same names,
    with stride 1 in layer4. In fast-reid all three start from the same weights:
    `copy = {"b2": "backbone", "b3": "backbone"}` of the first phase does that.

    Raises:
      ValueError: for another backbone than a ResNet without non-local blocks, and images whose map
        is too low for three stripes.
    """

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        def network(**changes: Any) -> nnx.Module:
            spec = {**options.backbone, **changes}
            name = spec.pop("name")
            return backbones.build(
                name, image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
            )

        self.backbone = network()
        _check_backbone(self.backbone, options.backbone["name"])
        for count in STRIPES.values():
            _check_height(map_height(self.backbone, facts.image_size[0]), count)
        self.b2 = _above_trunk(network(last_stride=1))
        self.b3 = _above_trunk(network(last_stride=1))
        for name in HEADS:
            head = EmbeddingHead(
                self.backbone.feature_dim,
                facts.num_classes,
                **dataclasses.asdict(options.head),
                rngs=rngs,
            )
            setattr(self, f"{name}_head", head)
        self.options = options
        self.metric = options.metric
        self.preprocessing = options.preprocessing
        self.feature_name = "after neck, eight heads joined"
        self.in_batch_terms = ("triplet",) if options.triplet_weight else ()

    def head(self, name: str) -> EmbeddingHead:
        """The head `name`, one of `HEADS`."""
        return getattr(self, f"{name}_head")

    def maps(self, images: Float[Array, "B H W 3"]) -> dict[str, Float[Array, "B h w C"]]:
        """The map that each head pools, from pixels 0..255: a branch's, or one stripe of it."""
        trunk = self.backbone
        x = trunk.stem(self.preprocessing(images))
        x = _run(trunk, trunk.layer3[:1], trunk.stage(2, trunk.stage(1, x)))
        branches = {"b1": trunk, "b2": self.b2, "b3": self.b3}
        out = {name: net.stage(4, _run(net, net.layer3[1:], x)) for name, net in branches.items()}
        for branch, count in STRIPES.items():
            for number, part in enumerate(stripes(out[branch], count), start=1):
                out[f"{branch}{number}"] = part
        return out

    def outputs(
        self, images: Float[Array, "B H W 3"], label: Int[Array, " B"]
    ) -> dict[str, dict[str, Array]]:
        """Outputs of each head in training (see `EmbeddingHead`)."""
        maps = self.maps(images)
        return {name: self.head(name)(maps[name], label) for name in HEADS}

    def terms(
        self, outputs: Mapping[str, Mapping[str, Array]], label: Int[Array, " B"]
    ) -> tuple[dict[str, Float[Array, ""]], dict[str, Float[Array, ""]]]:
        """The eight identity losses by head and the five triplet losses by the last head joined."""
        options = self.options
        identity = {
            name: cross_entropy(
                outputs[name]["cls_outputs"], label, smoothing=options.smoothing, form="fastreid"
            )
            for name in HEADS
        }
        ranking = {}
        for names in RANKED:
            joined = jnp.concatenate([outputs[name]["features"] for name in names], axis=-1)
            ranking[names[-1]] = triplet(joined, label, margin=options.margin)
        return identity, ranking

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The mean of the identity losses plus the mean of the triplet losses, weighted."""
        label = batch["label"]
        outputs = self.outputs(batch["image"], label)
        terms = self.terms(outputs, label)
        identity, ranking = (jnp.mean(jnp.stack(list(part.values()))) for part in terms)
        hits = jnp.argmax(outputs["b1"]["pred_class_logits"], -1) == label
        total = self.options.identity_weight * identity + self.options.triplet_weight * ranking
        return total, {"identity": identity, "triplet": ranking, "accuracy": jnp.mean(hits)}

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: the heads' features after their necks,
        joined in the order of `HEADS`; float32, not normalised."""
        maps = self.maps(images)
        return jnp.concatenate([self.head(name).embed(maps[name]) for name in HEADS], axis=-1)


def _check_backbone(backbone: nnx.Module, name: str) -> None:
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"MGN branches after the first block of a ResNet's layer3; method.backbone.name = "
            f"{name!r} is no ResNet: give resnet50 or another one"
        )
    if any(backbone.non_local):
        raise ValueError(
            f"MGN has no places for non-local blocks (fast-reid neither), got {backbone.non_local} "
            "a stage: leave out with_nl and non_local"
        )


def _above_trunk(network: ResNet) -> ResNet:
    """The layers of a ResNet above the trunk, under their ResNet names."""
    keep_upper(network, 3)
    network.layer3[0] = None
    return network


def _run(
    network: ResNet, blocks: list[nnx.Module], x: Float[Array, "B h w C"]
) -> Float[Array, "B h2 w2 C2"]:
    for block in blocks:
        x = nnx.remat(lambda block, x: block(x))(block, x) if network.remat else block(x)
    return x
