"""SkyGround's frames as a dataset, and written in the layouts of three datasets."""

import pathlib
import pickle

import numpy as np
import pytest

from g2ajax.data.builders import make_builder
from g2ajax.data.frame_source import open_frames
from g2ajax.synthetic import frames
from g2ajax.synthetic.frame_layouts import FRAME_LAYOUTS
from g2ajax.synthetic.frames import FrameWorld
from tests.tfds_builders import dummies_frames

FOLDERS = {"cuhk_sysu": "CUHK-SYSU", "g2aps": "G2APS/ssm", "prw": "PRW-v16.04.20"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_frames("skyground/frames_tiny", data_dir=data_dir)


@pytest.fixture(scope="module", params=list(FRAME_LAYOUTS))
def layout(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    count = FRAME_LAYOUTS[request.param](
        FrameWorld("tiny"), folder / "manual" / FOLDERS[request.param]
    )
    assert count == 40
    return open_frames(
        f"{request.param}/partial", data_dir=str(folder / "d"), manual_dir=str(folder / "manual")
    )


def test_every_record_is_the_worlds(dataset, data_dir):
    counts = {"train": 24, "gallery": 16, "query": 8}
    dummies_frames.check_built(
        make_builder("skyground/frames_tiny", pathlib.Path(data_dir)), counts
    )
    world = FrameWorld("tiny")
    for split, name in (("train", "train"), ("gallery", "test")):
        found, expected = dataset.splits[split], world.frames(name)
        assert found.image_id.tolist() == [frame.image_id for frame in expected]
        assert found.camera.tolist() == [frame.camera for frame in expected]
        assert found.platform.tolist() == [int(frame.camera > 1) for frame in expected]
        for row in (0, len(found) - 1):
            photo = frames.photograph(world, expected[row])
            assert found.read(row) == photo.jpeg
            assert (found.height[row], found.width[row]) == photo.size
            at = found.people(row)
            assert np.array_equal(found.boxes[at], photo.boxes)
            assert np.array_equal(found.identity[at], photo.identity)
    train = dataset.splits["train"]
    assert set(train.label.tolist()) == {-1, 0, 1, 2, 3, 4, 5}
    assert dataset.num_identities == 6


def test_protocols(dataset):
    gallery = dataset.splits["gallery"]
    for name, platform in (("G2A", 0), ("A2G", 1), ("G2A_3", 0), ("A2G_6", 1)):
        queries, row = dataset.protocol(name)
        assert len(queries) == 4
        assert set(dataset.splits["query"].platform[queries].tolist()) == {1 - platform}
        for query in queries:
            rows = dataset.gallery(int(query), name)
            assert set(gallery.platform[rows].tolist()) == {platform}
            assert not np.isnan(dataset.targets(int(query), rows)).all()
            if row["gallery"]:
                assert len(rows) == int(name[-1])
    assert [len(dataset.gallery(query, "ALL")) for query in range(8)] == [15] * 8


def test_a_split_pickles_and_takes_rows(dataset):
    split = pickle.loads(pickle.dumps(dataset.splits["query"]))
    part = split.take(np.array([5, 0]))
    assert len(part) == 2
    assert part.read(0) == split.read(5)
    assert np.array_equal(part.boxes, split.boxes[[5, 0]])
    column = "gallery_index_3"
    assert np.array_equal(part.gallery(1, column), split.gallery(0, column))
    train = dataset.splits["train"]
    part = train.take(np.array([7]))
    assert np.array_equal(part.identity, train.identity[train.people(7)])
    assert len(train.take(np.zeros(0, np.int64)).boxes) == 0


def test_opening_again_reads_the_same(dataset, data_dir):
    again = open_frames("skyground/frames_tiny", data_dir=data_dir)
    assert again.fingerprint == dataset.fingerprint
    for name, split in again.splits.items():
        for column in ("image_id", "boxes", "offsets", "label", "protocols"):
            assert np.array_equal(getattr(split, column), getattr(dataset.splits[name], column))


def test_crops_are_refused(data_dir):
    with pytest.raises(
        ValueError, match=r"a dataset of crops; open it with g2ajax.data.source.open"
    ):
        open_frames("skyground/crops_tiny", data_dir=data_dir)


def test_layouts_read_back_as_the_world(layout):
    world = FrameWorld("tiny")
    expected = {
        split: [frames.photograph(world, frame) for frame in world.frames(split)]
        for split in ("train", "test")
    }
    for split, name in (("train", "train"), ("gallery", "test")):
        found = layout.splits[split]
        assert len(found) == len(expected[name])
        assert sorted(map(tuple, found.boxes.tolist())) == sorted(
            tuple(box) for photo in expected[name] for box in photo.boxes.tolist()
        )
        named = sum(int((photo.identity >= 0).sum()) for photo in expected[name])
        if name == "test" and layout.name.startswith("g2aps"):
            # Its lists name a test person in the query and in aerial frames, nowhere else.
            aerial = [p for p in expected[name] if p.frame.platform == "aerial"]
            named = 4 + sum(int((photo.identity >= 0).sum()) for photo in aerial)
        assert int((found.identity >= 0).sum()) == named
    assert layout.num_identities == 6
    queries, _ = layout.protocol(layout.protocols[0]["name"])
    assert len(queries) == (8 if layout.name.startswith("prw") else 4)
    for query in queries:
        rows = layout.gallery(int(query), layout.protocols[0]["name"])
        shown = ~np.isnan(layout.targets(int(query), rows)).any(axis=1)
        assert shown.any()
