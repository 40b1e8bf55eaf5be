"""The AG-ReID builder on a hand-written copy."""

import json

import numpy as np
import pytest

from g2ajax.synthetic.attributes import GROUPS
from g2ajax.synthetic.layouts import write_agreid
from g2ajax.synthetic.world import SPLITS, World
from tests.tfds_builders import dummies
from tfds_builders.agreid.agreid_dataset_builder import Builder
from tfds_builders.agreid.attributes import group_columns

# Codes of the 15 groups by hand: the position of the class, unknown = the last.
TRAIN_CODES = {
    1040410: [0, 3, 4, 3, 4, 4, 5, 2, 2, 3, 0, 12, 9, 6, 7],
    2040401: [1, 1, 4, 3, 4, 6, 5, 2, 2, 3, 4, 11, 9, 6, 8],
    21402: [2, 3, 4, 3, 4, 6, 3, 2, 2, 3, 4, 12, 1, 3, 8],
}
TEST_CODES = {
    3040410: [2, 3, 4, 3, 4, 0, 5, 2, 2, 1, 4, 12, 9, 6, 8],
    1021401: [0, 3, 4, 3, 4, 6, 5, 0, 1, 3, 4, 12, 9, 6, 8],
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("agreid")
    dummies.write_agreid(root / "manual" / "AG-ReID")
    return dummies.build(Builder, root / "data", root / "manual")


def build(tmp_path, config="partial", **parts):
    dummies.write_agreid(tmp_path / "manual" / "AG-ReID", **parts)
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 6, "query": 4, "gallery": 5})
    dummies.check_description("agreid")


def test_identity_camera_and_label_of_names(built):
    train = dummies.rows(built, "train")
    assert {
        image_id.split("/")[1]: (r["identity"], r["label"], r["camera"], r["platform"])
        for image_id, r in train.items()
    } == {
        "P0000T02140A2C0F691.jpg": (21402, 0, 0, 0),
        "P0000T02140A2C3F691.jpg": (21402, 0, 1, 1),
        "P0001T04041A0C0F31.jpg": (1040410, 1, 0, 0),
        "P0001T04041A0C3F1.jpg": (1040410, 1, 1, 1),
        "P0002T04040A1C0F61.jpg": (2040401, 2, 0, 0),
        "P0002T04040A1C3F01111.jpg": (2040401, 2, 1, 1),
    }
    record = train["bounding_box_train/P0002T04040A1C3F01111.jpg"]
    assert record["identity_raw"] == b"P0002T04040A1"
    assert record["camera_raw"] == b"C3"
    assert record["session"] == b"04040"
    assert record["altitude_level"] == 1
    assert record["frame"] == 1111
    assert record["kind"] == 0


def test_protocols_pair_folders_of_different_platforms(built):
    query, gallery = dummies.rows(built, "query"), dummies.rows(built, "gallery")
    names = [row["name"] for row in json.loads(built.info.metadata["protocols"])]
    assert names == ["A2G", "G2A"]

    def folders(records, index):
        return {key.split("/")[0] for key, r in records.items() if index in r["protocols"]}

    assert folders(query, 0) == {"query_all_c0"}
    assert folders(gallery, 0) == {"bounding_box_test_all_c3"}
    assert folders(query, 1) == {"query_all_c3"}
    assert folders(gallery, 1) == {"bounding_box_test_all_c0"}
    assert all(len(r["protocols"]) == 0 for r in dummies.rows(built, "train").values())
    assert {r["identity"] for r in query.values()} == {3040410, 1021401}


def test_attribute_codes(built):
    for record in dummies.rows(built, "train").values():
        assert record["attributes"].tolist() == TRAIN_CODES[record["identity"]]
    for split in ("query", "gallery"):
        for record in dummies.rows(built, split).values():
            assert record["attributes"].tolist() == TEST_CODES[record["identity"]]


def test_attribute_names_are_those_of_the_file(built):
    groups = json.loads(built.info.metadata["attribute_groups"])
    assert list(groups) == list(dummies.AGREID_COLUMNS)
    assert groups == {name: text.split() for name, text in dummies.AGREID_COLUMNS.items()}


def test_columns_align_by_name(tmp_path):
    backwards = dummies.agreid_table(dummies.AGREID_TEST, order=-1)
    query = dummies.rows(build(tmp_path, test=backwards), "query")
    for record in query.values():
        assert record["attributes"].tolist() == TEST_CODES[record["identity"]]


def test_longest_prefix_decides_the_group():
    assert group_columns(["headhat", "haircolorred", "hairstylelong", "heightshort"]) == {
        "head": ["headhat"],
        "haircolor": ["haircolorred"],
        "hairstyle": ["hairstylelong"],
        "height": ["heightshort"],
    }
    with pytest.raises(ValueError, match="attribute column 'shoes'"):
        group_columns(["shoes"])


