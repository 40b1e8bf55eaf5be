"""The builder of the user's own crops on hand-written tables."""

import hashlib
import json

import numpy as np
import pytest

from g2ajax.data.crop_source import KINDS
from g2ajax.data.source import open_dataset
from g2ajax.evaluation.crops import evaluate_crops, scoring_fault
from tests.tfds_builders import dummies
from tfds_builders.crops_from_csv.crops_from_csv_dataset_builder import Builder, protocols_of
from tfds_builders.crops_from_csv.listing import Row, divide, numbers_of, read_rows

TABLE = """\
path,identity,camera,platform,split,bag,hat
a/1.jpg,anna,0,aerial,train,backpack,yes
a/2.jpg,anna,1,ground,train,,unknown
b\\3.jpg,Öl,2,Wearable,train,handbag,no
c/4.jpg,carl,0,aerial,query,backpack,no
c/5.jpg,carl,1,ground,query,backpack,no
c/5.jpg,carl,1,ground,gallery,backpack,no

c/6.jpg, carl ,2,wearable,gallery,backpack,no
"""


def write(manual, table, encoding="utf-8"):
    """The table and an image for each of its paths."""
    manual.mkdir(parents=True, exist_ok=True)
    (manual / "crops.csv").write_text(table, encoding=encoding)
    for seed, line in enumerate(table.splitlines()[1:]):
        path = line.split(",")[0].replace("\\", "/")
        if path.endswith(".jpg") and not path.startswith(("/", "..")):
            dummies.write_images(manual, {path.rpartition("/")[0]: [path.rpartition("/")[2]]})
            (manual / path).write_bytes(dummies.encoded(seed=seed))
    return manual


def build(tmp_path, table, config="strict", **kwargs):
    write(tmp_path / "manual", table, **kwargs)
    return dummies.build(Builder, tmp_path / "data", tmp_path / "manual", config)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("csv"), TABLE)


def test_records_follow_the_schema(built):
    dummies.check_built(built, {"train": 3, "query": 2, "gallery": 2})
    dummies.check_description("crops_from_csv")


def test_text_identities_are_numbered(built):
    train, query = dummies.rows(built, "train"), dummies.rows(built, "query")
    # sorted: anna, carl, Öl
    assert [(key, r["identity"], r["label"]) for key, r in train.items()] == [
        ("a/1.jpg", 0, 0),
        ("a/2.jpg", 0, 0),
        ("b/3.jpg", 2, 1),
    ]
    assert train["b/3.jpg"]["identity_raw"].decode() == "Öl"
    assert [(r["camera"], r["platform"]) for r in train.values()] == [(0, 0), (1, 1), (2, 2)]
    assert {r["identity"] for r in query.values()} == {1}


def test_attributes_are_the_other_columns(built):
    assert json.loads(built.info.metadata["attribute_groups"]) == {
        "bag": ["backpack", "handbag"],
        "hat": ["no", "yes", "unknown"],
    }
    train = dummies.rows(built, "train")
    assert [r["attributes"].tolist() for r in train.values()] == [[0, 1], [-1, 2], [1, 0]]


def test_protocols_are_those_of_the_platforms(built):
    protocols = json.loads(built.info.metadata["protocols"])
    assert [row["name"] for row in protocols] == ["A2G", "A2W", "G2W", "ALL"]
    query, gallery = dummies.rows(built, "query"), dummies.rows(built, "gallery")
    assert {key: r["protocols"].tolist() for key, r in query.items()} == {
        "c/4.jpg": [0, 1, 3],
        "c/5.jpg": [2, 3],
    }
    assert {key: r["protocols"].tolist() for key, r in gallery.items()} == {
        "c/5.jpg": [0, 3],
        "c/6.jpg": [1, 2, 3],
    }


def row(identity, camera, path, platform="ground"):
    return Row(0, path, identity, camera, platform, "", ())


def test_one_platform_has_one_protocol():
    rows = [row("a", 0, "1.jpg"), row("a", 1, "2.jpg")]
    assert [p["name"] for p in protocols_of(rows, rows)] == ["ALL"]


