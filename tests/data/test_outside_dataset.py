"""A dataset of one's own: one folder anywhere, a builder in it, and nothing else edited."""

import numpy as np
import pytest

from g2ajax.data.source import open_dataset
from g2ajax.training import loop
from tests.fake_data import encode
from tests.runs import tiny_config

NAME = "tests.outside_dataset"


@pytest.fixture
def downloads(tmp_path):
    """The files of the dataset, as somebody would have downloaded them."""
    rng = np.random.default_rng(0)
    for split, people, images in (
        ("train", range(4), 2),
        ("query", range(4, 8), 1),
        ("gallery", range(4, 8), 2),
    ):
        folder = tmp_path / "outside" / split
        folder.mkdir(parents=True)
        for person in people:
            for view in "ag":
                for number in range(images):
                    pixels = rng.integers(0, 256, (48, 20, 3), np.uint8)
                    (folder / f"{person:04d}_{view}_{number}.png").write_bytes(encode(pixels))
    return tmp_path


def test_it_is_built_opened_and_trained_on(one_device, downloads, tmp_path):
    where = {"data_dir": str(tmp_path / "built"), "manual_dir": str(downloads)}
    dataset = open_dataset(NAME, **where)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 16,
        "query": 8,
        "gallery": 16,
    }
    query, gallery, _ = dataset.protocol("A2G")
    assert len(query) == 4 and len(gallery) == 8
    config = tiny_config(
        dataset=NAME,
        data__dir=where["data_dir"],
        data__manual_dir=where["manual_dir"],
        phase__reid__epochs=1,
    )
    results = loop.run(config, tmp_path / "run")
    assert [(r.protocol, r.valid_queries) for r in results[:2]] == [("A2G", 4), ("G2A", 4)]


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"Python finds no tests.no_set.no_set_dataset_builder"):
        open_dataset("tests.no_set")