def test_manual_dir_may_be_the_folder_itself(tmp_path):
    dummies.write_agreid(tmp_path / "manual")
    built = dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
    assert built.info.splits["gallery"].num_examples == 5


@pytest.mark.parametrize("entry", ["query_all_c3", "qut_attribute_v4_88_attributes.mat"])
def test_missing_entry_is_named(tmp_path, entry):
    root = dummies.write_agreid(tmp_path / "manual" / "AG-ReID")
    (root / entry).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"lacks {entry}\nAG-ReID is linked from"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")


def test_other_counts_are_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="train: 6 images, expected 11554") as caught:
        built = build(tmp_path, config="strict")
    text = "".join(str(warning.message) for warning in caught)
    assert "train: 3 identities, expected 199" in text
    assert "bounding_box_test_all_c3: 3 images, expected 3331" in text
    assert json.loads(built.info.metadata["expected"])["query_all_c0"] == [1701, None]


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("query_all_c0", "P0003T04041A0C3F31.jpg", "is of camera C3, its folder of C0"),
        ("bounding_box_train", "P0006T0214A0C0F1831.jpg", "is not of the form"),
        ("query_all_c0", "P0001T02140A3C0F31.jpg", "is not of the form"),
        ("bounding_box_train", "P0009T04041A0C0F1.jpg", "no train row for identity 9040410"),
        ("query_all_c0", "P0001T04041A0C0F1.jpg", "no test row for identity 1040410"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, name, message):
    dummies.write_images(tmp_path / "manual" / "AG-ReID", {folder: [name]})
    with pytest.raises(ValueError, match=message):
        build(tmp_path)


def test_identity_in_both_parts(tmp_path):
    both = {**dummies.AGREID_TEST, "0002040401": ("gendermale",)}
    with pytest.raises(ValueError, match=r"identities \[2040401\] are in train and in test"):
        build(tmp_path, test=dummies.agreid_table(both))


def test_identity_twice_in_a_part(tmp_path):
    twice = {**dummies.AGREID_TEST, "3040410": ("gendermale",)}
    with pytest.raises(ValueError, match=r"test has two rows for the identities \[3040410\]"):
        build(tmp_path, test=dummies.agreid_table(twice))


def test_values_other_than_no_and_yes(tmp_path):
    table = dummies.agreid_table(dummies.AGREID_TEST)
    table["beardon"][0, 1] = 3
    with pytest.raises(ValueError, match=r"test column beardon is 3.* for identity 1021401"):
        build(tmp_path, test=table)


def test_missing_column(tmp_path):
    train, test = (dummies.agreid_table(p) for p in (dummies.AGREID_TRAIN, dummies.AGREID_TEST))
    del test["bagmarket"]
    with pytest.raises(ValueError, match=r"only one of train and test has .*bagmarket"):
        build(tmp_path / "one", train=train, test=test)
    del train["bagmarket"]
    with pytest.raises(ValueError, match=r"87 attribute columns, expected 88.*'bag': \(8, 9\)"):
        build(tmp_path / "both", train=train, test=test)


def test_another_structure(tmp_path):
    with pytest.raises(ValueError, match="struct `qut_attribute` whose `test` has `image_index`"):
        build(tmp_path, test={"gendermale": np.ones((1, 2))})


def test_no_class_or_several_are_not_annotated(tmp_path):
    table = dummies.agreid_table(dummies.AGREID_TEST)
    table["beardoff"][0, 1] = 2  # a second class of 1021401
    table["genderunknown"][0, 0] = 1  # the only class of 3040410
    with pytest.warns(UserWarning, match="test marks no class, or several, in 2 places"):
        built = build(tmp_path, test=table)
    query = dummies.rows(built, "query")
    assert query["query_all_c0/P0001T02140A1C0F31.jpg"]["attributes"][7] == -1
    codes = query["query_all_c0/P0003T04041A0C0F31.jpg"]["attributes"].tolist()
    assert codes == [-1, *TEST_CODES[3040410][1:]]


def test_skyground_in_this_layout_reads_back(tmp_path):
    world = World("tiny", 0)
    write_agreid(world, tmp_path / "manual" / "AG-ReID", workers=1)
    built = dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
    groups = json.loads(built.info.metadata["attribute_groups"])
    assert {name: tuple(classes) for name, classes in groups.items()} == GROUPS
    for split in SPLITS:
        records = {k.split("/")[1]: r for k, r in dummies.rows(built, split).items()}
        assert set(records) == {shot.image_id for shot in world.shots(split)}
        for shot in world.shots(split):
            record = records[shot.image_id]
            assert (record["identity"], record["camera"]) == (shot.identity, shot.camera)
            assert tuple(record["attributes"]) == tuple(shot.person.attributes)
