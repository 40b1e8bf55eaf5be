"""The CARGO builder on a hand-written copy and on SkyGround."""

import json

import pytest

from g2ajax.data.source import open_dataset
from g2ajax.synthetic import layouts
from g2ajax.synthetic.world import World
from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.cargo import cargo_dataset_builder as cargo

Builder = cargo.Builder
AERIAL, GROUND = 0, 1


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("cargo")
    dummies_crops.write_cargo(root / "manual" / "CARGO")
    return dummies.build(Builder, root / "data", root / "manual")


def build(tmp_path, images=None, config="partial"):
    root = dummies_crops.write_cargo(tmp_path / "manual" / "CARGO")
    dummies.write_images(root, images or {})
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 5, "query": 5, "gallery": 6})
    dummies.check_description("cargo")


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        key: (r["identity"], r["label"], r["camera"], r["platform"], r["time_of_day"], r["frame"])
        for key, r in train.items()
    } == {
        "train/Cam1/Cam1_day_2_1.jpg": (2, 0, 0, AERIAL, 0, 1),
        "train/Cam1/Cam1_night_30_12.jpg": (30, 1, 0, AERIAL, 1, 12),
        "train/Cam5/Cam5_night_2_3.jpg": (2, 0, 4, AERIAL, 1, 3),
        "train/Cam6/Cam6_day_30_1.jpg": (30, 1, 5, GROUND, 0, 1),
        "train/Cam13/Cam13_night_2_4.jpg": (2, 0, 12, GROUND, 1, 4),
    }
    assert train["train/Cam13/Cam13_night_2_4.jpg"]["camera_raw"] == b"Cam13"
    assert all(len(r["protocols"]) == 0 for r in train.values())


def test_both_protocols_between_sky_and_ground(built):
    rows = {row["name"]: row for row in json.loads(built.info.metadata["protocols"])}
    assert list(rows) == ["ALL", "A2A", "G2G", "AG-pooled", "A2G", "G2A"]
    assert {name: row["camera_key"] for name, row in rows.items()} == {
        **dict.fromkeys(rows, "camera"),
        "AG-pooled": "platform",
    }
    assert all(row["drop_same_camera"] for row in rows.values())
    query, gallery = dummies.rows(built, "query"), dummies.rows(built, "gallery")
    assert query["query/Cam1/Cam1_day_5_1.jpg"]["protocols"].tolist() == [0, 1, 3, 4]
    assert query["query/Cam6/Cam6_night_6_1.jpg"]["protocols"].tolist() == [0, 2, 3, 5]
    assert gallery["gallery/Cam1/Cam1_day_5_2.jpg"]["protocols"].tolist() == [0, 1, 3, 5]
    assert gallery["gallery/Cam13/Cam13_day_7_3.jpg"]["protocols"].tolist() == [0, 2, 3, 4]


def test_numbers_of_images_by_protocol(tmp_path):
    dummies_crops.write_cargo(tmp_path / "manual" / "CARGO")
    dataset = open_dataset(
        "cargo/partial", data_dir=str(tmp_path), manual_dir=str(tmp_path / "manual")
    )
    sizes = {row["name"]: dataset.protocol(row["name"])[:2] for row in dataset.protocols}
    assert {name: (len(query), len(gallery)) for name, (query, gallery) in sizes.items()} == {
        "ALL": (5, 6),
        "A2A": (2, 3),
        "G2G": (3, 3),
        "AG-pooled": (5, 6),
        "A2G": (2, 3),
        "G2A": (3, 3),
    }


def test_queries_with_a_match(tmp_path):
    splits = {
        split: Builder(data_dir=str(tmp_path), config="partial").read_split(
            dummies_crops.write_cargo(tmp_path), split
        )
        for split in ("query", "gallery")
    }
    found = {row["name"]: cargo.valid_queries(splits, i) for i, row in enumerate(cargo.PROTOCOLS)}
    # by hand: 5 has Cam5, 7 has Cam13, 6 has Cam13, 11 has Cam1, 8 has none
    assert found == {"ALL": 4, "A2A": 1, "G2G": 1, "AG-pooled": 2, "A2G": 1, "G2A": 1}
    with pytest.warns(UserWarning, match="AG-pooled: 2 queries have a match, expected 160"):
        cargo.check_valid_queries(splits)


def test_other_counts_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="train: 5 images, expected 51451") as caught:
        build(tmp_path, config="strict")
    for line in ("train: 2 identities, expected 2500", "query: 5 images, expected 312"):
        assert line in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("query/Cam6", "Cam6_dusk_6_9.jpg", "query/Cam6/Cam6_dusk_6_9.jpg is not of the form Cam1"),
        ("query/Cam6", "Cam7_day_6_9.jpg", "is of camera 7, its folder of 6"),
        ("query/Cam14", "Cam14_day_6_9.jpg", "query/Cam14 is the folder of no camera"),
        ("query", "Cam1_day_6_9.jpg", "lies outside the folders query/Cam1/"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, {folder: [name]})


def test_missing_folder(tmp_path):
    root = dummies_crops.write_cargo(tmp_path / "manual" / "CARGO")
    (root / "gallery").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="CARGO lacks gallery\nCARGO is linked from"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")


def test_skyground_in_this_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "photographs", dummies_crops.undrawn)
    world = World("tiny")
    root = tmp_path / "manual" / "CARGO"
    assert layouts.write_cargo(world, root, workers=1) == 160
    built = dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
    dummies.check_built(built, {"train": 80, "query": 16, "gallery": 64})
    for split in ("train", "query", "gallery"):
        found = dummies.rows(built, split)
        for shot in world.shots(split):
            record = found[layouts.cargo_path(shot)]
            assert record["identity"] == shot.person.number
            assert record["platform"] == shot.camera
            assert record["time_of_day"] == 0
