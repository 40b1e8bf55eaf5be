"""`g2ajax verify` on small copies of datasets, sound and broken ones."""

import dataclasses
import json

import pytest

from g2ajax.__main__ import main
from g2ajax.data.source import open_dataset
from g2ajax.data.verify import Count, defect, table, verify
from tests.tfds_builders import dummies


def arguments(tmp_path, dataset):
    places = (f"--data_dir={tmp_path / 'data'}", f"--manual_dir={tmp_path / 'manual'}")
    return ["verify", f"--dataset={dataset}", *places]


def opened(tmp_path, dataset):
    return open_dataset(
        dataset, data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "manual")
    )


def test_sound_copy(tmp_path, capsys):
    dummies.write_market1501(tmp_path / "manual")
    opened(tmp_path, "market1501/partial")
    capsys.readouterr()  # what building prints
    assert main(arguments(tmp_path, "market1501/partial")) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("market1501/partial 1.0.0, fingerprint ")
    assert [line.split() for line in lines[3:6]] == [
        ["train", "3", "-", "2", "-"],
        ["query", "2", "-", "2", "-"],
        ["gallery", "3", "-", "2", "-"],
    ]
    assert "gallery: 3 of 3 images decode; content " in printed.out
    assert printed.out.count("(as built)") == 3
    assert printed.err == ""


def test_corrupt_and_empty_images_are_named(tmp_path, capsys):
    root = dummies.write_market1501(tmp_path / "manual")
    (root / "query" / "0001_c1s1_001051_00.jpg").write_bytes(b"")
    cut = dummies.encoded(size=(64, 128))
    (root / "bounding_box_train" / "0002_c1s1_000451_03.jpg").write_bytes(cut[: len(cut) // 2])
    opened(tmp_path, "market1501/partial")
    capsys.readouterr()
    assert main(arguments(tmp_path, "market1501/partial")) == 1
    printed = capsys.readouterr()
    assert "query: 1 of 2 images decode" in printed.out
    errors = printed.err.splitlines()
    assert "error: query: query/0001_c1s1_001051_00.jpg: empty file" in errors
    assert any(
        line.startswith("error: train: bounding_box_train/0002_c1s1_000451_03.jpg: does not decode")
        for line in errors
    )
    assert len(errors) == 2


def test_other_counts_are_warnings_for_agreid(tmp_path, capsys):
    dummies.write_agreid(tmp_path / "manual" / "AG-ReID")
    with pytest.warns(UserWarning, match="differ from the published counts"):
        opened(tmp_path, "agreid")
    capsys.readouterr()
    assert main(arguments(tmp_path, "agreid")) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()[3:10]}
    assert rows["train"] == ["6", "11,554", "3", "199", "differs"]
    assert rows["gallery"] == ["5", "10,535", "2", "189", "differs"]
    assert rows["bounding_box_test_all_c3"] == ["3", "3,331", "2", "-", "differs"]
    assert "warning: query_all_c0: 2 images, expected 1701" in printed


def test_counts_are_errors_where_the_dataset_says_so(tmp_path):
    dummies.write_market1501(tmp_path / "manual")
    dataset = opened(tmp_path, "market1501/partial")
    expected = json.dumps({"train": [3, 2], "query": [2, 2], "gallery": [4, 3]})
    dataset = dataclasses.replace(dataset, metadata={**dataset.metadata, "expected": expected})
    result = verify(dataset)
    assert result.warnings == []
    assert result.errors == [
        "gallery: 3 images, expected 4",
        "gallery: 2 identities, expected 3",
    ]


def test_wrong_download_is_an_error(tmp_path, capsys):
    dummies.write_market1501(tmp_path / "manual")
    assert main(arguments(tmp_path, "market1501")) == 1
    assert "train: 3 images, expected 12936" in capsys.readouterr().err


def test_missing_download_says_where_to_get_it(tmp_path, capsys):
    assert main(arguments(tmp_path, "agreid")) == 1
    error = capsys.readouterr().err
    assert "https://github.com/huynguyen792/AG-ReID" in error
    assert str(tmp_path / "manual") in error


def test_unknown_dataset(tmp_path, capsys):
    assert main(arguments(tmp_path, "agried")) == 1
    assert "no dataset 'agried'" in capsys.readouterr().err


def test_changed_images_are_found(tmp_path):
    dummies.write_market1501(tmp_path / "manual")
    dataset = opened(tmp_path, "market1501/partial")
    assert verify(dataset).errors == []
    metadata = {**dataset.metadata, "content_query": "0" * 64}
    errors = verify(dataclasses.replace(dataset, metadata=metadata)).errors
    assert len(errors) == 1
    assert errors[0].startswith("query: the images are not those that were built (content hash ")


def test_content_hash_is_that_of_the_images(tmp_path):
    """Two builds of equal files agree; another image of the same name does not."""
    digests = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        root = dummies.write_market1501(tmp_path / name / "manual")
        image = root / "query" / "0003_c6s4_000002_00.jpg"
        image.write_bytes(dummies.encoded(seed=100 + seed))
        result = verify(opened(tmp_path / name, "market1501/partial"))
        digests.append({content.split: content.digest for content in result.contents})
    assert digests[0] == digests[1]
    assert digests[2]["query"] != digests[0]["query"]
    assert digests[2]["train"] == digests[0]["train"]


def test_defects():
    assert defect(dummies.encoded()) == ""
    assert defect(dummies.encoded("PNG", "L")) == ""
    assert defect(b"") == "empty file"
    assert "does not decode" in defect(b"no image")
    assert "does not decode" in defect(dummies.encoded(size=(64, 128))[:600])


def test_table_is_aligned():
    counts = [Count("train", 1234, 11554, 9, 9), Count("query", 5, None, 5, None)]
    assert table(counts) == (
        "       images  expected  identities  expected\n"
        "train   1,234    11,554           9         9  differs\n"
        "query       5         -           5         -"
    )
