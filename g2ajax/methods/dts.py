"""DTS: VDT whose last blocks see only the few patches that a learnt selector chooses.

Dynamic token selection for aerial-ground re-identification (DTST, ICME 2025), following its modules.
The selector scores every patch from its own feature and the image's mean, and takes the k best by a
perturbed top-k, whose draws are averaged, so that the scores learn. It stands behind block j, before
that block's subtraction of the view token; later blocks see class token, view token and k tokens.

The released code builds the selector but never calls it: trained with it, the network is VDT with
idle weights. Here it is called. Its place and k are those of the code's last comments; which k, place
and number of heads gave the published numbers is unknown.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.backbones.tokens import Hook
from g2ajax.config import options
from g2ajax.config.ranges import Count, Natural, Positive
from g2ajax.methods import DataFacts, vdt
from g2ajax.nn.activations import gelu
from g2ajax.nn.cross_attention import CrossAttention
from g2ajax.nn.init import redraw_as_torch
from g2ajax.nn.perturbed_topk import Gradient, hard_topk, perturbed_topk


@dataclasses.dataclass(frozen=True)
class Options(vdt.Options):
    """Options of the method; the defaults are the published code's."""

    tokens: Count = 2
    """k, the patches that are kept."""
    block: Natural | None = None
    """Number of the block behind which they are chosen, from 0; None: the third from the end, 9 of
    12. Behind the last one the choice would change nothing and learn nothing."""
    samples: Count = 500
    """Draws of noise in the perturbed top-k."""
    sigma: Positive = 0.05
    """Standard deviation of the noise, in scores between -1 and 1."""
    gradient: Gradient = "code"
    """Estimate of the scores' gradient: `code` keeps the diagonal of the Jacobian, `full` is the
    perturbed optimizer's (see `nn.perturbed_topk`)."""
    selector_heads: Count = 2
    """Heads of the selector's attention."""
    test_noise: bool = False
    """Average over perturbed choices in tests, too, as the code does; there the noise is new in
    every call, here the same for every image. False: the k patches of the highest scores."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "DTS":
    """Builds the method. Raises ValueError for unknown options, another backbone than a ViT, a block
    that the ViT has not before its last one, and more tokens than patches."""
    return DTS(options(Options, config, "method"), facts, rngs=rngs)


class DTS(vdt.VDT):
    """VDT with a `selector` of patches behind one block."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        network = self.backbone
        depth, patches = len(network.blocks), network.grid[0] * network.grid[1]
        self.block = depth - 3 if options.block is None else options.block
        if not 0 <= self.block < depth - 1:
            raise ValueError(
                f"the selector of patches stands behind block {self.block} of {depth}: expected 0 "
                f"to {depth - 2}, so that a block follows; set method.block"
            )
        if options.tokens > patches:
            raise ValueError(
                f"method.tokens = {options.tokens}: images of {facts.image_size[0]}x"
                f"{facts.image_size[1]} have {patches} patches; keep at most as many"
            )
        self.selector = TokenSelector(
            network.feature_dim, options.selector_heads, dtype=facts.dtype, rngs=rngs
        )

    def select(
        self, tokens: Float[Array, "B T D"], noise: Float[Array, "#B n N"] | None
    ) -> Float[Array, "B T2 D"]:
        """Class token, view token and the chosen patches; without noise those of the best scores."""
        options, layout = self.options, self.backbone.layout
        special, patches = tokens[:, : len(layout.special)], layout.patches(tokens)
        scores = self.selector(tokens)[:, len(layout.special) :]
        if noise is None:
            index = hard_topk(scores, options.tokens)
            best = jnp.take_along_axis(patches, index[..., None], axis=1)
        else:
            noise = jnp.broadcast_to(noise, (len(tokens), *noise.shape[1:]))
            indicator = perturbed_topk(
                scores, noise, options.tokens, options.sigma, options.gradient
            )
            best = indicator.astype(patches.dtype) @ patches
        return jnp.concatenate([special, best], axis=1)

    def features(
        self, images: Float[Array, "B H W 3"], rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
        """Class and view token after the final norm, float32, from pixels 0..255; with `rngs`, in
        training, the choice of patches is perturbed."""
        options, grid = self.options, self.backbone.grid
        shape, noise = (options.samples, grid[0] * grid[1]), None
        if rngs is not None:
            noise = jax.random.normal(rngs.noise(), (len(images), *shape))
        elif options.test_noise:
            noise = jax.random.normal(jax.random.key(0), (1, *shape))
        choice = Hook(lambda tokens: self.select(tokens, noise), "after", (self.block,))
        hooks = [choice, *self.hooks]
        images = self.preprocessing(images)
        return self.read(self.backbone(images, only_first=2, hooks=hooks, rngs=rngs))


class TokenSelector(nnx.Module):
    """Scores in [-1, 1] of all tokens, float32: each from its own feature, after an attention without
    residual, beside the mean feature. No layer but the norm has biases."""

    def __init__(self, dim: int, heads: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        half = dim // 2
        plain = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        self.norm = nnx.LayerNorm(dim, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.project = nnx.Linear(dim, half, **plain)
        self.attention = CrossAttention(half, heads, **plain)
        self.hidden = nnx.Linear(2 * half, half, **plain)
        self.score = nnx.Linear(half, 1, **plain)
        redraw_as_torch(self, rngs=rngs)

    def __call__(self, tokens: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        own = gelu(self.project(self.norm(tokens)))
        own = self.attention(own, own, own)
        mean = jnp.broadcast_to(own.mean(axis=1, keepdims=True), own.shape)
        hidden = gelu(self.hidden(jnp.concatenate([own, mean], axis=-1)))
        return jnp.tanh(self.score(hidden)[..., 0].astype(jnp.float32))
