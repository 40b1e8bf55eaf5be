"""Hand-written small copies of person-search datasets."""

import json
import pathlib

import numpy as np
import scipy.io

from tests.tfds_builders import dummies

# name → boxes x, y, w, h
SYSU_FRAMES = {
    "s1.jpg": [(1, 2, 10, 20), (5, 5, 0, 9), (30, 2, 10, 20)],
    "s2.jpg": [(3.9, 2.2, 10.7, 20.5)],
    "s3.jpg": [(1, 1, 8, 8), (1, 1, 8, 8)],
    "s10.jpg": [(4, 4, 9, 9)],
    "s4.jpg": [(2, 3, 11, 21), (20, 3, 11, 21)],
    "s5.jpg": [(6, 3, 11, 21)],
    "s6.jpg": [(7, 3, 11, 21)],
    "s7.jpg": [(8, 3, 11, 21)],
    "s8.jpg": [(9, 3, 11, 21)],
    "s9.jpg": [(10, 3, 11, 21)],
}
SYSU_POOL = ["s9.jpg", "s4.jpg", "s5.jpg", "s6.jpg", "s7.jpg", "s8.jpg"]
SYSU_TRAIN = [
    ("p77", [("s1.jpg", (1, 2, 10, 20)), ("s2.jpg", (3.9, 2.2, 10.7, 20.5))]),
    ("p12", [("s3.jpg", (1, 1, 8, 8)), ("s10.jpg", (4, 4, 9, 9))]),
]
SYSU_QUERIES = [
    (
        ("s4.jpg", (2, 3, 11, 21), "p900"),
        {
            50: [("s6.jpg", (7, 3, 11, 21)), ("s8.jpg", (9, 3, 11, 21)), ("s5.jpg", None)],
            100: [
                ("s6.jpg", (7, 3, 11, 21)),
                ("s8.jpg", (9, 3, 11, 21)),
                ("s5.jpg", None),
                ("s9.jpg", None),
                ("s9.jpg", None),
            ],
        },
    )
]
G2APS_FRAMES = {
    "S1_2_00001.jpg": [(1, 2, 10, 20), (30, 2, 10, 20)],
    "D1_20m_00001.jpg": [(3, 2, 10, 20)],
    "S2_2_00007.jpg": [(2, 3, 11, 21)],
    "D2_40_00007.jpg": [(6, 3, 11, 21)],
    "D2_40_00008.jpg": [(7, 3, 11, 21)],
}
G2APS_POOL = ["S2_2_00007.jpg", "D2_40_00008.jpg", "D2_40_00007.jpg"]
G2APS_TRAIN = [("31", [("S1_2_00001.jpg", (30, 2, 10, 20)), ("D1_20m_00001.jpg", (3, 2, 10, 20))])]
G2APS_QUERIES = [
    (
        ("S2_2_00007.jpg", (2, 3, 11, 21), "8"),
        {50: [("D2_40_00008.jpg", (7, 3, 11, 21)), ("D2_40_00007.jpg", None)]},
    )
]
# frame → variable and rows id, x, y, w, h
PRW_FRAMES = {
    "c1s1_000001": ("box_new", [(5, 1, 2, 10, 20), (-2, 30.7, 2.9, 9.9, 20)]),
    "c2s1_000001": ("anno_file", [(932, 1, 2, 10, 20)]),
    "c2s2_000003": ("anno_previous", [(5, 4, 2, 10, 20)]),
    "c1s1_000009": ("box_new", [(6, -3, 2, 10, 20), (7, 20, 2, 10, 20)]),
    "c1s3_000009": ("box_new", [(6, 8, 2, 10, 20)]),
    "c6s3_000009": ("box_new", [(6, 9, 2, 10, 20), (-2, 20, 2, 10, 20)]),
}
PRW_TEST = ["c6s3_000009", "c1s1_000009", "c1s3_000009"]
PRW_QUERIES = "6 -3.0 2.0 10.0 20.0 c1s1_000009\r\n7 20 2 10 20 c1s1_000009\r\n"


def structs(rows, names=("imname", "idlocate", "ishard")):
    """A 1 x n array of structs."""
    found = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        for name, value in zip(names, row, strict=True):
            found[0, i][name] = value
    return found


def cells(values):
    """An n x 1 cell array."""
    found = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        found[i, 0] = value
    return found


def located(box):
    return np.zeros((1, 0)) if box is None else np.array([box], np.float64)


