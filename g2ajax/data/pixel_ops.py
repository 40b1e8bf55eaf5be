"""Pillow's colour and geometry operations on the device: one image, one operation chosen at run time.

Under `vmap` each image of a batch has its own operation, so one branch for each operation would run
all of them for all images. Instead all are special cases of two functions of fixed cost.
`recolour`: a table of grey values per channel, then a blend with a degenerate image. `warp`: an
affine map with bilinear or bicubic taps.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from g2ajax.config import nearest

TABLES = ("posterize", "solarize", "invert", "autocontrast", "equalize")
BLENDS = ("brightness", "color", "contrast", "sharpness")
WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
OPS = ("identity", *TABLES, *BLENDS, *WARPS)
GREY = 128
# Pillow computes in double precision and truncates: a whole number there must not fall below it
# here.
NUDGE = 1e-3


def op_index(name: str) -> int:
    """The number of an operation. Raises ValueError for an unknown name, giving the nearest."""
    if name not in OPS:
        raise ValueError(f"no operation {name!r}; {nearest(name, OPS)}")
    return OPS.index(name)


def recolour(
    image: UInt8[Array, "H W 3"], op: Int[Array, ""], value: Float[Array, ""]
) -> UInt8[Array, "H W 3"]:
    """The image after a colour operation; after any other it is unchanged.

    `value`: bits kept (posterize), first inverted grey level (solarize), factor of Pillow's
    `ImageEnhance` (the blends; 1 changes nothing); invert, autocontrast and equalize take none.

    Equal to Pillow, except for autocontrast and the blends: a value that is whole up to the
    rounding of double precision may be one grey level off.
    """
    table = jnp.select(
        [op == op_index(name) for name in TABLES],
        [
            jnp.broadcast_to(_posterize(value), (3, 256)),
            jnp.broadcast_to(_solarize(value), (3, 256)),
            jnp.broadcast_to(255 - jnp.arange(256), (3, 256)),
            _autocontrast(image),
            _equalize(image),
        ],
        jnp.broadcast_to(jnp.arange(256), (3, 256)),
    )
    level = look_up(image, table)
    is_blend = (op >= op_index(BLENDS[0])) & (op <= op_index(BLENDS[-1]))
    return blend(degenerate(image, op), level, jnp.where(is_blend, value, 1.0))


def look_up(image: UInt8[Array, "H W 3"], table: Int[Array, "3 256"]) -> Int[Array, "H W 3"]:
    """Each channel's grey levels through its row of the table."""
    place = image.astype(jnp.int32) + 256 * jnp.arange(3)[None, None]
    return table.reshape(-1).at[place].get(mode="promise_in_bounds")


def histogram(image: UInt8[Array, "H W 3"]) -> Int[Array, "3 256"]:
    """Number of pixels at each grey level, for each channel."""
    place = image.astype(jnp.int32) + 256 * jnp.arange(3)[None, None]
    counts = jnp.zeros(3 * 256, jnp.int32).at[place.reshape(-1)].add(1, mode="promise_in_bounds")
    return counts.reshape(3, 256)


def _posterize(bits: jax.Array) -> jax.Array:
    """Only the upper `bits` bits of a level are kept."""
    dropped = jnp.clip(8 - bits.astype(jnp.int32), 0, 8)
    return ((jnp.arange(256) >> dropped) << dropped)[None]


def _solarize(threshold: jax.Array) -> jax.Array:
    level = jnp.arange(256)
    return jnp.where(level < threshold.astype(jnp.int32), level, 255 - level)[None]


def _autocontrast(image: jax.Array) -> jax.Array:
    """The darkest level of a channel becomes 0, its brightest 255."""
    low = jnp.min(image, (0, 1)).astype(jnp.int32)[:, None]
    high = jnp.max(image, (0, 1)).astype(jnp.int32)[:, None]
    level = jnp.arange(256)[None]
    stretched = (level - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), level)


