import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from g2ajax.data.augment import AugmentOptions, EraseOptions, augment, change_some
from g2ajax.data.auto_augment import (
    IMAGENET_POLICY,
    JitterOptions,
    auto_augment,
    jitter,
    value_of,
)
from g2ajax.data.pixel_ops import OPS, WARPS
from g2ajax.data.sharding import batch_sharding
from g2ajax.training.mesh import make_mesh

H, W = 24, 12
MEAN = STD = (128.0, 128.0, 128.0)
NOTHING = AugmentOptions(flip=0.0, pad=0, erase=EraseOptions(probability=0.0))
IMAGES = np.random.default_rng(0).integers(1, 200, (256, H, W, 3)).astype(np.uint8)
SAME = np.repeat(IMAGES[:1], 256, axis=0)


@pytest.fixture(scope="module")
def run():
    return jax.jit(
        lambda key, images, options, shards=1: augment(
            key, images, options, MEAN, STD, shards=shards
        ),
        static_argnums=(2, 3),
    )


def changed_share(run, options):
    out = run(jax.random.key(1), jnp.asarray(IMAGES), options)
    return (np.asarray(out) != IMAGES).any((1, 2, 3)).mean()


def test_policy_is_the_published_one():
    assert len(IMAGENET_POLICY) == 25
    for pair in IMAGENET_POLICY:
        assert len(pair) == 2
        assert all(op[0] in OPS and 0 <= op[1] <= 1 for op in pair)
        # One warp between two colour operations is all that `auto_augment` does.
        assert sum(op[0] in WARPS for op in pair) <= 1
    counts = {name: sum(op[0] == name for pair in IMAGENET_POLICY for op in pair) for name in OPS}
    expected = {"equalize": 17, "solarize": 7, "rotate": 6, "color": 6, "posterize": 5, "invert": 3}
    expected |= {"autocontrast": 2, "contrast": 2, "sharpness": 1, "shear_x": 1}
    assert counts == {name: expected.get(name, 0) for name in OPS}


@pytest.mark.parametrize(
    ("name", "level", "value"),
    [
        *(("posterize", 8, 7), ("posterize", 5, 6), ("solarize", 5, 128), ("solarize", 3, 76)),
        *(("rotate", 9, 27.0), ("shear_x", 5, 0.15), ("color", 0, 0.1), ("contrast", 8, 1.54)),
        ("equalize", 0, 0.0),
    ],
)
def test_levels_by_hand(name, level, value):
    assert value_of(name, level) == pytest.approx(value)


def test_it_happens_as_often_as_asked(run):
    assert changed_share(run, NOTHING) == 0
    # A sub-policy leaves an image as it was where neither operation happens.
    idle = np.mean([np.prod([1 - op[1] for op in pair]) for pair in IMAGENET_POLICY])
    always = changed_share(run, AugmentOptions(0.0, 0, NOTHING.erase, auto_augment=1.0))
    assert abs(always - (1 - idle)) < 0.12
    some = changed_share(run, AugmentOptions(0.0, 0, NOTHING.erase, auto_augment=0.1))
    assert 0.02 < some < 0.17


def test_many_kinds_of_results_and_grey_corners():
    keys = jax.random.split(jax.random.key(0), 256)
    out = np.asarray(jax.jit(jax.vmap(auto_augment))(keys, jnp.asarray(SAME)))
    kinds = np.unique(out.reshape(256, -1), axis=0)
    assert len(kinds) > 25  # more than sub-policies: signs, taps, and operations that do not happen
    corners = (out[:, 0, 0] == 128).all(-1)
    # Of the turned images: 4.2 of 25 sub-policies, without those recoloured after it.
    assert 0.03 < corners.mean() < 0.3


def test_devices_and_shards_change_nothing(run):
    options = AugmentOptions(0.0, 0, NOTHING.erase, auto_augment=0.5)
    batch, key = jnp.asarray(IMAGES[:16]), jax.random.key(3)
    whole = run(key, batch, options)
    mesh = make_mesh(devices=jax.devices()[:4])
    sharded = run(key, jax.device_put(batch, batch_sharding(mesh)), options, 4)
    assert len(sharded.sharding.device_set) == 4
    np.testing.assert_array_equal(whole, sharded)
    assert (np.asarray(whole) != np.asarray(run(jax.random.key(4), batch, options))).any()


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_only_the_chosen_rows_change(shards):
    chosen = np.array([0, 1, 1, 0, 0, 0, 1, 1, 0, 1], bool)
    keys, images = jax.random.split(jax.random.key(0), 10), jnp.asarray(IMAGES[:10])

    def change(key, image):
        return image + jax.random.randint(key, (), 1, 5).astype(jnp.uint8)

    for mask in (chosen, ~chosen, chosen & False, chosen | True):
        out = np.asarray(change_some(change, keys, images, jnp.asarray(mask), shards))
        expected = np.asarray(jax.vmap(change)(keys, images))
        np.testing.assert_array_equal(out, np.where(mask[:, None, None, None], expected, images))


def test_jitter_of_one_kind_is_pillows_blend():
    image = IMAGES[0]
    for name, enhance in {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }.items():
        only = dataclasses.replace(JitterOptions(1.0, 0.0, 0.0, 0.0, 0.0), **{name: 0.5})
        out = np.asarray(jitter(jax.random.key(5), jnp.asarray(image), only)).astype(int)
        factors = np.linspace(0.5, 1.5, 1001)
        off = [
            abs(np.asarray(enhance(Image.fromarray(image)).enhance(f)).astype(int) - out).max()
            for f in factors
        ]
        assert min(off) <= 1, name
        assert abs(factors[int(np.argmin(off))] - 1) > 0.01, name


def test_jitter_keeps_to_its_amounts(run):
    grey = np.full((256, 4, 4, 3), 100, np.uint8)
    options = AugmentOptions(
        0.0, 0, NOTHING.erase, jitter=JitterOptions(1.0, brightness=0.2, contrast=0.5, hue=0.5)
    )
    out = np.asarray(run(jax.random.key(0), jnp.asarray(grey), options))
    # Of one grey, contrast, saturation and hue change nothing.
    assert (out == out[:, :1, :1, :1]).all()
    assert 80 <= out.min() < 85 and 115 < out.max() <= 120
