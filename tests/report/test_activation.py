import numpy as np

from g2ajax.report.activation import activation_map, to_bytes


def test_energy_over_channels_of_unit_length_by_hand():
    feature_map = np.zeros((2, 1, 2, 2), np.float32)
    feature_map[0] = [[[1.0, -1.0], [2.0, 2.0]]]
    maps = activation_map(feature_map)
    np.testing.assert_allclose(maps[0], np.asarray([[2.0, 8.0]]) / np.sqrt(68.0), rtol=1e-6)
    np.testing.assert_array_equal(maps[1], 0)
    np.testing.assert_array_equal(to_bytes(maps), [[[0, 255]], [[0, 0]]])
