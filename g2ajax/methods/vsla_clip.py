"""VSLA-CLIP: a frozen CLIP learns video of people through adapters inside and across frames.

Zhang et al., "Cross-Platform Video Person ReID: A New Benchmark Dataset and Adaptation Approach",
ECCV 2024, following its code. The frames of a clip are folded into the batch. Inside every block one
adapter stands beside the attention, which compares the frames at each place of the image, and one
beside the MLP; tokens of the platform may be attended to in the first blocks (the platform-bridge
prompt). Stage 1 learns a text for each identity (`prompt_loss`), stage 2 the adapters (`loss`), both as
in CLIP-ReID, whose texts and phases are used here. Without adapters it is the baseline FT-CLIP, whose
whole image tower is trained.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from g2ajax.backbones.clip_blocks import linear
from g2ajax.backbones.clip_image import Features
from g2ajax.backbones.tokens import Hook
from g2ajax.config import options
from g2ajax.config.ranges import Count, Natural, NonNegative, Share
from g2ajax.losses.cluster_memory import MemoryOptions, memory_step
from g2ajax.losses.contrast import supcon
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet_cosine
from g2ajax.methods import DataFacts, EmbedsTracklets, Preprocessing, clip_reid
from g2ajax.methods.clip_reid import CLIPReID
from g2ajax.nn.activations import quick_gelu
from g2ajax.nn.attention import MultiHeadAttention
from g2ajax.nn.heads import HIGHEST
from g2ajax.nn.init import token_init
from g2ajax.nn.memory import Memory
from g2ajax.nn.prompts import Prompt
from g2ajax.nn.temporal import POOLS, FramePooling, learned_pool

START, FULL_STOP, END = 49406, 269, 49407
"""CLIP's ids of the words that are not learned."""
WORDS = 4
"""Learned words of an identity."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method; the defaults are the published code's for MARS."""

    backbone: Mapping[str, Any]
    """`name` of a CLIP (`clip_vit_b16`) and its own options."""
    preprocessing: Preprocessing = Preprocessing()
    """The code normalises by ImageNet's mean and deviation, not by CLIP's own."""
    adapters: bool = True
    """Adapters in every block; False: FT-CLIP."""
    adapter_width: Count = 256
    """Width inside an adapter."""
    temporal_heads: Count = 4
    """Heads of the attention across frames."""
    bridge_blocks: Natural = 0
    """First blocks with platform-bridge prompts, which need the platform at test, too; the paper has
    9 on G2A-VReID, the code's configuration none."""
    bridge_length: Count = 1
    """Tokens of a platform in each of these blocks."""
    temporal: FramePooling = "mean"
    """Pooling of the frames' features in stage 2 and at test. `attention` and `granular` (attention in
    windows of a quarter, of a half and of the whole clip) have parameters, `frame_pools`, which
    `phase.reid.trainable` must name."""
    attention_dim: Count = 256
    """Hidden width of the attention of a pooling."""
    prompt: Literal["learned", "sentence"] = "learned"
    """`learned`: a sentence of learned vectors alone; `sentence`: CLIP-ReID's "A photo of a X X X X
    person."."""
    prompt_length: Count = 8
    """Learned vectors that all identities share, before and after those of the identity."""
    smoothing: Share = 0.1
    """Label smoothing, eps/C to every class, of all cross-entropies."""
    margin: NonNegative | None = 0.3
    """Margin of the batch-hard triplet losses on cosines; None or 0: soft margin."""
    identity_weight: NonNegative = 0.25
    """Weight of the two identity losses."""
    triplet_weight: NonNegative = 1.0
    """Weight of the three triplet losses."""
    text_weight: NonNegative = 1.0
    """Weight of the cross-entropy against all identities' texts and of the contrast with those of
    the batch; 0: no stage 1 is needed."""
    memory: MemoryOptions = MemoryOptions()
    """Dual cluster memory of both features after their necks, joined: a further loss of stage 2."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "VSLACLIP":
    """Builds the method. Raises ValueError for unknown options and whatever `VSLACLIP` refuses."""
    return VSLACLIP(options(Options, config, "method"), facts, rngs=rngs)


class Adapter(nnx.Module):
    """up(quick_gelu(down(x))), drawn as PyTorch draws it: not zero, so that the tower differs from
    CLIP from the first step, as in the code."""

    def __init__(self, dim: int, width: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.down = linear(dim, width, dtype=dtype, rngs=rngs)
        self.up = linear(width, dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        return self.up(quick_gelu(self.down(x)))


class TemporalBlock(nnx.Module):
    """Attention of the frames of a clip to each other, for each token on its own; `temporal_attn`.

    No position of the frames: their order does not matter. Frames that only fill up a clip are not
    attended to; the code repeats the last frame in their place and lets it count.
    """

    def __init__(self, dim: int, heads: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.temporal_attn = MultiHeadAttention(dim, heads, kernel="xla", dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "BT N D"], frame_mask: Bool[Array, "B T"]
    ) -> Float[Array, "BT N D"]:
        (batch, length), (_, count, dim) = frame_mask.shape, x.shape
        frames = x.reshape(batch, length, count, dim).swapaxes(1, 2)
        mask = jnp.repeat(frame_mask, count, axis=0)[:, None, None]
        y = self.temporal_attn(frames.reshape(batch * count, length, dim), mask=mask)
        return y.reshape(batch, count, length, dim).swapaxes(1, 2).reshape(x.shape)


class CrossFrameAdapter(nnx.Module):
    """up(attention across frames(down(x))), without a non-linearity of its own."""

    def __init__(
        self, dim: int, width: int, heads: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.down = linear(dim, width, dtype=dtype, rngs=rngs)
        self.temporal_block = TemporalBlock(width, heads, dtype=dtype, rngs=rngs)
        self.up = linear(width, dim, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "BT N D"], frame_mask: Bool[Array, "B T"]
    ) -> Float[Array, "BT N D"]:
        return self.up(self.temporal_block(self.down(x), frame_mask))


class BlockAdapters(nnx.Module):
    """The two adapters of a block: `dat_cross` beside the attention, `dat` beside the MLP."""

    def __init__(self, dim: int, width: int, heads: int, *, dtype: Any, rngs: nnx.Rngs) -> None:
        self.dat_cross = CrossFrameAdapter(dim, width, heads, dtype=dtype, rngs=rngs)
        self.dat = Adapter(dim, width, dtype=dtype, rngs=rngs)

    def hooks(self, block: int, frame_mask: Bool[Array, "B T"]) -> list[Hook]:
        """The hooks of both adapters in block `block`."""
        return [
            Hook(lambda x: self.dat_cross(x, frame_mask), "beside_attention", (block,)),
            Hook(self.dat, "beside_mlp", (block,)),
        ]


def bridge_hooks(prompts: Float[Array, "K L P D"], platform: Int[Array, " BT"]) -> list[Hook]:
    """The platform-bridge prompts: in each of the first K blocks the L tokens of the frames' platform
    are attended to, not normalised; their outputs are cut off."""

    def context(block: int) -> Hook:
        tokens = jnp.moveaxis(prompts[block], 1, 0)[platform]
        return Hook(lambda x: tokens, "context", (block,))

    return [context(block) for block in range(len(prompts))]


class LearnedPrompt(Prompt):
    """A sentence without given words: [start] shared vectors, the identity's four, shared vectors,
    [full stop, end]. `prefix_prompt`, `cls_ctx` and `suffix_prompt` are the learned ones."""

    def __init__(
        self, identities: int, width: int, *, shared: int, length: int, rngs: nnx.Rngs
    ) -> None:
        count = 2 * shared + WORDS
        ids = (START, *[0] * count, FULL_STOP, END)
        super().__init__(ids, start=1, count=count, width=width, length=length)
        self.prefix_prompt = nnx.Param(token_init(rngs.params(), (1, shared, width)))
        self.cls_ctx = nnx.Param(token_init(rngs.params(), (identities, WORDS, width)))
        self.suffix_prompt = nnx.Param(token_init(rngs.params(), (1, shared, width)))

    def __call__(self, label: Int[Array, " B"]) -> Float[Array, "B L D"]:
        """The embedded words of the identities' sentences."""
        before, after = (
            jnp.tile(part[...], (len(label), 1, 1))
            for part in (self.prefix_prompt, self.suffix_prompt)
        )
        own = jnp.take(self.cls_ctx[...], label, axis=0)
        return self.around(jnp.concatenate([before, own, after], axis=1))


