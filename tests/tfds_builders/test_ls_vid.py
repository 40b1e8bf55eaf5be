"""LS-VID as SkyGround writes it, and what is wrong with a copy."""

import sys

import pytest

from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic.tracklets import TrackletWorld
from tests.tfds_builders import dummies, dummies_tracklets
from tfds_builders.ls_vid.ls_vid_dataset_builder import LISTS, QUERIES, Builder

h5py = pytest.importorskip("h5py", reason="the list of LS-VID's queries is an HDF5 file")


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "manual" / "LS-VID"
    assert dummies_tracklets.write("ls_vid", root) == 28
    return tmp_path, root


def build(folder, config="partial"):
    return dummies.build(Builder, folder / "data", folder / "manual", config)


def test_tracklets_are_the_worlds(copy):
    folder, root = copy
    with (root / LISTS["test"]).open("a") as file:
        file.write("tracklet_test/0004/9999_ -1\n")
    built = build(folder)
    # The queries are taken out of the gallery, unlike MARS's.
    dummies.check_tracklets(built, {"train": 12, "query": 8, "gallery": 8})
    dummies.check_description("ls_vid")
    dataset = open_dataset("ls_vid/partial", data_dir=str(folder / "data"))
    world = TrackletWorld("tiny")
    for part, splits in (("train", ["train"]), ("test", ["query", "gallery"])):
        ordered = sorted(
            (one for split in splits for one in world.tracklets(split)),
            key=lambda one: one.tracklet_id,
        )
        for number, one in enumerate(ordered):
            found = dataset.splits[one.split]
            name = f"tracklet_{part}/{one.identity:04d}/{number:04d}_"
            row = dummies_tracklets.rows(found)[name]
            assert (found.identity[row], found.camera[row]) == (one.identity, 14 * one.camera)
            assert found.encoded(row) == dummies_tracklets.frames_of(one)
    assert scoring_fault(dataset, "STD") == ""
    query, gallery, _ = dataset.protocol("STD")
    assert (len(query), len(gallery)) == (8, 8)


def test_counts_are_compared(copy):
    with pytest.warns(UserWarning, match="gallery: 8 tracklets, expected 7829"):
        build(copy[0], "strict")


def test_missing_files(copy, monkeypatch):
    folder, root = copy
    for image in (root / "tracklet_train" / "0000").glob("0001_*"):
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 tracklets of .*seq_train.txt have no images"):
        build(folder, "strict")
    with pytest.warns(UserWarning, match="such as tracklet_train/0000/0001_; they are left out"):
        assert build(folder).info.splits["train"].num_examples == 11
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'g2ajax\[ls_vid\]'"):
        build(folder, "strict")
    (root / QUERIES).unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {QUERIES}\nLS-VID is given out"):
        build(folder, "strict")


def test_lists_that_do_not_fit(copy):
    folder, root = copy
    dummies.write_images(root, {"tracklet_train/0000": ["0000_0099_07_0.jpg"]})
    with pytest.raises(ValueError, match="tracklet_train/0000/0000_ is of several cameras: 1, 7"):
        build(folder)
    (root / LISTS["train"]).write_text("tracklet_train/0000/0001_ 3 4\n")
    with pytest.raises(
        ValueError, match=r"list_seq_train.txt, line 1: expected the begin of a path"
    ):
        build(folder)
    dummies.write_images(root, {"tracklet_train/0000": ["9_0_16_0.jpg", "8.jpg"]})
    for begin, message in (
        ("9_", "is of camera 16; there are 1 to 15"),
        ("8", "is not of the form"),
    ):
        (root / LISTS["train"]).write_text(f"tracklet_train/0000/{begin} 3\n")
        with pytest.raises(ValueError, match=message):
            build(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"query": [[1.0, 17.0]]}, "names tracklet 17, but .*list_seq_test.txt lists 16"),
        ({"other": [[1.0]]}, "is no HDF5 file with the table query"),
    ],
)
def test_queries_that_do_not_fit(copy, content, message):
    folder, root = copy
    with h5py.File(root / QUERIES, "w") as file:
        for name, values in content.items():
            file[name] = values
    with pytest.raises(ValueError, match=message):
        build(folder)
