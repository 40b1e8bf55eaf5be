"""Boxes in a frame."""

import numpy as np
import pytest

from g2ajax.report.boxes import BEST, OTHER, draw_boxes

BOXES = np.array([[10, 20, 40, 80], [100, 20, 140, 90]], np.float32)


def test_the_best_box_is_green():
    image = np.zeros((100, 320, 3), np.uint8)
    drawn = np.asarray(draw_boxes(image, BOXES, ["0.90 (0.99)", ""]))
    assert drawn.shape == (200, 640, 3)  # enlarged, so that the text can be read
    assert tuple(drawn[160, 40]) == BEST and tuple(drawn[180, 240]) == OTHER
    assert not drawn[100, 400].any()


def test_a_label_for_each_box():
    with pytest.raises(ValueError, match=r"2 boxes, but 1 labels"):
        draw_boxes(np.zeros((8, 8, 3), np.uint8), BOXES, ["one"])
