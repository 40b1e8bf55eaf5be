"""The MP-ReID builder on a hand-written copy."""

import json

import pytest

from g2ajax.data.source import open_dataset
from tests.tfds_builders import dummies
from tfds_builders.mp_reid.mp_reid_dataset_builder import GROUPS, Builder

# Identity 3 trains, 5 is validation (and trains), 8 and 9 are tested; the drone never saw 9.
IMAGES = {
    "01/0003": ["0001.jpg"],
    "03/0008": ["0001.jpg", "0002.jpg"],
    "07/0003": ["0002.jpg"],
    "07/0008": ["0004.jpg"],
    "13/0003": ["0001.jpg"],
    "13/0005": ["0001.jpg"],
    "13/0008": ["0001.jpg"],
    "14/0008": ["0003.jpg"],
    "03/0009": ["0001.jpg"],
}
LISTS = {"available": "3,5,8,9", "train": "3", "val": "5\n", "test": "8, 9"}


def write(manual, folders=("exp_uav_rgb_cctv_rgb", "exp_cctv_rgb_uav_rgb"), lists=LISTS):
    root = manual / "MP-ReID"
    dummies.write_images(root, IMAGES)
    for folder in folders:
        (root / "split" / folder).mkdir(parents=True)
        for name, text in lists.items():
            (root / "split" / folder / f"{name}_id.txt").write_text(text)
    return root


def build(tmp_path, config="uav_rgb_to_ground_rgb_partial", **kwargs):
    write(tmp_path / "manual", **kwargs)
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


def test_records_follow_the_schema(tmp_path):
    built = build(tmp_path)
    dummies.check_built(built, {"train": 3, "query": 1, "gallery": 3})
    dummies.check_description("mp_reid")
    (row,) = json.loads(built.info.metadata["protocols"])
    sides = (row["name"], row["query_platform"], row["gallery_platform"])
    assert sides == ("CROSS", "aerial", "ground")


def test_cameras_do_not_collide(tmp_path):
    """The drone's camera 13 is not the ground's 3: their right answers stay."""
    build(tmp_path)
    dataset = open_dataset(
        "mp_reid/uav_rgb_to_ground_rgb_partial", data_dir=str(tmp_path / "data"), build=False
    )
    query, gallery = dataset.splits["query"], dataset.splits["gallery"]
    assert query.camera.tolist() == [12] and set(gallery.camera) == {2}
    assert gallery.identity.tolist() == [8, 8, 9]
    train = dataset.splits["train"]
    assert sorted(zip(train.identity.tolist(), train.camera.tolist(), strict=True)) == [
        (3, 0), (3, 12), (5, 12),
    ]  # fmt: skip


def test_directions_and_modalities(tmp_path):
    names = list(Builder.builder_configs)
    assert len(names) == 2 * len(GROUPS) * (len(GROUPS) - 1)
    built = build(tmp_path, "ground_ir_to_uav_thermal_partial", folders=["exp_ground_ir_uav_ir"])
    query, gallery = dummies.rows(built, "query"), dummies.rows(built, "gallery")
    assert [(k, r["modality"]) for k, r in query.items()] == [("07/0008/0004.jpg", 1)]
    assert [(k, r["modality"], r["platform"]) for k, r in gallery.items()] == [
        ("14/0008/0003.jpg", 2, 0)
    ]


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder of .*split is the experiment of ground_ir"
    ):
        build(tmp_path / "a", "ground_ir_to_uav_rgb_partial")
    with pytest.raises(
        FileNotFoundError, match=r"cameras \[2, 4, 5, 6\] of ground_rgb have no folder"
    ):
        build(tmp_path / "b", "uav_rgb_to_ground_rgb")
    with pytest.raises(ValueError, match=r"test_id.txt holds 'x', no identity"):
        build(tmp_path / "c", lists={**LISTS, "test": "8,x"})
    with pytest.raises(ValueError, match=r"1 identities in training and test, such as 3"):
        build(tmp_path / "d", lists={**LISTS, "test": "8,3"})
