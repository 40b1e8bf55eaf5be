"""Splitting of a backbone: lower stages shared by several streams, upper stages of each stream.

A network with stages (ResNet, OSNet) is split before stage `split`: 0 shares nothing, 1 the stem, 3
the stem and stages 1 and 2. A ViT is split before block `split`: the patch embedding and `split`
blocks are shared.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from g2ajax.backbones.vit import ViT

STAGES = (1, 2, 3, 4)


def default_split(backbone: nnx.Module) -> int:
    """Half of the blocks of a ViT; stage 3 of a network with stages, as in AMD."""
    return len(backbone.blocks) // 2 if isinstance(backbone, ViT) else 3


def check_split(backbone: nnx.Module, split: int) -> None:
    """Raises ValueError unless `split` lies inside the backbone."""
    last = len(backbone.blocks) - 1 if isinstance(backbone, ViT) else len(STAGES)
    unit = "blocks" if isinstance(backbone, ViT) else "stages"
    if not 0 <= split <= last:
        raise ValueError(f"split = {split}: expected 0 to {last} for a network of {unit}")


def lower(
    backbone: nnx.Module,
    images: Float[Array, "B H W 3"],
    split: int,
    camera: Int[Array, " B"] | None = None,
    rngs: nnx.Rngs | None = None,
) -> Float[Array, "B ..."]:
    """Runs the lower part: returns a map, a ViT's tokens, or the images themselves (split 0)."""
    if isinstance(backbone, ViT):
        tokens = backbone.embed_patches(images, camera=camera)
        return backbone.run_blocks(tokens, stop=split, rngs=rngs)
    if split == 0:
        return images
    x = backbone.stem(images)
    for number in STAGES[: split - 1]:
        x = backbone.stage(number, x)
    return x


def upper(
    backbone: nnx.Module, x: Float[Array, "B ..."], split: int, rngs: nnx.Rngs | None = None
) -> Float[Array, "B h w C"]:
    """Runs the upper part: returns the last map; for a ViT its patch tokens after the final norm."""
    if isinstance(backbone, ViT):
        return patch_map(backbone, backbone.norm(backbone.run_blocks(x, start=split, rngs=rngs)))
    if split == 0:
        x = backbone.stem(x)
    for number in STAGES[max(split - 1, 0) :]:
        x = backbone.stage(number, x)
    return x


def patch_map(backbone: ViT, tokens: Float[Array, "B T D"]) -> Float[Array, "B h w D"]:
    """Patch tokens of a ViT as a map, without the special tokens."""
    return jnp.reshape(
        backbone.layout.patches(tokens), (tokens.shape[0], *backbone.grid, tokens.shape[-1])
    )


def keep_upper(backbone: nnx.Module, split: int) -> nnx.Module:
    """Removes the shared parts of a backbone, in place; the others keep their names."""
    if isinstance(backbone, ViT):
        for name in ("patch_embed", "cls_token", "pos_embed", "sie_embed"):
            if hasattr(backbone, name):
                delattr(backbone, name)
        for number in range(split):
            backbone.blocks[number] = None
        return backbone
    for part in (name for stage in backbone.parts[:split] for name in stage):
        if hasattr(backbone, part):
            delattr(backbone, part)
    return backbone
