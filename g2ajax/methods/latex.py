"""LATex: a frozen CLIP that reads attributes off an image and writes them into its sentence.

Hu et al., "LATex: Leveraging Attribute-based Text Knowledge for Aerial-Ground Person
Re-identification", arXiv 2503.23722, following its code, of which some files are missing. Prompts
in every block of the image tower look for attributes: the last block's are one token each. Each
token becomes a word of the sentence "A UAV view photo of a ... person" (or CCTV, Wearable), whose
text feature is half of the embedding, so the platform is needed at test, too. In training
classifiers learn the attributes from the same tokens.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import clip
from g2ajax.backbones.clip_image import ImageTower
from g2ajax.backbones.tokens import Hook
from g2ajax.config import options
from g2ajax.config.ranges import Count, Natural, NonNegative, Share
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.methods import DataFacts, EmbedsCrops, Method, Preprocessing
from g2ajax.methods.base import HALF
from g2ajax.nn.activations import quick_gelu
from g2ajax.nn.attention import MultiHeadAttention
from g2ajax.nn.heads import EmbeddingHead
from g2ajax.nn.init import token_init
from g2ajax.nn.norm import BatchNorm

BEFORE, AFTER = (49406, 320, 0, 1093, 1125, 539, 320), (343, 2533, 49407)
"""CLIP's ids of the beginning of the sentence, "A ... view photo of a", and of its end, "X person"; 15 of
the 16 places X become words."""
VIEW_PLACE = 2
VIEWS = (30303, 23097, 24973)
"""The ids of "UAV", "CCTV" and "Wearable", by platform."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the published code's unless they say otherwise."""

    backbone: Mapping[str, Any]
    """`name` of a CLIP (`clip_vit_b16`) and its own options."""
    preprocessing: Preprocessing = Preprocessing(HALF, HALF)
    """The code's own values differ from 127.5 by less than 0.3."""
    attributes: bool = True
    """Learn the dataset's attributes, a prompt and a word for each group. False, for data without:
    `prompts` tokens are words as they are."""
    prompts: Count = 15
    """Prompts in each block without attributes; with them their groups decide."""
    shared_words: Natural = 8
    """Learned words before those of the attributes (the code for AG-ReID.v2: 16)."""
    attention: Literal["sample", "batch"] = "sample"
    """Class features to which the attribute classifiers attend: `sample`, that of the same image, as
    intended; `batch`, those of all images of the batch, as in the code (its layer takes the batch for
    the sequence)."""
    norm_text: bool = True
    """Normalise the text feature at test as in training. The code does not, though its head's
    statistics are of the normalised feature."""
    smoothing: Share = 0.0
    """Label smoothing of the identity losses, eps/(C−1) to the other classes."""
    attribute_smoothing: Share = 0.1
    """Label smoothing of the attributes' losses."""
    margin: NonNegative | None = None
    """Margin of the batch-hard triplet losses; None or 0: soft margin."""
    identity_weight: NonNegative = 0.25
    """Weight of the two identity losses."""
    attribute_weight: NonNegative = 1.0
    """Weight of the sum of the attributes' losses."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "LATex":
    """Builds the method. Raises ValueError for unknown options and whatever `LATex` refuses."""
    return LATex(options(Options, config, "method"), facts, rngs=rngs)


def read_attributes(
    tower: ImageTower, prompts: Sequence[Float[Array, "P D"]], images: Float[Array, "B H W 3"]
) -> tuple[Float[Array, "B E"], Float[Array, "B P E"]]:
    """The projected class token and the outputs of the last block's prompts, float32.

    Each block has prompts of its own behind the patches, which are cut off after it. The tower's
    last norm is not applied, as in the code.
    """
    count, hooks = len(prompts[0]), []
    for block, prompt in enumerate(prompts):

        def append(
            tokens: Float[Array, "B T D"], prompt: Float[Array, "P D"] = prompt
        ) -> Float[Array, "B T2 D"]:
            own = jnp.tile(prompt.astype(tokens.dtype), (tokens.shape[0], 1, 1))
            return jnp.concatenate([tokens, own], axis=1)

        hooks.append(Hook(append, "before", blocks=(block,)))
        if block < len(prompts) - 1:
            hooks.append(Hook(lambda tokens: tokens[:, :-count], "after", blocks=(block,)))
    tokens = tower.run_blocks(tower.embed_patches(images), hooks=hooks)
    read = jnp.concatenate([tokens[:, :1], tokens[:, -count:]], axis=1)
    read = tower.project(read).astype(jnp.float32)
    return read[:, 0], read[:, 1:]


class Word(nnx.Module):
    """fc2(QuickGELU(fc1([class feature, attribute token]))): a word of the text tower."""

    def __init__(self, width: int, out: int, *, rngs: nnx.Rngs) -> None:
        self.fc1 = clip.linear(2 * width, width, dtype=jnp.float32, rngs=rngs)
        self.fc2 = clip.linear(width, out, dtype=jnp.float32, rngs=rngs)

    def __call__(self, pair: Float[Array, "B D2"]) -> Float[Array, "B W"]:
        return self.fc2(quick_gelu(self.fc1(pair)))


class AttributeClassifier(nnx.Module):
    """Classes of one attribute from its token, the class feature, and the other attributes' tokens."""

    def __init__(
        self, width: int, others: int, classes: int, *, heads: int = 8, rngs: nnx.Rngs
    ) -> None:
        self.fc1 = clip.linear(2 * width, width, dtype=jnp.float32, rngs=rngs)
        self.attn = MultiHeadAttention(width, heads, rngs=rngs)
        self.channel_fc = clip.linear(others, 1, dtype=jnp.float32, rngs=rngs)
        self.norm = BatchNorm(width)
        self.classifier = clip.linear(width, classes, dtype=jnp.float32, rngs=rngs)

    def __call__(
        self,
        visual: Float[Array, "B D"],
        token: Float[Array, "B D"],
        others: Float[Array, "B N D"],
        across_batch: bool,
    ) -> Float[Array, "B C"]:
        if across_batch:
            keys = jnp.tile(visual, (others.shape[1], 1, 1))
            mixed = self.attn(others.swapaxes(0, 1), keys).swapaxes(0, 1)
        else:
            mixed = self.attn(others, visual[:, None])
        mixed = self.channel_fc(mixed.swapaxes(1, 2))[..., 0]
        token = self.fc1(jnp.concatenate([visual, token], axis=1)) + mixed
        return self.classifier(self.norm(quick_gelu(token)))


