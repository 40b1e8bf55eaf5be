"""The builder of SkyGround, read back through the same door as every other dataset."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from g2ajax.data.source import open_dataset
from g2ajax.synthetic.attributes import GROUPS
from g2ajax.synthetic.frames import FRAME_SIZES
from g2ajax.synthetic.tracklets import TRACKLET_SIZES
from g2ajax.synthetic.world import CAMERAS, SIZES, World, encode
from tfds_builders.skyground.skyground_dataset_builder import Builder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_dataset("skyground/crops_tiny", data_dir=data_dir)


def test_configurations():
    captioned = ["captions_tiny", "captions_small"]
    framed = [f"frames_{size}" for size in FRAME_SIZES]
    crops = [f"crops_{size}" for size in SIZES]
    walking = [f"tracklets_{size}" for size in TRACKLET_SIZES]
    assert list(Builder.builder_configs) == [*crops, *captioned, *framed, *walking]


def test_every_column_is_the_worlds(dataset):
    world = World("tiny")
    for name, split in dataset.splits.items():
        shots = world.shots(name)
        assert split.image_id.tolist() == [shot.image_id for shot in shots]
        assert split.identity.tolist() == [shot.identity for shot in shots]
        assert split.camera.tolist() == [shot.camera for shot in shots]
        assert split.platform.tolist() == [shot.camera for shot in shots]
        assert split.attributes.tolist() == [list(shot.person.attributes) for shot in shots]
        for i in (0, len(split) - 1):
            assert split.read(i) == encode(world, shots[i])
            assert Image.open(io.BytesIO(split.read(i))).mode == "RGB"


def test_labels_count_the_train_people(dataset):
    train = dataset.splits["train"]
    assert sorted(set(train.label.tolist())) == list(range(8))
    assert [sorted(set(train.identity.tolist())).index(i) for i in train.identity] == list(
        train.label
    )
    assert (dataset.splits["gallery"].label == -1).all()


@pytest.mark.parametrize(("name", "query_camera"), [("A2G", 0), ("G2A", 1), ("ALL", None)])
def test_protocols(dataset, name, query_camera):
    query, gallery, _ = dataset.protocol(name)
    cameras = [
        set(dataset.splits[split].camera[rows].tolist())
        for split, rows in (("query", query), ("gallery", gallery))
    ]
    if query_camera is None:
        assert (len(query), len(gallery)) == (16, 64)
    else:
        assert (len(query), len(gallery)) == (8, 32)
        assert cameras == [{query_camera}, {1 - query_camera}]


def test_metadata_and_records(dataset, data_dir):
    assert dict(dataset.attribute_groups) == GROUPS
    assert dataset.metadata["world_size"] == "tiny"
    assert json.loads(dataset.metadata["world_seed"]) == 0
    builder = Builder(config="crops_tiny", data_dir=data_dir)
    source = builder.as_data_source(split="gallery", decoders={"image": tfds.decode.SkipDecoding()})
    record = source[0]
    shot = World("tiny").shot(record["image_id"].decode())
    assert record["camera_raw"].decode() == CAMERAS[shot.camera]
    assert record["session"].decode() == shot.session
    assert record["identity_raw"].decode() == shot.image_id.split("C")[0]
    assert record["frame"] == shot.frame
    assert record["altitude_level"] == shot.altitude_level
    heights = [15, 25, 35, 45] if shot.camera == 0 else [shot.altitude]
    assert shot.camera == 1 or record["altitude_m"] in heights
    assert np.isfinite([record["altitude_m"], record["distance_m"], record["angle_deg"]]).all()
    assert 5 <= record["angle_deg"] <= 77
