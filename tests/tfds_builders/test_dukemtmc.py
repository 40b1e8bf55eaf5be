"""The reader of DukeMTMC-reID, which is withdrawn, on a hand-written copy."""

import pytest

from g2ajax.data.source import open_dataset
from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.dukemtmc.dukemtmc_dataset_builder import Builder

PARTIAL = "acknowledge_withdrawn_partial"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("dukemtmc")
    dummies_crops.write_dukemtmc(root / "manual" / "DukeMTMC-reID")
    return dummies.build(Builder, root / "data", root / "manual", PARTIAL)


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 3, "query": 1, "gallery": 2})
    dummies.check_description("dukemtmc")


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        key: (r["identity"], r["label"], r["camera"], r["platform"], r["frame"])
        for key, r in train.items()
    } == {
        "bounding_box_train/0001_c2_f0046182.jpg": (1, 0, 1, 1, 46182),
        "bounding_box_train/0001_c5_f0051341.jpg": (1, 0, 4, 1, 51341),
        "bounding_box_train/0023_c8_f0000001.jpg": (23, 1, 7, 1, 1),
    }
    # 3 has no query and is a person like any other
    gallery = dummies.rows(built, "gallery")
    assert [(r["identity"], r["kind"], r["protocols"].tolist()) for r in gallery.values()] == [
        (3, 0, [0]),
        (5, 0, [0]),
    ]


def test_refuses_by_default(tmp_path):
    dummies_crops.write_dukemtmc(tmp_path / "manual" / "DukeMTMC-reID")
    message = "withdrawn by Duke University in 2019 .* build dukemtmc/acknowledge_withdrawn"
    with pytest.raises(ValueError, match=message):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "strict")
    with pytest.raises(ValueError, match=message):
        open_dataset("dukemtmc", data_dir=str(tmp_path), manual_dir=str(tmp_path / "manual"))


def test_missing_data_message_tells_of_the_withdrawal(tmp_path):
    with pytest.raises(FileNotFoundError, match="was withdrawn by Duke University in 2019"):
        open_dataset("dukemtmc", data_dir=str(tmp_path))
    root = dummies_crops.write_dukemtmc(tmp_path / "manual" / "DukeMTMC-reID")
    (root / "query").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="lacks query\nDukeMTMC-reID was withdrawn"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", PARTIAL)


def test_other_counts_are_an_error(tmp_path):
    dummies_crops.write_dukemtmc(tmp_path / "manual" / "DukeMTMC-reID")
    with pytest.raises(ValueError, match="gallery: 2 identities, expected 1110") as caught:
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "acknowledge_withdrawn")
    assert f"`{PARTIAL}`" in str(caught.value)


@pytest.mark.parametrize("name", ["0001_c9_f0046182.jpg", "0001_c2s1_046182_01.jpg"])
def test_wrong_files_are_named(tmp_path, name):
    root = dummies_crops.write_dukemtmc(tmp_path / "manual" / "DukeMTMC-reID")
    dummies.write_images(root, {"query": [name]})
    with pytest.raises(ValueError, match=f"query/{name} is not of the form 0001_c2_f0046182"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", PARTIAL)