def write_sysu(root: pathlib.Path, frames, pool, train, queries, sizes=(50, 100)) -> pathlib.Path:
    """A small copy in the form of CUHK-SYSU; frames of 64 x 32 pixels."""
    dummies.write_images(root, {"Image/SSM": []})
    folder = root / "Image" / "SSM"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(frames):
        (folder / name).write_bytes(dummies.encoded(size=(64, 32), seed=seed))
    lists = root / "annotation" / "test" / "train_test"
    lists.mkdir(parents=True, exist_ok=True)
    images = []
    for name, boxes in frames.items():
        people = structs([(located(box), 0) for box in boxes], ("idlocate", "ishard"))
        images.append((name, len(boxes), people))
    names = ("imname", "nAppear", "box")
    scipy.io.savemat(root / "annotation" / "Images.mat", {"Img": structs(images, names)})
    scipy.io.savemat(root / "annotation" / "pool.mat", {"pool": cells(pool)})
    entries = []
    for person, scenes in train:
        scene = structs([(name, located(box), 0) for name, box in scenes])
        entries.append(structs([(person, len(scenes), scene)], ("idname", "nAppear", "scene")))
    scipy.io.savemat(lists / "Train.mat", {"Train": cells(entries)})
    for size in sizes:
        rows = []
        for (name, box, person), galleries in queries:
            asked = structs(
                [(name, located(box), 0, person)], ("imname", "idlocate", "ishard", "idname")
            )
            rows.append((asked, structs([(n, located(b), 0) for n, b in galleries[size]])))
        table = {f"TestG{size}": structs(rows, ("Query", "Gallery"))}
        scipy.io.savemat(lists / f"TestG{size}.mat", table)
    return root


def write_cuhk_sysu(root: pathlib.Path, **parts) -> pathlib.Path:
    """A small CUHK-SYSU; `parts` replace its parts."""
    standard = {
        "frames": SYSU_FRAMES,
        "pool": SYSU_POOL,
        "train": SYSU_TRAIN,
        "queries": SYSU_QUERIES,
    }
    return write_sysu(root, **{**standard, **parts})


def write_g2aps(root: pathlib.Path, **parts) -> pathlib.Path:
    """A small G2APS; `parts` replace its parts."""
    standard = {
        "frames": G2APS_FRAMES,
        "pool": G2APS_POOL,
        "train": G2APS_TRAIN,
        "queries": G2APS_QUERIES,
        "sizes": (50,),
    }
    return write_sysu(root, **{**standard, **parts})


def write_prw(root: pathlib.Path, frames=None, queries=PRW_QUERIES, test=PRW_TEST) -> pathlib.Path:
    """A small PRW; frames of 64 x 32 pixels."""
    frames = {**PRW_FRAMES, **(frames or {})}
    for folder in ("frames", "annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for seed, (name, (variable, rows)) in enumerate(frames.items()):
        encoded = dummies.encoded(size=(64, 32), seed=seed)
        (root / "frames" / f"{name}.jpg").write_bytes(encoded)
        table = {variable: np.array(rows, np.float64).reshape(-1, 5)}
        scipy.io.savemat(root / "annotations" / f"{name}.jpg.mat", table)
    train = [name for name in frames if name not in test]
    for split, names in (("train", train), ("test", test)):
        scipy.io.savemat(root / f"frame_{split}.mat", {f"img_index_{split}": cells(names)})
    (root / "query_info.txt").write_bytes(queries.encode())
    return root


def check_built(builder, counts):
    """Checks every built dataset of frames."""
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == counts
    protocols = json.loads(builder.info.metadata["protocols"])
    assert builder.info.metadata["schema"] == "frames"
    for split in counts:
        for record in builder.as_data_source(split=split):
            assert set(record) == set(builder.info.features)
            assert record["image"].shape == (record["height"], record["width"], 3)
            objects = record["objects"]
            assert len({len(values) for values in objects.values()}) == 1
            for box, flat in zip(objects["bbox"], objects["bbox_xyxy"], strict=True):
                sides = [record["height"], record["width"]] * 2
                clipped = np.clip(np.asarray(flat)[[1, 0, 3, 2]] / sides, 0, 1)
                np.testing.assert_allclose(np.asarray(box, np.float64), clipped, atol=1e-5)
            named = np.asarray(objects["is_labelled"], bool)
            assert (named == (np.asarray(objects["identity"]) >= 0)).all()
            assert ((np.asarray(objects["label"]) >= 0) == (named & (split == "train"))).all()
            assert all(0 <= index < len(protocols) for index in record["protocols"])
            assert bool(len(record["protocols"])) == (split == "query")
