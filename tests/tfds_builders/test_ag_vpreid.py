"""AG-VPReID as SkyGround writes it, and what is wrong with a copy."""

import pytest

from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic.tracklet_layouts import ag_vpreid_folder
from g2ajax.synthetic.tracklets import TrackletWorld
from tests.tfds_builders import dummies, dummies_tracklets
from tfds_builders.ag_vpreid.ag_vpreid_dataset_builder import Builder

TRAIN = "train/0001/P0001C0T00"


def write(folder, copy="AG-VPReID"):
    root = folder / "manual" / copy
    assert dummies_tracklets.write("ag_vpreid", root) == 28
    return root


def build(folder, config="drive"):
    return dummies.build(Builder, folder / "data", folder / "manual", config)


def test_tracklets_are_the_worlds(tmp_path):
    root = write(tmp_path)
    # A wearable camera, and a tracklet that a tracker left empty.
    dummies.write_images(
        root, {"train/0001/extra": ["P0001T5A0C2E0K0F9.jpg", "P0001T5A0C2E0K0F10.jpg"]}
    )
    (root / "train" / "0001" / "empty").mkdir()
    built = build(tmp_path)
    dummies.check_tracklets(built, {"train": 13, "query": 8, "gallery": 8})
    dummies.check_description("ag_vpreid")
    dataset = open_dataset("ag_vpreid/drive", data_dir=str(tmp_path / "data"))
    world = TrackletWorld("tiny")
    for split in ("train", "query", "gallery"):
        found = dataset.splits[split]
        rows = dummies_tracklets.rows(found)
        for one in world.tracklets(split):
            row = rows[ag_vpreid_folder(one)]
            assert (found.identity[row], found.camera[row]) == (one.identity, 4 - 4 * one.camera)
            assert (found.platform[row], found.altitude_level[row]) == (
                one.camera,
                max(one.level, 0),
            )
            assert found.encoded(row) == dummies_tracklets.frames_of(one)
    train = dataset.splits["train"]
    assert train.platform[train.image_id.tolist().index("train/0001/extra")] == 2
    for name, platform in (("A2G", 0), ("G2A", 1)):
        query, gallery, _ = dataset.protocol(name)
        assert scoring_fault(dataset, name) == ""
        assert set(dataset.splits["query"].platform[query].tolist()) == {platform}
        assert set(dataset.splits["gallery"].platform[gallery].tolist()) == {1 - platform}


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        (TRAIN, "P0001T0A0C4E0K0.jpg", r"P0001T0A0C4E0K0.jpg is not of the form P0001T04041A0"),
        (TRAIN, "P0002T00000A0C4E0K00F99.jpg", f"the tracklet {TRAIN} is of several people"),
        (TRAIN, "P0001T00000A0C5E0K00F99.jpg", f"the tracklet {TRAIN} is of several cameras"),
        ("train/0001/other", "P0001T00000A0C7E0K00F99.jpg", "is of an unknown camera C7"),
        (
            "train/0001",
            "P0001T00000A0C4E0K00F99.jpg",
            "lies outside the folders train/0001/TRACKLET/",
        ),
        ("train/Ann/first", "P0001T00000A0C4E0K00F99.jpg", "train/Ann is no number of a person"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    dummies.write_images(write(tmp_path), {folder: [name]})
    with pytest.raises(ValueError, match=message):
        build(tmp_path)


def test_the_copies_are_kept_apart(tmp_path):
    write(tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks train, case1_aerial_to_ground/query"):
        build(tmp_path, "challenge")
