"""Hand-written small copies of datasets, and what every builder's test does with them."""

import io
import json
import pathlib
import pickle

import numpy as np
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image

PACKAGE = pathlib.Path(__file__).parents[2] / "tfds_builders"

AGREID_COLUMNS = {
    "gender": "male female unknown",
    "age": "young middle old unknown",
    "height": "child short medium tall unknown",
    "weight": "thin medium fat unknown",
    "ethnic": "white black asian india unknown",
    "haircolor": "black brown white red gray occluded unknown",
    "hairstyle": "bald short medium long horsetail unknown",
    "beard": "on off unknown",
    "moustache": "on off unknown",
    "glasses": "normal sun off unknown",
    "head": "hat scarf neckless occluded unknown",
    "upper": "tshirt blouse sweater coat bikini naked dress uniform shirt suit hoodie cardiga unknown",
    "lower": "jeans leggins pants shorts skirt bikini dress uniform suit unknown",
    "feet": "sportshoe classicshoe highheels boots sandals nothing unknown",
    "bag": "normal backpack handbag rolling umbrella sportif market nothing unknown",
}
# identity digits → its classes; every other group is unknown
AGREID_TRAIN = {
    "0001040410": ("gendermale", "haircolorgray", "headhat", "bagnothing"),
    "0002040401": ("genderfemale", "agemiddle", "uppercardiga"),
    "0000021402": ("hairstylelong", "lowerleggins", "feetboots"),
}
AGREID_TEST = {
    "0003040410": ("glassessun", "haircolorblack"),
    "0001021401": ("gendermale", "beardon", "moustacheoff"),
}
AGREID_IMAGES = {
    "bounding_box_train": [
        "P0001T04041A0C0F31.jpg",
        "P0001T04041A0C3F1.jpg",
        "P0002T04040A1C0F61.jpg",
        "P0002T04040A1C3F01111.jpg",
        "P0000T02140A2C0F691.jpg",
        "P0000T02140A2C3F691.jpg",
    ],
    "query_all_c0": ["P0003T04041A0C0F31.jpg", "P0001T02140A1C0F31.jpg"],
    "query_all_c3": ["P0003T04041A0C3F31.jpg", "P0001T02140A1C3F31.jpg"],
    "bounding_box_test_all_c0": ["P0003T04041A0C0F61.jpg", "P0001T02140A1C0F61.jpg"],
    "bounding_box_test_all_c3": [
        "P0003T04041A0C3F61.jpg",
        "P0001T02140A1C3F61.jpg",
        "P0001T02140A1C3F91Z.jpg",
    ],
}
# AG-ReID.v2: 3040410 is seen by C0, C2 and C3, 1021401 by C0 and C2, 5021401 by C2 and C3.
AGREID_V2_IMAGES = {
    "train_all/P0001T04041A0": [
        "P0001T04041A0C0F31.jpg",
        "P0001T04041A0C2F61.jpg",
        "P0001T04041A0C3F1.jpg",
    ],
    "train_all/P0000T02140A2": [
        "P0000T02140A2C0F691.jpg",
        "P0000T02140A2C2F8671Z.jpg",
        "P0000T02140A2C3F01111.jpg",
    ],
    "query/P0003T04041A0": [
        "P0003T04041A0C0F31.jpg",
        "P0003T04041A0C2F31.jpg",
        "P0003T04041A0C3F31.jpg",
    ],
    "query/P0001T02140A1": ["P0001T02140A1C0F31.jpg", "P0001T02140A1C2F31.jpg"],
    "query/P0005T02140A1": ["P0005T02140A1C2F31.jpg"],
    "gallery/P0003T04041A0": [
        "P0003T04041A0C0F61.jpg",
        "P0003T04041A0C2F61.jpg",
        "P0003T04041A0C3F61.jpg",
    ],
    "gallery/P0001T02140A1": ["P0001T02140A1C0F61.jpg", "P0001T02140A1C2F61Z.jpg"],
    "gallery/P0005T02140A1": ["P0005T02140A1C2F61.jpg", "P0005T02140A1C3F61.jpg"],
}
AGREID_V2_TEST = {**AGREID_TEST, "0005021401": ("genderfemale",)}
# The files differ from the rule on purpose: A2C and A2W leave out an image each. One file has
# back-slashes and the line ends of Windows, the last one no end of its last line.
AGREID_V2_PROTOCOLS = {
    "exp1_aerial_to_cctv.txt": """\
query/P0003T04041A0/P0003T04041A0C0F31.jpg
gallery/P0003T04041A0/P0003T04041A0C3F61.jpg
""",
    "exp2_aerial_to_wearable.txt": """\
query/P0003T04041A0/P0003T04041A0C0F31.jpg
gallery/P0003T04041A0/P0003T04041A0C2F61.jpg
gallery/P0001T02140A1/P0001T02140A1C2F61Z.jpg
""",
    "exp4_cctv_to_aerial.txt": (
        "query\\P0003T04041A0\\P0003T04041A0C3F31.jpg\r\n"
        "\r\n"
        "gallery\\P0003T04041A0\\P0003T04041A0C0F61.jpg\r\n"
    ),
    "exp5_wearable_to_aerial.txt": """\
query/P0003T04041A0/P0003T04041A0C2F31.jpg
query/P0001T02140A1/P0001T02140A1C2F31.jpg
gallery/P0003T04041A0/P0003T04041A0C0F61.jpg
gallery/P0001T02140A1/P0001T02140A1C0F61.jpg""",
}
AGREID_CHALLENGE_IMAGES = {
    "bounding_box_train": [
        "P0001T04041A0C0F31.jpg",
        "P0001T04041A0C2F61Z.jpg",
        "P0000T02140A2C3F01111.jpg",
    ],
    "exp3_aerial_to_ground/query": ["P0003T04041A0C0F31.jpg", "P0001T02140A1C0F31.jpg"],
    "exp3_aerial_to_ground/bounding_box_test": [
        "P0003T04041A0C3F61.jpg",
        "P0001T02140A1C2F61.jpg",
    ],
    "exp6_ground_to_aerial/query": ["P0003T04041A0C3F31.jpg", "P0001T02140A1C2F31.jpg"],
    "exp6_ground_to_aerial/bounding_box_test": [
        "P0003T04041A0C0F61.jpg",
        "P0001T02140A1C0F61.jpg",
    ],
    # one distractor without a row of attributes, one with the identity of a query
    "gallery_add_on/exp3_aerial_to_ground": ["P0009T04041A0C3F1.jpg", "P0003T04041A0C2F1.jpg"],
    "gallery_add_on/exp6_ground_to_aerial": ["P0009T04041A0C0F1.jpg"],
}
MARKET_IMAGES = {
    "bounding_box_train": [
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000301_01.jpg",
        "0007_c3s3_077419_03.jpg",
    ],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c6s4_000002_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c1s1_000151_01.jpg",
        "0001_c2s1_000301_02.jpg",
        "0003_c1s6_015971_04.jpg",
    ],
}


