"""Pixels, part maps and boxes of shots."""

import hashlib
import math

import numpy as np
import pytest

from g2ajax.synthetic import cameras, render, shoot, skeleton
from g2ajax.synthetic.people import generator
from g2ajax.synthetic.pool import photograph, photographs
from g2ajax.synthetic.world import World, encode, parts
from g2ajax.synthetic.world import render as render_shot


@pytest.fixture(scope="module")
def world():
    return World("tiny")


@pytest.fixture(scope="module")
def crops(world):
    return {s.image_id: render_shot(world, s) for s in world.shots("train")[:60:2]}


def _digest(crop):
    return hashlib.sha256(crop.image.tobytes() + crop.parts.tobytes()).hexdigest()[:16]


def test_pixels_are_those_of_renderer_1(world):
    shots = [world.shots("train")[0], world.shots("query")[9], world.shots("gallery")[33]]
    expected = ["5d615b2f2ddba29a", "e277d0e8263b92a1", "d42260aaa207c992"]
    assert [_digest(render_shot(world, shot)) for shot in shots] == expected


def test_order_and_company_do_not_matter(world, crops):
    other = World("tiny")
    for name in reversed(list(crops)[:6]):
        assert _digest(render_shot(other, other.shot(name))) == _digest(crops[name])
    assert _digest(render_shot(World("tiny", 1), World("tiny", 1).shots("train")[0])) != _digest(
        next(iter(crops.values()))
    )


def test_boxes_and_visibility(crops):
    for name, crop in crops.items():
        left, top, right, bottom = crop.box
        assert crop.image.shape == (bottom - top, right - left, 3)
        assert crop.parts.shape == crop.image.shape[:2]
        assert shoot.overlap(crop.box, crop.tight_box) >= 0.75, name
        assert crop.visible >= 0.4
        assert 60 <= crop.quality <= 95
        high = crop.tight_box[3] - crop.tight_box[1]
        assert 57 <= high <= (410 if crop.view.position[2] < 5 else 680), name
        assert crop.image.std() > 4, f"{name} is flat"
        person = (crop.parts > skeleton.GROUND) & (crop.parts < skeleton.OTHER)
        assert person.mean() > 0.1


def test_parts_by_name(world, crops):
    name = next(iter(crops))
    np.testing.assert_array_equal(parts(world, name), crops[name].parts)
    seen = sum(np.bincount(crop.parts.ravel(), minlength=10) for crop in crops.values())
    assert (seen[:9] > 0).all(), dict(zip(skeleton.PART_NAMES, seen, strict=True))


def test_encoded_like_photographed(world):
    shots = world.shots("query")[:3]
    assert [encode(world, s) for s in shots] == [photograph(world, s).jpeg for s in shots]
    alone = list(photographs(world, shots, workers=1))
    assert alone == list(photographs(world, shots, workers=2))
    assert alone[0].jpeg[:2] == b"\xff\xd8"


def test_views_are_what_they_say():
    for i in range(40):
        view = cameras.drone(generator(i), 25.0)
        assert view.position[2] == 25.0
        assert 30 <= view.pitch <= 75
        assert math.tan(math.radians(30)) * 0.99 <= 25 / view.distance <= 4
        view = cameras.cctv(generator(i))
        assert 2.5 <= view.position[2] <= 4
        assert 4 <= view.distance <= 30
        assert 5 <= view.pitch <= 20
        pixels = view.project(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.7]]))
        high = float(abs(pixels[0, 1] - pixels[1, 1]))
        pixels = view.zoomed(high, (100, 100)).project(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.7]]))
        assert abs(pixels[0, 1] - pixels[1, 1]) == pytest.approx(100)


def _straight_down():
    return cameras.look((0.0, 0.001, 10.0), (0.0, 0.0, 0.0), 0.0, 1000.0)


@pytest.mark.parametrize("height", [0.0, 0.5])
def test_a_ball_is_hit_where_it_is(height):
    sculptor = skeleton.Sculptor()
    grey = sculptor.material((0.5, 0.5, 0.5))
    if height:
        sculptor.cone((0, 0, 1.0), (0, 0, 1.0 + height), 0.5, 0.5, skeleton.UPPER, grey)
    else:
        sculptor.ball((0, 0, 1.0), (0.5, 0.5, 0.5), skeleton.UPPER, grey)
    grid = render.Grid(-60.0, -60.0, 120, 120, 1.0)
    hits = render.cast(sculptor.finish(0.3, (0.0, 0.0)), _straight_down(), grid)
    # Nearest point 1.5 m (or 2 m) above ground: 8.5 m (8 m) below the camera.
    assert hits.depth.min() == pytest.approx(10 - 1.5 - height, abs=2e-3)
    distance = 9.0 - height
    radius = 1000 * 0.5 / math.sqrt(distance**2 - 0.25)
    assert (hits.shape >= 0).sum() == pytest.approx(math.pi * radius**2, rel=0.02)


def test_nearer_shapes_hide_farther_ones():
    sculptor = skeleton.Sculptor()
    grey = sculptor.material((0.5, 0.5, 0.5))
    sculptor.box((0, 0, 0.5), (0.4, 0.4, 0.5), skeleton.BAG, grey)
    sculptor.ball((0, 0, 1.5), (0.2, 0.2, 0.2), skeleton.HEAD, grey)
    shapes = sculptor.finish(0.0, (0.0, 0.0))
    hits = render.cast(shapes, _straight_down(), render.Grid(-60.0, -60.0, 120, 120, 1.0))
    seen = render.compose(shapes, hits.shape)
    assert seen[60, 60] == skeleton.HEAD
    assert seen[60, 95] == skeleton.BAG
    assert seen[60, 115] == skeleton.GROUND


def test_jitter_never_loses_the_person():
    for i in range(200):
        tight = (0, 0, 20 + i % 50, 60 + i)
        assert shoot.overlap(shoot.jitter(tight, generator(1, i)), tight) >= 0.75
    assert shoot.overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
