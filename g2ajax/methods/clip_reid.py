"""CLIP-ReID: a CLIP image tower that learns from texts of learned words, in two stages.

Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-identification without Concrete
Text Labels", AAAI 2023, following its code. Stage 1 learns for each identity four vectors X of the
sentence "A photo of a X X X X person.", so that its text is near its images; both towers are
frozen, and the images' features are computed once (`prompt_loss`). Stage 2 trains the image tower
on identities, triplets, and the texts of all identities as a classifier (`loss`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import clip
from g2ajax.backbones.clip_image import Features
from g2ajax.backbones.side_information import check_counts, side_vectors
from g2ajax.config import options
from g2ajax.config.ranges import Natural, NonNegative, Share
from g2ajax.losses.contrast import supcon
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet_transreid
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.methods.base import HALF
from g2ajax.nn.heads import HIGHEST, BNNeck
from g2ajax.nn.init import token_init
from g2ajax.nn.memory import Memory
from g2ajax.nn.prompts import Prompt

SENTENCE = (49406, 320, 1125, 539, 320, 343, 343, 343, 343, 2533, 269, 49407)
"""CLIP's ids of "A photo of a X X X X person."."""
FIRST, WORDS = 5, 4
TEXTS = 64
"""Texts that are encoded at a time when all are."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the published code's."""

    backbone: Mapping[str, Any]
    """`name` of a CLIP (`clip_vit_b16`) and its own options (`stride` 12: overlapping patches)."""
    preprocessing: Preprocessing = Preprocessing(HALF, HALF)
    camera_embedding: bool = False
    """Side information of the camera (SIE), added to the class token alone."""
    platforms: Natural = 0
    """Number of platforms (0 aerial, 1 ground, 2 wearable) given as side information, the "view" of
    the code; 0: none."""
    side_coefficient: NonNegative = 1.0
    """Factor of the side information; the code's own default is 3, its published runs have 1."""
    smoothing: Share = 0.1
    """Label smoothing, eps/C to every class, of all cross-entropies."""
    margin: NonNegative | None = 0.3
    """Margin of the batch-hard triplet losses; None or 0: soft margin."""
    identity_weight: NonNegative = 0.25
    """Weight of the two identity losses."""
    triplet_weight: NonNegative = 1.0
    """Weight of the three triplet losses."""
    text_weight: NonNegative = 1.0
    """Weight of the cross-entropy against all identities' texts; 0: the paper's baseline, which
    needs no stage 1."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "CLIPReID":
    """Builds the method. Raises ValueError for unknown options and whatever `CLIPReID` refuses."""
    return CLIPReID(options(Options, config, "method"), facts, rngs=rngs)


class PromptLearner(Prompt):
    """The sentences of all identities: `cls_ctx` [C,4,D], the learned words."""

    def __init__(self, identities: int, width: int, *, length: int, rngs: nnx.Rngs) -> None:
        super().__init__(SENTENCE, start=FIRST, count=WORDS, width=width, length=length)
        self.cls_ctx = nnx.Param(token_init(rngs.params(), (identities, WORDS, width)))

    def __call__(self, label: Int[Array, " B"]) -> Float[Array, "B L D"]:
        """The embedded words of the identities' sentences."""
        return self.around(jnp.take(self.cls_ctx[...], label, axis=0))


def stage_two(
    features: Sequence[Float[Array, "B _"]],
    logits: Sequence[Float[Array, "B C"]],
    text_logits: Float[Array, "B C"],
    label: Int[Array, " B"],
    *,
    smoothing: float,
    margin: float | None,
) -> dict[str, Float[Array, ""]]:
    """The three terms of stage 2, without weights: identity, triplet and text loss, summed over
    their features."""
    identity = [cross_entropy(one, label, smoothing=smoothing) for one in logits]
    ranking = [triplet_transreid(one, label, margin=margin)[0] for one in features]
    return {
        "identity": sum(identity, jnp.zeros(())),
        "triplet": sum(ranking, jnp.zeros(())),
        "text": cross_entropy(text_logits, label, smoothing=smoothing),
    }


