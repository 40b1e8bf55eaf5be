import numpy as np
import pytest

from g2ajax.report.activation import GAP, activation_map, panels, to_bytes


def test_energy_over_channels_of_unit_length_by_hand():
    feature_map = np.zeros((2, 1, 2, 2), np.float32)
    feature_map[0] = [[[1.0, -1.0], [2.0, 2.0]]]
    maps = activation_map(feature_map)
    np.testing.assert_allclose(maps[0], np.asarray([[2.0, 8.0]]) / np.sqrt(68.0), rtol=1e-6)
    np.testing.assert_array_equal(maps[1], 0)
    np.testing.assert_array_equal(to_bytes(maps), [[[0, 255]], [[0, 0]]])


def test_panels_are_image_map_and_blend():
    image = np.full((8, 4, 3), 100, np.uint8)
    activation = np.asarray([[0.0], [1.0]], np.float32)
    row = panels(image, activation)
    assert row.shape == (8, 3 * 4 + 2 * GAP, 3)
    np.testing.assert_array_equal(row[:, :4], image)
    np.testing.assert_array_equal(row[:, 4 : 4 + GAP], 255)
    colour, blend = row[:, 4 + GAP : 8 + GAP], row[:, -4:]
    # jet goes from dark blue to dark red.
    np.testing.assert_array_equal(colour[0, 0], [0, 0, 128])
    np.testing.assert_array_equal(colour[-1, 0], [128, 0, 0])
    np.testing.assert_allclose(blend, 0.3 * image + 0.7 * colour, atol=1)


def test_a_map_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"activation map of shape \(2, 1\).*not finite"):
        panels(np.zeros((8, 4, 3), np.uint8), np.asarray([[0.0], [np.nan]], np.float32))