def test_search_in_the_own_platform_needs_two_cameras():
    rows = [row("a", 0, "1", "aerial"), row("a", 1, "2"), row("a", 2, "3")]
    assert [p["name"] for p in protocols_of(rows, rows)] == ["A2G", "G2A", "G2G", "ALL"]


def test_a_direction_without_a_match_is_no_protocol():
    # Two drones that never saw the same person, and a camera on the ground.
    rows = [
        *(row("a", 0, "1", "aerial"), row("a", 2, "2")),
        *(row("b", 1, "3", "aerial"), row("b", 2, "4")),
    ]
    assert [p["name"] for p in protocols_of(rows, rows)] == ["A2G", "G2A", "ALL"]
    met = [*rows, row("b", 0, "5", "aerial")]
    assert [p["name"] for p in protocols_of(met, met)] == ["A2G", "G2A", "A2A", "ALL"]
    strangers = [row("c", 3, "6", "wearable")]
    assert [p["name"] for p in protocols_of(rows, [*rows, *strangers])] == ["A2G", "G2A", "ALL"]


def test_where_nothing_matches_all_is_left():
    rows = [row("a", 0, "1"), row("b", 0, "2")]
    assert [p["name"] for p in protocols_of(rows, rows)] == ["ALL"]


def test_division_without_a_split_column(tmp_path):
    people = ["anna", "berta", "carl", "dora", "emil"]
    by_hash = sorted(people, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    # Each person: two images of camera 0, one of camera 1.
    lines = [
        f"{name}/{image}.jpg,{name},{camera},{platform}"
        for name in people
        for image, camera, platform in ((2, 0, "aerial"), (1, 0, "aerial"), (3, 1, "ground"))
    ]
    header = "path,identity,camera,platform"
    built = build(tmp_path, "\n".join([header, *lines]))
    dummies.check_built(built, {"train": 9, "query": 4, "gallery": 4})
    assert {key.split("/")[0] for key in dummies.rows(built, "train")} == set(by_hash[:3])
    query, gallery = dummies.rows(built, "query"), dummies.rows(built, "gallery")
    for name in by_hash[3:]:
        assert {key for key in query if name in key} == {f"{name}/1.jpg", f"{name}/3.jpg"}
        # The only image of camera 1 is searched for and searched in.
        assert {key for key in gallery if name in key} == {f"{name}/2.jpg", f"{name}/3.jpg"}
    # Another order of the lines divides alike.
    other = build(tmp_path / "other", "\n".join([header, *lines[::-1]]))
    assert set(dummies.rows(other, "query")) == set(query)


def test_identities_never_train_and_test():
    rows = [row(str(i), i % 2, f"{i}-{k}") for i in range(30) for k in range(2)]
    splits = divide(rows)
    sets = {split: {r.identity for r in part} for split, part in splits.items()}
    assert len(sets["train"]) == 15
    assert not sets["train"] & (sets["query"] | sets["gallery"])
    assert sets["query"] == sets["gallery"]


def test_number_identities_stay_themselves():
    assert numbers_of({"7", "12"}) == {"7": 7, "12": 12}
    assert numbers_of({"7", "07"}) == {"07": 0, "7": 1}


HEADER = "path,identity,camera,platform\n"
LINE = "a/1.jpg,anna,0,aerial\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,identity,camera\n" + LINE, "line 1: no column platform; the first line"),
        ("", "line 1: no column path, identity, platform"),
        ("path,identity,camera,platform,bag,bag\n", "line 1: an empty or repeated column"),
        (HEADER, "crops.csv lists no images of people"),
        (HEADER + "a/1.jpg,junk,0,aerial\n", "crops.csv lists no images of people"),
        (HEADER + LINE + "a/2.jpg,anna,1,drone\n", "line 3: platform 'drone' is none of aerial"),
        (HEADER + LINE + "\na/2.jpg,anna,-2,ground\n", "line 4: camera '-2' is not a whole"),
        (HEADER + LINE + "\na/2.jpg,anna,-1,ground\n", "line 4: no camera, but line 2 has one"),
        (HEADER + "a/1.jpg,anna,,aerial\n" + LINE, "line 3: a/1.jpg is in line 2 already"),
        (HEADER + "a/2.jpg,anna,c1,ground\n", "line 2: camera 'c1' is not a whole"),
        (HEADER + LINE + "a/2.jpg,,1,ground\n", "line 3: the identity is empty"),
        (HEADER + LINE + "a/2.jpg,anna,1\n", "line 3: 3 values, expected 4"),
        (HEADER + LINE + LINE, "line 3: a/1.jpg is in line 2 already"),
        (HEADER + "../1.jpg,anna,1,ground\n", "line 2: path '../1.jpg' is not below the table's"),
        (HEADER + "/1.jpg,anna,1,ground\n", "line 2: path '/1.jpg' is not below the table's"),
        (HEADER + "C:\\1.jpg,anna,1,ground\n", r"line 2: path 'C:\\\\1.jpg' is not below the"),
        (HEADER + ",anna,1,ground\n", "line 2: path '' is not below the table's folder"),
        (HEADER + "1.txt,anna,1,ground\n", "line 2: path '1.txt' does not end in .jpg"),
        (HEADER + LINE + "a/2.jpg,bo,0,ground\n", "line 3: camera 0 is ground, but aerial in line"),
        (
            "path,identity,camera,platform,split\na/1.jpg,anna,0,aerial,test\n",
            "line 2: split 'test' is none of train, query, gallery",
        ),
        (
            "path,identity,camera,platform,split\na/1.jpg,-1,0,aerial,train\n",
            "line 2: the identity '-1' is junk, no person: it may be in the gallery, not in train",
        ),
        (
            "path,identity,platform,split\na/1.jpg,bo,aerial,query\na/1.jpg,bo,aerial,gallery\n",
            r"line 2: a/1.jpg is in the gallery too \(line 3\), and without cameras a query would",
        ),
        (
            "path,identity,camera,platform,split\na/1.jpg,anna,0,aerial,train\n",
            "no images for the split 'query'",
        ),
    ],
)
def test_errors_name_the_line(tmp_path, table, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, table)