def _equalize(image: jax.Array) -> jax.Array:
    """Levels become equally frequent. The brightest level's count is not part of the step."""
    counts = histogram(image)
    brightest = jnp.max(image, (0, 1)).astype(jnp.int32)[:, None]
    step = (jnp.sum(counts, 1, keepdims=True) - jnp.take_along_axis(counts, brightest, 1)) // 255
    below = jnp.cumsum(counts, 1) - counts
    spread = (step // 2 + below) // jnp.maximum(step, 1)
    return jnp.where(step > 0, jnp.minimum(spread, 255), jnp.arange(256)[None])


def grey(image: UInt8[Array, "H W 3"]) -> Int[Array, "H W"]:
    """Luminance of ITU-R 601-2 in Pillow's 16-bit integers."""
    red, green, blue = jnp.moveaxis(image.astype(jnp.int32), -1, 0)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def degenerate(image: UInt8[Array, "H W 3"], op: Int[Array, ""]) -> Int[Array, "H W 3"]:
    """The image at factor 0 of a blend: black, grey, the mean grey level, or the smoothed image."""
    luminance = grey(image)
    pixels = luminance.size
    mean = (2 * jnp.sum(luminance) + pixels) // (2 * pixels)
    flat = jnp.where(
        op == op_index("color"), luminance, jnp.where(op == op_index("contrast"), mean, 0)
    )
    return jnp.where(op == op_index("sharpness"), _smooth(image), flat[..., None])


def _smooth(image: jax.Array) -> jax.Array:
    """Pillow's SMOOTH: weight 5 for the pixel, 1 for its neighbours; the border stays."""
    image = image.astype(jnp.int32)
    height, width, _ = image.shape
    if height < 3 or width < 3:
        return image
    rows = image[:-2] + image[1:-1] + image[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * image[1:-1, 1:-1]
    inner = (2 * total + 13) // 26
    return image.at[1:-1, 1:-1].set(inner)


def blend(
    degenerate: Int[Array, "H W 3"], level: Int[Array, "H W 3"], factor: Float[Array, ""]
) -> UInt8[Array, "H W 3"]:
    """Pillow's blend: degenerate + factor (level − degenerate), truncated towards 0, in 0..255."""
    start = degenerate.astype(jnp.float32)
    mixed = start + factor * (level.astype(jnp.float32) - start)
    return jnp.clip(mixed, 0.0, 255.0).astype(jnp.uint8)


def hue(image: UInt8[Array, "H W 3"], shift: Float[Array, ""]) -> UInt8[Array, "H W 3"]:
    """torchvision's `adjust_hue` on Pillow images: the hue (0..255) moves by int(255 shift).

    Both colour spaces have 8 bits, so that even a shift of 0 may change a colour by a few levels,
    as it does there. Whole numbers throughout: where Pillow's floating-point hue falls below a whole
    number that it should be, hues differ by one.
    """
    red, green, blue = jnp.moveaxis(image.astype(jnp.int32), -1, 0)
    high, low = jnp.max(image, -1).astype(jnp.int32), jnp.min(image, -1).astype(jnp.int32)
    span = high - low
    safe = jnp.maximum(span, 1)
    sixth = jnp.where(
        red == high,
        green - blue,
        jnp.where(green == high, 2 * span + blue - red, 4 * span + red - green),
    )
    angle = jnp.where(span > 0, (sixth % (6 * safe)) * 255 // (6 * safe), 0)
    saturation = (span * 255 // jnp.maximum(high, 1)).astype(jnp.float32) / 255.0
    angle = (angle + jnp.trunc(255.0 * shift).astype(jnp.int32)) % 256
    sector = angle * 6 // 255
    share = (angle * 6 - sector * 255).astype(jnp.float32) / 255.0
    value = high.astype(jnp.float32)

    def rounded(x: jax.Array) -> jax.Array:
        return jnp.floor(x + 0.5).astype(jnp.int32)

    p = rounded(value * (1.0 - saturation))
    q = rounded(value * (1.0 - saturation * share))
    t = rounded(value * (1.0 - saturation * (1.0 - share)))
    orders = [(high, t, p), (q, high, p), (p, high, t), (p, q, high), (t, p, high), (high, p, q)]
    sector = sector % 6
    channels = [
        jnp.select([sector == i for i in range(6)], [order[c] for order in orders])
        for c in range(3)
    ]
    return jnp.clip(jnp.stack(channels, -1), 0, 255).astype(jnp.uint8)


def affine(
    op: Int[Array, ""], value: Float[Array, ""], height: int, width: int
) -> Float[Array, "6"]:
    """Coefficients (a, ..., f): output pixel (x, y) is read at (a x + b y + c, d x + e y + f).

    The identity for no warp. `value`: the slope of a shear, pixels of a translation, degrees of a
    rotation (in Pillow's direction, about the centre).
    """
    one, zero = jnp.float32(1), jnp.float32(0)
    angle = -jnp.deg2rad(value)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    half_x, half_y = width / 2.0, height / 2.0
    rows = {
        "shear_x": (one, value, zero, zero, one, zero),
        "shear_y": (one, zero, zero, value, one, zero),
        "translate_x": (one, zero, value, zero, one, zero),
        "translate_y": (one, zero, zero, zero, one, value),
        "rotate": (
            *(cos, sin, half_x - cos * half_x - sin * half_y),
            *(-sin, cos, half_y + sin * half_x - cos * half_y),
        ),
    }
    identity = jnp.stack((one, zero, zero, zero, one, zero))
    return jnp.select(
        [op == op_index(name) for name in WARPS], [jnp.stack(rows[n]) for n in WARPS], identity
    )


def warp(
    image: UInt8[Array, "H W 3"],
    matrix: Float[Array, "6"],
    cubic: Bool[Array, ""],
    *,
    fill: int = GREY,
) -> UInt8[Array, "H W 3"]:
    """Pillow's affine transform with bicubic (a = −1) or bilinear taps; `fill` from outside.

    Within one grey level of Pillow, whose coordinates are of double precision.
    """
    height, width, _ = image.shape
    red, green, blue = jnp.moveaxis(image.astype(jnp.int32), -1, 0)
    packed = (red | (green << 8) | (blue << 16)).reshape(-1)  # one gather for the three channels
    x = jnp.arange(width)[None, :] + 0.5
    y = jnp.arange(height)[:, None] + 0.5
    source_x = matrix[0] * x + matrix[1] * y + matrix[2]
    source_y = matrix[3] * x + matrix[4] * y + matrix[5]
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    left, top = jnp.floor(source_x - 0.5), jnp.floor(source_y - 0.5)
    right_share, low_share = source_x - 0.5 - left, source_y - 0.5 - top
    around = jnp.arange(-1, 3)[:, None, None]
    columns = jnp.clip(left.astype(jnp.int32)[None] + around, 0, width - 1)
    rows = jnp.clip(top.astype(jnp.int32)[None] + around, 0, height - 1)
    taps = packed.at[rows[:, None] * width + columns[None]].get(mode="promise_in_bounds")
    taps = ((taps[..., None] >> jnp.array([0, 8, 16])[None, None, None, None]) & 255).astype(
        jnp.float32
    )

    def between(taps: jax.Array, share: jax.Array) -> jax.Array:
        before, first, second, after = taps
        slope = jnp.where(cubic, second - before, second - first)
        square = jnp.where(cubic, 2 * (before - first) + second - after, 0.0)
        cube = jnp.where(cubic, first - before - second + after, 0.0)
        return first + share * (slope + share * (square + share * cube))

    lines = between(jnp.moveaxis(taps, 1, 0), right_share[None, ..., None])
    level = between(lines, low_share[..., None])
    level = jnp.clip(level + NUDGE, 0.0, 255.0).astype(jnp.uint8)
    return jnp.where(inside[..., None], level, fill).astype(jnp.uint8)
