"""SkyGround's tracklets: who, when, how high, and pixels."""

import hashlib

import numpy as np
import pytest

from g2ajax.__main__ import main
from g2ajax.synthetic import tracklets, walk
from g2ajax.synthetic.people import generator
from g2ajax.synthetic.tracklets import SPLITS, TRACKLET_SIZES, TrackletWorld


@pytest.fixture(scope="module")
def world():
    return TrackletWorld("tiny")


@pytest.fixture(scope="module")
def drawn(world):
    return {one.tracklet_id: tracklets.render(world, one) for one in world.tracklets("train")}


def _digest(crops):
    digest = hashlib.sha256(repr(list(crops)).encode())
    for crop in crops.values():
        digest.update(crop.image.tobytes())
    return digest.hexdigest()[:16]


def test_pixels_are_those_of_tracklet_renderer_1(drawn):
    expected = {
        "P0000C0T00": "727d7780b98f68ab",
        "P0002C0T01": "2452f27293177448",
        "P0003C3T00": "31bb9596e6bdeb89",
    }
    assert {name: _digest(drawn[name]) for name in expected} == expected


def test_a_tracklet_can_be_made_alone(drawn):
    other = TrackletWorld("tiny")
    name = list(drawn)[-1]
    assert _digest(tracklets.render(other, other.tracklet(name))) == _digest(drawn[name])
    third = TrackletWorld("tiny", seed=1)
    assert _digest(tracklets.render(third, third.tracklet(name))) != _digest(drawn[name])


def test_people_splits_and_levels():
    world = TrackletWorld("small")
    of = {split: {one.identity for one in world.tracklets(split)} for split in SPLITS}
    assert not of["train"] & of["query"] and of["query"] == of["gallery"]
    names = [one.tracklet_id for split in SPLITS for one in world.tracklets(split)]
    assert len(set(names)) == len(names)
    for split in ("query", "gallery"):
        levels = {one.level for one in world.tracklets(split) if one.identity == 70}
        assert levels == {-1, 0, 1, 2}
    with pytest.raises(ValueError, match="no world of size 'huge'; there are tiny, small, full"):
        TrackletWorld("huge")


def test_frames_boxes_and_altitudes(world, drawn):
    high = TRACKLET_SIZES["tiny"].frames[1]
    for one in world.tracklets("train"):
        crops = drawn[one.tracklet_id]
        assert 1 <= len(crops) <= high and max(crops) < high and list(crops) == sorted(crops)
        heights = [crop.view.position[2] for crop in crops.values()]
        lowest, highest = walk.ALTITUDES[one.level] if one.level >= 0 else (2.5, 4.0)
        assert lowest <= min(heights) and max(heights) <= highest
        assert all(crop.visible >= 0.42 and crop.image.std() > 3 for crop in crops.values())


def test_a_walk_goes_where_the_body_looks(world):
    for number in range(20):
        path = walk.walk_of(generator(walk.WALK, number), world.people[0], 16, 3.0)
        places = np.array([path.place(frame) for frame in range(16)])
        assert np.hypot(*places.T).max() <= 3.0 + 1e-6
        if path.metres:
            step = places[8] - places[7]
            heading = (path.moment(7).heading + path.moment(8).heading) / 2
            ahead = np.array([-np.sin(heading), np.cos(heading)])
            assert step @ ahead / np.hypot(*step) > 0.9


def test_the_sheet_is_drawn(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["skyground", "--tracklets", f"--sheet={sheet}"]) == 0
    assert sheet.stat().st_size > 10_000
    assert main(["skyground", "--tracklets", "--layout=agreid", "--out=x"]) == 2
    assert main(["skyground", "--tracklets", "--size=many", f"--sheet={sheet}"]) == 1
