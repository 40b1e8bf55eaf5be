"""CLIP's image tower: a ViT with a norm before its blocks, and a projection behind them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.backbones.clip_blocks import Transformer, Variant, layer_norm
from g2ajax.backbones.tokens import Hook, Layout
from g2ajax.nn.init import torch_uniform
from g2ajax.nn.patches import grid_size, project_patches


class Features(NamedTuple):
    """The class token at three depths, float32, as CLIP-ReID reads it."""

    entering: Float[Array, "B D"]
    """As it enters the last block."""
    normed: Float[Array, "B D"]
    """After the last block and `ln_post`."""
    projected: Float[Array, "B E"]
    """The same in the space of the texts."""


class ImageTower(nnx.Module):
    """Normalised images [B,H,W,3] to projected tokens [B,1+h*w,E]; the class token is first.

    The parts are there for a method as those of `vit.ViT`: `embed_patches`, `run_blocks` with hooks,
    `layout`, then `ln_post` and `project`. The width before the projection is `width`.

    `image_size` (H, W) is fixed: another size raises. `stride` below the patch size makes patches
    overlap.

    Raises:
      ValueError: an image smaller than a patch, or of another size.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        image_size: tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        remat: bool = False,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        width, patch = variant.vision_width, variant.patch_size
        stride = patch if stride is None else stride
        strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
        self.image_size = tuple(image_size)
        self.grid = grid_size(self.image_size, patch, strides)
        self.width = width
        self.feature_dim = variant.embed_dim
        self.layout = Layout()
        self.dtype = dtype
        self.conv1 = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=strides,
            padding=0,
            use_bias=False,
            kernel_init=torch_uniform(3 * patch * patch),
            dtype=dtype,
            rngs=rngs,
        )
        normal = nnx.initializers.normal(width**-0.5)
        places = 1 + self.grid[0] * self.grid[1]
        self.class_embedding = nnx.Param(normal(rngs.params(), (width,), jnp.float32))
        self.positional_embedding = nnx.Param(normal(rngs.params(), (places, width), jnp.float32))
        self.ln_pre = layer_norm(width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            width,
            variant.vision_layers,
            activation=variant.activation,
            remat=remat,
            attention=attention,
            dtype=dtype,
            rngs=rngs,
        )
        self.ln_post = layer_norm(width, dtype=dtype, rngs=rngs)
        self.proj = nnx.Param(normal(rngs.params(), (width, variant.embed_dim), jnp.float32))

    def patch_tokens(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """The patches alone, row by row, before class token and positions."""
        if images.shape[1:3] != self.image_size:
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} pixels; this tower was built for "
                f"{self.image_size[0]}x{self.image_size[1]} (its position table fixes the size)"
            )
        return project_patches(self.conv1, images)

    def embed_patches(
        self, images: Float[Array, "B H W 3"], *, side: Float[Array, "B D"] | None = None
    ) -> Float[Array, "B T D"]:
        """The tokens that enter the first block: class token and patches, positions, `ln_pre`.

        `side` is added to the class token alone, before the positions: side information as
        CLIP-ReID has it (a ViT's goes to all tokens).
        """
        patches = self.patch_tokens(images)
        token = jnp.tile(self.class_embedding[...].astype(self.dtype), (images.shape[0], 1, 1))
        if side is not None:
            token = token + side.astype(self.dtype)[:, None]
        x = jnp.concatenate([token, patches], axis=1)
        return self.ln_pre(x + self.positional_embedding[...].astype(self.dtype)[None])

    def run_blocks(
        self,
        tokens: Float[Array, "B T D"],
        *,
        start: int = 0,
        stop: int | None = None,
        only_first: int | None = None,
        hooks: Sequence[Hook] = (),
    ) -> Float[Array, "B T2 D"]:
        """Tokens after the blocks `start` to `stop` (as a slice; negative counts from the end) and
        their hooks, all or the `only_first` of them."""
        return self.transformer(tokens, start=start, stop=stop, only_first=only_first, hooks=hooks)

    def project(self, tokens: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """The tokens in the space of the texts."""
        return tokens @ self.proj[...].astype(self.dtype)

    def features(
        self,
        images: Float[Array, "B H W 3"],
        *,
        side: Float[Array, "B D"] | None = None,
        hooks: Sequence[Hook] = (),
    ) -> Features:
        """The class token at three depths."""
        tokens = self.run_blocks(self.embed_patches(images, side=side), stop=-1, hooks=hooks)
        last = self.run_blocks(tokens, start=-1, only_first=1, hooks=hooks)
        normed = self.ln_post(last[:, 0])
        depths = (tokens[:, 0], normed, self.project(normed))
        return Features(*(depth.astype(jnp.float32) for depth in depths))

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B T E"]:
        return self.project(self.ln_post(self.run_blocks(self.embed_patches(images))))
