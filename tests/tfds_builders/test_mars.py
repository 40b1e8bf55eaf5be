"""MARS and G2A-VReID, which has its layout, as SkyGround writes them."""

import json

import numpy as np
import pytest
import scipy.io

from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic.tracklets import TrackletWorld
from tests.tfds_builders import dummies, dummies_tracklets
from tfds_builders.g2a_vreid.g2a_vreid_dataset_builder import Builder as G2aVreid
from tfds_builders.mars.mars_dataset_builder import Builder as Mars

FOLDERS = {"mars": "MARS", "g2a_vreid": "G2A-VReID"}


def write(layout, folder):
    root = folder / "manual" / FOLDERS[layout]
    return root, dummies_tracklets.write(layout, root)


@pytest.fixture(scope="module", params=list(FOLDERS))
def layout(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    _, count = write(request.param, folder)
    builder = {"mars": Mars, "g2a_vreid": G2aVreid}[request.param]
    built = dummies.build(builder, folder / "data", folder / "manual")
    dataset = open_dataset(f"{request.param}/partial", data_dir=str(folder / "data"))
    return request.param, built, dataset, count


def test_records_follow_the_schema(layout):
    name, built, _, count = layout
    strangers = {"mars": 6, "g2a_vreid": 0}[name]
    assert count == 12 + 8 + 8 + strangers
    dummies.check_tracklets(built, {"train": 12, "query": 8, "gallery": 16 + strangers})
    dummies.check_description(name)


def test_tracklets_are_the_worlds(layout):
    name, _, dataset, _ = layout
    world = TrackletWorld("tiny")
    cameras = {"mars": (0, 1), "g2a_vreid": (1, 0)}[name]
    for split in ("train", "query", "gallery"):
        found = dataset.splits[split]
        rows = dummies_tracklets.rows(found)
        for one in world.tracklets(split):
            camera = cameras[one.camera]
            stem = f"{one.identity + 1:04d}C{camera + 1}T{one.number + 1:04d}F001"
            row = rows[f"bbox_{'train' if split == 'train' else 'test'}/{stem}"]
            assert (found.identity[row], found.camera[row]) == (one.identity + 1, camera)
            assert found.encoded(row) == dummies_tracklets.frames_of(one)
            assert found.kind[row] == 0
            assert found.platform[row] == (1 if name == "mars" else one.camera)
    assert sorted(set(dataset.splits["train"].label.tolist())) == [0, 1, 2, 3]


def test_the_gallery_holds_queries_distractors_and_junk(layout):
    name, _, dataset, _ = layout
    query, gallery, row = dataset.protocol({"mars": "STD", "g2a_vreid": "G2A"}[name])
    test = dataset.splits["gallery"]
    assert set(dataset.splits["query"].image_id) < set(test.image_id)
    assert scoring_fault(dataset, row["name"]) == ""
    if name == "mars":
        assert (len(query), len(gallery)) == (8, 22)
        assert [int((test.kind == kind).sum()) for kind in range(3)] == [16, 3, 3]
        assert set(test.identity[test.kind == 2].tolist()) == {-1}
        assert set(test.identity[test.kind == 1].tolist()) == {0}
    else:
        assert set(dataset.splits["query"].platform[query].tolist()) == {1}
        assert set(test.platform[gallery].tolist()) == {0}
        assert (len(query), len(gallery)) == (4, 8)


def changed_table(root, part, row, values):
    path = root / "info" / f"tracks_{part}_info.mat"
    name = f"track_{part}_info"
    table = scipy.io.loadmat(path)[name]
    table[row] = values
    scipy.io.savemat(path, {name: table})


@pytest.fixture
def copy(tmp_path):
    root, _ = write("mars", tmp_path)
    return tmp_path, root


def build(folder, config="partial"):
    return dummies.build(Mars, folder / "data", folder / "manual", config)


def test_counts_are_compared(copy):
    folder, _ = copy
    with pytest.raises(ValueError, match="train: 12 tracklets, expected 8298"):
        build(folder, "strict")


def test_missing_images(copy):
    folder, root = copy
    names = (root / "info" / "train_name.txt").read_text().split()
    several = next(n for n in names if n.endswith("F003.jpg"))
    (root / "bbox_train" / several[:4] / several).unlink()
    alone = [n for n in names if sum(m[:11] == n[:11] for m in names) == 1]
    (root / "bbox_train" / alone[0][:4] / alone[0]).unlink()
    with pytest.raises(FileNotFoundError, match="2 listed images are missing, such as bbox_train"):
        build(folder, "strict")
    with pytest.warns(UserWarning, match="2 listed images are missing, such as .*; they are left"):
        built = build(folder)
    # The tracklet of one image has none left.
    assert built.info.splits["train"].num_examples == 11


@pytest.mark.parametrize(
    ("part", "row", "values", "message"),
    [
        (
            "train",
            0,
            (1, 9999, 1, 1),
            "row 1 of info/tracks_train_info.mat names the images 1 to 9999",
        ),
        ("train", 0, (2, 1, 1, 1), "names the images 2 to 1"),
        ("train", 0, (1, 1, 7, 1), "is of identity 7 in camera 1 by its table, but its images"),
        ("train", 1, (1, 4, 1, 1), r"but its images are of \[\(1, 1\), \(1, 2\)\]"),
    ],
)
def test_tables_that_do_not_fit(copy, part, row, values, message):
    folder, root = copy
    changed_table(root, part, row, values)
    with pytest.raises(ValueError, match=message):
        build(folder)


def test_queries_that_do_not_fit(copy):
    folder, root = copy
    path = root / "info" / "query_IDX.mat"
    scipy.io.savemat(path, {"query_IDX": np.array([[99]])})
    with pytest.raises(ValueError, match="names row 99, but the test table has 22 tracklets"):
        build(folder)
    scipy.io.savemat(path, {"query_IDX": np.array([[1]])})
    with pytest.raises(ValueError, match=r"the query bbox_test/00-1C.* is a distractor or junk"):
        build(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks info/query_IDX.mat\nMARS is linked"):
        build(folder)


def test_protocols():
    for builder, expected in ((Mars, ["STD"]), (G2aVreid, ["G2A"])):
        info = builder(data_dir="unused", config="partial").info
        assert [row["name"] for row in json.loads(info.metadata["protocols"])] == expected