def encoded(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (8, 16), seed: int = 0):
    """A small encoded image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def write_images(root: pathlib.Path, folders: dict[str, list[str]]) -> pathlib.Path:
    """Writes an image for each name, no two of them equal."""
    names = [(folder, name) for folder, names in folders.items() for name in names]
    for seed, (folder, name) in enumerate(names):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_bytes(encoded(seed=seed))
    return root


def agreid_table(people: dict[str, tuple[str, ...]], order: int = 1) -> dict[str, np.ndarray]:
    """A part of the attribute file; `order` −1 lists the columns backwards."""
    columns = [group + name for group, names in AGREID_COLUMNS.items() for name in names.split()]
    groups = {
        column: group for group in AGREID_COLUMNS for column in columns if column.startswith(group)
    }
    index = np.empty((1, len(people)), object)
    index[0] = list(people)
    table = {"image_index": index}
    for column in columns[::order]:
        values = []
        for classes in people.values():
            told = any(groups[name] == groups[column] for name in classes)
            values.append(
                2 if column in classes or (column.endswith("unknown") and not told) else 1
            )
        table[column] = np.array([values], np.float64)
    return table


def write_attributes(path: pathlib.Path, train=None, test=None, people=AGREID_TEST) -> None:
    """An attribute file; `train` and `test` replace its parts."""
    parts = {
        "train": agreid_table(AGREID_TRAIN) if train is None else train,
        "test": agreid_table(people) if test is None else test,
    }
    scipy.io.savemat(path, {"qut_attribute": parts}, format="5")


def write_agreid(root: pathlib.Path, train=None, test=None) -> pathlib.Path:
    """A small AG-ReID; `train` and `test` replace the parts of its attribute file."""
    write_images(root, AGREID_IMAGES)
    write_attributes(root / "qut_attribute_v4_88_attributes.mat", train, test)
    return root


def write_agreid_v2(
    outer: pathlib.Path, *, inner: bool = True, beside: bool = True, files=None, **parts
) -> pathlib.Path:
    """A small AG-ReID.v2; returns the folder of its images.

    `inner`: the images lie in a second folder AG-ReID.v2. `beside`: attribute and protocol files
    lie in `outer`, else with the images. `files` replaces the protocol files, `parts` the parts of
    the attribute file.
    """
    root = write_images(outer / "AG-ReID.v2" if inner else outer, AGREID_V2_IMAGES)
    place = outer if beside else root
    for name, text in (AGREID_V2_PROTOCOLS if files is None else files).items():
        (place / name).write_bytes(text.encode())
    write_attributes(place / "qut_attribute_v8.mat", people=AGREID_V2_TEST, **parts)
    return root


def write_agreid_challenge(root: pathlib.Path, **parts) -> pathlib.Path:
    """A small release of the challenge of 2023."""
    write_images(root, AGREID_CHALLENGE_IMAGES)
    write_attributes(root / "qut_attribute_v8.mat", people=AGREID_V2_TEST, **parts)
    return root


def write_market1501(root: pathlib.Path) -> pathlib.Path:
    """A small Market-1501, with the files that Windows leaves in it."""
    write_images(root, MARKET_IMAGES)
    for folder in MARKET_IMAGES:
        (root / folder / "Thumbs.db").write_bytes(b"no image")
    (root / "bounding_box_test" / "._0001_c2s1_000301_02.jpg").write_bytes(b"no image")
    return root


def build(builder_class, data_dir, manual_dir, config="partial"):
    """Builds a dataset and returns a builder that reads it back."""
    builder = builder_class(data_dir=str(data_dir), config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir))
    )
    return builder_class(data_dir=str(data_dir), config=config)


def rows(builder, split):
    """image_id → record of a built split, in stored order; its images decoded."""
    source = builder.as_data_source(split=split)
    found = {record["image_id"].decode(): record for record in source}
    assert len(found) == len(source)
    return found


def check_built(builder, counts: dict[str, int], *, cameras: bool = True):
    """Checks every built dataset, whatever it is of; `cameras`: it tells cameras."""
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == counts
    protocols = json.loads(builder.info.metadata["protocols"])
    groups = json.loads(builder.info.metadata["attribute_groups"])
    elsewhere = tfds.builder_from_directory(str(builder.data_dir))
    for split in counts:
        records = rows(builder, split)
        again = pickle.loads(pickle.dumps(elsewhere.as_data_source(split=split)))
        assert [record["image_id"].decode() for record in again] == list(records)
        for record in records.values():
            assert set(record) == set(builder.info.features)
            assert record["image"].ndim == 3
            assert record["image"].shape[2] == 3
            assert record["image"].dtype == np.uint8
            assert (record["label"] >= 0) == (split == "train")
            assert (record["camera"] >= 0) == cameras
            assert record["platform"] in (0, 1, 2)
            assert len(record["attributes"]) == len(groups)
            assert all(0 <= index < len(protocols) for index in record["protocols"])


def check_tracklets(builder, counts: dict[str, int]):
    """Checks every built dataset of tracklets."""
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == counts
    protocols = json.loads(builder.info.metadata["protocols"])
    groups = json.loads(builder.info.metadata["attribute_groups"])
    for split in counts:
        source = builder.as_data_source(split=split)
        names = [record["tracklet_id"] for record in source]
        assert len(set(names)) == len(names)
        for record in source:
            assert set(record) == set(builder.info.features)
            assert len(record["frames"]) == len(record["frame_ids"]) > 0
            assert (np.diff(record["frame_ids"]) > 0).all()
            assert {Image.open(io.BytesIO(frame)).mode for frame in record["frames"]} == {"RGB"}
            assert (record["label"] >= 0) == (split == "train")
            assert record["camera"] >= 0 and record["platform"] in (0, 1, 2)
            assert len(record["attributes"]) == len(groups)
            assert all(0 <= index < len(protocols) for index in record["protocols"])


def check_description(name: str):
    """The three files of a dataset's folder are there, and its tags are tags of TFDS."""
    known = pathlib.Path(tfds.__file__).parent / "core" / "valid_tags.txt"
    valid = {line.split("#")[0].strip() for line in known.read_text().splitlines()} - {""}
    for file in ("README.md", "CITATIONS.bib", "TAGS.txt"):
        assert (PACKAGE / name / file).read_text().strip()
    tags = (PACKAGE / name / "TAGS.txt").read_text().split()
    assert tags
    assert set(tags) <= valid