def stage_two(
    features: Sequence[Float[Array, "B _"]],
    logits: Sequence[Float[Array, "B C"]],
    text_logits: Float[Array, "B C"],
    image: Float[Array, "B E"],
    text: Float[Array, "B E"],
    label: Int[Array, " B"],
    *,
    smoothing: float,
    margin: float | None,
) -> dict[str, Float[Array, ""]]:
    """The terms of stage 2, without weights: identity and triplet losses summed over their features,
    the cross-entropy against all texts, and the contrast of images with the texts of the batch."""
    text = jax.lax.stop_gradient(text)
    return {
        "identity": sum(cross_entropy(one, label, smoothing=smoothing) for one in logits),
        "triplet": sum(triplet_cosine(one, label, margin=margin) for one in features),
        "text": cross_entropy(text_logits, label, smoothing=smoothing),
        "contrast": supcon(image, text, label, label) + supcon(text, image, label, label),
    }


class VSLACLIP(CLIPReID, EmbedsTracklets):
    """CLIP-ReID's model (towers, texts, two necks) with `adapters` of each block and `cv_embed`, the
    platform-bridge prompts [blocks, length, platforms, D]; `frame_pools`, of a pooling with parameters
    one for each depth of the features; `memory` [2C, D + E] if its loss has a weight.

    Raises ValueError for what `CLIPReID` refuses, and for bridge prompts with fewer than two platforms
    or in more blocks than the tower has.
    """

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        base = clip_reid.Options(backbone=options.backbone, preprocessing=options.preprocessing)
        super().__init__(base, facts, rngs=rngs)
        variant = self.base_model.variant
        width, layers = variant.vision_width, variant.vision_layers
        if options.prompt == "learned":
            self.prompt_learner = LearnedPrompt(
                facts.num_classes,
                variant.text_width,
                shared=options.prompt_length,
                length=variant.context_length,
                rngs=rngs,
            )
        sizes = (width, options.adapter_width, options.temporal_heads)
        blocks = range(layers if options.adapters else 0)
        self.adapters = nnx.List(
            [BlockAdapters(*sizes, dtype=facts.dtype, rngs=rngs) for _ in blocks]
        )
        widths = (width, width, variant.embed_dim)
        pools = [
            learned_pool(options.temporal, n, options.attention_dim, rngs=rngs) for n in widths
        ]
        self.frame_pools = nnx.List([pool for pool in pools if pool is not None])
        self.memory = None
        if options.memory.weight:
            table = jnp.zeros((2 * facts.num_classes, width + variant.embed_dim))
            self.memory = nnx.data(Memory(table))
            self.in_batch_terms = (*self.in_batch_terms, "memory")
        self.feature_name = (
            f"{options.temporal} over frames before necks, class token and its projection joined"
        )
        if options.bridge_blocks:
            self.platforms = check_bridge(options.bridge_blocks, layers, facts.num_platforms)
            shape = (options.bridge_blocks, options.bridge_length, self.platforms, width)
            self.cv_embed = nnx.Param(token_init(rngs.params(), shape))
        self.options = options

    def clip_features(
        self,
        clips: Float[Array, "B T H W 3"],
        frame_mask: Bool[Array, "B T"],
        platform: Int[Array, " B"] | None = None,
        *,
        adapted: bool = True,
    ) -> Features:
        """The features of clips with pixels 0..255, each pooled over the real frames.

        `adapted=False`: the mean of those of CLIP itself, without adapters and bridge prompts.
        """
        batch, length = clips.shape[:2]
        frames = clips.reshape(batch * length, *clips.shape[2:])
        hooks: list[Hook] = []
        if adapted:
            for block, adapters in enumerate(self.adapters):
                hooks += adapters.hooks(block, frame_mask)
            if self.platforms:
                hooks += bridge_hooks(self.cv_embed[...], jnp.repeat(platform, length))
        of_frames = self.base_model.visual.features(self.preprocessing(frames), hooks=hooks)
        depths = [depth.reshape(batch, length, -1) for depth in of_frames]
        if adapted and len(self.frame_pools):
            pools = list(self.frame_pools)
        else:
            pools = [POOLS[self.options.temporal if adapted else "mean"]] * len(depths)
        return Features(*(pool(x, frame_mask) for pool, x in zip(pools, depths, strict=True)))

    def prompt_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Stage 1: supervised contrast of clips, without adapters, and their identities' texts.

        The code computes the features once, from one pass over augmented clips, and learns 120 epochs
        from them. Here every batch draws clips of its own.
        """
        clips = self.clip_features(batch["image"], batch["frame_mask"], adapted=False)
        image = jax.lax.stop_gradient(clips.projected)
        return super().prompt_loss({**batch, "feature": image}, rngs)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Stage 2: 0.25 identity + triplet + text + contrast of a batch of clips, and the loss of the
        memory, if there is one."""
        options, label = self.options, batch["label"]
        features = self.clip_features(batch["image"], batch["frame_mask"], batch["platform"])
        necks = self.neck(features.normed), self.neck_proj(features.projected)
        logits = [one for _, one in necks]
        texts = self.texts[...]
        text_logits = jnp.matmul(features.projected, texts.T, precision=HIGHEST)
        terms = stage_two(
            features,
            logits,
            text_logits,
            features.projected,
            texts[label],
            label,
            smoothing=options.smoothing,
            margin=options.margin,
        )
        total = options.identity_weight * terms["identity"]
        total += options.triplet_weight * terms["triplet"]
        total += options.text_weight * (terms["text"] + terms["contrast"])
        if self.memory is not None:
            after = jnp.concatenate([after for after, _ in necks], -1)
            terms["memory"], self.memory[...] = memory_step(
                self.memory[...], after, label, options.memory
            )
            total += options.memory.weight * terms["memory"]
        terms["accuracy"] = jnp.mean(jnp.argmax(logits[0], -1) == label)
        return total, terms

    def embed_tracklet(
        self,
        images: Float[Array, "B T H W 3"],
        frame_mask: Bool[Array, "B T"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of clips: the class token after `ln_post` joined with its projection."""
        features = self.clip_features(images, frame_mask, platform)
        return jnp.concatenate([features.normed, features.projected], axis=-1)

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """The test feature of crops, each as a clip of one frame."""
        mask = jnp.ones((len(images), 1), bool)
        return self.embed_tracklet(images[:, None], mask, platform=platform)


def check_bridge(blocks: int, layers: int, platforms: int) -> int:
    """The number of platforms. Raises ValueError where bridge prompts cannot be."""
    if blocks > layers:
        raise ValueError(
            f"method.bridge_blocks = {blocks}, but the image tower has {layers} blocks; the paper has 9 "
            "of 12"
        )
    if platforms < 2:
        raise ValueError(
            f"method.bridge_blocks: the training split has {platforms} platform(s), and bridge prompts "
            "tell at least two apart; set it to 0"
        )
    return platforms
