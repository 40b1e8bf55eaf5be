"""AutoAugment's policy found on ImageNet, and colour jitter, on the device, image by image."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, UInt8

from g2ajax.config.ranges import NonNegative, Probability, Range
from g2ajax.data import pixel_ops
from g2ajax.data.pixel_ops import BLENDS, WARPS, op_index

# Two operations (name, probability, level 0..10 where it has one), one of the 25 pairs an image.
IMAGENET_POLICY = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6)),
    (("equalize", 0.8), ("equalize", 0.6)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4), ("solarize", 0.2, 4)),
    (("equalize", 0.4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6)),
    (("posterize", 0.8, 5), ("equalize", 1.0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6)),
    (("equalize", 0.0), ("equalize", 0.8)),
    (("invert", 0.6), ("equalize", 1.0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6)),
    (("shear_x", 0.6, 5), ("equalize", 1.0)),
    (("color", 0.4, 0), ("equalize", 0.6)),
    (("equalize", 0.4), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6)),
    (("invert", 0.6), ("equalize", 1.0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8), ("equalize", 0.6)),
)


def value_of(name: str, level: int = 0) -> int | float:
    """Strength of an operation at a level 0..10, unsigned (fast-reid's scale, timm's "original").

    Bits from 4 to 8; thresholds to 256; factors from 0.1 to 1.9; shears to 0.3; turns to 30 degrees.
    """
    if name == "posterize":
        return 4 + int(4 * level / 10)
    if name == "solarize":
        return int(256 * level / 10)
    if name in BLENDS:
        return 0.1 + 1.8 * level / 10
    return {"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0}.get(name, 0.0) * level / 10


def auto_augment(key: PRNGKeyArray, image: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W 3"]:
    """The image after one of the 25 sub-policies, evenly drawn.

    Cubuk et al., "AutoAugment", CVPR 2019, table 9, as in fast-reid: each of the two operations
    happens with its own probability, warps have a random sign and taps (bilinear or bicubic), and
    pixels from outside are grey. fast-reid applies it before the resize; here the image has been
    resized.

    Every sub-policy costs the same: two colour operations (a histogram, a table look-up, a
    smoothing and a blend each) and one warp between them, as no sub-policy has two warps.
    """
    draws = jax.random.uniform(key, (5,))  # sub-policy, two operations, sign, taps
    names = [[op[0] for op in pair] for pair in IMAGENET_POLICY]
    index = np.array([[op_index(name) for name in pair] for pair in names], np.int32)
    chance = np.array([[op[1] for op in pair] for pair in IMAGENET_POLICY], np.float32)
    values = np.array(
        [[value_of(op[0], *op[2:]) for op in pair] for pair in IMAGENET_POLICY], np.float32
    )
    pair = (len(IMAGENET_POLICY) * draws[0]).astype(jnp.int32)
    op, value = jnp.asarray(index)[pair], jnp.asarray(values)[pair]
    happens = draws[1:3] < jnp.asarray(chance)[pair]
    op = jnp.where(happens, op, op_index("identity"))
    is_warp = (op >= op_index(WARPS[0])) & (op <= op_index(WARPS[-1]))
    sign = jnp.where(draws[3] < 0.5, -1.0, 1.0)
    which = jnp.argmax(is_warp)
    height, width, _ = image.shape
    matrix = pixel_ops.affine(op[which], sign * value[which], height, width)
    changed = pixel_ops.recolour(image, op[0], value[0])
    turned = pixel_ops.warp(changed, matrix, draws[4] < 0.5)
    changed = jnp.where(is_warp.any(), turned, changed)
    return pixel_ops.recolour(changed, op[1], value[1])


@dataclasses.dataclass(frozen=True)
class JitterOptions:
    """torchvision's colour jitter; the amounts are fast-reid's."""

    probability: Probability = 0.0
    """Probability of changing an image's colours; 0: never."""
    brightness: NonNegative = 0.15
    """Brightness factor x: drawn from 1 − x to 1 + x."""
    contrast: NonNegative = 0.15
    """Contrast factor x: drawn from 1 − x to 1 + x."""
    saturation: NonNegative = 0.1
    """Saturation factor x: drawn from 1 − x to 1 + x."""
    hue: Annotated[float, Range(0, 0.5)] = 0.1
    """Largest turn of the hue, as a share of the circle; at most 0.5."""


def jitter(
    key: PRNGKeyArray, image: UInt8[Array, "H W 3"], options: JitterOptions
) -> UInt8[Array, "H W 3"]:
    """The image after changes of brightness, contrast, saturation and hue.

    Their order is random, as in torchvision. The caller decides whether to apply it
    (`probability`).
    """
    draws = jax.random.uniform(key, (8,), minval=-1.0, maxval=1.0)
    order = jnp.argsort(draws[:4])
    spread = jnp.array([options.brightness, options.contrast, options.saturation, 0.0])
    factors = jnp.maximum(1.0 + spread * draws[4:], 0.0)
    shift = options.hue * draws[7]
    ops = jnp.array([op_index(name) for name in ("brightness", "contrast", "color", "identity")])

    def one(i: jax.Array, image: jax.Array) -> jax.Array:
        op, factor = ops[order[i]], factors[order[i]]
        level = image.astype(jnp.int32)
        mixed = pixel_ops.blend(pixel_ops.degenerate(image, op), level, factor)
        if not options.hue:
            return mixed
        return jnp.where(op == op_index("identity"), pixel_ops.hue(image, shift), mixed)

    return jax.lax.fori_loop(0, 4, one, image)
