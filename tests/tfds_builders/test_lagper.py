"""The LAGPeR builder on a hand-written copy."""

import json

import pytest

from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.lagper.lagper_dataset_builder import Builder

TRAIN, LISTS = dummies_crops.LAGPER_TRAIN, dummies_crops.LAGPER_LISTS
A2G, G2A = "exp3_A2G+.txt", "exp4_G2A+.txt"


def build(tmp_path, config="partial", train=None, lists=None, absent=()):
    root = tmp_path / "manual" / "LAGPeR"
    dummies_crops.write_listed(root, {**TRAIN, **(train or {})}, {**LISTS, **(lists or {})})
    for name in absent:
        (root / name).unlink()
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("lagper"))


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 4, "query": 2, "gallery": 4})
    dummies.check_description("lagper")


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        key.split("/")[2]: (r["identity"], r["label"], r["camera"], r["platform"], r["camera_raw"])
        for key, r in train.items()
    } == {
        "0002_c3_000001.jpg": (2, 0, 2, 0, b"c3"),
        "0002_c11_7_x.jpg": (2, 0, 9, 1, b"c11"),
        "0009_c22_000001.jpg": (9, 1, 20, 0, b"c22"),
        "0009_c1_000001.jpg": (9, 1, 0, 1, b"c1"),
    }


def test_protocols_are_those_of_the_lists(built):
    names = [row["name"] for row in json.loads(built.info.metadata["protocols"])]
    assert names == ["A2G", "G2A", "G2AG", "A2G_v1", "G2A_v1"]
    found = {
        key: (r["platform"], r["kind"], [names[i] for i in r["protocols"]])
        for split in ("query", "gallery")
        for key, r in dummies.rows(built, split).items()
    }
    assert found == {
        "query_a/0004_c13_1.jpg": (0, 0, ["A2G", "A2G_v1"]),
        "query_g/0004_c14_1.jpg": (1, 0, ["G2A", "G2AG", "G2A_v1"]),
        "bounding_box_test_g/0004_c12_1.jpg": (1, 0, ["A2G", "G2AG", "A2G_v1"]),
        "bounding_box_test_g/-1_c2_1.jpg": (1, 1, ["A2G"]),
        "bounding_box_test_a/0004_c19_1.jpg": (0, 0, ["G2A", "G2AG", "G2A_v1"]),
        "bounding_box_test_a/0007_c16_1.jpg": (0, 0, ["G2A"]),
    }


def test_lists_of_the_first_version_are_optional(tmp_path):
    built = build(tmp_path, absent=["exp1_A2G.txt"])
    names = [row["name"] for row in json.loads(built.info.metadata["protocols"])]
    assert names == ["A2G", "G2A", "G2AG", "G2A_v1"]
    query = dummies.rows(built, "query")["query_g/0004_c14_1.jpg"]
    assert [names[i] for i in query["protocols"]] == ["G2A", "G2AG", "G2A_v1"]


def test_other_counts_are_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="train: 4 images, expected 40770") as caught:
        build(tmp_path, "strict")
    text = "".join(str(w.message) for w in caught)
    assert "A2G gallery: 2 images, expected 15533" in text
    assert "G2AG query: 1 images, expected 3046" in text


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (G2A, "query_a/0004_c13_1.jpg", "is of a camera of the platform aerial; the query images"),
        (A2G, "bounding_box_test_a/0004_c19_1.jpg", "the gallery images of A2G are ground"),
        (A2G, "query_a/-1_c13_2.jpg", "the query query_a/-1_c13_2.jpg has no identity"),
        (G2A, "bounding_box_test_a/0007_c16_1.jpg", "is listed twice"),
    ],
)
def test_wrong_lines_are_named(tmp_path, file, line, message):
    lists = {file: [*LISTS[file], line]}
    place = f"lagper: {file}, line {len(lists[file])}: ".replace("+", r"\+")
    with pytest.raises(ValueError, match=f"{place}.*{message}"):
        build(tmp_path, lists=lists)


@pytest.mark.parametrize("name", ["0004_c10_1.jpg", "0004_c23_1.jpg", "0004_c0_1.jpg"])
def test_cameras_that_do_not_exist(tmp_path, name):
    with pytest.raises(ValueError, match="the dataset has 1 to 22, without 10"):
        build(tmp_path, train={"bounding_box_train/0004": [name]})


def test_foreign_names(tmp_path):
    with pytest.raises(ValueError, match=r"0004/x_c1\.jpg is not of the form 0001_c3"):
        build(tmp_path, train={"bounding_box_train/0004": ["x_c1.jpg"]})
    with pytest.raises(ValueError, match="lies outside the folders bounding_box_train/0001/"):
        build(tmp_path / "more", train={"bounding_box_train": ["0004_c1_1.jpg"]})


def test_absent_images(tmp_path):
    absent = ["bounding_box_test_a/0007_c16_1.jpg"]
    message = r"exp4_G2A\+.txt, line 3: .*0007_c16_1.jpg is not among the images"
    with pytest.raises(ValueError, match=message):
        build(tmp_path, "strict", absent=absent)
    with pytest.warns(UserWarning, match=r"exp4_G2A\+.txt: 1 lines .*the first is line 3"):
        assert len(dummies.rows(build(tmp_path, absent=absent), "gallery")) == 3


def test_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"LAGPeR lacks exp3_A2G\+.txt\nLAGPeR is given"):
        build(tmp_path, absent=[A2G])
