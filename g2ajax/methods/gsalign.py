"""GSAlign: VDT with patches that are warped before every block, and a mask of channels.

"GSAlign: Geometric and Semantic Alignment Network for Aerial-Ground Person Re-Identification",
NeurIPS 2025, following its code. Seen from the air a body is foreshortened and turned: before each
block a small network reads an angle from the patch tokens (LTPS), learnt control points are turned by
it, and a thin-plate spline through them warps the token map, a tenth of which is added to the tokens.
A second part (DAM) masks channels so that an image's mean patch resembles its class; it only adds a
loss on the patch embedding, and is not used in tests.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.config import options
from g2ajax.config.ranges import Count, NonNegative
from g2ajax.losses.channel_mask import channel_mask_loss
from g2ajax.losses.triplet import normalise
from g2ajax.methods import DataFacts, vdt
from g2ajax.nn.init import redraw_as_torch, token_init
from g2ajax.nn.warp import read_bilinear, regular_points, rotation, spline_weights


@dataclasses.dataclass(frozen=True)
class Options(vdt.Options):
    """Options of the method; the defaults are those of the published configuration of CARGO."""

    warp: bool = True
    """Warp the patch tokens before every block."""
    points: Count = 4
    """Control points of the warp, a square number; 4: the corners."""
    step: NonNegative = 0.1
    """η, the weight of the warped tokens when they are added. Comments in the code advise 0.2 to
    0.5."""
    angle_weight: NonNegative = 0.0
    """Weight of the sum over blocks of the mean |angle|; 0.5 in the published configuration of
    AG-ReID.v2, whose loss holds the angles back."""
    mask_weight: NonNegative = 10.0
    """Weight of the channel mask's loss; 0: there is no mask."""
    entropy_weight: NonNegative = 0.1
    """Weight of the mask's entropy in that loss."""


def build(config: Mapping[str, Any], facts: DataFacts, *, rngs: nnx.Rngs) -> "GSAlign":
    """Builds the method. Raises ValueError for unknown options, another backbone than a ViT, control
    points that are no square number, and a grid of patches too small to be warped."""
    return GSAlign(options(Options, config, "method"), facts, rngs=rngs)


