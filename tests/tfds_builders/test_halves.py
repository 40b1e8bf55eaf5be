"""iLIDS-VID and PRID 2011, divided into halves by a released file, as SkyGround writes them."""

import io
import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.synthetic.tracklets import TrackletWorld
from tests.tfds_builders import dummies, dummies_tracklets
from tfds_builders.ilids_vid.ilids_vid_dataset_builder import SPLITS as ILIDS_SPLITS
from tfds_builders.ilids_vid.ilids_vid_dataset_builder import Builder as IlidsVid
from tfds_builders.prid2011.prid2011_dataset_builder import SPLITS as PRID_SPLITS
from tfds_builders.prid2011.prid2011_dataset_builder import Builder as Prid2011

BUILDERS = {"ilids_vid": IlidsVid, "prid2011": Prid2011}
FOLDERS = {"ilids_vid": "ilids-vid", "prid2011": "prid2011"}
CAMERAS = {
    "ilids_vid": "i-LIDS-VID/sequences/cam{}/person{:03d}",
    "prid2011": "prid_2011/multi_shot/cam_{}/person_{:04d}",
}
PLACES = {"ilids_vid": "12", "prid2011": "ab"}


def write(name, folder):
    root = folder / "manual" / FOLDERS[name]
    assert dummies_tracklets.write(name, root) == 16
    return root


def build(name, folder, config="partial"):
    return dummies.build(BUILDERS[name], folder / "data", folder / "manual", config)


def test_people(name, root, number):
    """Numbers of the people of the test half of a division, read another way."""
    if name == "prid2011":
        names = json.loads((root / PRID_SPLITS).read_text())[number]["test"]
        return {int(one.split("_")[1]) for one in names}
    return {int(place) for place in scipy.io.loadmat(root / ILIDS_SPLITS)["ls_set"][number][:4]}


test_people.__test__ = False


@pytest.mark.parametrize("name", list(BUILDERS))
def test_tracklets_are_the_worlds(name, tmp_path):
    root = write(name, tmp_path)
    for folder in (
        CAMERAS[name].format(PLACES[name][0], 1),
        CAMERAS[name].format(PLACES[name][1], 8),
    ):
        (root / folder / "._0001.png").write_bytes(b"no image")
    built = build(name, tmp_path)
    dummies.check_tracklets(built, {"train": 8, "query": 4, "gallery": 4})
    dummies.check_description(name)
    dataset = open_dataset(f"{name}/partial", data_dir=str(tmp_path / "data"))
    test = test_people(name, root, 0)
    assert set(dataset.splits["train"].identity.tolist()) == set(range(1, 9)) - test
    for one in (t for s in ("train", "query") for t in TrackletWorld("tiny").tracklets(s)):
        if one.number:
            continue
        tested = one.identity + 1 in test
        found = dataset.splits[("query", "gallery")[one.camera] if tested else "train"]
        place = CAMERAS[name].format(PLACES[name][one.camera], one.identity + 1)
        row = dummies_tracklets.rows(found)[place]
        assert (found.identity[row], found.camera[row]) == (one.identity + 1, one.camera)
        for stored, drawn in zip(found.encoded(row), dummies_tracklets.frames_of(one), strict=True):
            np.testing.assert_array_equal(*(Image.open(io.BytesIO(b)) for b in (stored, drawn)))
    query, gallery, _ = dataset.protocol("STD")
    assert scoring_fault(dataset, "STD") == ""
    assert (len(query), len(gallery)) == (4, 4)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_every_division_is_that_of_its_number(name, tmp_path):
    root = write(name, tmp_path)
    configs = [config.name for config in BUILDERS[name].BUILDER_CONFIGS]
    assert configs == [*(f"split{i}" for i in range(10)), "partial"]
    halves = []
    for number in (3, 7):
        builder = BUILDERS[name](data_dir="unused", config=f"split{number}")
        train, test = builder.halves(root)
        numbers = {int(one.removeprefix("person").strip("_")) for one in test}
        assert numbers == test_people(name, root, number)
        assert len(train) == 4 and not set(train) & set(test)
        halves.append(numbers)
    assert halves[0] != halves[1]


def test_counts_are_compared(tmp_path):
    write("ilids_vid", tmp_path)
    with pytest.raises(ValueError, match="train: 8 tracklets, expected 300"):
        build("ilids_vid", tmp_path, "split0")
    write("prid2011", tmp_path)
    with pytest.warns(UserWarning, match="query: 4 identities, expected 89"):
        build("prid2011", tmp_path, "split0")


@pytest.mark.parametrize("name", list(BUILDERS))
def test_missing_files(name, tmp_path):
    root = write(name, tmp_path)
    lost = sorted(test_people(name, root, 0))[0]
    folder = root / CAMERAS[name].format(PLACES[name][1], lost)
    for image in folder.iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 people have no images, such as .*unpack"):
        build(name, tmp_path, "split0")
    with pytest.warns(UserWarning, match=f"such as {folder.relative_to(root)}; they are left out"):
        built = build(name, tmp_path)
    assert built.info.splits["gallery"].num_examples == 3
    splits = {"ilids_vid": ILIDS_SPLITS, "prid2011": PRID_SPLITS}[name]
    (root / splits).unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {splits}\n"):
        build(name, tmp_path, "split1")


def test_halves_that_do_not_fit(tmp_path):
    root = write("ilids_vid", tmp_path)
    table = scipy.io.loadmat(root / ILIDS_SPLITS)["ls_set"]
    for wrong in (table[:, :6], np.where(table == 8, 9, table)):
        scipy.io.savemat(root / ILIDS_SPLITS, {"ls_set": wrong})
        with pytest.raises(ValueError, match="its row 1 must order the 8 people"):
            build("ilids_vid", tmp_path)
    (root / CAMERAS["ilids_vid"].format(1, 9)).mkdir()
    with pytest.raises(ValueError, match="person009 is in the folder of one camera only"):
        build("ilids_vid", tmp_path)


def test_lists_that_do_not_fit(tmp_path):
    root = write("prid2011", tmp_path)
    (root / PRID_SPLITS).write_text(json.dumps([{"train": ["person_0001"]}]))
    with pytest.raises(ValueError, match="no lists of folders `train` and `test` of split 0"):
        build("prid2011", tmp_path)
    both = {"train": ["person_0001"], "test": ["person_0001"]}
    (root / PRID_SPLITS).write_text(json.dumps([both]))
    with pytest.raises(ValueError, match="person_0001 is of the training and of the test half"):
        build("prid2011", tmp_path)


def test_names_of_frames(tmp_path):
    root = write("prid2011", tmp_path)
    dummies.write_images(root, {CAMERAS["prid2011"].format("a", 1): ["first.png"]})
    with pytest.raises(
        ValueError, match=r"person_0001/first.png is not of the form cam1_person001"
    ):
        build("prid2011", tmp_path)
