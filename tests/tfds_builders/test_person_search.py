"""The builders of CUHK-SYSU, PRW and G2APS on hand-written copies."""

import importlib

import numpy as np
import pytest

from g2ajax.data.frame_source import open_frames
from tests.tfds_builders import dummies, dummies_frames

WRITERS = {
    "cuhk_sysu": (dummies_frames.write_cuhk_sysu, "CUHK-SYSU"),
    "g2aps": (dummies_frames.write_g2aps, "G2APS/ssm"),
    "prw": (dummies_frames.write_prw, "PRW-v16.04.20"),
}


def opened(name, tmp_path, config="partial", **parts):
    write, folder = WRITERS[name]
    write(tmp_path / "manual" / folder, **parts)
    directories = {"data_dir": str(tmp_path / "data"), "manual_dir": str(tmp_path / "manual")}
    return open_frames(f"{name}/{config}", **directories)


def builder_of(dataset, name):
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    folder = dataset.splits["train"].folder
    return module.Builder(data_dir=folder.split(f"/{name}/")[0], config="partial")


def people(split, row):
    at = split.people(row)
    return list(
        zip(
            split.identity[at].tolist(),
            split.label[at].tolist(),
            split.boxes[at].tolist(),
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def sysu(tmp_path_factory):
    return opened("cuhk_sysu", tmp_path_factory.mktemp("cuhk_sysu"))


@pytest.fixture(scope="module")
def prw(tmp_path_factory):
    return opened("prw", tmp_path_factory.mktemp("prw"))


@pytest.fixture(scope="module")
def g2aps(tmp_path_factory):
    return opened("g2aps", tmp_path_factory.mktemp("g2aps"))


@pytest.mark.parametrize("name", list(WRITERS))
def test_descriptions(name):
    dummies.check_description(name)


def test_cuhk_sysu_follows_the_schema(sysu):
    builder = builder_of(sysu, "cuhk_sysu")
    dummies_frames.check_built(builder, {"train": 4, "gallery": 6, "query": 1})


def test_cuhk_sysu_frames(sysu):
    train, gallery = sysu.splits["train"], sysu.splits["gallery"]
    names = ["s1.jpg", "s10.jpg", "s2.jpg", "s3.jpg"]
    assert train.image_id.tolist() == [f"Image/SSM/{name}" for name in names]
    assert people(train, 0) == [(1, 0, [1, 2, 11, 22]), (-1, -1, [30, 2, 40, 22])]
    assert people(train, 1) == [(2, 1, [4, 4, 13, 13])]
    # cut to whole numbers before the width is added
    assert people(train, 2) == [(1, 0, [3, 2, 13, 22])]
    # of two equal boxes the first has the name
    assert people(train, 3) == [(2, 1, [1, 1, 9, 9]), (-1, -1, [1, 1, 9, 9])]
    assert people(gallery, 0) == [(1, -1, [2, 3, 13, 24]), (-1, -1, [20, 3, 31, 24])]
    assert gallery.identity.tolist() == [1, -1, -1, 1, -1, 1, -1]
    assert set(gallery.platform.tolist()) == {1}
    assert set(gallery.camera.tolist()) == {-1}
    assert sysu.num_identities == 2


def test_cuhk_sysu_galleries(sysu):
    names = ["s4.jpg", "s5.jpg", "s6.jpg", "s7.jpg", "s8.jpg", "s9.jpg"]
    assert sysu.splits["gallery"].image_id.tolist() == [f"Image/SSM/{name}" for name in names]
    assert sysu.protocol("G50")[0].tolist() == [0]
    assert sysu.protocol("G500")[0].tolist() == []
    assert sysu.gallery(0, "G50").tolist() == [2, 4, 1]
    rows = sysu.gallery(0, "G100")
    assert rows.tolist() == [2, 4, 1, 5, 5]
    targets = sysu.targets(0, rows)
    assert targets[:2].tolist() == [[7, 3, 18, 24], [9, 3, 20, 24]]
    assert np.isnan(targets[2:]).all()
    with pytest.raises(ValueError, match=r"no protocol 'G60'"):
        sysu.protocol("G60")


def test_cuhk_sysu_nested_folder(tmp_path):
    dummies_frames.write_cuhk_sysu(tmp_path / "manual" / "CUHK-SYSU" / "dataset")
    dataset = open_frames(
        "cuhk_sysu/partial", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "manual")
    )
    assert len(dataset.splits["gallery"]) == 6


def test_prw_frames(prw):
    dummies_frames.check_built(builder_of(prw, "prw"), {"train": 3, "gallery": 3, "query": 2})
    train, gallery, query = (prw.splits[name] for name in ("train", "gallery", "query"))
    assert people(train, 0) == [(5, 0, [1, 2, 11, 22]), (-1, -1, [30, 2, 40, 22])]
    assert people(train, 1) == [(932, 1, [1, 2, 11, 22])]
    assert train.camera.tolist() == [0, 1, 1]
    # negative x becomes 0 before the width is added, in queries after
    assert people(gallery, 0)[0] == (6, -1, [0, 2, 10, 22])
    assert people(query, 0) == [(6, -1, [0, 2, 7, 22])]
    assert query.image_id.tolist() == ["frames/c1s1_000009.jpg"] * 2
    assert gallery.camera.tolist() == [0, 0, 5]


def test_prw_galleries(prw):
    assert prw.gallery(0, "STD").tolist() == [1, 2]
    assert prw.gallery(0, "CROSS_CAMERA").tolist() == [2]
    assert prw.targets(0, np.array([0, 1, 2]))[:, 0].tolist() == [0, 8, 9]
    assert np.isnan(prw.targets(1, np.array([1, 2]))).all()


def test_g2aps_frames_and_gallery(g2aps):
    dummies_frames.check_built(builder_of(g2aps, "g2aps"), {"train": 2, "gallery": 3, "query": 1})
    train, gallery, query = (g2aps.splits[name] for name in ("train", "gallery", "query"))
    assert train.image_id.tolist() == ["Image/SSM/D1_20m_00001.jpg", "Image/SSM/S1_2_00001.jpg"]
    assert train.platform.tolist() == [0, 1]
    assert train.camera.tolist() == [1, 0]
    assert people(train, 1) == [(-1, -1, [1, 2, 11, 22]), (31, 0, [30, 2, 40, 22])]
    assert query.identity.tolist() == [8]
    assert [gallery.image_id[i][-9:] for i in g2aps.gallery(0, "G2A")] == ["00008.jpg", "00007.jpg"]
    assert g2aps.gallery(0, "G2A_ALL").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("cuhk_sysu", r"TestG100.mat, .*\nAsk the authors"),
        ("g2aps", r"lacks Image/SSM, .*(?s:.)Download G2APS"),
        ("prw", r"lacks frames, annotations, .*(?s:.)Download PRW"),
    ],
)
def test_missing_files_say_where_to_get_them(name, lacks, tmp_path):
    if name == "cuhk_sysu":
        dummies_frames.write_cuhk_sysu(
            tmp_path / "manual" / "CUHK-SYSU",
            sizes=(50,),
        )
    (tmp_path / "manual").mkdir(exist_ok=True)
    (tmp_path / "manual" / "x").touch()
    with pytest.raises(FileNotFoundError, match=lacks):
        open_frames(
            f"{name}/strict", data_dir=str(tmp_path / "d"), manual_dir=str(tmp_path / "manual")
        )
    with pytest.raises(FileNotFoundError, match="neither built in"):
        open_frames(name, data_dir=str(tmp_path / "d"), manual_dir=str(tmp_path / "nowhere"))


