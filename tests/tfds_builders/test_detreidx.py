"""DetReIDX as SkyGround writes it, and what is wrong with a copy."""

import numpy as np
import pytest

from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic.tracklet_layouts import detreidx_folders
from g2ajax.synthetic.tracklets import TrackletWorld
from tests.tfds_builders import dummies, dummies_tracklets
from tfds_builders.detreidx.detreidx_dataset_builder import Builder

TRAIN = "train/0001/P0001C0T00"
PUBLISHED = "0001_23_10_2024_09_18_5.8_10_30_3_0_1_1_0_-1_-1_6_0_0_6_{}_178_S2.jpg"


def write(folder):
    root = folder / "manual" / "DetReIDX"
    assert dummies_tracklets.write("detreidx", root) == 28
    return root


def build(folder, config="partial"):
    return dummies.build(Builder, folder / "data", folder / "manual", config)


def test_tracklets_are_the_worlds(tmp_path):
    root = write(tmp_path)
    # The name that its authors publish, an anonymised one, and a tracklet that a tracker left empty.
    images = {
        "train/0001/published": [PUBLISHED.format(9), PUBLISHED.format(10)],
        "train/0001/anonymised": ["7_1_1_1_1_1_60_40_60_1_5.jpg", "7_1_1_1_1_2_60_40_60_1_5.jpg"],
    }
    dummies.write_images(root, images)
    (root / "train" / "0001" / "empty").mkdir()
    built = build(tmp_path)
    dummies.check_tracklets(built, {"train": 14, "query": 12, "gallery": 12})
    dummies.check_description("detreidx")
    records = {r["tracklet_id"].decode(): r for r in built.as_data_source(split="train")}
    fields = ("identity", "camera", "platform", "altitude_m", "distance_m", "angle_deg")
    published, anonymised = (records[f"train/0001/{name}"] for name in ("published", "anonymised"))
    np.testing.assert_allclose([published[f] for f in fields], [1, 2, 0, 5.8, 10, 30])
    np.testing.assert_allclose([anonymised[f] for f in fields], [1, 1, 0, 60, 40, 60])
    assert (published["altitude_level"], anonymised["altitude_level"]) == (0, 3)
    paths = [root / "train" / "0001" / "published" / PUBLISHED.format(n) for n in (9, 10)]
    assert published["frames"] == [path.read_bytes() for path in paths]  # 9 before 10

    dataset = open_dataset("detreidx/partial", data_dir=str(tmp_path / "data"))
    for one in (
        t for s in ("train", "query", "gallery") for t in TrackletWorld("tiny").tracklets(s)
    ):
        for place in detreidx_folders(one):
            found = dataset.splits[one.split]
            row = dummies_tracklets.rows(found)[place]
            session = 2 if one.split == "gallery" else 1
            camera = 0 if one.camera else session
            assert (found.identity[row], found.camera[row]) == (one.identity, camera)
            level = {-1: -1, 0: 1, 1: 2, 2: 3}[one.level]  # 17.3 m, 40 m, 120 m
            assert (found.platform[row], found.altitude_level[row]) == (one.camera, level)
            assert found.encoded(row) == dummies_tracklets.frames_of(one)
    for name, asked, sought in (("A2G", 0, 1), ("G2A", 1, 0), ("A2A", 0, 0)):
        query, gallery, _ = dataset.protocol(name)
        assert scoring_fault(dataset, name) == ""
        assert (len(query), len(gallery)) == (4, 4)
        assert set(dataset.splits["query"].platform[query].tolist()) == {asked}
        assert set(dataset.splits["gallery"].platform[gallery].tolist()) == {sought}


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        (TRAIN, PUBLISHED.format(1), f"{TRAIN} is of several cameras: 1, 2"),
        (TRAIN, "0001_0_1_1_1_0_F.jpg", f"{TRAIN} is of several cameras: 0, 1"),
        (
            TRAIN,
            "0001_23_10_2024_09_18_40_80_30_0_0_0_0_0_0_0_0_0_0_0_9_1_S1.jpg",
            f"{TRAIN} is of several heights, distances or angles",
        ),
        (TRAIN, "0001_a_b_c_d_e_f_g_h_1_2.jpg", "is not of the form 0004_23_10_2024_09_18_5.8"),
        ("train/0002/one", PUBLISHED.format(1), "is of 0001, but lies with 0002"),
        ("train/Ann/one", PUBLISHED.format(1), "train/Ann is no number of a person"),
        ("train/0003/P0003C3T00", "0009_0_1_1_1_0_F.jpg", "is of several people: 0003, 0009"),
        (
            "case1_aerial_to_ground/query/0004/two",
            "0004_0_1_1_1_0_F.jpg",
            "query/0004/two is named as ground, but case1_aerial_to_ground/query is aerial",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    dummies.write_images(write(tmp_path), {folder: [name]})
    with pytest.raises(ValueError, match=message):
        build(tmp_path)


def test_missing_folders(tmp_path):
    root = write(tmp_path)
    (root / "case3_aerial_to_aerial").rename(root / "elsewhere")
    lacks = "lacks case3_aerial_to_aerial/query, case3_aerial_to_aerial/gallery\nDetReIDX is linked"
    with pytest.raises(FileNotFoundError, match=lacks):
        build(tmp_path)
