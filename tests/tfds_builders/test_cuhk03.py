"""The CUHK03 builder on a hand-written, converted copy; the conversion where h5py is installed."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.cuhk03 import convert
from tfds_builders.cuhk03 import cuhk03_dataset_builder as cuhk03
from tfds_builders.cuhk03.cuhk03_dataset_builder import BoxesConfig, Builder

FILE = "cuhk03_new_protocol_config_detected.mat"


def classic(split, strict=False):
    return BoxesConfig(name=f"test{split}", strict=strict, boxes="detected", split=split)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("cuhk03")
    dummies_crops.write_cuhk03(root / "manual" / "cuhk03_release")
    return dummies.build(Builder, root / "data", root / "manual", "detected_partial")


def build(tmp_path, config="detected_partial", boxes="detected", table=None):
    dummies_crops.write_cuhk03(tmp_path / "manual" / "cuhk03_release", boxes, table)
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 3, "query": 2, "gallery": 3})
    dummies.check_description("cuhk03")
    assert next(iter(Builder.builder_configs)) == "detected_np"
    assert len(Builder.BUILDER_CONFIGS) == 44


def test_new_protocol(built):
    train, query = dummies.rows(built, "train"), dummies.rows(built, "query")
    assert {
        key: (r["identity"], r["label"], r["camera"], r["platform"], r["frame"])
        for key, r in train.items()
    } == {
        "images_detected/1_001_1_01.png": (1001, 0, 0, 1, 1),
        "images_detected/1_001_2_06.png": (1001, 0, 1, 1, 6),
        "images_detected/5_003_1_02.png": (5003, 1, 8, 1, 2),
    }
    assert [(r["identity"], r["identity_raw"], r["camera"]) for r in query.values()] == [
        (2041, b"2_041", 2),
        (2041, b"2_041", 3),
    ]
    names = {"images_detected/" + name for name in dummies_crops.CUHK03_GALLERY}
    assert set(dummies.rows(built, "gallery")) == names
    (row,) = json.loads(built.info.metadata["protocols"])
    assert (row["name"], row["cmc"]) == ("STD", "standard")


@pytest.mark.parametrize(
    ("split", "train", "test"), [(0, {1001, 5003}, {2041}), (1, {2041}, {1001, 5003})]
)
def test_first_protocol(tmp_path, split, train, test):
    built = build(tmp_path, classic(split))
    rows = {name: dummies.rows(built, name) for name in ("train", "query", "gallery")}
    assert {r["identity"] for r in rows["train"].values()} == train
    assert {r["identity"] for r in rows["query"].values()} == test
    assert list(rows["query"]) == list(rows["gallery"])
    assert len(rows["train"]) + len(rows["query"]) == 8
    (row,) = json.loads(built.info.metadata["protocols"])
    assert (row["name"], row["cmc"]) == ("CLASSIC", "single-gallery-shot")


def test_labeled_boxes(tmp_path):
    built = build(tmp_path, "labeled_partial", "labeled")
    assert next(iter(dummies.rows(built, "train"))) == "images_labeled/1_001_1_01.png"


def test_other_counts_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="train: 3 images, expected 7365") as caught:
        build(tmp_path, "detected_np")
    assert "gallery: 1 identities, expected 700" in str(caught.value)
    with pytest.raises(ValueError, match="train: 2 identities, expected 1367"):
        build(tmp_path, classic(0, strict=True))


def test_file_of_the_other_boxes_is_named(tmp_path, monkeypatch):
    small = {"train": (3, 2), "query": (2, 1), "gallery": (3, 1)}
    monkeypatch.setitem(cuhk03.NEW_EXPECTED, "labeled", small)
    message = "detected.mat is the protocol of the labeled boxes .* or use cuhk03/labeled_np"
    with pytest.raises(ValueError, match=message):
        build(tmp_path, "detected_np")


def test_missing_file_of_the_boxes(tmp_path):
    root = dummies_crops.write_cuhk03(tmp_path / "manual" / "cuhk03_release")
    (root / FILE).rename(root / FILE.replace("detected", "labeled"))
    message = r"holds \S+_detected.mat \(\S+_labeled.mat is there, but is of the other boxes\)"
    with pytest.raises(FileNotFoundError, match=message):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "detected_np")


def test_file_in_the_folder_above(tmp_path):
    root = dummies_crops.write_cuhk03(tmp_path / "manual" / "cuhk03_release")
    (root / FILE).rename(root.parent / FILE)
    built = dummies.build(Builder, tmp_path / "data", root.parent, "detected_partial")
    assert len(dummies.rows(built, "query")) == 2


TABLE = dummies_crops.cuhk03_table()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"testsets": np.ones((2, 2))}, "it holds testsets, but not filelist, labels, camId"),
        ({**TABLE, "camId": TABLE["camId"][1:]}, "8 names, 8 labels, 7 views"),
        ({**TABLE, "camId": 3 - TABLE["camId"]}, "label 7 and view 2 contradict the name 2_041_1"),
        ({**TABLE, "labels": np.ones((8, 1))}, "label 1 and view 1 contradict the name 1_001_1"),
        (dummies_crops.cuhk03_table(1), "query_idx leads outside its 8 names"),
        (dummies_crops.cuhk03_table(-2), "person 1_001 is of train and test"),
        ({**TABLE, "filelist": np.array([["1.png"]] * 8, object)}, "its image 1.png is not of the"),
    ],
)
def test_wrong_protocol_files(tmp_path, table, message):
    with pytest.raises(ValueError, match=f"detected.mat is not a file of the new pro.*: {message}"):
        build(tmp_path, table=table)


def test_unreadable_protocol_file(tmp_path):
    root = dummies_crops.write_cuhk03(tmp_path / "manual" / "cuhk03_release")
    (root / FILE).write_bytes(b"no table" * 40)
    with pytest.raises(ValueError, match=r"detected\.mat is not a file of the new protocol: "):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "detected_np")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with nothing, expected split,pair,person"),
        ("1,2\n", "begins with 1,2, expected split,pair,person"),
        ("split,pair,person\n0,1\n", "line 2: 0,1 is not 3 numbers"),
        ("split,pair,person\n3,1,1\n", "has no test set of split 0"),
    ],
)
def test_wrong_testsets(tmp_path, text, message):
    root = dummies_crops.write_cuhk03(tmp_path / "manual" / "cuhk03_release")
    (root / "testsets.csv").write_text(text)
    with pytest.raises(ValueError, match=f"testsets.csv,? {message}"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", classic(0))


def test_images_that_are_not_there(tmp_path):
    root = dummies_crops.write_cuhk03(tmp_path / "manual" / "cuhk03_release")
    (root / "images_detected" / "1_001_1_01.png").unlink()
    message = r"names 1 images that images_detected lacks \(the first: 1_001_1_01.png\)"
    with pytest.raises(ValueError, match=message):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "detected_np")
    built = dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "detected_partial")
    assert len(dummies.rows(built, "train")) == 2


def test_unconverted_copy(tmp_path):
    dummies.write_images(tmp_path / "manual", {"cuhk03_release": ["cuhk-03.mat"]})
    with pytest.raises(FileNotFoundError, match=r"lacks images_detected, testsets\.csv") as caught:
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual", "detected_classic3")
    assert "python -m tfds_builders.cuhk03.convert" in str(caught.value)


def test_foreign_image(tmp_path):
    dummies.write_images(
        tmp_path / "manual/cuhk03_release", {"images_detected": ["6_001_1_01.png"]}
    )
    with pytest.raises(
        ValueError, match=r"images_detected/6_001_1_01\.png is not of the form 1_001"
    ):
        build(tmp_path)


def write_mat(path, h5py):
    """A small cuhk-03.mat: one pair, two persons; the second person's image 2 is empty."""
    kinds = h5py.special_dtype(ref=h5py.Reference)
    images = {}
    with h5py.File(path, "w") as file:
        for boxes in ("detected", "labeled"):
            people = file.create_dataset(f"#refs#/{boxes}", (10, 2), kinds)
            for person in range(2):
                for index in range(10):
                    seed = 100 * person + index
                    pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 9), np.uint8)
                    if (person, index) == (1, 1):
                        pixels = np.zeros(2, np.uint64)
                    item = file.create_dataset(f"#refs#/{boxes}_{person}_{index}", data=pixels)
                    people[index, person] = item.ref
                    images[person, index] = pixels
            cells = file.create_dataset(boxes, (1, 1), kinds)
            cells[0, 0] = people.ref
        sets = file.create_dataset("testsets", (1, 2), kinds)
        for split in range(2):
            rows = np.array([[1.0, 1.0], [split + 1.0, 9.0]])
            sets[0, split] = file.create_dataset(f"#refs#/set{split}", data=rows).ref
    return images


def test_conversion(tmp_path):
    h5py = pytest.importorskip("h5py")
    images = write_mat(tmp_path / "cuhk-03.mat", h5py)
    written = convert.convert(tmp_path / "cuhk-03.mat")
    assert written == {"detected": 19, "labeled": 19, "test sets": 2}
    assert (tmp_path / "testsets.csv").read_text() == (
        "split,pair,person\n0,1,1\n0,1,9\n1,1,2\n1,1,9\n"
    )
    names = {path.name for path in (tmp_path / "images_detected").iterdir()}
    assert {"1_001_1_01.png", "1_001_2_06.png", "1_002_2_10.png"} <= names
    assert "1_002_1_02.png" not in names
    stored = np.asarray(Image.open(tmp_path / "images_labeled" / "1_002_2_10.png"))
    np.testing.assert_array_equal(stored, images[1, 9].transpose(2, 1, 0))
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["cameras"] = np.zeros(3)
    with pytest.raises(ValueError, match="holds cameras, but not detected, labeled, testsets"):
        convert.convert(tmp_path / "other.mat")


def test_conversion_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install h5py"):
        convert.convert(tmp_path / "cuhk-03.mat")
