"""The UAV-Human builder on a hand-written copy."""

import json

import pytest

from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.uav_human.uav_human_dataset_builder import Builder

TAIL = dummies_crops.UAV_TAIL


def build(tmp_path, config="partial", images=None):
    root = dummies.write_images(tmp_path / "manual" / "UAV-Human", dummies_crops.UAV_IMAGES)
    dummies.write_images(root, images or {})
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("uav_human"))


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 2, "query": 1, "gallery": 3}, cameras=False)
    dummies.check_description("uav_human")
    (row,) = json.loads(built.info.metadata["protocols"])
    assert (row["name"], row["query_platform"], row["drop_same_camera"]) == ("A2A", "aerial", False)


def test_what_names_say(built):
    train = list(dummies.rows(built, "train").values())
    # 3109 and 8405 are left out
    assert [(r["identity"], r["label"], r["platform"], r["frame"]) for r in train] == [
        (1, 0, 0, 170),
        (1203, 1, 0, 2),
    ]
    assert (train[1]["identity_raw"], train[1]["session"]) == (b"P012S03", b"03")
    assert train[1]["timestamp"] == b"08241716"


def test_distractors_are_in_the_gallery(built):
    gallery = dummies.rows(built, "gallery")
    found = [(r["identity"], r["identity_raw"], r["kind"]) for r in gallery.values()]
    assert found == [
        (50000, b"D0007S02", 1),
        (50000, b"DS00", 1),
        (302, b"P003S02", 0),
    ]


def test_other_counts_are_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="train: 2 identities, expected 619"):
        build(tmp_path, "strict")


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("query", f"D01S00{TAIL}_11_bbx.jpg", "is a distractor, which belong into bounding_box_te"),
        ("query", f"PS00{TAIL}_11_bbx.jpg", "has no number of a person"),
        ("query", f"P01S00{TAIL}.jpg", "is not of the form P000S00"),
        ("bounding_box_test", "00000.jpg", "release of the challenge, with names like 00000.jpg"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    with pytest.raises(ValueError, match=f"uav_human: {folder}/{name}.*{message}"):
        build(tmp_path, images={folder: [name]})


def test_missing_folder(tmp_path):
    root = dummies.write_images(tmp_path / "manual" / "UAV-Human", dummies_crops.UAV_IMAGES)
    (root / "query").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="UAV-Human lacks query\nUAV-Human is given"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
