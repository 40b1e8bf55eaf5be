"""The PRAI-1581 builder on a hand-written copy; what its reader of pickles refuses."""

import pathlib

import pytest

from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.prai1581.partitions import read_partitions
from tfds_builders.prai1581.prai1581_dataset_builder import Builder

TABLE = dummies_crops.prai1581_table()
TEST = dummies_crops.PRAI_IMAGES["test"]


def build(tmp_path, config="partial", table=None, absent=()):
    root = dummies_crops.write_prai1581(tmp_path / "manual" / "PRAI-1581", table)
    for name in absent:
        (root / "images" / name).unlink()
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("prai1581"))


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 3, "query": 1, "gallery": 2})
    dummies.check_description("prai1581")


def test_what_names_say(built):
    train = dummies.rows(built, "train")
    assert {
        key: (r["identity"], r["label"], r["camera"], r["platform"], r["frame"])
        for key, r in train.items()
    } == {
        "images/00000004_0001_00000000.jpg": (4, 0, 0, 0, 0),
        "images/00000004_0002_00000001.jpg": (4, 0, 1, 0, 1),
        "images/00000009_0002_00000002.jpg": (9, 1, 1, 0, 2),
    }
    assert list(dummies.rows(built, "query")) == ["images/00000011_0001_00000000.jpg"]
    gallery = dummies.rows(built, "gallery")
    assert [(r["identity"], r["protocols"].tolist()) for r in gallery.values()] == [
        (11, [0]),
        (12, [0]),
    ]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_all_times(tmp_path, protocol):
    root = dummies_crops.write_prai1581(tmp_path, protocol=protocol)
    assert read_partitions(root / "partitions.pkl")["gallery"] == TEST[1:]


def test_pickles_of_old_numpy(tmp_path):
    root = dummies_crops.write_prai1581(tmp_path)
    path = root / "partitions.pkl"
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))
    assert read_partitions(path)["query"] == TEST[:1]


class Program:
    """A pickle of it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_pickle_that_calls_something_is_refused(tmp_path):
    path = tmp_path / "made"
    message = r"partitions.pkl is not a table of names \(it wants to call "
    with pytest.raises(ValueError, match=message):
        build(tmp_path, table={**TABLE, "more": Program(path)})
    assert not path.exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1, 2], "partitions.pkl lacks trainval_im_names, test_im_names, test_marks"),
        ({"test_marks": [], "trainval_im_names": []}, "partitions.pkl lacks test_im_names"),
        ({**TABLE, "test_marks": [0, 1]}, "has 3 test_im_names, but 2 test_marks"),
        ({**TABLE, "test_marks": [0, 1, 2]}, r"test_marks hold 2; expected 0 \(query\) and 1"),
        ({**TABLE, "test_im_names": [*TEST[:2], "1.jpg"]}, "1 gallery images that are not in ima"),
    ],
)
def test_wrong_tables(tmp_path, table, message):
    with pytest.raises(ValueError, match=f"prai1581: .*{message}"):
        build(tmp_path, "strict", table)


def test_foreign_name(tmp_path):
    dummies.write_images(tmp_path / "manual" / "PRAI-1581", {"images": ["1.jpg"]})
    with pytest.raises(ValueError, match=r"images/1\.jpg is not of the form 00000001_0002"):
        build(tmp_path, table={**TABLE, "test_im_names": [*TEST[:2], "1.jpg"]})


@pytest.mark.parametrize("data", [b"", b"no pickle", b"\x80\x02}q"])
def test_broken_pickles(tmp_path, data):
    (tmp_path / "partitions.pkl").write_bytes(data)
    with pytest.raises(ValueError, match=r"partitions\.pkl is not a table of names"):
        read_partitions(tmp_path / "partitions.pkl")


def test_other_counts_are_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="images: 6 images, expected 39461"):
        build(tmp_path, "strict")


def test_absent_images_are_passed_over_in_a_partial_copy(tmp_path):
    with pytest.warns(UserWarning, match=r"names 1 gallery images .* they are passed over"):
        assert len(dummies.rows(build(tmp_path, absent=TEST[2:]), "gallery")) == 1


def test_missing_file(tmp_path):
    root = dummies_crops.write_prai1581(tmp_path / "manual" / "PRAI-1581")
    (root / "partitions.pkl").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks partitions\.pkl\nPRAI-1581 is linked"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
