"""The parts that builders share."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from tests.tfds_builders import dummies
from tfds_builders import base
from tfds_builders.market1501.market1501_dataset_builder import Builder


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB")])
def test_images_are_stored_as_found(kind, mode, tmp_path):
    data = dummies.encoded(kind, mode)
    (tmp_path / "image").write_bytes(data)
    assert base.encoded_rgb(data) == data
    assert base.encoded_rgb(tmp_path / "image") == data


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "CMYK"), ("BMP", "RGB")]
)
def test_images_that_would_not_decode_as_rgb_become_png(kind, mode):
    data = dummies.encoded(kind, mode)
    stored = Image.open(io.BytesIO(base.encoded_rgb(data)))
    assert (stored.format, stored.mode) == ("PNG", "RGB")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(stored), expected)


@pytest.mark.parametrize("data", [b"", b"no image", dummies.encoded()[:20]])
def test_corrupt_images_are_stored_as_they_are(data):
    assert base.encoded_rgb(data) == data


def test_unknown_values_of_a_crop():
    record = base.crop(dummies.encoded(), "a/1.jpg", 7, camera=2)
    assert set(record) == set(base.crop_features())
    assert (record["identity"], record["identity_raw"], record["camera"]) == (7, "7", 2)
    assert (record["label"], record["platform"], record["frame"], record["kind"]) == (
        *(-1, -1, -1),
        "person",
    )
    assert math.isnan(record["altitude_m"])
    assert record["attributes"].dtype == np.int8
    assert record["attributes"].shape == (0,)


def test_labels_are_places_among_sorted_identities():
    assert base.labels_of([30, 4, 4, 12]) == {4: 0, 12: 1, 30: 2}


def test_listing_is_sorted_and_passes_over_other_files(tmp_path):
    for name in ("b.JPG", "a.png", "Thumbs.db", "._a.jpg", "c.bmp", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in base.image_files(tmp_path)] == ["a.png", "b.JPG", "c.bmp"]


def test_count_differences():
    expected = {"train": (10, 2), "query": (3, None)}
    assert base.count_differences(expected, {"train": (10, 2), "query": (3, 99)}) == []
    assert base.count_differences(expected, {"train": (9, 1)}) == [
        "train: 9 images, expected 10",
        "train: 1 identities, expected 2",
        "query: 0 images, expected 3",
    ]
    assert base.count_differences({"train": (None, 3)}, {"train": (9, 1)}) == [
        "train: 1 identities, expected 3"
    ]


def test_images_and_identities_count_persons_only():
    rows = [
        {"identity": 1},
        {"identity": 1, "kind": "person"},
        {"identity": 0, "kind": "distractor"},
    ]
    assert base.images_and_identities(rows) == (3, 1)


def test_content_hash_does_not_depend_on_order():
    one, two = base.content_hash({"a": "1", "b": "2"}), base.content_hash({"b": "2", "a": "1"})
    assert one == two
    assert len({one, base.content_hash({"a": "2", "b": "1"})}) == 2


def test_keys_that_come_twice(tmp_path):
    builder = Builder(data_dir=str(tmp_path), config="partial")
    with pytest.raises(ValueError, match="market1501: a occurs twice in a split"):
        list(builder.unique([("a", 1), ("b", 2), ("a", 3)]))


def test_default_configuration_is_strict(tmp_path):
    assert Builder(data_dir=str(tmp_path)).builder_config.name == "strict"
    assert Builder(data_dir=str(tmp_path)).strict
    assert not Builder(data_dir=str(tmp_path), config="partial").strict


def test_metadata_of_a_built_copy_are_those_of_its_files(tmp_path):
    dummies.write_market1501(tmp_path / "manual")
    built = dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
    recorded = dict(built.info.metadata)
    assert set(recorded) >= {"protocols", "content_train", "content_query", "content_gallery"}
    assert recorded["expected"] == "{}"
