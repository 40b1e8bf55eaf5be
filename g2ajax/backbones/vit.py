"""Vision transformer with overlapping patches and camera/view embeddings.

Dosovitskiy et al., ICLR 2021; the overlapping patches and the side information embedding (SIE)
are TransReID's (He et al., ICCV 2021). Names are timm's: `patch_embed.proj`, `cls_token`,
`pos_embed`, `blocks.0.attn.qkv`, ..., `norm`; plus TransReID's `sie_embed`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from g2ajax.backbones.side_information import check_counts, side_vectors
from g2ajax.backbones.stack import pre_norm, run_blocks, scan_blocks
from g2ajax.backbones.tokens import Hook, Layout
from g2ajax.nn.activations import gelu
from g2ajax.nn.attention import Attention
from g2ajax.nn.drop_path import DropPath, drop_path
from g2ajax.nn.init import token_init
from g2ajax.nn.patches import PatchEmbed, grid_size


@dataclasses.dataclass(frozen=True)
class Variant:
    """The shape of one transformer. `attention_scale` None means head_dim^-0.5."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: int | float = 4.0
    qkv_bias: bool = True
    attention_scale: int | float | None = None
    patch_size: int = 16
    layer_norm_eps: float = 1e-6


VARIANTS = {
    "vit_tiny": Variant(embed_dim=192, num_heads=3),
    "vit_small": Variant(embed_dim=384, num_heads=6),
    "vit_base": Variant(),
    "deit_small": Variant(embed_dim=384, num_heads=6),
    # TransReID's "vit_small" is timm's old one: base width, and the scale of the FULL
    # width in the softmax.
    "vit_small_transreid": Variant(
        depth=8, num_heads=8, mlp_ratio=3.0, qkv_bias=False, attention_scale=768**-0.5
    ),
    "vit_test": Variant(embed_dim=32, depth=2, num_heads=2, mlp_ratio=2.0),
}


class Mlp(nnx.Module):
    """fc2(gelu(fc1(x))), the GELU in its exact (erf) form."""

    def __init__(self, dim: int, hidden: int, *, dtype: Any = jnp.float32, rngs: nnx.Rngs):
        options = {"kernel_init": token_init, "dtype": dtype, "rngs": rngs}
        self.fc1 = nnx.Linear(dim, hidden, **options)
        self.fc2 = nnx.Linear(hidden, dim, **options)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return self.fc2(gelu(self.fc1(x)))


class Drop(NamedTuple):
    """Drop path of a block that runs in a loop, in place of its own."""

    rate: Float[Array, "*blocks"]
    keys: Key[Array, "*blocks 2"]
    """One key for each branch."""