class GSAlign(vdt.VDT):
    """VDT with `warps`, one for each block, and `mask`, the network of the channel mask."""

    def __init__(self, options: Options, facts: DataFacts, *, rngs: nnx.Rngs) -> None:
        super().__init__(options, facts, rngs=rngs)
        network = self.backbone
        width = network.feature_dim
        if options.warp:
            self.warps = nnx.List(
                [
                    Warp(width, network.grid, options, dtype=facts.dtype, rngs=rngs)
                    for _ in network.blocks
                ]
            )
        if options.mask_weight:
            self.mask = ChannelMask(width, rngs=rngs)
            self.in_batch_terms = ("triplet", "mask")

    def encode(
        self, images: Float[Array, "B H W 3"], rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "B 2 D"], list[Float[Array, " B"]]]:
        """Class and view token after the final norm, from normalised images, and the angle of each
        warp."""
        network, angles = self.backbone, []
        options = {"hooks": self.hooks, "rngs": rngs}
        if not self.options.warp:
            return network(images, only_first=2, **options), angles
        tokens = network.embed_patches(images)
        # Not by hooks: the angle is needed outside, and a hook must not write state.
        for i, warp in enumerate(self.warps):
            patches, angle = warp(network.layout.patches(tokens))
            tokens = jnp.concatenate([tokens[:, :2], patches], axis=1)
            read = 2 if i == len(self.warps) - 1 else None
            tokens = network.run_blocks(tokens, start=i, stop=i + 1, only_first=read, **options)
            angles.append(angle)
        return network.norm(tokens), angles

    def features(
        self, images: Float[Array, "B H W 3"], rngs: nnx.Rngs | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
        """Class and view token after the final norm, float32, from pixels 0..255."""
        return self.read(self.encode(self.preprocessing(images), rngs)[0])

    def loss(
        self, batch: Mapping[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """VDT's four losses, and those of the channel mask and of the angles."""
        options, label = self.options, batch["label"]
        images = self.preprocessing(batch["image"])
        tokens, angles = self.encode(images, rngs)
        terms = self.losses(*self.read(tokens), label, batch["platform"])
        total = self.total(terms)
        if options.mask_weight:
            # The patches before positions and blocks: the loss reaches the patch embedding alone.
            mean = self.backbone.patch_embed(images).astype(jnp.float32).mean(axis=1)
            terms["mask"] = channel_mask_loss(
                mean, self.mask(mean), label, entropy_weight=options.entropy_weight
            )
            total = total + options.mask_weight * terms["mask"]
        if angles:
            terms["angle"] = sum(jnp.mean(jnp.abs(angle)) for angle in angles)
            total = total + options.angle_weight * terms["angle"]
        return total, terms


class Warp(nnx.Module):
    """LTPS: tokens of a map + η times the map warped by a spline through turned control points.

    The points are turned in normalised coordinates: on a map that is not square this also shears.
    At an angle of 0 with the points at their start the tokens grow by 1 + η.

    Names: `angle_predictor.0`, a 3x3 convolution, `.4` and `.6`, and `src_points`, the learnt points.

    Raises ValueError for a number of points that is no square above 1, and a grid that is too small.
    """

    def __init__(
        self,
        dim: int,
        grid: tuple[int, int],
        options: Options,
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        side = math.isqrt(options.points)
        if side < 2 or side * side != options.points:
            raise ValueError(
                f"method.points = {options.points}: expected a square number of control points, 4 or "
                "more"
            )
        spline_weights(side, *grid)  # refuses the grid
        self.side, self.grid = side, grid
        self.step = options.step
        self.src_points = nnx.Param(jnp.asarray(regular_points(side), jnp.float32))
        self.angle_predictor = AnglePredictor(dim, dtype=dtype, rngs=rngs)

    def points(self, angle: Float[Array, " B"]) -> Float[Array, "B K 2"]:
        """The control points turned by the angle of each image."""
        return jnp.matmul(self.src_points[...], rotation(angle), precision="highest")

    def places(self, points: Float[Array, "B K 2"]) -> Float[Array, "B N 2"]:
        """Places from which each patch is read."""
        weights = jnp.asarray(spline_weights(self.side, *self.grid), jnp.float32)
        return jnp.einsum("nk,bkc->bnc", weights, points, precision="highest")

    def __call__(
        self, patches: Float[Array, "B N D"]
    ) -> tuple[Float[Array, "B N D"], Float[Array, " B"]]:
        """The patch tokens after the warp, and the angle of each image in radians."""
        values = patches.reshape(len(patches), *self.grid, -1)
        angle = self.angle_predictor(values)
        warped = read_bilinear(values, self.places(self.points(angle)))
        return patches + self.step * warped, angle


class AnglePredictor(nnx.Module):
    """A map to one angle in (-π/2, π/2), float32, near 0 at first."""

    def __init__(self, dim: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        convolution = nnx.Conv(dim, 256, (3, 3), dtype=dtype, rngs=rngs)
        redraw_as_torch(convolution, rngs=rngs)
        setattr(self, "0", convolution)
        setattr(self, "4", nnx.Linear(256, 128, kernel_init=token_init, rngs=rngs))
        setattr(self, "6", nnx.Linear(128, 1, kernel_init=token_init, rngs=rngs))

    def __call__(self, values: Float[Array, "B h w D"]) -> Float[Array, " B"]:
        x = jax.nn.relu(getattr(self, "0")(values)).astype(jnp.float32).mean(axis=(1, 2))
        x = getattr(self, "6")(jax.nn.relu(getattr(self, "4")(x)))
        return math.pi / 2 * jnp.tanh(x[:, 0])


class ChannelMask(nnx.Module):
    """DAM's mask of channels in (0, 1), from a feature that it normalises; float32."""

    def __init__(self, dim: int, *, rngs: nnx.Rngs):
        self.mlp = nnx.Module()
        setattr(self.mlp, "0", nnx.Linear(dim, dim, kernel_init=token_init, rngs=rngs))
        setattr(self.mlp, "1", nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs))
        setattr(self.mlp, "3", nnx.Linear(dim, dim, kernel_init=token_init, rngs=rngs))

    def __call__(self, feature: Float[Array, "B D"]) -> Float[Array, "B D"]:
        first, norm, last = (getattr(self.mlp, name) for name in ("0", "1", "3"))
        return jax.nn.sigmoid(last(jax.nn.relu(norm(first(normalise(feature, 1e-12))))))
