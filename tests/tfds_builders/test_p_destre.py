"""P-DESTRE as SkyGround writes it, and what is wrong with a copy."""

import pytest

from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic.tracklet_layouts import p_destre_video
from g2ajax.synthetic.tracklets import TrackletWorld
from tests.tfds_builders import dummies, dummies_tracklets
from tfds_builders.p_destre.p_destre_dataset_builder import Builder

LISTS = "pedestrian_reid_splits/Splits"


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "manual" / "P-DESTRE"
    assert dummies_tracklets.write("p_destre", root) == 16
    return tmp_path, root


def build(folder, config="fold0"):
    return dummies.build(Builder, folder / "data", folder / "manual", config)


def test_tracklets_are_the_worlds(copy):
    folder, root = copy
    video = root / "jpg_Extracted_PIDS" / "08-11-2019-1-1"
    (video / "0" / "._0_0_08112019_1.jpg").write_bytes(b"no image")
    (video / "-1").mkdir()
    with (root / LISTS / "Train_0.txt").open("a") as file:
        file.write("08-11-2019-1-1\\-1\r\n")
    built = build(folder)
    dummies.check_tracklets(built, {"train": 8, "query": 4, "gallery": 4})
    dummies.check_description("p_destre")
    dataset = open_dataset("p_destre/fold0", data_dir=str(folder / "data"))
    for one in (
        t for s in ("train", "query", "gallery") for t in TrackletWorld("tiny").tracklets(s)
    ):
        if one.camera:
            continue
        found = dataset.splits[one.split]
        row = dummies_tracklets.rows(found)[f"{p_destre_video(one)}/{one.identity}"]
        assert (found.identity[row], found.camera[row]) == (one.identity, one.level + 1)
        assert found.platform[row] == 0
        assert found.encoded(row) == dummies_tracklets.frames_of(one)
    query, gallery, _ = dataset.protocol("A2A")
    assert scoring_fault(dataset, "A2A") == ""
    assert (len(query), len(gallery)) == (4, 4)


def test_a_fold_is_read_from_its_lists(copy):
    folder, root = copy
    names = (root / LISTS / "Train_2.txt").read_text().split()
    built = build(folder, "fold2")
    train = {record["tracklet_id"].decode() for record in built.as_data_source(split="train")}
    assert train == set(names)
    assert {record["identity"] for record in built.as_data_source(split="train")} == {3, 4, 5, 6}


def test_missing_files(copy):
    folder, root = copy
    for image in (root / "jpg_Extracted_PIDS" / "08-11-2019-1-1" / "0").iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 tracklets of .*Train_0.txt have no images"):
        build(folder)
    with pytest.warns(UserWarning, match="such as 08-11-2019-1-1/0; they are left out"):
        assert build(folder, "partial").info.splits["train"].num_examples == 7
    (root / LISTS / "Query_1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {LISTS}/Query_1.txt\nP-DESTRE is linked"):
        build(folder, "fold1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("08-11-2019-1-1", "Query_0.txt, line 1: expected a video and an identity such as"),
        ("08-11-2019-1-1/0", "08-11-2019-1-1/0 is listed in .*Train_0.txt and .*Query_0.txt"),
    ],
)
def test_lists_that_do_not_fit(copy, line, message):
    folder, root = copy
    (root / LISTS / "Query_0.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=message):
        build(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1_5_08112019_1.jpg", "08-11-2019-1-1/0 is of several people: 0, 1"),
        ("0_5.jpg", "0_5.jpg is not of the form 12_345_08112019_1.jpg"),
        ("0_0_08112019_2.jpg", "one number for each frame, in rising order"),
    ],
)
def test_wrong_images_are_named(copy, name, message):
    folder, root = copy
    dummies.write_images(root, {"jpg_Extracted_PIDS/08-11-2019-1-1/0": [name]})
    with pytest.raises(ValueError, match=message):
        build(folder)