class Block(nnx.Module):
    """Pre-norm block: x + attn(norm1(x)), then x + mlp(norm2(x)), each branch with drop path.

    LayerNorm has float32 statistics. `rngs` is needed in training when the drop path rate is not
    zero. `length`: tokens from there on are padding, which no token attends to. `first`: only
    that many first tokens are computed, all of them when None. `hooks`: those inside the block.
    `drop` replaces the block's own drop path.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        drop_path: int | float = 0.0,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        dim = variant.embed_dim
        self.norm1 = nnx.LayerNorm(dim, epsilon=variant.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.attn = Attention(
            dim,
            variant.num_heads,
            qkv_bias=variant.qkv_bias,
            scale=variant.attention_scale,
            kernel=attention,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm2 = nnx.LayerNorm(dim, epsilon=variant.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(dim, int(dim * variant.mlp_ratio), dtype=dtype, rngs=rngs)
        self.drop_path = DropPath(drop_path)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        rngs: nnx.Rngs | None = None,
        drop: "Drop | None" = None,
        *,
        length: int | None = None,
        first: int | None = None,
        hooks: Sequence[Hook] = (),
    ) -> Float[Array, "B T2 D"]:
        def dropped(y: Float[Array, "B T D"], branch: int) -> Float[Array, "B T D"]:
            if drop is None:
                return self.drop_path(y, rngs=rngs)
            return drop_path(y, drop.rate, drop.keys[branch])

        attention = functools.partial(self.attn, length=length)
        parts = (self.norm1, attention, self.norm2, self.mlp)
        return pre_norm(x, *parts, first=first, hooks=hooks, drop=dropped)


class ViT(nnx.Module):
    """Images [B,H,W,3], normalised, to tokens [B,1+h*w,D]; the class token is first. `tokens` names
    further special tokens behind it (`view`: the parameter `view_token`), which start at 0.

    `image_size` (H, W) is fixed: another size raises. `stride` < 16 makes patches overlap
    (256x128: 16 gives 16x8, 12 gives 21x10). Drop path grows linearly from 0 to `drop_path`. `scan`
    runs the blocks as a loop (`stack`).

    Side information (SIE): `cameras` > 1 and/or `views` > 1 add `sie_coefficient` times a learned
    vector of the image's camera, view, or pair (camera * views + view) to ALL tokens. Ids count
    from 0. TransReID's code makes no table for a count of one but still reads it; here
    it is refused. Out-of-range ids raise where their values are known and give NaN under jit, never
    another camera's vector.

    Raises:
      ValueError: cameras or views of 1 or below 0, an unknown variant's options, an image of
        another size, ids missing, not wanted or out of range.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        image_size: tuple[int, int],
        stride: int | tuple[int, int] = 16,
        cameras: int = 0,
        views: int = 0,
        tokens: tuple[str, ...] = (),
        sie_coefficient: int | float = 3.0,
        drop_path: int | float = 0.1,
        remat: bool = False,
        scan: bool = False,
        attention: str = "auto",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_counts(cameras, views)
        strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
        self.image_size = tuple(image_size)
        self.grid = grid_size(self.image_size, variant.patch_size, strides)
        self.feature_dim = dim = variant.embed_dim
        self.layout = Layout(("cls", *tokens))
        self.cameras = cameras
        self.views = views
        self.sie_coefficient = sie_coefficient
        self.remat = remat
        self.scan = scan
        self.dtype = dtype
        self.patch_embed = PatchEmbed(variant.patch_size, strides, dim, dtype=dtype, rngs=rngs)
        count = self.grid[0] * self.grid[1]
        self.cls_token = nnx.Param(token_init(rngs.params(), (1, 1, dim)))
        for name in tokens:
            setattr(self, f"{name}_token", nnx.Param(jnp.zeros((1, 1, dim))))
        places = len(self.layout.special) + count
        self.pos_embed = nnx.Param(token_init(rngs.params(), (1, places, dim)))
        self.with_sie = cameras > 0 or views > 0
        if self.with_sie:
            pairs = max(cameras, 1) * max(views, 1)
            self.sie_embed = nnx.Param(token_init(rngs.params(), (pairs, 1, dim)))
        rates = [float(rate) for rate in np.linspace(0.0, drop_path, variant.depth)]
        self.blocks = nnx.List(
            [
                Block(variant, drop_path=rate, attention=attention, dtype=dtype, rngs=rngs)
                for rate in rates
            ]
        )
        self.norm = nnx.LayerNorm(dim, epsilon=variant.layer_norm_eps, dtype=dtype, rngs=rngs)

    def embed_patches(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array | np.ndarray, " B"] | None = None,
        view: Int[Array | np.ndarray, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        """The tokens that enter the first block: special ones and patches, positions, SIE."""
        if images.shape[1:3] != self.image_size:
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} pixels; this network was built for "
                f"{self.image_size[0]}x{self.image_size[1]} (its position table fixes the size)"
            )
        patches = self.patch_embed(images)
        special = [getattr(self, f"{name}_token")[...] for name in self.layout.special]
        special = [jnp.tile(t.astype(patches.dtype), (images.shape[0], 1, 1)) for t in special]
        tokens = jnp.concatenate([*special, patches], axis=1)
        extra = self.pos_embed[...]
        table = self.sie_embed[...] if self.with_sie else None
        side = side_vectors(table, self.cameras, self.views, camera, view)
        if side is not None:
            extra = extra + self.sie_coefficient * side
        return tokens + extra.astype(tokens.dtype)

    def run_blocks(
        self,
        tokens: Float[Array, "B T D"],
        *,
        start: int = 0,
        stop: int | None = None,
        only_first: int | None = None,
        hooks: Sequence[Hook] = (),
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B T2 D"]:
        """Tokens after the blocks `start` to `stop` (as a slice; negative counts from the end) and
        their hooks, all or the `only_first` of them."""

        def loop(blocks: Sequence[Block], x: Array, call: Callable[..., Array]) -> Array:
            return scan_blocks(
                blocks,
                x,
                lambda block, x, drop: call(block, x, None, drop),
                self._drops(blocks, rngs),
                dtype=self.dtype,
                remat=self.remat,
            )

        return run_blocks(
            self.blocks,
            tokens,
            rngs,
            None,
            start=start,
            stop=stop,
            only_first=only_first,
            hooks=hooks,
            remat=self.remat,
            loop=loop if self.scan else None,
        )

    def _drops(self, blocks: Sequence[Block], rngs: nnx.Rngs | None) -> Drop | None:
        """The draws of the blocks' drop paths, from the same keys as outside a loop."""
        layers = [block.drop_path for block in blocks]
        if all(layer.deterministic or not layer.rate for layer in layers):
            return None
        rngs = layers[-1].check_rngs(rngs)
        pairs = [[rngs.dropout(), rngs.dropout()] if layer.rate else None for layer in layers]
        any_pair = next(pair for pair in pairs if pair)
        keys = jnp.stack([jnp.stack(pair or any_pair) for pair in pairs])
        return Drop(jnp.asarray([layer.rate for layer in layers], jnp.float32), keys)

    def __call__(
        self,
        images: Float[Array, "B H W 3"],
        *,
        camera: Int[Array | np.ndarray, " B"] | None = None,
        view: Int[Array | np.ndarray, " B"] | None = None,
        only_first: int | None = None,
        hooks: Sequence[Hook] = (),
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B T D"]:
        """All tokens after the final norm, or the `only_first` of them (1: the class token)."""
        x = self.embed_patches(images, camera=camera, view=view)
        return self.norm(self.run_blocks(x, only_first=only_first, hooks=hooks, rngs=rngs))


def class_token(tokens: Float[Array, "B T D"]) -> Float[Array, "B D"]:
    """The class token, the image's feature, in float32."""
    return tokens[:, 0].astype(jnp.float32)


def build(
    name: str,
    *,
    image_size: Sequence[int],
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    **options: Any,
) -> ViT:
    """The ViT called `name` (a key of `VARIANTS`) for images of `image_size` (H, W) pixels.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"ViT {name!r} is unknown; expected one of {', '.join(VARIANTS)}")
    return ViT(VARIANTS[name], image_size=tuple(image_size), dtype=dtype, rngs=rngs, **options)


def feature_dim(name: str) -> int:
    """Width of the tokens of the ViT called `name`."""
    return VARIANTS[name].embed_dim
