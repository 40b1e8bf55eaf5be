"""Splits of tracklets: what is refused when one is opened, and frames that are passed over."""

import numpy as np
import pytest

from g2ajax.data import tracklet_source
from tests.fake_tracklets import make_tracklets


@pytest.fixture(scope="module")
def split():
    return make_tracklets().splits["train"]


def test_a_stored_tracklet_without_frames_is_named(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}")
    stored = [{"frames": [], "tracklet_id": b"0003C1T0001"}]
    monkeypatch.setattr(tracklet_source, "records", lambda folder, name: stored)
    with pytest.raises(ValueError, match="tracklet 0003C1T0001 is stored without frames"):
        tracklet_source._split(tmp_path, "train", 1)


def test_frames_that_are_passed_over_are_as_if_never_stored(split):
    assert split.num_frames.tolist()[:3] == [1, 4, 7]
    lost = np.zeros(split.num_frames.sum(), bool)
    lost[[0, 2, 4, 5, 11]] = True  # the first tracklet; 1 and 3 of the second; 0 and 6 of the third
    rest = split.without(lost)
    assert len(rest) == len(split) - 1 and rest.num_frames.tolist()[:2] == [2, 5]
    assert rest.image_id.tolist() == split.image_id.tolist()[1:]
    one, two = split.encoded(1), split.encoded(2)
    assert rest.encoded(0) == (one[0], one[2]) and rest.encoded(1) == two[1:6]
    assert rest.take(np.array([1])).encoded(0) == two[1:6]
    frames = rest.frames()
    assert [frames.read(row) for row in range(7)] == [one[0], one[2], *two[1:6]]


def test_frames_are_taken_from_a_split_once(split):
    lost = np.arange(split.num_frames.sum()) == 1
    with pytest.raises(ValueError, match="frames were taken from the split train before"):
        split.without(lost).without(lost[1:])
    with pytest.raises(ValueError, match="no frame of the split train is left"):
        split.without(np.ones_like(lost))