def test_absolute_paths_below_the_folder(tmp_path):
    """A table made by another program names its images from the root on, and with detours."""
    manual = write(tmp_path / "manual", TABLE)
    linked = tmp_path / "linked"
    linked.symlink_to(manual)
    for folder in (manual, linked):
        paths = {"a/1.jpg": f"{folder}/a/1.jpg", "c/4.jpg": "a/../c/4.jpg"}
        table = TABLE
        for name, path in paths.items():
            table = table.replace(name, path)
        (manual / "crops.csv").write_text(table)
        rows, _ = read_rows(linked / "crops.csv")
        assert [row.path for row in rows[:1] + rows[3:4]] == ["a/1.jpg", "c/4.jpg"]


OTHERS = """\
path,identity,camera,platform,split
a/1.jpg,7,0,aerial,train
a/2.jpg,7,1,ground,train
b/1.jpg,9,0,aerial,query
b/2.jpg,9,1,ground,gallery
b/3.jpg,-1,1,ground,gallery
b/4.jpg,Junk,1,ground,gallery
b/5.jpg,distractor,2,ground,gallery
"""


def test_junk_and_distractors_are_nobody(tmp_path):
    build(tmp_path, OTHERS)
    data_dir, manual = str(tmp_path / "data"), str(tmp_path / "manual")
    dataset = open_dataset("crops_from_csv", data_dir=data_dir, manual_dir=manual)
    gallery = dataset.splits["gallery"]
    assert gallery.identity.tolist() == [9, -1, -1, -1]
    assert [KINDS[kind] for kind in gallery.kind] == ["person", "junk", "junk", "distractor"]
    # The person is behind both pieces of junk and the distractor: junk does not count.
    features = {"query": np.array([[0.0]]), "gallery": np.array([[4.0], [1.0], [2.0], [3.0]])}
    (a2g, *_) = evaluate_crops(
        features, dataset, metric="squared_euclidean", feature_name="f", bootstrap_samples=10
    )
    assert (a2g.protocol, a2g.valid_queries, a2g.mAP, a2g.rank1) == ("A2G", 1, 50.0, 0.0)


