"""Unreadable test images are found before a run's first step."""

import dataclasses
import json

import pytest

from g2ajax.data import readable
from g2ajax.data.verify import defect
from g2ajax.tasks import crop_checks
from g2ajax.tasks.crop_options import DataOptions
from tests.fake_captions import make_captions_dataset
from tests.fake_data import make_dataset

PROTOCOLS = ("A2G", "G2A")


def damaged(dataset, name, row, data=b"no image"):
    split = dataset.splits[name]
    images = (*split.images[:row], data, *split.images[row + 1 :])
    splits = {**dataset.splits, name: dataclasses.replace(split, images=images)}
    return dataclasses.replace(dataset, splits=splits)


def test_good_images_change_nothing():
    dataset = make_dataset()
    assert crop_checks.with_readable_tests(dataset, PROTOCOLS, DataOptions()) is dataset


def test_a_run_refuses_to_start_with_an_unreadable_test_image():
    dataset = damaged(make_dataset(), "gallery", 3)
    name = dataset.splits["gallery"].image_id[3]
    message = (
        f"fake gallery: 1 test images cannot be read, the first: {name} does not decode .*skip_"
    )
    with pytest.raises(ValueError, match=message):
        crop_checks.with_readable_tests(dataset, PROTOCOLS, DataOptions())


def test_unreadable_test_images_are_left_out_if_asked(capsys):
    dataset = damaged(damaged(make_dataset(), "gallery", 3), "gallery", 5, b"")
    options = DataOptions(skip_unreadable=True)
    rest = crop_checks.with_readable_tests(dataset, PROTOCOLS, options)
    before, after = dataset.splits["gallery"], rest.splits["gallery"]
    assert set(before.image_id) - set(after.image_id) == {before.image_id[3], before.image_id[5]}
    assert rest.splits["query"] is dataset.splits["query"]
    assert rest.fingerprint != dataset.fingerprint
    assert "2 test images cannot be read" in capsys.readouterr().err


def test_an_image_with_sentences_is_never_left_out():
    dataset = damaged(make_captions_dataset(), "test", 0)
    protocols = [row["name"] for row in dataset.protocols]
    with pytest.raises(ValueError, match=r"cannot be read.*; fetch them again .*lists all[)]$"):
        crop_checks.with_readable_tests(dataset, protocols, DataOptions(skip_unreadable=True))


def test_a_built_split_is_decoded_once(tmp_path, monkeypatch):
    dataset = damaged(make_dataset(), "query", 1)
    (tmp_path / "dataset_info.json").write_text(json.dumps({}))
    split = dataclasses.replace(dataset.splits["query"], folder=str(tmp_path))
    calls = []
    monkeypatch.setattr(readable, "defect", lambda data: calls.append(data) or defect(data))
    first = readable.unreadable(split)
    assert list(first) == [split.image_id[1]] and len(calls) == len(split)
    assert readable.unreadable(split) == first and len(calls) == len(split)
