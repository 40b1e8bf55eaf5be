"""Images to patch tokens, and the table of their positions on another grid."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from g2ajax.nn.init import conv_init


def grid_size(
    image_size: tuple[int, int], patch_size: int, stride: int | tuple[int, int]
) -> tuple[int, int]:
    """Patch rows and columns of an image of H x W pixels: (n - patch_size) // stride + 1.

    Raises:
      ValueError: when the image is smaller than one patch.
    """
    strides = (stride, stride) if isinstance(stride, int) else stride
    if min(image_size) < patch_size:
        raise ValueError(f"image of {image_size} pixels is smaller than a patch of {patch_size}")
    return tuple((n - patch_size) // s + 1 for n, s in zip(image_size, strides, strict=True))


def resize_pos_embed(
    table: Float[Array | np.ndarray, "*one T D"],
    grid: tuple[int, int],
    *,
    class_tokens: int = 1,
    extra_tokens: int = 0,
    old_grid: tuple[int, int] | None = None,
) -> Float[Array, "*one T2 D"]:
    """A position table for a grid of `grid` (rows, columns) patches.

    `table` is [1,T,D] or [T,D]: `class_tokens` rows first, copied as they are, then the old grid
    row by row (square unless `old_grid` says otherwise), resized bilinearly with half-pixel
    centres and without antialiasing, also when it shrinks. `extra_tokens` further rows after the
    class tokens take the value of the old grid's first place (VDT's view token).

    Raises:
      ValueError: when the old table's grid is not square and `old_grid` is not given.
    """
    squeeze = table.ndim == 2
    table = jnp.asarray(table, jnp.float32)
    table = table[None] if squeeze else table
    special, places = table[:, :class_tokens], table[:, class_tokens:]
    count, dim = places.shape[1], places.shape[2]
    side = round(count**0.5)
    rows, columns = old_grid or (side, side)
    if rows * columns != count:
        raise ValueError(
            f"a position table of {count} places after {class_tokens} class token(s) is not a "
            f"grid of {rows}x{columns}; give old_grid=(rows, columns) or the right class_tokens"
        )
    resized = jax.image.resize(
        places.reshape(-1, rows, columns, dim),
        (table.shape[0], *grid, dim),
        "bilinear",
        antialias=False,
    )
    extra = jnp.repeat(places[:, :1], extra_tokens, axis=1)
    out = jnp.concatenate([special, extra, resized.reshape(-1, grid[0] * grid[1], dim)], 1)
    return out[0] if squeeze else out


class PatchEmbed(nnx.Module):
    """Patches of `patch_size` pixels every `stride` pixels, projected: [B,H,W,3] to [B,h*w,D],
    row by row. No padding: a remainder at the right and lower edge is not seen."""

    def __init__(
        self,
        patch_size: int,
        stride: tuple[int, int],
        dim: int,
        *,
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.proj = nnx.Conv(
            3,
            dim,
            (patch_size, patch_size),
            strides=stride,
            padding=0,
            kernel_init=conv_init,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        return project_patches(self.proj, x)


def project_patches(conv: nnx.Conv, x: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
    """The tokens of a convolution without padding, row by row."""
    dim, dtype, p = conv.out_features, conv.dtype, conv.kernel_size[0]
    if tuple(conv.strides) != (p, p):
        return conv(x).reshape(x.shape[0], -1, dim)
    # Patches that do not overlap are a matrix product, which is faster than a convolution of
    # three channels.
    rows, columns = x.shape[1] // p, x.shape[2] // p
    x = x[:, : rows * p, : columns * p].astype(dtype)
    x = x.reshape(x.shape[0], rows, p, columns, p, 3).transpose(0, 1, 3, 2, 4, 5)
    kernel = conv.kernel[...].astype(dtype).reshape(-1, dim)
    tokens = x.reshape(x.shape[0], rows * columns, -1) @ kernel
    return tokens if conv.bias is None else tokens + conv.bias[...].astype(dtype)[None, None]
