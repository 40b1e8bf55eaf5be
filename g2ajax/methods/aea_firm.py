"""AEA-FIRM: finding a person from the air by a sentence (Wang et al., TCSVT 2025).

CLIP's two towers; a caption is aligned with an aerial AND a ground image of its person, with a
queue of earlier ones (AEA), and images are matched with sentences that describe their attributes
(FIRM). Only the towers are needed after training. The public code has other names for the terms:
"supkl" is `aea`, "supitc" `contrastive`, "queue" `queue_length`, "match2" `match`, "dot" and "cat"
the products and concatenations of `joint`. Modules have its names: `base_model`,
`atr_matching_head`, `classifier`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import clip
from g2ajax.config import options
from g2ajax.config.ranges import Natural, NonNegative, Positive
from g2ajax.losses.attribute_matching import attribute_matching, pick_sentences
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.elastic_alignment import Queue, aea, empty_queue, over_pairs, push
from g2ajax.losses.image_text import itc, sdm
from g2ajax.methods import DataFacts, Preprocessing
from g2ajax.methods.irra import CLIP_PIXELS, ImageTextModel
from g2ajax.nn.memory import Memory

Term = Literal["aea", "contrastive", "sdm", "bisdm", "itc", "biitc", "id", "match"]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are those of the published command."""

    backbone: Mapping[str, Any]
    """`name` of a CLIP (`clip_vit_b16`) and its own options."""
    losses: tuple[Term, ...] = ("aea", "match")
    """Losses whose sum is trained. `sdm` and `itc` are means over the three pairs of kinds, `bisdm`
    and `biitc` over the pairs with the text."""
    temperature: Positive = 0.02
    """Temperature of the alignment losses; fixed."""
    queue_length: Natural = 192
    """Pairs remembered by `aea` and `contrastive`, three batches in the published code; 0: none."""
    mask_empty: bool = False
    """Ignore the queue's empty places; the published code counts them as positives of identity
    0."""
    pair_bonus: NonNegative = 0.15
    """Extra weight in `aea` of positives of the paired kind: a caption's aerial images, an aerial
    image's captions."""
    identity_weight: NonNegative = 1.0
    """Weight of the identity loss."""
    match_weight: NonNegative = 1.0
    """Weight of the loss of the attribute sentences, `match`."""
    joint: Literal["product", "concatenation"] = "product"
    """Joint feature of an image and a sentence: their product, or both in a row."""
    negative: Literal["next", "uniform"] = "next"
    """Class named by the false sentence: the next one, or any other."""
    preprocessing: Preprocessing = CLIP_PIXELS


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "AEAFIRM":
    """Builds the method. Raises ValueError for unknown options, and for `match` without sentences."""
    return AEAFIRM(options(Options, config, "method"), facts, rngs=rngs)


class FeatureQueue(nnx.Module):
    """The queue of AEA as state: read before a step's loss, pushed to after it."""

    def __init__(self, length: int, dim: int):
        start = empty_queue(length, dim)
        self.text, self.aerial, self.ground = map(Memory, (start.text, start.aerial, start.ground))
        self.identity = Memory(start.identity)

    def read(self) -> Queue:
        """The queue's contents."""
        return Queue(self.text[...], self.aerial[...], self.ground[...], self.identity[...])

    def push(
        self,
        text: Float[Array, "B D"],
        aerial: Float[Array, "B D"],
        ground: Float[Array, "B D"],
        identity: Int[Array, " B"],
    ) -> None:
        """Puts a batch at the front; the oldest entries fall out."""
        new = push(self.read(), text, aerial, ground, identity)
        self.text[...], self.aerial[...], self.ground[...] = new.text, new.aerial, new.ground
        self.identity[...] = new.identity


