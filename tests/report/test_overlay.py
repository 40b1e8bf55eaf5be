"""Attention over an image: by hand, comparable between images, and the person stays visible."""

import numpy as np
import pytest

from g2ajax.report.overlay import HUE, STRENGTH, overlay

GREY = np.full((2, 4, 3), 100, np.uint8)


def test_overlay_by_hand():
    result = overlay(GREY, np.array([[1.0, 3.0]]), 1.0, 3.0).astype(float)
    # Columns at a quarter, and three quarters, of the way between the two values' centres.
    expected = np.array([0.0, 0.25, 0.75, 1.0]) * STRENGTH
    np.testing.assert_allclose(
        result[0], (1 - expected)[:, None] * 100 + expected[:, None] * HUE, atol=0.51
    )
    np.testing.assert_array_equal(result[0], result[1])


def test_one_scale_compares_maps():
    weak, strong = (overlay(GREY, np.full((1, 1), v), 0.0, 1.0)[0, 0, 0] for v in (0.2, 0.8))
    assert 100 < weak < strong
    # Beyond the scale nothing grows, below 0 nothing shows, and at the low end the image.
    full = overlay(GREY, np.full((1, 1), 1.0), 0.0, 1.0)
    np.testing.assert_array_equal(overlay(GREY, np.full((1, 1), 9.0), 0.0, 1.0), full)
    for value, top in ((-3.0, 1.0), (0.0, 0.0)):
        np.testing.assert_array_equal(overlay(GREY, np.full((1, 1), value), 0.0, top), GREY)


def test_light_stays_lighter_than_dark():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 200
    dark, light = overlay(image, np.ones((1, 1)), 0.0, 1.0)[0].astype(int).sum(-1)
    assert light - dark > 100


def test_a_map_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match=r"map of shape \(1, 2\) has values that are not finite"):
        overlay(GREY, np.array([[0.0, np.nan]]), 0.0, 1.0)
