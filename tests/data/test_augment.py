import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.data.augment import IMAGENET_MEAN, AugmentOptions, EraseOptions, augment
from g2ajax.data.sharding import batch_sharding
from g2ajax.training.mesh import make_mesh

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 58.0, 57.0)
NO_ERASE = EraseOptions(probability=0.0)
NOTHING = AugmentOptions(flip=0.0, pad=0, erase=NO_ERASE)
ALWAYS = EraseOptions(probability=1.0)
H, W = 32, 16
# 0 and 255 never occur, so black padding and fills are told from the picture.
IMAGES = np.random.default_rng(0).integers(1, 200, (512, H, W, 3)).astype(np.uint8)
FORMS = {
    "fastreid": ALWAYS,
    "strong_baseline": dataclasses.replace(
        ALWAYS, area=(0.02, 0.4), aspect=(0.3, 3.33), aspect_draw="uniform", attempts=100,
        fill="normalised_mean",
    ),
    "transreid": dataclasses.replace(
        ALWAYS, area=(0.02, 1 / 3), aspect=(0.3, 3.33), fill="noise"
    ),
}  # fmt: skip

EVERYTHING = AugmentOptions(pad=2, erase=FORMS["transreid"])

run = jax.jit(augment, static_argnums=(2, 3, 4))


def augmented(options, images=IMAGES, seed=0):
    return np.asarray(run(jax.random.key(seed), jnp.asarray(images), options, MEAN, STD))


def erased(erase, images=IMAGES, seed=0):
    return augmented(AugmentOptions(flip=0.0, pad=0, erase=erase), images, seed)


def rectangles(out, images=IMAGES):
    """Top, left, height, width of what changed in each image; asserts it is a full rectangle."""
    found = []
    for before, after in zip(images, out, strict=True):
        changed = (after != before).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if not len(rows):
            found.append((0, 0, 0, 0))
            continue
        top, left = rows[0], columns[0]
        tall, wide = rows[-1] - top + 1, columns[-1] - left + 1
        assert changed[top : top + tall, left : left + wide].all()
        found.append((top, left, tall, wide))
    return np.array(found)


def test_all_probabilities_zero_change_nothing():
    out = augmented(NOTHING)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, IMAGES)


def test_flip_always_and_about_half_the_time():
    flipped = IMAGES[:, :, ::-1]
    always = augmented(dataclasses.replace(NOTHING, flip=1.0))
    np.testing.assert_array_equal(always, flipped)
    half = augmented(dataclasses.replace(NOTHING, flip=0.5))
    is_flipped = (half == flipped).all((1, 2, 3))
    assert (is_flipped | (half == IMAGES).all((1, 2, 3))).all()
    # 512 fair draws: five standard deviations are 57.
    assert abs(int(is_flipped.sum()) - 256) < 57


def test_crop_is_a_window_of_the_padded_image():
    pad = 3
    out = augmented(dataclasses.replace(NOTHING, pad=pad), IMAGES[:256])
    corners = []
    for before, after in zip(IMAGES, out, strict=False):
        padded = np.pad(before, ((pad, pad), (pad, pad), (0, 0)))
        fits = [
            (y, x)
            for y in range(2 * pad + 1)
            for x in range(2 * pad + 1)
            if (padded[y : y + H, x : x + W] == after).all()
        ]
        assert len(fits) == 1
        corners += fits
    # Every offset of each axis occurs, the two ends included.
    assert {y for y, _ in corners} == {x for _, x in corners} == set(range(2 * pad + 1))


@pytest.mark.parametrize("form", FORMS)
def test_erased_share_and_aspect_are_in_range(form):
    erase = FORMS[form]
    found = rectangles(erased(erase))
    done = found[:, 2] > 0
    assert done.mean() > 0.95  # with ten attempts nearly always one fits
    top, left, tall, wide = found[done].T
    assert (tall < H).all() and (wide < W).all()
    # The sides are rounded, so the drawn ones lie within half a pixel.
    low, high = ((tall - 0.5) * (wide - 0.5), (tall + 0.5) * (wide + 0.5))
    assert (high >= erase.area[0] * H * W).all() and (low <= erase.area[1] * H * W).all()
    assert ((tall + 0.5) / (wide - 0.5) >= erase.aspect[0]).all()
    assert ((tall - 0.5) / (wide + 0.5) <= erase.aspect[1]).all()
    # Both ends of the image are reached.
    assert top.min() == 0 and left.min() == 0
    assert (top + tall).max() == H and (left + wide).max() == W