class Attributes(nnx.Module):
    """A word for each attribute, and in training a classifier."""

    def __init__(
        self, width: int, out: int, classes: Sequence[int], *, heads: int = 8, rngs: nnx.Rngs
    ) -> None:
        count = len(classes)
        self.words = nnx.List([Word(width, out, rngs=rngs) for _ in range(count)])
        self.classifiers = nnx.List(
            [AttributeClassifier(width, count - 1, n, heads=heads, rngs=rngs) for n in classes]
        )

    def __call__(
        self, visual: Float[Array, "B D"], tokens: Float[Array, "B P D"]
    ) -> Float[Array, "B P W"]:
        """The attributes' words."""
        pairs = (jnp.concatenate([visual, tokens[:, i]], axis=1) for i in range(tokens.shape[1]))
        return jnp.stack([word(pair) for word, pair in zip(self.words, pairs, strict=True)], axis=1)

    def losses(
        self,
        visual: Float[Array, "B D"],
        tokens: Float[Array, "B P D"],
        codes: Int[Array, "B P"],
        *,
        across_batch: bool,
        smoothing: float,
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The sum of the attributes' cross-entropies, and the mean accuracy; unknown codes (-1) do
        not count."""
        total, right = jnp.zeros(()), jnp.zeros(())
        for i, classifier in enumerate(self.classifiers):
            others = jnp.concatenate([tokens[:, :i], tokens[:, i + 1 :]], axis=1)
            logits = classifier(visual, tokens[:, i], others, across_batch)
            code = codes[:, i].astype(jnp.int32)
            total += cross_entropy(logits, code, smoothing=smoothing, form="fastreid")
            right += jnp.sum(jnp.argmax(logits, -1) == code)
        return total, right / jnp.maximum(jnp.sum(codes >= 0), 1)


class LATex(Method, EmbedsCrops):
    """CLIP (`base_model`), prompts of each block, words of the attributes, and two necks.

    Raises ValueError for an unknown CLIP, data without attributes (unless they are not asked for) or
    without platforms, and a sentence that is too long.
    """

    in_batch_terms = ("triplet",)
    feature_name = "after necks, image and text joined"

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        spec = dict(options.backbone)
        self.base_model = clip.build(
            spec.pop("name"), image_size=facts.image_size, dtype=facts.dtype, rngs=rngs, **spec
        )
        variant, groups = self.base_model.variant, facts.attribute_groups
        count = len(groups) if options.attributes else options.prompts
        _check(options, facts, variant, count)
        width, words = variant.embed_dim, variant.text_width
        self.prompts = nnx.List(
            [
                nnx.Param(token_init(rngs.params(), (count, variant.vision_width)))
                for _ in range(variant.vision_layers)
            ]
        )
        if options.attributes:
            self.attributes = Attributes(width, words, [len(n) for _, n in groups], rngs=rngs)
        self.shared_words = nnx.Param(token_init(rngs.params(), (options.shared_words, words)))
        self.norm_image = BatchNorm(width, train_bias=False)
        self.norm_text = BatchNorm(width, train_bias=False)
        self.head_image = EmbeddingHead(width, facts.num_classes, pool="Identity", rngs=rngs)
        self.head_text = EmbeddingHead(width, facts.num_classes, pool="Identity", rngs=rngs)
        self.options = options
        self.preprocessing = options.preprocessing
        self.learns_from_attributes = options.attributes
        self.platforms = facts.num_platforms

    def sentence(
        self, words: Float[Array, "B P W"], platform: Int[Array, " B"]
    ) -> Float[Array, "B L W"]:
        """The embedded sentence of each image; NaN for a platform that has no word."""
        table, batch = self.base_model.token_embedding.embedding[...], words.shape[0]
        inside = (platform >= 0) & (platform < self.platforms)
        view = jnp.take(jnp.asarray(VIEWS), jnp.where(inside, platform, 0))
        begin = jnp.tile(jnp.asarray(BEFORE), (batch, 1)).at[:, VIEW_PLACE].set(view)
        end = jnp.tile(jnp.asarray(AFTER), (batch, 1))
        shared = jnp.tile(self.shared_words[...], (batch, 1, 1))
        begin = jnp.where(inside[:, None, None], jnp.take(table, begin, axis=0), jnp.nan)
        return jnp.concatenate([begin, shared, words, jnp.take(table, end, axis=0)], axis=1)

    def features(
        self, images: Float[Array, "B H W 3"], platform: Int[Array, " B"] | None
    ) -> tuple[Float[Array, "B E"], Float[Array, "B P E"], Float[Array, "B E"]]:
        """The normalised class feature, the attribute tokens, the text feature; pixels 0..255."""
        if platform is None:
            raise ValueError(
                "LATex writes the platform into its sentence: pass platform (0 aerial, 1 ground, "
                "2 wearable) of every image"
            )
        prompts = [prompt[...] for prompt in self.prompts]
        image, tokens = read_attributes(self.base_model.visual, prompts, self.preprocessing(images))
        visual = self.norm_image(image)
        words = self.attributes(visual, tokens) if self.options.attributes else tokens
        text = self.base_model.encode_embedded(self.sentence(words, platform))[:, -1]
        return visual, tokens, text.astype(jnp.float32)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """0.25 identity + triplet loss of image and text, and the attributes' losses."""
        options, label = self.options, batch["label"]
        visual, tokens, text = self.features(batch["image"], batch["platform"])
        terms = {"identity": jnp.zeros(()), "triplet": jnp.zeros(())}
        total = jnp.zeros(())
        pairs = ((visual, self.head_image), (self.norm_text(text), self.head_text))
        for name, (feature, head) in zip(("image", "text"), pairs, strict=True):
            logits = head(feature, label)["cls_outputs"]
            smoothing = options.smoothing
            terms["identity"] += cross_entropy(logits, label, smoothing=smoothing, form="fastreid")
            terms["triplet"] += triplet(feature, label, margin=options.margin)
            terms[f"{name}_accuracy"] = jnp.mean(jnp.argmax(logits, -1) == label)
        total = options.identity_weight * terms["identity"] + terms["triplet"]
        if options.attributes:
            terms["attributes"], terms["attribute_accuracy"] = self.attributes.losses(
                visual,
                tokens,
                batch["attributes"],
                across_batch=options.attention == "batch",
                smoothing=options.attribute_smoothing,
            )
            total += options.attribute_weight * terms["attributes"]
        return total, terms

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of images with pixels 0..255: image and text feature after their necks."""
        visual, _, text = self.features(images, platform)
        text = self.norm_text(text) if self.options.norm_text else text
        return jnp.concatenate([self.head_image.embed(visual), self.head_text.embed(text)], axis=1)


def _check(options: Options, facts: DataFacts, variant: clip.Variant, count: int) -> None:
    if options.attributes and count < 2:
        raise ValueError(
            f"LATex learns from at least two groups of attributes, and the data have {count}; take "
            "data with attributes, or set method.attributes=False"
        )
    if not options.attributes and variant.embed_dim != variant.text_width:
        raise ValueError(
            f"method.attributes=False takes image tokens ({variant.embed_dim} wide) for words, which "
            f"are {variant.text_width} wide in this CLIP; take another one"
        )
    if not 2 <= facts.num_platforms <= len(VIEWS):
        raise ValueError(
            f"LATex names the platform of an image, and the data have {facts.num_platforms}; expected "
            "2 (aerial, ground) or 3 (wearable)"
        )
    length = len(BEFORE) + options.shared_words + count + len(AFTER)
    if length > variant.context_length:
        raise ValueError(
            f"a sentence of {length} words; this CLIP reads {variant.context_length}: fewer "
            "method.shared_words or method.prompts"
        )
