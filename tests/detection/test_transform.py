import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.detection.transform import (
    BUCKETS,
    bucket_of,
    rescale_boxes,
    resize_and_pad,
    resized_size,
)


def test_sizes_by_hand():
    assert resized_size(1080, 1920) == (843, 1500)
    assert resized_size(600, 800) == (900, 1200)
    assert resized_size(3000, 4000) == (900, 1200)
    with pytest.raises(ValueError, match=r"an image of 0 x 800 pixels cannot be resized"):
        resized_size(0, 800)
    with pytest.raises(ValueError, match=r"1 x 1501 pixels has no pixels left"):
        resized_size(1, 1501)


def test_the_smallest_fitting_canvas_is_taken():
    buckets = [(1504, 1504), (928, 1504), (1504, 928)]
    assert bucket_of((843, 1500), buckets) == 1
    assert bucket_of((1500, 900), buckets) == 2
    assert bucket_of((1500, 1000), buckets) == 0
    with pytest.raises(ValueError, match=r"1600 x 900 pixels fits none of the canvases"):
        bucket_of((1600, 900), buckets)


resize = jax.jit(
    functools.partial(resize_and_pad, mean=(0.0,), std=(1.0,)), static_argnames="canvas"
)


def resized(image, new_size, canvas):
    size = jnp.asarray(image.shape[:2])
    return np.asarray(resize(jnp.asarray(image), size, jnp.asarray(new_size), canvas=canvas))


def test_bilinear_without_antialiasing_by_hand():
    row = np.asarray([0.0, 1.0, 2.0, 3.0], np.float32)[None, :, None]
    np.testing.assert_allclose(resized(row, (1, 2), (1, 3))[0, :, 0], [0.5, 2.5, 0.0])
    grown = resized(row[:, :2], (1, 4), (2, 4))
    np.testing.assert_allclose(grown[0, :, 0], [0.0, 0.25, 0.75, 1.0])
    assert not grown[1].any()
    # A shrink by 4 reads two of four pixels: nothing is averaged.
    spike = np.asarray([9.0, 0, 0, 9], np.float32)[None, :, None]
    np.testing.assert_allclose(resized(spike, (1, 1), (1, 3))[0, 0], [0.0])


def test_agrees_with_jax_and_ignores_the_padding_of_its_input():
    image = np.random.default_rng(0).uniform(size=(9, 7, 1)).astype(np.float32)
    expected = jax.image.resize(image, (6, 10, 1), "bilinear", antialias=False)
    np.testing.assert_allclose(resized(image, (6, 10), (8, 12))[:6, :10], expected, atol=1e-5)
    wide = np.pad(image, ((0, 3), (0, 5), (0, 0)), constant_values=50.0)
    got = resize(jnp.asarray(wide), jnp.asarray([9, 7]), jnp.asarray([6, 10]), canvas=(8, 12))
    np.testing.assert_allclose(got, resized(image, (6, 10), (8, 12)), atol=1e-6)
    nothing = resize(jnp.asarray(wide), jnp.asarray([0, 0]), jnp.asarray([0, 0]), canvas=(8, 12))
    assert not np.asarray(nothing).any()


def test_bytes_are_scaled_and_normalised_but_the_padding_is_zero():
    image = jnp.full((2, 2, 3), 255, jnp.uint8)
    got = resize_and_pad(image, jnp.asarray([2, 2]), jnp.asarray([2, 2]), (2, 3))
    np.testing.assert_allclose(
        got[0, 0], (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-5
    )
    assert not np.asarray(got[:, 2]).any()


def test_boxes_follow_the_image():
    boxes = jnp.asarray([[10.0, 20, 30, 40]])
    new = rescale_boxes(boxes, jnp.asarray([100, 200]), jnp.asarray([50, 400]))
    np.testing.assert_allclose(new, [[20, 10, 60, 20]])
    assert rescale_boxes(boxes[:0], jnp.asarray([1, 2]), jnp.asarray([3, 4])).shape == (0, 4)


@settings(deadline=None, max_examples=20)
@given(height=st.integers(4, 5000), width=st.integers(4, 5000))
def test_every_image_fits_a_default_canvas(height, width):
    size = resized_size(height, width)
    assert all(a >= b for a, b in zip(BUCKETS[bucket_of(size, BUCKETS)], size, strict=True))
    assert max(size) <= 1500 and min(size) <= 900
