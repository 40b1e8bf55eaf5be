"""The Market-1501 builder on a hand-written copy."""

import json

import pytest

from g2ajax.synthetic import layouts
from g2ajax.synthetic.world import World
from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.market1501.market1501_dataset_builder import Builder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    dummies.write_market1501(root / "manual" / "Market-1501-v15.09.15")
    return dummies.build(Builder, root / "data", root / "manual")


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 3, "query": 2, "gallery": 3})
    dummies.check_description("market1501")
    assert [row["name"] for row in json.loads(built.info.metadata["protocols"])] == ["STD"]


def test_names(built):
    train = dummies.rows(built, "train")
    assert [(r["identity"], r["label"], r["camera"]) for r in train.values()] == [
        (2, 0, 0),
        (2, 0, 1),
        (7, 1, 2),
    ]
    record = train["bounding_box_train/0007_c3s3_077419_03.jpg"]
    assert (record["sequence"], record["frame"], record["platform"]) == (3, 77419, 1)
    assert (record["identity_raw"], record["camera_raw"]) == (b"0007", b"c3")
    assert len(record["protocols"]) == 0
    query = dummies.rows(built, "query")
    assert [(r["identity"], r["camera"]) for r in query.values()] == [(1, 0), (3, 5)]
    assert all(r["protocols"].tolist() == [0] for r in query.values())


def test_distractors_stay_and_junk_goes(built):
    gallery = dummies.rows(built, "gallery")
    assert {key.split("/")[1]: (r["identity"], r["kind"]) for key, r in gallery.items()} == {
        "0000_c1s1_000151_01.jpg": (0, 1),
        "0001_c2s1_000301_02.jpg": (1, 0),
        "0003_c1s6_015971_04.jpg": (3, 0),
    }


def test_other_counts_are_an_error(tmp_path):
    dummies.write_market1501(tmp_path / "manual" / "Market-1501-v15.09.15")
    with pytest.raises(ValueError, match="train: 3 images, expected 12936") as caught:
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "strict")
    # The distractor is an image of the gallery, but no identity.
    for line in ("train: 2 identities, expected 751", "gallery: 2 identities, expected 750"):
        assert line in str(caught.value)
    assert "gallery: 3 images, expected 15913" in str(caught.value)
    assert "`partial`" in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("query", "0001_c7s1_001051_00.jpg", "is not of the form"),
        ("bounding_box_test", "0001_c1s1_001051_00 (1).jpg", "is not of the form"),
        ("bounding_box_train", "0000_c1s1_001051_00.jpg", "is a distractor or junk"),
        ("query", "-1_c1s1_001051_00.jpg", "is a distractor or junk"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    root = dummies.write_market1501(tmp_path / "manual" / "Market-1501-v15.09.15")
    dummies.write_images(root, {folder: [name]})
    with pytest.raises(ValueError, match=message):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")


def test_missing_folder(tmp_path):
    root = dummies.write_images(tmp_path / "manual", {"query": ["0001_c1s1_001051_00.jpg"]})
    with pytest.raises(
        FileNotFoundError, match="lacks bounding_box_train, bounding_box_test\nMarket"
    ):
        dummies.build(Builder, tmp_path / "data", root)


def test_empty_split(tmp_path):
    root = dummies.write_market1501(tmp_path / "manual" / "Market-1501-v15.09.15")
    for path in (root / "query").glob("*.jpg"):
        path.unlink()
    with pytest.raises(ValueError, match="no images for the split 'query'"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")


def test_skyground_in_this_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "photographs", dummies_crops.undrawn)
    world = World("tiny")
    layouts.write_market1501(world, tmp_path / "manual" / "Market-1501-v15.09.15", workers=1)
    built = dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
    dummies.check_built(built, {"train": 80, "query": 16, "gallery": 64 + 11})
    for split in ("train", "query", "gallery"):
        found = dummies.rows(built, split)
        for shot in world.shots(split):
            record = found[layouts.market1501_path(shot)]
            assert (record["identity"], record["camera"]) == (shot.person.number + 1, shot.camera)
            assert (record["frame"], record["kind"]) == (shot.frame, 0)
            assert record["sequence"] == 1 + int(shot.session[-1])
    assert sum(r["kind"] == 1 for r in dummies.rows(built, "gallery").values()) == 11
