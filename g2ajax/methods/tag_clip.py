"""TAG-CLIP: sentences and people from the air and the ground, with experts that the view routes.

"TAG-PR: text-based aerial-ground person retrieval", AAAI 2026, from the paper's equations; no code
was read, and what the paper leaves to its appendix is an option here. A view token joins the class
token of CLIP's image tower. In some blocks a mixture of experts takes the MLP's place (HR-MoE): a
router reads the view token and decides whether the image is aerial; each token then picks its
experts among those of that view, a few of which both views share. The view token must tell the
views apart and be orthogonal to the class token. Images and sentences are aligned as wholes and by
their selected tokens. The platform is needed in training alone.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from g2ajax.backbones import clip
from g2ajax.backbones.clip_blocks import Mlp, Variant, linear
from g2ajax.backbones.tokens import Hook
from g2ajax.config import options
from g2ajax.config.ranges import Count, Natural, NonNegative, Positive, Probability
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.image_text import normalised_itc, sdm
from g2ajax.losses.triplet import normalise
from g2ajax.losses.views import orthogonal, view_cross_entropy
from g2ajax.methods import DataFacts, Preprocessing
from g2ajax.methods.irra import CLIP_PIXELS, ImageTextModel

VIEWS = 2
CLS, VIEW = 0, 1


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the method. Values that the paper's main text does not state are marked open."""

    backbone: Mapping[str, Any]
    """`name` of a CLIP (`clip_vit_b16`) and its own options."""
    blocks: tuple[Natural, ...] | None = None
    """Blocks of the image tower with experts, from 0; None: the last half. Open."""
    experts: Count = 6
    """Number of experts in such a block, each an MLP like CLIP's. Open."""
    aerial_experts: Count = 4
    """Number of experts, the first ones, that aerial images may use. Open."""
    ground_experts: Count = 4
    """Number of experts, the last ones, that ground images may use; experts in both groups are shared. Open."""
    active: Count = 2
    """Number of experts active for a token. Open."""
    cap: Probability | None = 0.1
    """Largest |cosine| that counts in the orthogonal loss."""
    temperature: Positive = 0.02
    """Temperature of the alignment losses; fixed. Open."""
    selected: Probability = 0.3
    """Share of the patches, and of a sentence's words, whose tokens make the local feature: those
    most similar to the whole. Open."""
    identity_weight: NonNegative = 1.0
    """Weight of the identity loss. Open."""
    view_weight: NonNegative = 1.0
    """Weight of the routers' view loss."""
    orthogonal_weight: NonNegative = 1.0
    """Weight of the orthogonal loss. Open."""
    preprocessing: Preprocessing = CLIP_PIXELS


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "TAGCLIP":
    """Builds the method. Raises ValueError for unknown options and whatever `TAGCLIP` refuses."""
    return TAGCLIP(options(Options, config, "method"), facts, rngs=rngs)


