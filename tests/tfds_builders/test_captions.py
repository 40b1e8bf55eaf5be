"""Builders of captioned images on hand-written copies: CUHK-PEDES, ICFG-PEDES, RSTPReid, TAG-PEDES."""

import json

import pytest

from g2ajax.data.source import open_dataset
from tests.tfds_builders import dummies
from tfds_builders.cuhk_pedes.cuhk_pedes_dataset_builder import Builder as CuhkPedes
from tfds_builders.icfg_pedes.icfg_pedes_dataset_builder import Builder as IcfgPedes
from tfds_builders.rstp_reid.rstp_reid_dataset_builder import Builder as RstpReid
from tfds_builders.tag_pedes.tag_pedes_dataset_builder import Builder as TagPedes
from tfds_builders.tag_pedes.tag_pedes_dataset_builder import cleaned, view_of

ENTRIES = (
    ("train", "cam_a/0002_1.png", 2, ["A man in red.", "He has a bag."]),
    ("train", "Market/0001_1.jpg", 1, ["A woman in blue."]),
    ("train", "Market/0001_2.jpg", 1, ["The woman wears a blue coat, and boots."]),
    ("val", "cam_b/0003_1.png", 3, ["Someone."]),
    ("test", "CUHK03/0004_1.jpg", 4, ["A child – with a hat.", "A small person."]),
)


def entries(*, key="file_path", skip=(), **changes):
    rows = [
        {"split": split, key: path, "id": identity, "captions": list(said), "processed_tokens": []}
        for split, path, identity, said in ENTRIES
        if split not in skip
    ]
    rows[0].update(changes)
    return rows


def write(root, rows, file="reid_raw.json", below="imgs", key="file_path"):
    for seed, row in enumerate(rows):
        if row[key]:
            path = root / below / row[key]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(dummies.encoded(seed=seed))
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


@pytest.fixture(scope="module")
def cuhk(tmp_path_factory):
    root = tmp_path_factory.mktemp("cuhk")
    write(root / "manual" / "CUHK-PEDES", entries())
    return root, dummies.build(CuhkPedes, root / "data", root / "manual")


def test_records_follow_the_schema(cuhk):
    dummies.check_built(cuhk[1], {"train": 3, "val": 1, "test": 1}, cameras=False)
    for name in ("cuhk_pedes", "icfg_pedes", "rstp_reid", "tag_pedes", "tbagpr"):
        dummies.check_description(name)


def test_sentences_open_with_their_images(cuhk):
    dataset = open_dataset("cuhk_pedes/partial", data_dir=str(cuhk[0] / "data"), build=False)
    train = dataset.splits["train"]
    assert train.image_id.tolist() == [
        "imgs/Market/0001_1.jpg",
        "imgs/Market/0001_2.jpg",
        "imgs/cam_a/0002_1.png",
    ]
    assert train.captions.text == (
        "A woman in blue.",
        "The woman wears a blue coat, and boots.",
        "A man in red.",
        "He has a bag.",
    )
    assert train.captions.row.tolist() == [0, 1, 2, 2]
    assert train.captions.pair.tolist() == [-1] * 4
    assert train.label.tolist() == [0, 0, 1]
    # Again, from the cache beside the records.
    again = open_dataset("cuhk_pedes/partial", data_dir=str(cuhk[0] / "data"), build=False)
    assert again.splits["test"].captions.text == ("A child – with a hat.", "A small person.")
    assert again.fingerprint == dataset.fingerprint
    query, gallery, row = again.protocol("T2I")
    assert (query.tolist(), gallery.tolist()) == ([0, 1], [0])
    assert (row["query_platform"], row["drop_same_camera"]) == ("text", False)
    (text_key, texts), (image_key, images) = again.sides("T2I")
    assert (text_key, image_key) == ("text", "image")
    assert texts.identity.tolist() == [4, 4]
    assert images.captions.row.tolist() == [0, 0]
    assert [key for key, _ in again.sides("I2T")] == ["image", "text"]


