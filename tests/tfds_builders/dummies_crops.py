"""Hand-written small copies of the datasets of crops."""

import pathlib
import pickle

import numpy as np
import scipy.io

from g2ajax.synthetic.pool import Photograph
from tests.tfds_builders import dummies

# Identity 5 is seen by two aerial cameras, 6 by two ground cameras, 7 and 11 by one of each;
# 8 has a query and no other image.
CARGO_IMAGES = {
    "train/Cam1": ["Cam1_day_2_1.jpg", "Cam1_night_30_12.jpg"],
    "train/Cam5": ["Cam5_night_2_3.jpg"],
    "train/Cam6": ["Cam6_day_30_1.jpg"],
    "train/Cam13": ["Cam13_night_2_4.jpg"],
    "query/Cam1": ["Cam1_day_5_1.jpg", "Cam1_day_7_1.jpg"],
    "query/Cam6": ["Cam6_night_6_1.jpg"],
    "query/Cam13": ["Cam13_day_11_2.jpg", "Cam13_day_8_1.jpg"],
    "gallery/Cam1": ["Cam1_day_5_2.jpg", "Cam1_day_11_5.jpg"],
    "gallery/Cam5": ["Cam5_night_5_3.jpg"],
    "gallery/Cam6": ["Cam6_night_6_2.jpg"],
    "gallery/Cam13": ["Cam13_night_6_3.jpg", "Cam13_day_7_3.jpg"],
}
MSMT17_TRAIN = [
    "0000/0000_000_01_0303morning_0015_0.jpg 0",
    "0000/0000_001_15_0302noon_0007_1.jpg 0",
]
MSMT17_LISTS = {
    "list_train.txt": [*MSMT17_TRAIN, "0003/0003_000_02_0303afternoon_0100_2_ex.jpg 3"],
    "list_val.txt": ["0003/0003_002_04_0303afternoon_0200_0.jpg 3"],
    "list_query.txt": ["0000/0000_000_05_0303morning_0033_0.jpg 0"],
    "list_gallery.txt": [
        "0000/0000_001_06_0113noon_0033_0.jpg 0",
        "0007/0007_001_06_0113noon_0044_0.jpg 7",
    ],
}
CUHK03_TRAIN = ["1_001_1_01.png", "1_001_2_06.png", "5_003_1_02.png"]
CUHK03_QUERY = ["2_041_1_01.png", "2_041_2_06.png"]
CUHK03_GALLERY = ["2_041_1_02.png", "2_041_2_07.png", "2_041_2_10.png"]
CUHK03_TESTSETS = "split,pair,person\n0,2,41\n1,1,1\n1,5,3\n"
DUKE_IMAGES = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0001_c5_f0051341.jpg", "0023_c8_f0000001.jpg"],
    "query": ["0005_c2_f0046985.jpg"],
    "bounding_box_test": ["0003_c1_f0044158.jpg", "0005_c6_f0046985.jpg"],
}
LAGPER_TRAIN = {
    "bounding_box_train/0002": ["0002_c3_000001.jpg", "0002_c11_7_x.jpg"],
    "bounding_box_train/0009": ["0009_c22_000001.jpg", "0009_c1_000001.jpg"],
    "bounding_box_train/-1": ["-1_c9_000001.jpg"],
}
# One list as Windows writes it, one without an end of its last line.
LAGPER_LISTS = {
    "exp1_A2G.txt": ["query_a/0004_c13_1.jpg", "bounding_box_test_g/0004_c12_1.jpg"],
    "exp2_G2A.txt": ["query_g/0004_c14_1.jpg", "bounding_box_test_a/0004_c19_1.jpg"],
    "exp3_A2G+.txt": [
        "query_a\\0004_c13_1.jpg\r",
        "bounding_box_test_g\\0004_c12_1.jpg\r",
        "bounding_box_test_g\\-1_c2_1.jpg\r",
        "\r",
    ],
    "exp4_G2A+.txt": [
        "query_g/0004_c14_1.jpg",
        "bounding_box_test_a/0004_c19_1.jpg",
        "bounding_box_test_a/0007_c16_1.jpg",
    ],
    "exp5_G2A+G.txt": [
        "query_g/0004_c14_1.jpg",
        "bounding_box_test_g/0004_c12_1.jpg",
        "bounding_box_test_a/0004_c19_1.jpg",
    ],
}
G2APS_TRAIN = {
    "bounding_box_train/2": ["0002_c0v1_000001.jpg", "0002_c3v1_000031.jpg"],
    "bounding_box_train/11": ["0011_c0v4_000001.jpg"],
    "bounding_box_train": ["0011_c3v4_000001.jpg"],
}
# The scripts write the separators of their computer.
G2APS_LISTS = {
    "exp3_A2G+.txt": [
        "query_c0\\0005_c0v1_000001.jpg",
        "bounding_box_test_c3\\0005_c3v1_000002.jpg",
        "bounding_box_test_c3\\0008_c3v1_000002.jpg",
        "bounding_box_gallery\\5555_c3v2_000009.jpg",
    ],
    "exp4_G2A+.txt": [
        "query_c3/0005_c3v1_000002.jpg",
        "bounding_box_test_c0/0005_c0v1_000001.jpg",
        "bounding_box_gallery/5555_c0v2_000009.jpg",
    ],
}
UAV_TAIL = "G10B10H10UC022000LC021000A000R0_08241716"
UAV_IMAGES = {
    "bounding_box_train": [
        f"P000S01{UAV_TAIL}_170_bbx.jpg",
        f"P012S03{UAV_TAIL}_2_bbx.jpg",
        f"P31S09{UAV_TAIL}_3_bbx.jpg",
        f"P84S05{UAV_TAIL}_3_bbx.jpg",
    ],
    "query": [f"P003S02{UAV_TAIL}_9_bbx.jpg"],
    "bounding_box_test": [
        f"P003S02{UAV_TAIL}_10.jpg",
        f"DS00{UAV_TAIL}_11_bbx.jpg",
        f"D0007S02{UAV_TAIL}_12_bbx.jpg",
    ],
}
PRAI_IMAGES = {
    "train": [
        "00000004_0001_00000000.jpg",
        "00000004_0002_00000001.jpg",
        "00000009_0002_00000002.jpg",
    ],
    "test": [
        "00000011_0001_00000000.jpg",
        "00000011_0002_00000001.jpg",
        "00000012_0002_00000002.jpg",
    ],
}


