"""Augmentation on the device, inside the step: AutoAugment, flip, crop, colour jitter, turns, AugMix,
erasing."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray, UInt8

from g2ajax.config.ranges import Count, Natural, Positive, Probability, Range, Share
from g2ajax.data.augmix import augmix
from g2ajax.data.auto_augment import JitterOptions, auto_augment, jitter
from g2ajax.data.pixel_ops import affine, op_index, warp

IMAGENET_MEAN = (123.675, 116.28, 103.53)


@dataclasses.dataclass(frozen=True)
class EraseOptions:
    """Random erasing (Zhong et al., AAAI 2020) in the three forms of the field's codebases.

    fast-reid: area (.02, .33), log-uniform aspect (.3, 3.3), 10 attempts, `imagenet_mean`.
    reid-strong-baseline: area (.02, .4), UNIFORM aspect (.3, 3.33), 100 attempts, `normalised_mean`.
    TransReID (timm): area (.02, 1/3), log-uniform aspect (.3, 3.33), 10 attempts, `noise`.
    """

    probability: Probability = 0.5
    """Probability of erasing a rectangle; 0: never."""
    area: tuple[Share, Share] = (0.02, 0.33)
    """Smallest and largest area of the rectangle, as a share of the image."""
    aspect: tuple[Positive, Positive] = (0.3, 3.3)
    """Smallest and largest height of the rectangle over its width."""
    aspect_draw: Literal["log", "uniform"] = "log"
    """Distribution of the aspect: uniform in its logarithm, or uniform."""
    attempts: Count = 10
    """Draws of a rectangle until one fits; if none does, the image stays."""
    fill: Literal["imagenet_mean", "normalised_mean", "noise"] = "imagenet_mean"
    """`imagenet_mean`: that colour, whatever the network's own mean. `normalised_mean`: ImageNet's
    mean on the 0..1 scale written into the NORMALISED image, so the colour is not grey, as in that
    code. `noise`: normal per pixel and channel in the normalised image."""


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """Random changes of a training image."""

    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    pad: Natural = 10
    """Black pixels added on every side before a random crop of the old size; 0: no crop."""
    erase: EraseOptions = EraseOptions()
    auto_augment: Probability = 0.0
    """Probability of a sub-policy of AutoAugment (ImageNet), before anything else."""
    jitter: JitterOptions = JitterOptions()
    """Colour jitter, after the crop."""
    rotation: Annotated[float, Range(0, 180)] = 0.0
    """Largest turn in degrees, either way, drawn evenly for every image; black from outside."""
    augmix: Probability = 0.0
    """Probability of AugMix, after the others but erasing."""


def augment(
    key: PRNGKeyArray,
    images: UInt8[Array, "B H W 3"],
    options: AugmentOptions,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    *,
    shards: int = 1,
) -> Float[Array, "B H W 3"]:
    """Augmented images, float32 and still in 0..255; `mean` and `std` are the network's.

    Each row has its own key, made from `key` and its place alone, so the result depends neither on
    how rows lie on devices nor on the rows after it. Flip and crop commute in
    distribution, so one order stands for those of all codebases.

    `shards`: number of equal stretches of rows, one for each device; it changes no value.
    """
    keys = jax.random.split(key, images.shape[0])
    return _augment(keys, images, options, mean, std, shards)


def augment_clips(
    key: PRNGKeyArray,
    clips: UInt8[Array, "B T H W 3"],
    options: AugmentOptions,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    *,
    shards: int = 1,
) -> Float[Array, "B T H W 3"]:
    """Augmented clips: one draw a clip, so that all its frames are changed alike; see `augment`."""
    batch, length = clips.shape[:2]
    keys = jnp.repeat(jax.random.split(key, batch), length)
    images = clips.reshape(batch * length, *clips.shape[2:])
    return _augment(keys, images, options, mean, std, shards).reshape(clips.shape)


def _augment(
    keys: Key[Array, " B"],
    images: UInt8[Array, "B H W 3"],
    options: AugmentOptions,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    shards: int,
) -> Float[Array, "B H W 3"]:
    if options.auto_augment:
        part_key = _keys(keys, 3)
        mask = _happens(part_key, options.auto_augment)
        images = change_some(auto_augment, part_key, images, mask, shards)
    flip_key, crop_key, erase_key = jnp.moveaxis(
        jax.vmap(lambda k: jax.random.split(k, 3))(keys), 1, 0
    )
    images = jax.vmap(lambda f, c, x: _flip_and_crop(f, c, x, options))(flip_key, crop_key, images)
    if options.jitter.probability:
        part_key = _keys(keys, 4)
        mask = _happens(part_key, options.jitter.probability)
        images = change_some(
            lambda k, x: jitter(k, x, options.jitter), part_key, images, mask, shards
        )
    if options.rotation:
        images = jax.vmap(lambda k, x: _rotate(k, x, options.rotation))(_keys(keys, 5), images)
    if options.augmix:
        part_key = _keys(keys, 6)
        images = change_some(augmix, part_key, images, _happens(part_key, options.augmix), shards)
    images = images.astype(jnp.float32)
    if not options.erase.probability:
        return images
    return jax.vmap(lambda k, x: _erase(k, x, options.erase, mean, std))(erase_key, images)


def change_some(
    change: Callable[[jax.Array, jax.Array], jax.Array],
    keys: Key[Array, " B"],
    images: UInt8[Array, "B H W 3"],
    selection: Bool[Array, " B"],
    shards: int = 1,
) -> UInt8[Array, "B H W 3"]:
    """Replaces the chosen images by `change(key, image)`; the cost grows with their number.

    A round changes one image of each of the `shards` stretches; there are as many rounds as the
    stretch with the most chosen images has. If B is no multiple of `shards`, there is one stretch.
    """
    batch = images.shape[0]
    shards = shards if batch % shards == 0 else 1
    keys, selection = keys.reshape(shards, -1), selection.reshape(shards, -1)
    first = jnp.argsort(~selection, axis=1, stable=True)
    count = jnp.sum(selection, 1)

    def one_round(i: jax.Array, images: jax.Array) -> jax.Array:
        def one(images, keys, first, count):
            place = first[i]
            old = images[place]
            return images.at[place].set(jnp.where(i < count, change(keys[place], old), old))

        return jax.vmap(one)(images, keys, first, count)

    grouped = images.reshape(shards, batch // shards, *images.shape[1:])
    return jax.lax.fori_loop(0, jnp.max(count), one_round, grouped).reshape(images.shape)


def _keys(keys: Key[Array, " B"], number: int) -> Key[Array, " B"]:
    return jax.vmap(lambda k: jax.random.fold_in(k, number))(keys)


def _happens(keys: Key[Array, " B"], probability: float) -> Bool[Array, " B"]:
    return jax.vmap(lambda k: jax.random.bernoulli(jax.random.fold_in(k, 0), probability))(keys)


def _flip_and_crop(flip_key, crop_key, image, options):
    height, width, _ = image.shape
    if options.flip:
        flip = jax.random.bernoulli(flip_key, options.flip)
        image = jnp.where(flip, image[:, ::-1], image)
    if options.pad:
        pad = options.pad
        padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        corner = jax.random.randint(crop_key, (2,), 0, 2 * pad + 1)
        image = jax.lax.dynamic_slice(padded, (*corner, 0), (height, width, 3))
    return image


def _rotate(key, image, degrees):
    height, width, _ = image.shape
    angle = jax.random.uniform(key, (), minval=-degrees, maxval=degrees)
    matrix = affine(jnp.asarray(op_index("rotate")), angle, height, width)
    return warp(image, matrix, jnp.asarray(False), fill=0)


def _erase(key, image, options, mean, std):
    happen_key, area_key, aspect_key, place_key, noise_key = jax.random.split(key, 5)
    height, width, _ = image.shape
    draws = (options.attempts,)
    area = (
        height
        * width
        * jax.random.uniform(area_key, draws, minval=options.area[0], maxval=options.area[1])
    )
    low, high = options.aspect
    if options.aspect_draw == "log":
        aspect = jnp.exp(
            jax.random.uniform(aspect_key, draws, minval=math.log(low), maxval=math.log(high))
        )
    else:
        aspect = jax.random.uniform(aspect_key, draws, minval=low, maxval=high)
    tall = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    wide = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits)
    tall, wide = tall[first], wide[first]
    free = jnp.maximum(jnp.array([height, width]) - jnp.stack([tall, wide]), 0)
    place = jax.random.uniform(place_key, (2,))
    top, left = jnp.minimum((place * (free + 1)).astype(jnp.int32), free)
    happen = fits.any() & jax.random.bernoulli(happen_key, options.probability)
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inside = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    colour = _fill(noise_key, image.shape, options.fill, mean, std)
    return jnp.where((inside & happen)[..., None], colour, image)


def _fill(key, shape, kind, mean, std):
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    imagenet = jnp.asarray(IMAGENET_MEAN, jnp.float32)
    if kind == "imagenet_mean":
        return imagenet[None, None]
    if kind == "normalised_mean":
        return (imagenet / 255.0 * std + mean)[None, None]
    return jax.random.normal(key, shape) * std[None, None] + mean[None, None]