def test_the_other_files_and_keys(tmp_path):
    write(tmp_path / "a" / "ICFG-PEDES", entries(skip=("val",)), "ICFG_PEDES.json")
    built = dummies.build(IcfgPedes, tmp_path / "ad", tmp_path / "a")
    dummies.check_built(built, {"train": 3, "test": 1}, cameras=False)
    rows = entries(key="img_path")
    write(tmp_path / "b" / "RSTPReid", rows, "data_captions.json", key="img_path")
    built = dummies.build(RstpReid, tmp_path / "bd", tmp_path / "b")
    record = dummies.rows(built, "train")["imgs/cam_a/0002_1.png"]
    assert [bytes(t) for t in record["captions"]] == [b"A man in red.", b"He has a bag."]
    assert record["platform"] == 1


def test_tag_pedes_tells_views(tmp_path):
    names = [
        "market/0001_c1.jpg",
        "PRAI/1_2.jpg",
        "UAV-Human/3.jpg",
        "AG-ReID.v2/P0001T04041A0C0F31.jpg",
        "AG-ReID.v2/P0001T04041A0C3F31.jpg",
        "G2APS/5.jpg",
    ]
    assert [view_of(n) for n in names] == ["ground", "aerial", "aerial", "aerial", "ground", -1]
    root = tmp_path / "manual" / "TAG-PEDES"
    for file in ("train_reid.json", "test_reid.json"):
        rows = [
            {"file_path": name, "id": number, "captions": ["A man, in RED. (tall)", "x " * 90]}
            for number, name in enumerate(names)
        ]
        write(root, rows, f"anno_dir/{file}", "images")
    built = dummies.build(TagPedes, tmp_path / "data", tmp_path / "manual")
    test = dummies.rows(built, "test")
    assert [r["platform"] for r in test.values()] == [1, 0, 0, 0, 1, -1]
    assert test["images/market/0001_c1.jpg"]["protocols"].tolist() == [1, 2, 4, 5]
    assert test["images/PRAI/1_2.jpg"]["protocols"].tolist() == [0, 2, 3, 5]
    assert test["images/G2APS/5.jpg"]["protocols"].tolist() == [2, 5]
    said = [bytes(t).decode() for t in test["images/G2APS/5.jpg"]["captions"]]
    assert said == ["a man, in red tall", " ".join(["x"] * 77)]
    assert cleaned("A: b") == "a b"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"captions": []}, ValueError, r"entry 0: cam_a/0002_1\.png has no caption"),
        ({"captions": ["A man.", " "]}, ValueError, r"entry 0: a caption is ' '; expected"),
        ({"file_path": ""}, ValueError, r"captions of identity 2 name no image"),
        ({"split": "extra"}, ValueError, r"entry 0: expected `split` \(train, val, test\)"),
        ({"file_path": "Market/0001_1.jpg"}, ValueError, r"of identity 1 here and of 2 above"),
    ],
)
def test_what_is_refused(tmp_path, changes, error, message):
    write(tmp_path / "manual" / "CUHK-PEDES", entries(**changes))
    with pytest.raises(error, match=message):
        dummies.build(CuhkPedes, tmp_path / "data", tmp_path / "manual")


def test_missing_images_and_wrong_files(tmp_path):
    root = tmp_path / "manual" / "CUHK-PEDES"
    write(root, entries())
    (root / "imgs/cam_b/0003_1.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"names 1 images that are not there \(the first: imgs/cam_b/0003"
    ):
        dummies.build(CuhkPedes, tmp_path / "data", tmp_path / "manual")
    (root / "reid_raw.json").write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"reid_raw.json is not UTF-8 \(byte 2\)"):
        dummies.build(CuhkPedes, tmp_path / "data", tmp_path / "manual")
    (root / "reid_raw.json").write_text("[")
    with pytest.raises(ValueError, match=r"reid_raw.json is not JSON"):
        dummies.build(CuhkPedes, tmp_path / "data", tmp_path / "manual")


def test_other_counts_are_an_error(tmp_path):
    write(tmp_path / "manual" / "CUHK-PEDES", entries())
    with pytest.raises(ValueError, match=r"4 captions in train, expected 68126"):
        dummies.build(CuhkPedes, tmp_path / "data", tmp_path / "manual", "strict")
