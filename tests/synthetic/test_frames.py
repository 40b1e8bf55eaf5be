"""Whole frames of SkyGround: who is in them, boxes, queries, galleries, pixels."""

import hashlib

import numpy as np
import pytest

from g2ajax.synthetic import frame_shoot, frames
from g2ajax.synthetic.frames import FRAME_SIZES, FrameWorld
from g2ajax.synthetic.pool import frame_photographs


@pytest.fixture(scope="module")
def world():
    return FrameWorld("tiny")


@pytest.fixture(scope="module")
def pictures(world):
    return {f.image_id: frames.render(world, f) for f in world.frames("test")}


def _digest(picture):
    return hashlib.sha256(picture.image.tobytes() + picture.boxes.tobytes()).hexdigest()[:16]


def test_pixels_are_those_of_frame_renderer_1(pictures):
    names = ["A1_00024.jpg", "A2_00029.jpg", "G1_00026.jpg", "G2_00039.jpg"]
    expected = ["7ca4f8203f247f33", "7bb43897bfeb9caf", "0b6af2b5f380493f", "0c957dbccd1e2a4f"]
    assert [_digest(pictures[name]) for name in names] == expected


def test_a_frame_can_be_made_alone(world, pictures):
    other = FrameWorld("tiny")
    name = list(pictures)[-2]
    assert _digest(frames.render(other, other.frame(name))) == _digest(pictures[name])
    third = FrameWorld("tiny", seed=1)
    assert _digest(frames.render(third, third.frame(name))) != _digest(pictures[name])


def test_boxes_are_inside_and_of_the_said_heights(world, pictures):
    counts = FRAME_SIZES["tiny"]
    for frame in world.frames("test"):
        picture = pictures[frame.image_id]
        expected = (144, 192) if frame.camera != 3 else (192, 144)
        assert picture.image.shape == (*expected, 3)
        assert picture.image.std() > 4
        boxes, (low, high) = picture.boxes, getattr(counts, frame.platform)
        assert len(boxes) == len(picture.identity) == len(picture.visible)
        assert (boxes == np.round(boxes)).all()
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= expected[::-1]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        heights = boxes[:, 3] - boxes[:, 1]
        assert (heights >= 0.7 * low).all() and (heights <= 1.1 * high).all()
        assert (picture.visible > 0.25).all()


def test_people_with_and_without_identity(world, pictures):
    every = np.concatenate([p.identity for p in pictures.values()])
    assert set(every.tolist()) == {-1, 6, 7, 8, 9}
    for frame in world.frames("test"):
        found = pictures[frame.image_id].identity
        known = found[found >= 0]
        assert len(set(known.tolist())) == len(known)
        assert set(known.tolist()) <= set(frame.invited)
        assert tuple(found.tolist()) == world.present[frame.image_id]
    assert min(p.visible.min() for p in pictures.values()) < 1


def test_every_person_is_invited_about_as_often(world):
    for split, count in (("train", 6), ("test", 4)):
        seen = np.bincount([n for f in world.frames(split) for n in f.invited])
        seen = seen[seen > 0]
        assert len(seen) == count and seen.max() - seen.min() <= 2
        assert [f.image_id for f in world.frames(split)] == sorted(
            f.image_id for f in world.frames(split)
        )
    assert not {f.number for f in world.frames("train")} & {f.number for f in world.frames("test")}


def test_queries_show_their_person_and_have_matches(world, pictures):
    assert len(world.queries) == 8
    for query in world.queries:
        assert pictures[query.frame.image_id].identity[query.row] == query.person
        names = [f.image_id for f in world.frames("test")]
        other = {"aerial": "ground", "ground": "aerial"}[query.frame.platform]
        for size in FRAME_SIZES["tiny"].galleries:
            rows = world.gallery(query, size, other)
            assert len(set(rows.tolist())) == len(rows) <= size
            shown = [query.person in world.present[names[i]] for i in rows]
            assert shown[0] and shown == sorted(shown, reverse=True)
            assert {world.frames("test")[i].platform for i in rows} == {other}
        everything = world.gallery(query, 1000)
        assert names.index(query.frame.image_id) not in everything


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no frames of size 'huge'; there are tiny, small"):
        FrameWorld("huge")
    with pytest.raises(ValueError, match=r"no split 'query'; there are train, test"):
        FrameWorld("tiny").frames("query")
    with pytest.raises(KeyError, match=r"no 'x.jpg'"):
        FrameWorld("tiny").frame("x.jpg")


def test_photographs_keep_their_order(world, pictures):
    wanted = world.frames("test")[::5]
    found = list(frame_photographs(world, wanted))
    assert [p.frame for p in found] == wanted
    for done in found:
        assert done.jpeg[:2] == b"\xff\xd8"
        assert np.array_equal(done.boxes, pictures[done.frame.image_id].boxes)
    assert {p.frame.platform: p.altitude_m > 10 for p in found} == {"aerial": True, "ground": False}


def test_nobody_hides_behind_a_crowd():
    view = frame_shoot.cameras.look((10.0, 0.0, 2.0), (0.0, 0.0, 0.9), 0.0, 500.0)
    spots = frame_shoot._Spots(view, (400, 400), (20, 300))
    assert spots.take((0.0, 0.0), 1.7)
    assert not spots.take((1.0, 0.0), 1.7)  # would cover the first
    assert not spots.take((-1.0, 0.0), 1.7)  # would be covered
    assert spots.take((0.0, 1.5), 1.7)
    assert spots.clear(0) == pytest.approx(1.0)