@pytest.mark.parametrize("column", ["", ",camera"])
def test_without_cameras_nothing_is_left_out(tmp_path, column):
    people = ["anna", "berta", "carl", "dora", "emil", "frida"]
    lines = [f"{p}/{i}.jpg,{p},ground{',' if column else ''}" for p in people for i in (1, 2)]
    lines[1] = lines[-1] = ""  # one image of the first and of the last person
    build(tmp_path, "\n".join([f"path,identity,platform{column}", *lines]))
    data_dir, manual = str(tmp_path / "data"), str(tmp_path / "manual")
    dataset = open_dataset("crops_from_csv", data_dir=data_dir, manual_dir=manual)
    query, gallery = (dataset.splits[name] for name in ("query", "gallery"))
    assert set(query.camera) == set(gallery.camera) == {-1}
    assert not set(query.image_id) & set(gallery.image_id)
    assert set(query.identity) <= set(gallery.identity)
    assert [row["drop_same_camera"] for row in dataset.protocols] == [False]
    assert not scoring_fault(dataset, "ALL")
    # Each query's own person lies beside it.
    features = {name: dataset.splits[name].identity[:, None] * 1.0 for name in ("query", "gallery")}
    (result,) = evaluate_crops(
        features, dataset, metric="squared_euclidean", feature_name="f", bootstrap_samples=10
    )
    assert (result.valid_queries, result.mAP) == (len(query), 100.0)
    assert result.filter == "nothing left out"


def test_missing_images(tmp_path):
    manual = write(tmp_path / "manual", TABLE)
    (manual / "a" / "2.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"crops.csv, line 3: .*a/2.jpg does not exist \(1 of"
    ):
        dummies.build(Builder, tmp_path / "data", manual, "strict")
    with pytest.warns(UserWarning, match="1 of 7 images are missing"):
        built = dummies.build(Builder, tmp_path / "data", manual, "partial")
    assert list(dummies.rows(built, "train")) == ["a/1.jpg", "b/3.jpg"]


def test_no_table(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks crops.csv\nPut your images below"):
        dummies.build(Builder, tmp_path / "data", tmp_path)


def test_identities_in_train_and_test_are_told(tmp_path):
    table = TABLE + "c/7.jpg,carl,0,aerial,train,,\n"
    with pytest.warns(UserWarning, match=r"1 identities are in train and .* \(carl\)"):
        build(tmp_path, table)


def test_table_of_a_spreadsheet_with_a_byte_order_mark(tmp_path):
    built = build(tmp_path, TABLE.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert built.info.splits["train"].num_examples == 3


@pytest.mark.parametrize(
    ("encoding", "name", "byte"), [("cp1252", "Öl", "0xd6"), ("gbk", "王芳", "0xcd")]
)
def test_a_table_in_another_encoding_says_what_to_do(tmp_path, encoding, name, byte):
    message = f"crops.csv, line 4: the byte {byte} is not UTF-8; save the table as UTF-8"
    with pytest.raises(ValueError, match=message):
        build(tmp_path, TABLE.replace("Öl", name), encoding=encoding)


def test_changed_files_are_noticed(tmp_path, capsys):
    """A built dataset is never another folder's, nor an earlier state of its own."""
    data_dir, manual = str(tmp_path / "data"), write(tmp_path / "manual", TABLE)

    def fingerprint(folder, **options):
        return open_dataset(
            "crops_from_csv", data_dir=data_dir, manual_dir=str(folder), **options
        ).fingerprint

    first = fingerprint(manual)
    assert fingerprint(manual) == first and "building it again" not in capsys.readouterr().out
    other = write(tmp_path / "other", TABLE.replace("anna", "bertha"))
    second = fingerprint(other)
    assert second != first and "are not those it was built from" in capsys.readouterr().out
    # Without the files there is what was built last.
    assert fingerprint(tmp_path / "nowhere") == second
    (other / "a" / "1.jpg").write_bytes(dummies.encoded(seed=99))
    before = open_dataset("crops_from_csv", data_dir=data_dir).splits["train"].read(0)
    fingerprint(other)
    assert "building it again" in capsys.readouterr().out
    assert open_dataset("crops_from_csv", data_dir=data_dir).splits["train"].read(0) != before