def write_cargo(root: pathlib.Path) -> pathlib.Path:
    """A small CARGO."""
    return dummies.write_images(root, CARGO_IMAGES)


def write_lists(root: pathlib.Path, lists: dict[str, list[str]]) -> None:
    """Text files, an entry a line."""
    for name, lines in lists.items():
        (root / name).write_text("".join(f"{line}\n" for line in lines))


def write_msmt17(root: pathlib.Path, version: str, lists=None) -> pathlib.Path:
    """A small MSMT17 of the version `v1` or `v2`; `lists` replaces lists, not images."""
    places = {"v1": ("train", "test"), "v2": ("mask_train_v2", "mask_test_v2")}[version]
    folders: dict[str, list[str]] = {}
    for name, lines in MSMT17_LISTS.items():
        place = places[name in ("list_query.txt", "list_gallery.txt")]
        folders.setdefault(place, []).extend(line.split()[0] for line in lines)
    for place, names in folders.items():
        for name in names:
            folder, image = name.split("/")
            dummies.write_images(root, {f"{place}/{folder}": [image]})
    write_lists(root, {**MSMT17_LISTS, **(lists or {})})
    return root


def cuhk03_table(shift: int = 0) -> dict[str, np.ndarray]:
    """A file of CUHK03's new protocol, as MATLAB writes it; `shift` moves the rows of the queries."""
    names = CUHK03_GALLERY + CUHK03_TRAIN + CUHK03_QUERY
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    labels = {"2_041": 7, "1_001": 1, "5_003": 12}
    return {
        "filelist": cells,
        "labels": np.array([[labels[name[:5]]] for name in names], np.float64),
        "camId": np.array([[int(name[6])] for name in names], np.float64),
        "train_idx": np.array([[4], [5], [6]], np.float64),
        "query_idx": np.array([[7], [8]], np.float64) + shift,
        "gallery_idx": np.array([[1], [2], [3]], np.float64),
    }


def write_cuhk03(root: pathlib.Path, boxes="detected", table=None) -> pathlib.Path:
    """A small CUHK03, converted; `table` replaces what the protocol's file holds."""
    names = CUHK03_TRAIN + CUHK03_QUERY + CUHK03_GALLERY
    dummies.write_images(root, {f"images_{boxes}": names})
    path = root / f"cuhk03_new_protocol_config_{boxes}.mat"
    scipy.io.savemat(path, cuhk03_table() if table is None else table)
    (root / "testsets.csv").write_text(CUHK03_TESTSETS)
    return root


def write_dukemtmc(root: pathlib.Path) -> pathlib.Path:
    """A small DukeMTMC-reID; its images are noise."""
    return dummies.write_images(root, DUKE_IMAGES)


def write_listed(root: pathlib.Path, train, lists) -> pathlib.Path:
    """A dataset with lists of test images: its training images, the listed ones and the lists."""
    dummies.write_images(root, train)
    entries = {line.strip().replace("\\", "/") for lines in lists.values() for line in lines} - {""}
    for seed, image_id in enumerate(sorted(entries), 1000):
        path = root / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dummies.encoded(seed=seed))
    write_lists(root, lists)
    return root


def prai1581_table() -> dict[str, object]:
    """The contents of the file of partitions of a small PRAI-1581."""
    train, test = PRAI_IMAGES["train"], PRAI_IMAGES["test"]
    return {
        "trainval_im_names": train,
        "train_im_names": train[:2],
        "val_im_names": train[2:],
        "trainval_ids2labels": {4: 0, 9: 1},
        "test_im_names": np.array(test),
        "test_marks": np.array([0, 1, 1]),
        "val_marks": [0],
    }


def write_prai1581(root: pathlib.Path, table=None, protocol: int = 2) -> pathlib.Path:
    """A small PRAI-1581; `table` replaces what the file of partitions holds."""
    dummies.write_images(root, {"images": PRAI_IMAGES["train"] + PRAI_IMAGES["test"]})
    table = prai1581_table() if table is None else table
    (root / "partitions.pkl").write_bytes(pickle.dumps(table, protocol))
    return root


def undrawn(world, shots, workers=None, progress=""):
    """Stands for `layouts.photographs`: another small image for each shot, in no time."""
    for seed, shot in enumerate(shots):
        yield Photograph(shot, dummies.encoded(seed=seed), 0.0, 0.0, 0.0)
