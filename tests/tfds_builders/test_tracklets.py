"""Records of tracklets, and what no builder stores."""

import numpy as np
import pytest

from tests.tfds_builders import dummies
from tfds_builders.tracklets import tracklet

FRAMES = [dummies.encoded(size=size, seed=i) for i, size in enumerate([(8, 16), (30, 9)])]


def test_frames_may_be_missing_in_the_middle_and_differ_in_size():
    record = tracklet(FRAMES, [3, 99], "a", 5, camera=2)
    assert record["frames"] == FRAMES and record["frame_ids"].tolist() == [3, 99]
    assert (record["identity"], record["identity_raw"], record["camera"]) == (5, "5", 2)
    assert record["label"] == record["platform"] == -1 and np.isnan(record["altitude_m"])


@pytest.mark.parametrize("numbers", [[3], [3, 3], [4, 3]])
def test_frames_without_a_place_in_time_are_refused(numbers):
    with pytest.raises(ValueError, match=r"tracklet a has 2 frames .*in rising order"):
        tracklet(FRAMES, numbers, "a", 5)


def test_an_empty_tracklet_is_refused():
    with pytest.raises(ValueError, match="the tracklet a has no frames; leave it out"):
        tracklet([], [], "a", 5)
