"""A backbone and a classifier: a method outside the package, as docs/extending.md says how to add one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from g2ajax import backbones
from g2ajax.config import options
from g2ajax.config.ranges import Share
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.methods import DataFacts, EmbedsCrops, Method


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method."""

    backbone: Mapping[str, Any]
    """`name` of a backbone that gives a map, and its own options."""
    smoothing: Share = 0.1


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> Method:
    """Builds the method. Raises ValueError for unknown options."""
    return Classifier(options(Options, config, "method"), facts, rngs=rngs)


class Classifier(Method, EmbedsCrops):
    """Average of a backbone's last map, and a linear classifier of the training identities."""

    feature_name = "average of the last map"

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        self.backbone = backbones.build(
            spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        self.classifier = nnx.Linear(self.backbone.feature_dim, facts.num_classes, rngs=rngs)
        self.smoothing = options.smoothing

    def embed(self, images, *, camera=None, platform=None):
        """The test feature of images with pixels 0..255."""
        return self.backbone(self.preprocessing(images)).astype(jnp.float32).mean((1, 2))

    def loss(self, batch, rngs):
        """The loss of a batch and its terms by name."""
        logits = self.classifier(self.embed(batch["image"]))
        identity = cross_entropy(logits, batch["label"], smoothing=self.smoothing)
        return identity, {"identity": identity}