def test_wrong_counts_are_named(tmp_path):
    with (
        pytest.raises(ValueError, match=r"train: 3 frames, expected 5704\n  train: 4 boxes"),
        pytest.warns(UserWarning, match="train: 2 identities, expected 482"),
    ):
        opened("prw", tmp_path, config="strict")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"c1s1_000002": ("box_new", [(1, 100, 2, 10, 20)])}, r"000002.jpg: .* outside its frame"),
        ({"c1s1_000002": ("box_new", [(1, 1, 2, 0, 20)])}, r"\(1, 2, 1, 22\) is inverted or empty"),
        ({"c1s1_000002": ("box_new", [])}, r"nobody is annotated .* frames/c1s1_000002.jpg"),
        ({"c1s1_000002": ("boxes", [])}, r"000002.jpg.mat has none of box_new"),
        ({"cam_2": ("box_new", [(1, 1, 2, 10, 20)])}, r"cam_2.jpg is not of the form c1s3_016371"),
    ],
)
def test_prw_bad_frames(parts, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        opened("prw", tmp_path, frames=parts)


def test_prw_bad_queries(tmp_path):
    with pytest.raises(ValueError, match=r"query_info.txt, line 1: '6 1 2 3' is not"):
        opened("prw", tmp_path / "a", queries="6 1 2 3\n")
    with pytest.raises(ValueError, match=r"line 2: person 7 is not in a test frame c6s3_000009"):
        opened("prw", tmp_path / "b", queries="6 1 2 3 4 c1s1_000009\n7 1 2 3 4 c6s3_000009.jpg")


def test_corrupt_frame_is_named(tmp_path):
    root = dummies_frames.write_prw(tmp_path / "manual" / "PRW")
    (root / "frames" / "c2s1_000001.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"prw: frames/c2s1_000001.jpg is no readable image"):
        open_frames("prw/partial", data_dir=str(tmp_path), manual_dir=str(tmp_path / "manual"))


def test_cuhk_sysu_bad_files(tmp_path):
    train = [("p1", [("s77.jpg", (1, 2, 10, 20))])]
    with pytest.raises(ValueError, match=r"Train.mat names s77.jpg, which Images.mat does not"):
        opened("cuhk_sysu", tmp_path / "a", train=train)
    with pytest.raises(ValueError, match=r"pool.mat names s99.jpg"):
        opened("cuhk_sysu", tmp_path / "b", pool=["s99.jpg"])
    with pytest.raises(ValueError, match=r"TestG50.mat lists s5.jpg .* not a test frame"):
        opened("cuhk_sysu", tmp_path / "c", pool=["s4.jpg", "s6.jpg", "s8.jpg", "s9.jpg"])
    train = [("p1", [("s1.jpg", (1, 2, 10, 20)), ("s2.jpg", (1, 2, 3, 4))])]
    with pytest.warns(UserWarning, match=r"1 boxes .*Train.mat, s2.jpg, person 1"):
        opened("cuhk_sysu", tmp_path / "d", train=train)


def test_g2aps_bad_files(tmp_path):
    train = [("8", [("S1_2_00001.jpg", (1, 2, 10, 20))])]
    with pytest.raises(ValueError, match=r"1 people are in Train.mat and are queries .*8"):
        opened("g2aps", tmp_path / "a", train=train)
    train = [("nobody", [("S1_2_00001.jpg", (1, 2, 10, 20))])]
    with pytest.raises(ValueError, match=r"the name 'nobody' holds no number"):
        opened("g2aps", tmp_path / "b", train=train)
    queries = [(("S2_2_00007.jpg", (2, 3, 11, 21), "8"), {50: [("S2_2_00007.jpg", None)]})]
    with pytest.raises(ValueError, match=r"S2_2_00007.jpg, .* is not of the platform aerial"):
        opened("g2aps", tmp_path / "c", queries=queries)