class TAGCLIP(ImageTextModel):
    """CLIP with `view_token`, for the k-th block with experts a router in `moe` and MLPs called
    `expert_k_0`, `expert_k_1`, ..., a classifier of identities, and heads of the local features.

    The view token starts as zeros with the class token's position. Experts start from scratch; a
    phase copies CLIP's own MLPs into them (`phase.NAME.copy`, as the recipe does).

    Raises ValueError for blocks that the tower has not, and for experts that do not cover both views.
    """

    learns_from_platforms = True
    in_batch_terms = ("global", "local")

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options.backbone, options.preprocessing, facts, rngs=rngs)
        variant, dim = self.base_model.variant, self.base_model.feature_dim
        depth = variant.vision_layers
        self.blocks = tuple(
            range((depth + 1) // 2, depth) if options.blocks is None else options.blocks
        )
        if (
            not self.blocks
            or sorted(set(self.blocks)) != list(self.blocks)
            or self.blocks[-1] >= depth
        ):
            raise ValueError(
                f"method.blocks = {options.blocks}: expected numbers from 0 to {depth - 1}, rising"
            )
        self.view_token = nnx.Param(jnp.zeros((1, 1, variant.vision_width)))
        own = {"dtype": facts.dtype, "rngs": rngs}
        self.moe = nnx.List([Routing(variant, options, **own) for _ in self.blocks])
        for name in (name for k in range(len(self.blocks)) for name in self.names(k, options)):
            setattr(self, name, Mlp(variant.vision_width, variant.activation, None, **own))
        self.classifier = nnx.Linear(
            dim, facts.num_classes, kernel_init=nnx.initializers.normal(0.001), rngs=rngs
        )
        self.image_tokens, self.text_tokens = (LocalHead(dim, rngs=rngs) for _ in range(2))
        self.options = options
        self.feature_name = "class and end token, joined with the selected tokens"

    @staticmethod
    def names(place: int, options: Options) -> list[str]:
        """The names of the experts of a block; without dots, so that a configuration can hold them."""
        return [f"expert_{place}_{number}" for number in range(options.experts)]

    def encode_images(
        self, images: Float[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B T E"], Float[Array, "B 2 D"], Float[Array, "M B 2"]]:
        """The projected tokens but the view token, class and view token before the projection, and
        each router's logits."""
        tower, logits = self.base_model.visual, []
        tokens = tower.embed_patches(self.preprocessing(images))
        view = tower.positional_embedding[...][None, None, CLS] + self.view_token[...]
        view = tower.ln_pre(jnp.tile(view, (len(tokens), 1, 1)))
        tokens = jnp.concatenate([tokens[:, :1], view.astype(tokens.dtype), tokens[:, 1:]], axis=1)
        start = 0
        for place, (number, routing) in enumerate(zip(self.blocks, self.moe, strict=True)):
            tokens = tower.run_blocks(tokens, start=start, stop=number)
            # Read before the block: a function inside it may not tell anything but its tokens.
            route = routing.router(tokens[:, VIEW].astype(jnp.float32))
            logits.append(route)
            experts = [getattr(self, name) for name in self.names(place, self.options)]
            mix = functools.partial(routing, allowed=routing.allowed(route), experts=experts)
            hook = Hook(mix, "mlp", (number,))
            tokens = tower.run_blocks(tokens, start=number, stop=number + 1, hooks=[hook])
            start = number + 1
        tokens = tower.ln_post(tower.run_blocks(tokens, start=start))
        special = tokens[:, : VIEW + 1].astype(jnp.float32)
        tokens = jnp.concatenate([tokens[:, :1], tokens[:, VIEW + 1 :]], axis=1)
        return tower.project(tokens), special, jnp.stack(logits)

    def image_features(
        self, tokens: Float[Array, "B T E"]
    ) -> tuple[Float[Array, "B E"], Float[Array, "B E"]]:
        """Whole and local feature of projected tokens, the class token first."""
        tokens = tokens.astype(jnp.float32)
        rest = jnp.ones(tokens[:, 1:].shape[:2], bool)
        return tokens[:, 0], self.image_tokens(
            tokens[:, 0], tokens[:, 1:], rest, self.options.selected
        )

    def text_features(
        self, caption: Int[Array, "B L"]
    ) -> tuple[Float[Array, "B E"], Float[Array, "B E"]]:
        """Whole and local feature of captions: the end token, and the words between start and end."""
        tokens = self.base_model.encode_text(caption).astype(jnp.float32)
        whole = clip.text_feature(tokens, caption)
        place, end = jnp.arange(caption.shape[1])[None], jnp.argmax(caption, axis=1)[:, None]
        words = (place > 0) & (place < end)
        return whole, self.text_tokens(whole, tokens, words, self.options.selected)

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Global and local alignment, identities, views and orthogonality of (image, caption) pairs."""
        options, label, platform = self.options, batch["label"], batch["platform"]
        tokens, special, routes = self.encode_images(batch["image"])
        image, local_image = self.image_features(tokens)
        text, local_text = self.text_features(batch["caption"])
        logits = [self.classifier(x) for x in (image, text)]
        terms = {
            "global": self.alignment(image, text, label),
            "local": self.alignment(local_image, local_text, label),
            "identity": sum(cross_entropy(x, label) for x in logits) / 2.0,
            "view": sum(view_cross_entropy(x, platform) for x in routes) / len(routes),
            "orthogonal": orthogonal(special[:, CLS], special[:, VIEW], cap=options.cap),
        }
        total = terms["global"] + terms["local"] + options.identity_weight * terms["identity"]
        total += options.view_weight * terms["view"]
        total += options.orthogonal_weight * terms["orthogonal"]
        return total, terms

    def alignment(
        self, image: Float[Array, "B D"], text: Float[Array, "B D"], label: Int[Array, " B"]
    ) -> Float[Array, ""]:
        """N-ITC + R-ITC (TBPS-CLIP, Cao et al., AAAI 2024): the batch's softmax against equal shares
        of an identity's captions, as cross-entropy, and in SDM's direction; the mean of image to text
        and text to image."""
        scale = 1.0 / self.options.temperature
        reversed_itc = sdm(image, text, label, scale=scale) / 2.0
        return normalised_itc(image, text, label, scale=scale) + reversed_itc

    def embed(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array, " B"] | None = None,
        platform: Int[Array, " B"] | None = None,
    ) -> Float[Array, "B D"]:
        """Features of images with pixels 0..255, whole and local ones normalised and joined: their
        cosine is the mean of the two similarities, the paper's score."""
        return _joined(*self.image_features(self.encode_images(images)[0]))

    def embed_text(self, caption: Int[Array, "B L"]) -> Float[Array, "B D"]:
        """Features of captions (CLIP's ids), as `embed`."""
        return _joined(*self.text_features(caption))


def _joined(whole: Float[Array, "B E"], local: Float[Array, "B E"]) -> Float[Array, "B D"]:
    return jnp.concatenate([normalise(whole, 1e-12), normalise(local, 1e-12)], axis=1)


class Routing(nnx.Module):
    """HR-MoE in place of an MLP: `router` of the view, `gate` of the tokens.

    A token's weights are the softmax over the experts of its image's view; the best `active` of them
    count, as they are. All experts are computed for every token and the others weighted by 0: shapes
    do not depend on the routing, at `experts` times the MLP's cost.
    """

    def __init__(
        self, variant: Variant, options: Options, *, dtype: Any = jnp.float32, rngs: nnx.Rngs
    ):
        count, width = options.experts, variant.vision_width
        groups = options.aerial_experts, options.ground_experts
        if max(groups) > count or sum(groups) < count or options.active > min(groups):
            raise ValueError(
                f"{count} experts, {groups[0]} of aerial images and {groups[1]} of the ground, "
                f"{options.active} active: the two groups must cover all experts, be no larger than "
                "that, and no smaller than the active ones (method.experts, method.aerial_experts, ...)"
            )
        self.groups = groups
        self.count, self.active = count, options.active
        self.router = nnx.Linear(width, VIEWS, rngs=rngs)
        self.gate = linear(width, count, dtype=dtype, rngs=rngs)

    def allowed(self, route: Float[Array, "B 2"]) -> Bool[Array, "B M"]:
        """The experts of the view that the router predicts; 1 is aerial, as in the view loss."""
        number = jnp.arange(self.count)
        aerial, ground = number < self.groups[0], number >= self.count - self.groups[1]
        return jnp.where((jnp.argmax(route, axis=-1) == 1)[:, None], aerial[None], ground[None])

    def __call__(
        self, tokens: Float[Array, "B T D"], *, allowed: Bool[Array, "B M"], experts: Sequence[Mlp]
    ) -> Float[Array, "B T D"]:
        logits = jnp.where(allowed[:, None], self.gate(tokens).astype(jnp.float32), -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-1)
        best, index = jax.lax.top_k(weights, self.active)
        choice = jax.nn.one_hot(index, weights.shape[-1])
        weights = jnp.einsum("btk,btkm->btm", best, choice).astype(tokens.dtype)
        return sum(weights[..., i, None] * expert(tokens) for i, expert in enumerate(experts))


class LocalHead(nnx.Module):
    """One feature of the tokens most similar to the whole: each changed by a small residual MLP, then
    the largest value of every channel."""

    def __init__(self, dim: int, *, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(dim, dim, rngs=rngs)
        self.fc2 = nnx.Linear(dim, dim, rngs=rngs)

    def __call__(
        self,
        whole: Float[Array, "B E"],
        tokens: Float[Array, "B T E"],
        real: Bool[Array, "B T"],
        share: float,
    ) -> Float[Array, "B E"]:
        """`real`: tokens that may be selected; at least one of them is, the share of them rounded up.
        Without any the feature is the whole's."""
        directions = normalise(tokens.reshape(-1, tokens.shape[-1]), 1e-12).reshape(tokens.shape)
        cosine = jnp.einsum("be,bte->bt", normalise(whole, 1e-12), directions)
        cosine = jnp.where(real, jax.lax.stop_gradient(cosine), -jnp.inf)
        rank = jnp.argsort(jnp.argsort(-cosine, axis=1), axis=1)
        count = jnp.ceil(share * jnp.sum(real, axis=1, keepdims=True))
        taken = real & (rank < jnp.maximum(count, 1))
        changed = tokens + self.fc2(jax.nn.gelu(self.fc1(tokens)))
        pooled = jnp.max(jnp.where(taken[..., None], changed, -jnp.inf), axis=1)
        return jnp.where(jnp.any(taken, axis=1)[:, None], pooled, whole)
