"""The TBAGPR builder on SkyGround in its layout."""

import json

import pytest

from g2ajax.data.source import open_dataset
from g2ajax.synthetic import layouts
from g2ajax.synthetic.captions import attribute_codes
from g2ajax.synthetic.world import World
from tests.tfds_builders import dummies, dummies_crops
from tfds_builders.tbagpr.tbagpr_dataset_builder import Builder, test_records
from tfds_builders.tbagpr_files import Evaluation

test_records.__test__ = False
WORLD = World("tiny")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("tbagpr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "photographs", dummies_crops.undrawn)
        layouts.write_tbagpr(WORLD, root / "manual" / "TBAGPR")
    return root


@pytest.fixture(scope="module")
def built(written):
    return dummies.build(Builder, written / "data", written / "manual")


def test_every_image_is_one_record(built):
    counts = {"train": 80, "val": 64, "test": 16}
    dummies.check_built(built, counts)
    train = dummies.rows(built, "train")
    aerial = [r for r in train.values() if r["platform"] == 0]
    assert [len(r["captions"]) for r in aerial] == [2] * 40
    assert not any(len(r["captions"]) for r in train.values() if r["platform"] == 1)
    shots = {shot.image_id: shot for shot in WORLD.shots("train")}
    for image_id, record in train.items():
        shot = shots[image_id.rpartition("/")[2]]
        assert tuple(record["attributes"]) == attribute_codes(shot)
        assert all(train[pair.decode()]["platform"] == 1 for pair in record["pair_image_ids"])
        assert all(
            train[pair.decode()]["identity"] == record["identity"]
            for pair in record["pair_image_ids"]
        )
    # AG-ReID's people first, then those of G2APS; labels are the same numbers here.
    assert {r["identity"] for i, r in train.items() if i.startswith("AG-ReID")} == {0, 1, 2, 3}
    assert all(r["label"] == r["identity"] for r in train.values())


def test_protocols_by_view(written, built):
    dataset = open_dataset("tbagpr/partial", data_dir=str(written / "data"), build=False)
    test = dataset.splits["test"]
    assert [row["name"] for row in dataset.protocols] == [
        "T2A",
        "T2G",
        "T2AG",
        "A2T",
        "G2T",
        "AG2T",
    ]
    for name, platforms in (("T2A", {0}), ("T2G", {1}), ("T2AG", {0, 1})):
        query, gallery, _ = dataset.protocol(name)
        assert len(query) == len(test.captions) == 8
        assert set(test.platform[gallery].tolist()) == platforms
        back, texts, _ = dataset.protocol(f"{name[2:]}2T")
        assert (back.tolist(), texts.tolist()) == (gallery.tolist(), query.tolist())
    assert dataset.attribute_groups[0] == ("gender", ("male", "female"))


def test_captions_that_are_not_beside_the_images(tmp_path):
    part = Evaluation((0, 1), ("a", "b"), ("c", "d"), (1, 0, 1), ("x", "y", "z"))
    records = {r["image_id"]: r for r in test_records(tmp_path, part, "test")}
    assert records["a"]["captions"] == ["y"]
    assert records["b"]["captions"] == ["x", "z"]
    assert records["b"]["pair_image_ids"] == ["d", "d"]
    both = Evaluation((0, 1), ("a", "b"), ("b", "d"), (1,), ("x",))
    with pytest.raises(ValueError, match=r"b has identity 0 and also 1"):
        test_records(tmp_path, both, "test")


def test_missing_image_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "photographs", dummies_crops.undrawn)
    root = tmp_path / "manual" / "TBAGPR"
    layouts.write_tbagpr(WORLD, root)
    lists = json.loads((root / "G2APS-AG/g2aps_test.json").read_text())
    (root / "G2APS-AG" / "/".join(lists["pair_img_paths"][0])).unlink()
    with pytest.raises(FileNotFoundError, match=r"names 1 images .* G2APS-AG/img/P"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
    (root / "attrs.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks attrs.json\nTBAGPR is linked from"):
        dummies.build(Builder, tmp_path / "data", tmp_path / "manual")
