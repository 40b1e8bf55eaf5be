"""Uni-Prompt: CLIP-ReID whose sentences also tell modality (RGB, infrared) and platform.

Liu et al., "MP-ReID: Multi-modality Multi-platform Re-identification", ICCV 2025. Built from the
paper's description: its code has the prompts, but neither the losses of the domain's words nor the
offsets of the image, and trains CLIP's text tower by mistake. A sentence is eight words of the
identity, four of the modality, four of the platform, and "person.". Stage 1 learns the identity's
words with those of the domain at zero (`identity_prompt_loss`), then the domain's alone
(`domain_prompt_loss`); stage 2 (`loss`) is CLIP-ReID's, with the mean words of all domains. There
the code uses the class token after `ln_post` alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones import clip
from g2ajax.config import options
from g2ajax.config.ranges import Natural
from g2ajax.losses.contrast import supcon
from g2ajax.methods import DataFacts, clip_reid
from g2ajax.nn.init import token_init
from g2ajax.nn.prompts import Prompt

IDENTITY, MODALITY, PLATFORM = 8, 4, 4
SENTENCE = (49406, *[343] * (IDENTITY + MODALITY + PLATFORM), 2533, 269, 49407)
"""CLIP's ids of 16 times "X" and "person."."""
MODALITIES = 2
REDUCTION = 16
"""Factor by which the offset's network narrows the image's feature."""


@dataclasses.dataclass(frozen=True)
class Options(clip_reid.Options):
    """Options of CLIP-ReID, and the two below; the defaults are the paper's."""

    infrared: tuple[Natural, ...] = ()
    """Numbers of the infrared cameras, from 0; without any the modality's loss is left out."""
    image_offset: bool = True
    """Add an offset computed from the image to the domain's words while they are learned."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "UniPrompt":
    """Builds the method. Raises ValueError for unknown options and whatever `UniPrompt` refuses."""
    return UniPrompt(options(Options, config, "method"), facts, rngs=rngs)


class Offset(nnx.Module):
    """linear2(relu(linear1(image feature))): an offset of words."""

    def __init__(self, width: int, out: int, *, rngs: nnx.Rngs) -> None:
        hidden = max(width // REDUCTION, 1)
        self.linear1 = clip.linear(width, hidden, dtype=jnp.float32, rngs=rngs)
        self.linear2 = clip.linear(hidden, out, dtype=jnp.float32, rngs=rngs)

    def __call__(self, feature: Float[Array, "B E"]) -> Float[Array, "B D"]:
        return self.linear2(jax.nn.relu(self.linear1(feature)))


class PromptLearner(Prompt):
    """Words of identities `ctx_generic`, of modalities `ctx_modality`, of platforms `ctx_platform`;
    `visual_enhanced_net`, the offset. Names are the code's."""

    def __init__(
        self,
        identities: int,
        platforms: int,
        width: int,
        feature: int,
        *,
        length: int = 77,
        rngs: nnx.Rngs,
    ) -> None:
        count = IDENTITY + MODALITY + PLATFORM
        super().__init__(SENTENCE, start=1, count=count, width=width, length=length)
        shapes = ((identities, IDENTITY), (MODALITIES, MODALITY), (platforms, PLATFORM))
        self.ctx_generic, self.ctx_modality, self.ctx_platform = (
            nnx.Param(token_init(rngs.params(), (*shape, width))) for shape in shapes
        )
        self.visual_enhanced_net = Offset(feature, width, rngs=rngs)

    def alone(self, label: Int[Array, " B"]) -> Float[Array, "B L D"]:
        """The sentences of identities with zeros for the domain's words."""
        own = self.ctx_generic[...][label]
        zeros = jnp.zeros((own.shape[0], MODALITY + PLATFORM, own.shape[2]))
        return self.around(jnp.concatenate([own, zeros], axis=1))

    def in_domain(
        self,
        label: Int[Array, " B"],
        modality: Int[Array, " B"],
        platform: Int[Array, " B"],
        offset: Float[Array, "B D"] | None = None,
    ) -> Float[Array, "B L D"]:
        """The sentences of identities in their domains; the offset is added to each domain word."""
        domain = [self.ctx_modality[...][modality], self.ctx_platform[...][platform]]
        domain = jnp.concatenate(domain, axis=1)
        if offset is not None:
            domain = domain + offset[:, None]
        return self.around(jnp.concatenate([self.ctx_generic[...][label], domain], axis=1))

    def __call__(self, label: Int[Array, " B"]) -> Float[Array, "B L D"]:
        """The sentences of identities with the mean words of all modalities and platforms."""
        own = self.ctx_generic[...][label]
        means = (jnp.mean(table[...], 0) for table in (self.ctx_modality, self.ctx_platform))
        domain = jnp.tile(jnp.concatenate(list(means))[None], (own.shape[0], 1, 1))
        return self.around(jnp.concatenate([own, domain], axis=1))


class UniPrompt(clip_reid.CLIPReID):
    """CLIP-ReID with other sentences. Its embedding needs no platform, unless it is given as side
    information.

    Raises ValueError for fewer than two platforms, and what CLIP-ReID refuses.
    """

    learns_from_platforms = True
    first_loss = "identity_prompt_loss"

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        if facts.num_platforms < 2:
            raise ValueError(
                f"Uni-Prompt learns words of platforms, and the data have {facts.num_platforms}; "
                "take data from the air and from the ground, or the method clip_reid"
            )
        super().__init__(options, facts, rngs=rngs)

    def prompts(self, variant: clip.Variant, facts: DataFacts, rngs: nnx.Rngs) -> Prompt:
        """The sentences of all identities."""
        return PromptLearner(
            facts.num_classes,
            facts.num_platforms,
            variant.text_width,
            variant.embed_dim,
            length=variant.context_length,
            rngs=rngs,
        )

    def identity_prompt_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Supervised contrast of images (`feature`) and texts of identities without a domain."""
        image, label = batch["feature"], batch["label"]
        text = self.encode(self.prompt_learner.alone(label))
        terms = {
            "image_to_text": supcon(image, text, label, label),
            "text_to_image": supcon(text, image, label, label),
        }
        return sum(terms.values(), jnp.zeros(())), terms

    def domain_prompt_loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Supervised contrast of images and texts in their domains, by platform and by modality."""
        image, camera, platform = batch["feature"], batch["camera"], batch["platform"]
        infrared = jnp.asarray(self.options.infrared, jnp.int32)
        modality = jnp.isin(camera, infrared).astype(jnp.int32)
        learner = self.prompt_learner
        offset = learner.visual_enhanced_net(image) if self.options.image_offset else None
        sentences = learner.in_domain(
            batch["label"], modality, jnp.maximum(platform, 0).astype(jnp.int32), offset
        )
        text, terms = self.encode(sentences), {}
        domains = {"platform": platform.astype(jnp.int32)}
        if self.options.infrared:
            domains["modality"] = modality
        for name, code in domains.items():
            both = supcon(image, text, code, code) + supcon(text, image, code, code)
            terms[name] = both
        return sum(terms.values(), jnp.zeros(())), terms
