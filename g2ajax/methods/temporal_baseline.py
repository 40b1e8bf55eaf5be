"""The strong baseline on tracklets: the feature of every frame, pooled over the frames of a clip.

The usual first baseline on video: Gao and Nevatia, "Revisiting
Temporal Modeling for Video-based Person ReID" (arXiv 1805.02104), compare mean, maximum and attention.
Backbone, neck and losses are those of `strong_baseline`; a crop is embedded as a tracklet of one frame.
The pooling at several granularities and the memory are SAS-VPReID's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from g2ajax.config import options
from g2ajax.config.ranges import Count
from g2ajax.losses.cluster_memory import MemoryOptions, memory_step
from g2ajax.methods import DataFacts, EmbedsTracklets, strong_baseline
from g2ajax.methods.strong_baseline import StrongBaseline
from g2ajax.nn.memory import Memory
from g2ajax.nn.temporal import POOLS, FramePooling, learned_pool


@dataclasses.dataclass(frozen=True)
class Options(strong_baseline.Options):
    """Options of the method: those of the strong baseline, and the pooling over frames."""

    temporal: FramePooling = "mean"
    """Pooling of the frames' features; `granular`: attention in windows of a quarter, of a half and
    of the whole clip."""
    attention_dim: Count = 256
    """Hidden width of the attention."""
    memory: MemoryOptions = MemoryOptions()
    """Dual cluster memory of the feature after the neck, a further loss."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "TemporalBaseline":
    """Builds the method. Raises ValueError for unknown options."""
    return TemporalBaseline(options(Options, config, "method"), facts, rngs=rngs)


class TemporalBaseline(StrongBaseline, EmbedsTracklets):
    """Backbone, pooling over frames, head and the two losses; `memory` [2C, D] if its loss has a weight."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        width = self.backbone.feature_dim
        pool = learned_pool(options.temporal, width, options.attention_dim, rngs=rngs)
        self.attention = nnx.data(pool)
        self.memory = None
        if options.memory.weight:
            table = jnp.zeros((2 * facts.num_classes, self.heads.feature_dim))
            self.memory = nnx.data(Memory(table))
            self.in_batch_terms = (*self.in_batch_terms, "memory")
        self.feature_name = f"{options.test_feature} neck, {options.temporal}"

    def clip_features(
        self,
        clips: Float[Array, "B T H W 3"],
        frame_mask: Bool[Array, "B T"],
        camera: Int[Array, " B"] | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B ..."]:
        """The input of the head, from pixels 0..255: pooled over places, then over frames.

        The frames are folded into the batch for the backbone. Padding frames change
        nothing but the statistics of a backbone with batch norm in training.
        """
        batch, length = clips.shape[:2]
        frames = clips.reshape(batch * length, *clips.shape[2:])
        camera = None if camera is None else jnp.repeat(camera, length)
        pooled = self.heads.pool_layer(self.features(frames, camera, rngs))
        pool = self.attention or POOLS[self.options.temporal]
        feature = pool(pooled.reshape(batch, length, -1), frame_mask)
        # The head pools again: a map of one place, which pooling does not change.
        return feature if self.options.head.pool == "Identity" else feature[:, None, None]

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Identity + triplet loss of a batch of clips, `image` [B,T,H,W,3] with `frame_mask` [B,T], and
        that of the memory, if there is one."""
        clips, mask, label = batch["image"], batch["frame_mask"], batch["label"]
        out = self.heads(self.clip_features(clips, mask, batch["camera"], rngs), label)
        total, terms = self.losses(out, label)
        if self.memory is not None:
            options = self.options.memory
            loss, self.memory[...] = memory_step(self.memory[...], out["after"], label, options)
            total, terms = total + options.weight * loss, {**terms, "memory": loss}
        return total, terms

    def embed_tracklet(
        self,
        images: Float[Array, "B T H W 3"],
        frame_mask: Bool[Array, "B T"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of clips with pixels 0..255, float32, not normalised."""
        before, after = self.heads.features(self.clip_features(images, frame_mask, camera))
        return after if self.options.test_feature == "after" else before
