"""The MSMT17 builder on hand-written copies of both versions."""

import pytest

from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.msmt17.msmt17_dataset_builder import Builder, VersionConfig

LISTS = dummies_crops.MSMT17_LISTS
MERGED = VersionConfig(name="merged", strict=False, release="v1", merged=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("msmt17")
    dummies_crops.write_msmt17(root / "manual" / "MSMT17_V1", "v1")
    return dummies.build(Builder, root / "data", root / "manual", "v1_partial")


def build(tmp_path, config="v1_partial", folder="MSMT17_V1", version="v1", lists=None):
    dummies_crops.write_msmt17(tmp_path / "manual" / folder, version, lists)
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 3, "val": 1, "query": 1, "gallery": 2})
    dummies.check_description("msmt17")
    assert [config.name for config in Builder.BUILDER_CONFIGS[:4]] == [
        *("v1", "v2"),
        *("v1_trainval", "v2_trainval"),
    ]


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        key: (r["identity"], r["label"], r["camera"], r["platform"], r["session"])
        for key, r in train.items()
    } == {
        "train/0000/0000_000_01_0303morning_0015_0.jpg": (0, 0, 0, 1, b"0303morning"),
        "train/0000/0000_001_15_0302noon_0007_1.jpg": (0, 0, 14, 1, b"0302noon"),
        "train/0003/0003_000_02_0303afternoon_0100_2_ex.jpg": (3, 1, 1, 1, b"0303afternoon"),
    }


def test_people_of_both_parts_have_numbers_of_their_own(built):
    gallery = dummies.rows(built, "gallery")
    assert [(r["identity"], r["identity_raw"], r["label"]) for r in gallery.values()] == [
        (1041, b"0000", -1),
        (1048, b"0007", -1),
    ]
    assert all(r["protocols"].tolist() == [0] for r in gallery.values())
    assert [r["identity"] for r in dummies.rows(built, "query").values()] == [1041]


def test_training_images_in_one_split(tmp_path):
    built = build(tmp_path, MERGED)
    dummies.check_built(built, {"train": 4, "query": 1, "gallery": 2})
    assert [r["label"] for r in dummies.rows(built, "train").values()] == [0, 0, 1, 1]
    assert Builder(data_dir=str(tmp_path), config="v2_trainval").EXPECTED["train"] == (32621, 1041)


def test_second_version(tmp_path):
    built = build(tmp_path, "v2_partial", "MSMT17_V2", "v2")
    dummies.check_built(built, {"train": 3, "val": 1, "query": 1, "gallery": 2})
    assert next(iter(dummies.rows(built, "query"))).startswith("mask_test_v2/0000/0000_000_05")


@pytest.mark.parametrize(
    ("config", "folder", "version", "message"),
    [
        ("v1", "MSMT17_V1", "v2", "holds mask_train_v2, mask_test_v2 of the version v2, not train"),
        ("v2", "MSMT17_V2", "v1", "holds train, test of the version v1, not mask_train_v2"),
        ("v2", "MSMT17_V1", "v1", "is it msmt17/v1 that you want"),
        ("v1", ".", "v2", "is it msmt17/v2 that you want"),
    ],
)
def test_the_other_version_is_named(tmp_path, config, folder, version, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, config, folder, version)


def test_folders_of_both_versions(tmp_path):
    root = dummies_crops.write_msmt17(tmp_path / "manual" / "MSMT17_V1", "v1")
    (root / "test").rename(root / "mask_test_v2")
    with pytest.raises(ValueError, match="holds mask_test_v2 of the version v2, not test of v1"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "v1")


def test_other_counts_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="train: 3 images, expected 30248") as caught:
        build(tmp_path, "v1")
    for line in ("val: 1 images, expected 2373", "gallery: 2 identities, expected 3060"):
        assert line in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_001_06_0113noon_0033_0.jpg 1", "line 1: .* by 1, expected its identity 0"),
        ("0000/0000_001_06_0113noon_0033_0.jpg", "line 1: .* by nothing, expected its identity 0"),
        ("0000/0000_001_06_0113noon_0099_0.jpg 0", "line 1: .*0099_0.jpg is not among the images"),
        (f"{LISTS['list_gallery.txt'][1]}", "line 2: .* is listed twice"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    lists = {"list_gallery.txt": [line, LISTS["list_gallery.txt"][1]]}
    with pytest.raises(ValueError, match=f"msmt17: list_gallery.txt, {message}"):
        build(tmp_path, "v1", lists=lists)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0000_001_16_0113noon_0033_0.jpg", "is of camera 16; the dataset has 01 to 15"),
        ("0000_001_06_0113night_0033_0.jpg", "is not of the form 0000_000_01_0303morning"),
    ],
)
def test_wrong_names(tmp_path, name, message):
    dummies.write_images(tmp_path / "manual" / "MSMT17_V1" / "test", {"0000": [name]})
    with pytest.raises(ValueError, match=message):
        build(tmp_path, lists={"list_query.txt": [f"0000/{name} 0"]})


def test_lines_of_absent_images_are_passed_over_in_a_partial_copy(tmp_path):
    more = [*LISTS["list_query.txt"], "0001/0001_000_05_0303morning_0033_0.jpg 1"]
    with pytest.warns(UserWarning, match=r"list_query.txt: 1 lines .*the first is line 2\)"):
        built = build(tmp_path, lists={"list_query.txt": more})
    assert len(dummies.rows(built, "query")) == 1


def test_missing_list(tmp_path):
    root = dummies_crops.write_msmt17(tmp_path / "manual" / "MSMT17_V1", "v1")
    (root / "list_val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"MSMT17_V1 lacks list_val\.txt"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "v1")
