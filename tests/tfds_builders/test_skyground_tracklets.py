"""SkyGround's tracklets as a dataset."""

import pathlib
import pickle

import numpy as np
import pytest

from g2ajax.data.builders import make_builder
from g2ajax.data.images import decode
from g2ajax.data.source import open_dataset
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.data.verify import verify
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic import tracklets
from g2ajax.synthetic.tracklets import SPLITS, TrackletWorld
from tests.tfds_builders import dummies


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_dataset("skyground/tracklets_tiny", data_dir=data_dir)


def test_every_record_is_the_worlds(dataset, data_dir):
    builder = make_builder("skyground/tracklets_tiny", pathlib.Path(data_dir))
    dummies.check_tracklets(builder, {"train": 12, "query": 8, "gallery": 8})
    world = TrackletWorld("tiny")
    for name in SPLITS:
        split, expected = dataset.splits[name], world.tracklets(name)
        assert isinstance(split, TrackletSplit)
        assert split.image_id.tolist() == [one.tracklet_id for one in expected]
        assert split.identity.tolist() == [one.identity for one in expected]
        assert split.platform.tolist() == [one.camera for one in expected]
        assert split.altitude_level.tolist() == [one.level for one in expected]
        for row in (0, len(split) - 1):
            photo = tracklets.photograph(world, expected[row])
            assert split.encoded(row) == photo.frames
            assert split.num_frames[row] == len(photo.frames)
            assert split.read(row) == photo.frames[0]
    assert sorted(set(dataset.splits["train"].label.tolist())) == [0, 1, 2, 3]
    assert [scoring_fault(dataset, row["name"]) for row in dataset.protocols] == ["", "", ""]


def test_a_split_pickles_and_takes_rows(dataset):
    split = pickle.loads(pickle.dumps(dataset.splits["train"]))
    part = split.take(np.array([5, 0]))
    assert part.num_frames.tolist() == split.num_frames[[5, 0]].tolist()
    assert part.encoded(0) == split.encoded(5)
    frames = part.frames()
    assert len(frames) == part.num_frames.sum() and frames.identity[-1] == split.identity[0]
    assert frames.read(len(frames) - 1) == split.encoded(0)[-1]
    assert decode(frames.read(0)).shape[2] == 3


def test_opening_again_and_verifying(dataset, data_dir):
    again = open_dataset("skyground/tracklets_tiny", data_dir=data_dir)
    assert again.fingerprint == dataset.fingerprint
    found = verify(again)
    assert found.errors == found.warnings == []
    assert {content.recorded == content.digest for content in found.contents} == {True}
