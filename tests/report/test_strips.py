"""Strips of the images of a tracklet."""

import numpy as np
import pytest

from g2ajax.report.strips import GAP, strip


def flat(level, height, width):
    return np.full((height, width, 3), level, np.uint8)


def test_images_stand_side_by_side_at_one_height():
    out = strip([flat(10, 8, 4), flat(20, 40, 10)], height=16)
    assert out.shape == (16, 8 + GAP + 4, 3)
    assert (out[:, :8] == 10).all() and (out[:, 8 : 8 + GAP] == 255).all()
    assert (out[:, 8 + GAP :] == 20).all()


def test_as_many_as_fit_are_evenly_spaced():
    # Three squares and two gaps are wider than three heights; two squares fit.
    out = strip([flat(level, 16, 16) for level in range(5)], height=16)
    assert out.shape == (16, 2 * 16 + GAP, 3) and (out[0, 0, 0], out[0, -1, 0]) == (0, 4)
    narrow = strip([flat(level, 16, 8) for level in range(9)], height=16)
    assert narrow.shape[1] == 4 * 8 + 3 * GAP
    assert narrow[0, :: 8 + GAP, 0].tolist() == [0, 3, 5, 8]
    assert strip([flat(1, 2, 20)], height=16).shape == (16, 160, 3)


def test_a_strip_of_nothing():
    with pytest.raises(ValueError, match="a strip of no images"):
        strip([])