def test_erasing_happens_as_often_as_asked():
    share = (rectangles(erased(dataclasses.replace(ALWAYS, probability=0.5)))[:, 2] > 0).mean()
    assert 0.38 < share < 0.61


def test_uniform_aspects_are_taller_than_log_uniform_ones():
    # Of (0.3, 3.3): the median is 1.8 drawn uniformly, 1 drawn log-uniformly.
    def median(form):
        found = rectangles(erased(FORMS[form]))
        found = found[found[:, 2] > 0]
        return np.median(found[:, 2] / found[:, 3])

    assert median("strong_baseline") > median("fastreid") + 0.3


def test_nothing_that_fits_leaves_the_image():
    too_wide = dataclasses.replace(ALWAYS, area=(0.9, 0.95), aspect=(0.3, 0.31))
    np.testing.assert_array_equal(erased(too_wide, IMAGES[:8]), IMAGES[:8])


def fill_of(kind):
    (erase,) = [form for form in FORMS.values() if form.fill == kind]
    out = erased(erase)
    return out[(out != IMAGES).any(-1)]


def test_imagenet_mean_is_that_colour_whatever_the_networks_mean():
    filled = fill_of("imagenet_mean")
    np.testing.assert_array_equal(filled, np.broadcast_to(np.float32(IMAGENET_MEAN), filled.shape))


def test_normalised_mean_is_written_after_normalisation():
    filled = fill_of("normalised_mean")
    normalised = (filled - np.float32(MEAN)) / np.float32(STD)
    # ImageNet's means on the 0..1 scale, as published.
    np.testing.assert_allclose(
        normalised, np.broadcast_to([0.485, 0.456, 0.406], filled.shape), atol=1e-5
    )


def test_noise_is_standard_normal_after_normalisation():
    normalised = (fill_of("noise") - np.float32(MEAN)) / np.float32(STD)
    assert len(normalised) > 20_000
    np.testing.assert_allclose(normalised.mean(0), 0.0, atol=0.04)
    np.testing.assert_allclose(normalised.std(0), 1.0, atol=0.04)
    # Its own per channel and per pixel.
    assert abs(np.corrcoef(normalised.T) - np.eye(3)).max() < 0.05


def test_the_key_decides():
    images = IMAGES[:16]
    np.testing.assert_array_equal(augmented(EVERYTHING, images), augmented(EVERYTHING, images))
    assert (augmented(EVERYTHING, images) != augmented(EVERYTHING, images, seed=1)).any()


def test_rows_differ_from_each_other():
    same = np.repeat(IMAGES[:1], 16, axis=0)
    out = augmented(EVERYTHING, same)
    assert len(np.unique(out.reshape(16, -1), axis=0)) == 16


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_devices_change_nothing(seed):
    batch = jnp.asarray(IMAGES[:16])
    key = jax.random.key(seed)
    whole = run(key, batch, EVERYTHING, MEAN, STD)
    mesh = make_mesh(devices=jax.devices()[:4])
    sharded = run(key, jax.device_put(batch, batch_sharding(mesh)), EVERYTHING, MEAN, STD)
    assert len(sharded.sharding.device_set) == 4
    # Where pixels come from is exact; a noise value may be fused otherwise and round otherwise.
    np.testing.assert_allclose(whole, sharded, rtol=1e-6, atol=1e-4)


def test_a_row_has_the_same_changes_in_a_shorter_batch():
    whole = augmented(EVERYTHING, IMAGES[:16])
    np.testing.assert_array_equal(augmented(EVERYTHING, IMAGES[:8]), whole[:8])


def test_it_compiles_once():
    # A function of its own: jax shares one cache among all `jit`s of the same function.
    once = jax.jit(lambda *args: augment(*args), static_argnums=(2, 3, 4))
    for seed in range(3):
        # Options that are equal, not the same object.
        options = AugmentOptions(pad=2, erase=EraseOptions(probability=0.0))
        once(jax.random.key(seed), jnp.asarray(IMAGES[:4]), options, MEAN, STD)
    assert once._cache_size() == 1
