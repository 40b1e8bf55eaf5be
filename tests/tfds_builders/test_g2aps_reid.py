"""The G2APS-ReID builder on a hand-written copy."""

import json

import pytest

from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.g2aps_reid import g2aps_reid_dataset_builder as g2aps_reid

Builder = g2aps_reid.Builder
TRAIN, LISTS = dummies_crops.G2APS_TRAIN, dummies_crops.G2APS_LISTS
A2G, G2A = LISTS


def build(tmp_path, config="partial", train=None, lists=None):
    root = tmp_path / "manual" / "GA-ReID"
    dummies_crops.write_listed(root, {**TRAIN, **(train or {})}, {**LISTS, **(lists or {})})
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("g2aps_reid"))


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 4, "query": 2, "gallery": 5})
    dummies.check_description("g2aps_reid")


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        key: (r["identity"], r["label"], r["camera"], r["platform"], r["sequence"], r["frame"])
        for key, r in train.items()
    } == {
        "bounding_box_train/0011_c3v4_000001.jpg": (11, 1, 1, 1, 4, 1),
        "bounding_box_train/11/0011_c0v4_000001.jpg": (11, 1, 0, 0, 4, 1),
        "bounding_box_train/2/0002_c0v1_000001.jpg": (2, 0, 0, 0, 1, 1),
        "bounding_box_train/2/0002_c3v1_000031.jpg": (2, 0, 1, 1, 1, 31),
    }


def test_protocols_are_those_of_the_lists(built):
    names = [row["name"] for row in json.loads(built.info.metadata["protocols"])]
    assert names == ["A2G", "G2A"]
    found = {
        key: (r["identity"], r["platform"], r["kind"], r["protocols"].tolist())
        for split in ("query", "gallery")
        for key, r in dummies.rows(built, split).items()
    }
    assert found == {
        "query_c0/0005_c0v1_000001.jpg": (5, 0, 0, [0]),
        "query_c3/0005_c3v1_000002.jpg": (5, 1, 0, [1]),
        "bounding_box_test_c0/0005_c0v1_000001.jpg": (5, 0, 0, [1]),
        "bounding_box_test_c3/0005_c3v1_000002.jpg": (5, 1, 0, [0]),
        "bounding_box_test_c3/0008_c3v1_000002.jpg": (8, 1, 0, [0]),
        "bounding_box_gallery/5555_c0v2_000009.jpg": (5555, 0, 1, [1]),
        "bounding_box_gallery/5555_c3v2_000009.jpg": (5555, 1, 1, [0]),
    }


def test_wrong_numbers_of_identities_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="2 identities in train, expected 1569; were all crops"):
        build(tmp_path, "strict")


def test_other_counts_are_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(g2aps_reid, "IDENTITIES", {"train": 2, "query and gallery": 2})
    with pytest.warns(UserWarning, match="train: 4 images, expected 100871") as caught:
        build(tmp_path, "strict")
    text = "".join(str(w.message) for w in caught)
    assert "query_c0: 1 images, expected 4876" in text
    assert "bounding_box_test_c3: 2 images, expected 37202" in text


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("bounding_box_train/5", "0005_c0v1_000001.jpg", "1 identities are in train and in the te"),
        ("bounding_box_train/5", "0006_c0v1_000001.jpg", "is of identity 6, its folder of 5"),
        (
            "bounding_box_train/6",
            "0006_c1v1_000001.jpg",
            "is not of the form 0001_c0v2.* c0 and c3",
        ),
        ("bounding_box_train/5555", "5555_c0v1_000001.jpg", "the distractor .* is in bounding_box"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    with pytest.raises(ValueError, match=f"g2aps_reid: .*{message}"):
        build(tmp_path, train={folder: [name]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("query_c0/5555_c0v1_000001.jpg", "line 5: the query query_c0/5555.* has no identity"),
        ("query_c3/0005_c3v1_000003.jpg", "line 5: .* of the platform ground; the query images"),
        (
            "bounding_box_gallery/5555_c0v2_000010.jpg",
            "line 5: .*the gallery images of A2G are gro",
        ),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=rf"exp3_A2G\+.txt, {message}"):
        build(tmp_path, lists={A2G: [*LISTS[A2G], line]})


def test_missing_list(tmp_path):
    root = dummies_crops.write_listed(tmp_path / "manual" / "GA-ReID", TRAIN, LISTS)
    (root / G2A).unlink()
    with pytest.raises(FileNotFoundError, match=r"GA-ReID lacks exp4_G2A\+.txt\nG2APS-ReID is cut"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