class CLIPReID(Method, EmbedsCrops):
    """CLIP, a sentence for each identity, two necks with classifiers.

    `base_model` (CLIP), `prompt_learner`, `neck` of the class token after `ln_post`, `neck_proj` of
    its projection, `cv_embed` with side information. The texts of all identities are computed when
    stage 2 begins; only the run's checkpoints hold them.

    Raises ValueError for an unknown CLIP, and camera information with fewer than two cameras.
    """

    in_batch_terms = ("triplet",)
    first_loss = "prompt_loss"
    """Loss of a phase that must come before stage 2."""
    feature_name = "before necks, class token and its projection joined"

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        self.base_model = clip.build(
            spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        variant, classes = self.base_model.variant, facts.num_classes
        self.prompt_learner = self.prompts(variant, facts, rngs)
        self.neck = BNNeck(variant.vision_width, classes, rngs=rngs)
        self.neck_proj = BNNeck(variant.embed_dim, classes, rngs=rngs)
        self.texts = Memory(jnp.zeros((classes, variant.embed_dim)))
        self.cameras = facts.num_cameras if options.camera_embedding else 0
        if options.camera_embedding and facts.num_cameras < 2:
            raise ValueError(
                f"method.camera_embedding: the training split has {facts.num_cameras} camera(s), "
                "and side information needs at least two to tell apart; set it to False"
            )
        check_counts(self.cameras, options.platforms)
        if self.cameras or options.platforms:
            pairs = max(self.cameras, 1) * max(options.platforms, 1)
            self.cv_embed = nnx.Param(token_init(rngs.params(), (pairs, variant.vision_width)))
        self.options = options
        self.preprocessing = options.preprocessing
        self.needs_camera = options.camera_embedding
        self.platforms = options.platforms

    # Texts

    def prompts(self, variant: clip.Variant, facts: DataFacts, rngs: nnx.Rngs) -> Prompt:
        """The sentences of all identities."""
        width, length = variant.text_width, variant.context_length
        return PromptLearner(facts.num_classes, width, length=length, rngs=rngs)

    def encode(self, sentences: Float[Array, "B L D"]) -> Float[Array, "B E"]:
        """The features of embedded sentences, float32, not normalised."""
        end = self.prompt_learner.end
        # Attention is causal: what follows the end token does not change its feature.
        tokens = self.base_model.encode_embedded(sentences[:, : end + 1])
        return tokens[:, end].astype(jnp.float32)

    def text_features(self, label: Int[Array, " B"]) -> Float[Array, "B E"]:
        """The texts of identities, float32, not normalised."""
        return self.encode(self.prompt_learner(label))

    def check_phases(self, losses: Sequence[str]) -> None:
        """Raises ValueError for a stage 2 whose texts were learned nowhere."""
        if not self.options.text_weight or self.prompt_learner.has_words:
            return
        if "loss" in losses and self.first_loss not in losses[: losses.index("loss")]:
            raise ValueError(
                "a phase with the loss 'loss' compares images with the texts of learned prompts, but "
                f"no phase before it learns them (loss {self.first_loss!r}) and no file brought them; "
                "put one before it in phases, give a file of the whole model (init.part='all'), or "
                "leave the texts out (method.text_weight=0)"
            )

    def begin_phase(self, loss: str) -> None:
        """Stage 1: embeds the words of the sentence. Stage 2: encodes the texts of all identities."""
        if loss != "loss":
            self.prompt_learner.embed_words(self.base_model.token_embedding.embedding[...])
        elif self.options.text_weight:
            classes = self.texts.shape[0]
            blocks = -(-classes // TEXTS)
            labels = jnp.minimum(jnp.arange(blocks * TEXTS), classes - 1).reshape(blocks, TEXTS)
            texts = jax.lax.map(self.text_features, labels)
            self.texts[...] = texts.reshape(-1, texts.shape[-1])[:classes]

    # Stage 1

    def image_feature(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B E"]:
        """The projected class token of images with pixels 0..255, without side information, which
        stage 1 does not know."""
        return self.base_model.visual.features(self.preprocessing(images)).projected

    def prompt_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Supervised contrast of images (`feature`, computed once) and their texts, both directions.

        Every row has its text, so an identity's text occurs as often as its images.
        """
        image, label = batch["feature"], batch["label"]
        text = self.text_features(label)
        terms = {
            "image_to_text": supcon(image, text, label, label),
            "text_to_image": supcon(text, image, label, label),
        }
        return sum(terms.values(), jnp.zeros(())), terms

    # Stage 2

    def features(
        self,
        images: Float[Array, "B H W 3"],
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Features:
        """The class token at three depths, from pixels 0..255."""
        side = side_vectors(
            self.cv_embed[...] if hasattr(self, "cv_embed") else None,
            self.cameras,
            self.platforms,
            camera if self.cameras else None,
            platform if self.platforms else None,
        )
        side = None if side is None else self.options.side_coefficient * side
        return self.base_model.visual.features(self.preprocessing(images), side=side)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """0.25 identity + triplet + text loss of a batch."""
        options, label = self.options, batch["label"]
        features = self.features(batch["image"], batch["camera"], batch["platform"])
        logits = [self.neck(features.normed)[1], self.neck_proj(features.projected)[1]]
        text_logits = jnp.matmul(features.projected, self.texts[...].T, precision=HIGHEST)
        terms = stage_two(
            features, logits, text_logits, label, smoothing=options.smoothing, margin=options.margin
        )
        total = options.identity_weight * terms["identity"]
        total += options.triplet_weight * terms["triplet"] + options.text_weight * terms["text"]
        terms["accuracy"] = jnp.mean(jnp.argmax(logits[0], -1) == label)
        terms["text_accuracy"] = jnp.mean(jnp.argmax(text_logits, -1) == label)
        return total, terms

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: the class token after `ln_post` joined with
        its projection. The code divides it by its norm, as the cosine does."""
        features = self.features(images, camera, platform)
        return jnp.concatenate([features.normed, features.projected], axis=-1)