class AEAFIRM(ImageTextModel):
    """Two towers, the queue, and the modules of the chosen losses."""

    uses_pairs = True

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options.backbone, options.preprocessing, facts, rngs=rngs)
        self.options = options
        self.in_batch_terms = tuple(n for n in options.losses if n not in ("id", "match"))
        dim = self.base_model.feature_dim
        self.queue = nnx.data(None)
        if options.queue_length and {"aea", "contrastive"} & set(options.losses):
            self.queue = FeatureQueue(options.queue_length, dim)
        if "id" in options.losses:
            self.classifier = nnx.Linear(
                dim, facts.num_classes, kernel_init=nnx.initializers.normal(0.001), rngs=rngs
            )
        if "match" in options.losses:
            if not facts.sentences:
                raise ValueError(
                    "losses names 'match', which needs sentences for the attributes, but the data "
                    "have none; take 'match' out or use a dataset with attributes"
                )
            # Padding after the longest sentence changes no feature (the text tower is causal).
            ids = np.asarray(facts.sentences)
            self.sentences = tuple(map(tuple, ids[:, : int(ids.argmax(axis=1).max()) + 1].tolist()))
            self.sentence_counts = facts.sentence_counts
            width = dim if options.joint == "product" else 2 * dim
            self.atr_matching_head = clip.linear(width, 2, dtype=jnp.float32, rngs=rngs)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The sum of the chosen losses of a batch of (aerial image, ground image, caption); the
        queue then takes the batch.

        `image` is the aerial one, `paired_image` the ground one; `attributes` and
        `paired_attributes` are their classes (-1: unknown, left out). All terms use the caption
        as given, so masked words (`text_mask_prob` of the published recipe) are an augmentation.
        """
        pick = None
        if "match" in self.options.losses:
            pick = pick_sentences(
                rngs.sentences(),
                jnp.maximum(batch["attributes"], 0).astype(jnp.int32),
                jnp.maximum(batch["paired_attributes"], 0).astype(jnp.int32),
                self.sentence_counts,
                negative=self.options.negative,
            )
        return self.terms(batch, pick)

    def terms(
        self, batch: Mapping[str, jax.Array], pick: Int[Array, "M B 2 2"] | None
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """`loss` with the given sentences."""
        options, label, caption = self.options, batch["label"], batch["caption"]
        text = self.embed_text(caption)
        aerial, ground = self.embed(batch["image"]), self.embed(batch["paired_image"])
        scale = 1.0 / options.temperature
        queue = None if self.queue is None else self.queue.read()
        terms = {}
        for name in options.losses:
            if name in ("aea", "contrastive"):
                terms[name] = aea(
                    *(text, aerial, ground, label, queue),
                    form="divergence" if name == "aea" else name,
                    scale=scale,
                    pair_bonus=options.pair_bonus,
                    mask_empty=options.mask_empty,
                )
            elif name in ("sdm", "bisdm", "itc", "biitc"):

                def two(x, y, name=name):
                    if name.endswith("sdm"):
                        return sdm(x, y, label, scale=scale)
                    return itc(x, y, scale=scale)

                between = not name.startswith("bi")
                terms[name] = over_pairs(two, text, aerial, ground, between_views=between)
            elif name == "id":
                of_text, *of_views = (
                    cross_entropy(self.classifier(x), label) for x in (text, aerial, ground)
                )
                # Each view's mean with the text, added up: the sum that the published code has.
                both = sum((of_text + of_view) / 2.0 for of_view in of_views)
                terms[name] = options.identity_weight * both
            else:
                terms[name] = options.match_weight * self._match(batch, aerial, ground, pick)
        if self.queue is not None:
            self.queue.push(text, aerial, ground, label)
        return sum(terms.values(), jnp.zeros(())), terms

    def _match(self, batch, aerial, ground, pick):
        annotated = jnp.stack([batch["attributes"], batch["paired_attributes"]], axis=-1) >= 0
        return attribute_matching(
            self.atr_matching_head,
            *(aerial, ground, self.embed_text(jnp.asarray(self.sentences, jnp.int32)), pick),
            joint=self.options.joint,
            mask=annotated.transpose(1, 0, 2),
        )
