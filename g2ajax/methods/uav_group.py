"""The UAV network: triplet loss on the whole feature, a Gaussian mixture on each group of channels.

Grigorev et al., "Deep person re-identification in UAV images", EURASIP J. Adv. Signal Process.
2019:54, with the loss of Wan et al., CVPR 2018. There is no public code. Choices of ours
where the paper is silent: 4 groups, dropout 0.5, alpha = lambda = 0.1, identity covariances, means
drawn as Xavier's. Its print of the margin (an additive constant) is not the cited loss and is not
followed. It transfers: train on a larger data set with `mixture_weight=0`, then start from that run
(`init.file`) with the mixtures on.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax import backbones
from g2ajax.backbones.vit import ViT
from g2ajax.config import options
from g2ajax.config.ranges import Count, Decay, NonNegative
from g2ajax.losses.gaussian_mixture import large_margin_gaussian_mixture
from g2ajax.losses.triplet import triplet
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.nn.norm import BatchNorm

HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the paper's."""

    backbone: Mapping[str, Any]
    """`name` of a backbone that gives a map, and its own options."""
    preprocessing: Preprocessing = Preprocessing()
    ranking_width: Count = 2048
    """Width of the hidden layer before the embedding of the triplet loss."""
    dropout: Decay = 0.5
    """Dropout after that hidden layer."""
    groups: Count = 4
    """Parts into which the channels are cut."""
    group_width: Count = 256
    """Width of the layer that all groups share."""
    embedding_dim: Count = 128
    """Width of the embedding given to each loss."""
    margin: NonNegative | None = 0.2
    """Margin of the batch-hard triplet loss; None or 0: soft margin."""
    mixture_weight: NonNegative = 0.25
    """Weight of each group's mixture loss; 0: triplet loss alone, and no groups are built."""
    covariance: Literal["identity", "diagonal"] = "identity"
    """`diagonal` learns a log-variance for each class and dimension, clamped to ±8; the logged
    `clamped` is the share of them at the clamp."""
    alpha: NonNegative = 0.1
    """Margin of the mixture: the true class's distance counts 1 + alpha times."""
    likelihood_weight: NonNegative = 0.1
    """Weight lambda of the likelihood in the mixture loss."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "UAVGroup":
    """Builds the method. Raises ValueError for unknown options, and for groups that do not fit."""
    return UAVGroup(options(Options, config, "method"), facts, rngs=rngs)


def _linear(features_in: int, features_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(features_in, features_out, precision=HIGHEST, rngs=rngs)


class RankingBranch(nnx.Module):
    """Linear, batch norm, ReLU, dropout, linear: the embedding of the triplet loss. float32."""

    def __init__(self, dim: int, width: int, embedding_dim: int, dropout: float, *, rngs: nnx.Rngs):
        self.fc1 = _linear(dim, width, rngs)
        self.bn = BatchNorm(width)
        self.dropout = nnx.Dropout(dropout)
        self.fc2 = _linear(width, embedding_dim, rngs)

    def __call__(
        self, feature: Float[Array, "B D"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "B E"]:
        hidden = jax.nn.relu(self.bn(self.fc1(feature)))
        return self.fc2(self.dropout(hidden, rngs=rngs))


class ChannelGroups(nnx.Module):
    """Channel group learning: G consecutive parts of the channels, one embedding of each. float32.

    `reduce` (linear, batch norm, ReLU) is shared, its statistics too: they are those of all groups
    of the batch. `fc` is a group's own. An earlier paragraph of the paper gives the shared layer
    128 channels; its experiments have 256.
    """

    def __init__(
        self, dim: int, groups: int, width: int, embedding_dim: int, *, rngs: nnx.Rngs
    ) -> None:
        if groups < 1 or dim % groups:
            raise ValueError(
                f"{dim} channels do not split into {groups} equal groups; set method.groups to a "
                f"divisor of {dim}"
            )
        self.groups = groups
        self.reduce = _linear(dim // groups, width, rngs)
        self.bn = BatchNorm(width)
        self.fc = nnx.List([_linear(width, embedding_dim, rngs) for _ in range(groups)])

    def __call__(self, feature: Float[Array, "B D"]) -> Float[Array, "G B E"]:
        parts = feature.reshape(feature.shape[0], self.groups, -1)
        hidden = jax.nn.relu(self.bn(self.reduce(parts)))
        return jnp.stack([layer(hidden[:, i]) for i, layer in enumerate(self.fc)])


class Mixtures(nnx.Module):
    """Means, and log-variances if they are learned, of every class in every group's space."""

    def __init__(self, groups: int, classes: int, dim: int, *, diagonal: bool, rngs: nnx.Rngs):
        shape = (groups, classes, dim)
        draw = nnx.initializers.variance_scaling(2.0, "fan_avg", "normal", batch_axis=(0,))
        self.means = nnx.Param(draw(rngs.params(), shape, jnp.float32))
        self.log_variances = nnx.Param(jnp.zeros(shape)) if diagonal else None


class UAVGroup(Method, EmbedsCrops):
    """Backbone, both branches and their losses."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        name = spec.pop("name")
        self.backbone = backbones.build(
            name, image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        if isinstance(self.backbone, ViT):
            raise ValueError(
                f"uav_group averages a map of channels, and {name!r} gives tokens; use a ResNet or "
                "an OSNet"
            )
        dim, embedding = self.backbone.feature_dim, options.embedding_dim
        self.ranking = RankingBranch(
            dim, options.ranking_width, embedding, options.dropout, rngs=rngs
        )
        if options.mixture_weight:
            self.local = ChannelGroups(
                dim, options.groups, options.group_width, embedding, rngs=rngs
            )
            self.mixtures = Mixtures(
                options.groups,
                facts.num_classes,
                embedding,
                diagonal=options.covariance == "diagonal",
                rngs=rngs,
            )
        self.options = options
        self.metric = "squared_euclidean"
        self.preprocessing = options.preprocessing
        self.feature_name = "average of the last map"
        self.in_batch_terms = ("triplet",)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Triplet loss + weight · the sum over groups of the mixture loss.

        Also logged: `likelihood`, `accuracy` and `clamped`, means over the groups.
        """
        options, label = self.options, batch["label"]
        feature = self.embed(batch["image"])
        ranking = triplet(self.ranking(feature, rngs), label, margin=options.margin)
        if not options.mixture_weight:
            return ranking, {"triplet": ranking}

        def of_group(feature, means, log_variance):
            return large_margin_gaussian_mixture(
                feature,
                means,
                label,
                log_variance=log_variance,
                alpha=options.alpha,
                likelihood_weight=options.likelihood_weight,
            )

        learned = self.mixtures.log_variances
        log_variances = None if learned is None else learned[...]
        terms = jax.vmap(of_group)(self.local(feature), self.mixtures.means[...], log_variances)
        mixture = jnp.sum(terms.loss)
        metrics = {
            "triplet": ranking,
            "mixture": mixture,
            "likelihood": jnp.mean(terms.likelihood),
            "accuracy": jnp.mean(jnp.argmax(terms.logits, -1) == label[None]),
            "clamped": jnp.mean(terms.clamped),
        }
        return ranking + options.mixture_weight * mixture, metrics

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: the average of the last map, before both
        branches; float32, not normalised."""
        return self.backbone(self.preprocessing(images)).astype(jnp.float32).mean((1, 2))
