import dataclasses
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest

from g2ajax.data import builders, crop_source
from g2ajax.data.crop_source import KINDS, fingerprint
from g2ajax.data.images import decode
from g2ajax.data.source import open_dataset
from tests.fake_data import make_dataset

NAME = "skyground/crops_tiny"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of built datasets, with the tiny world in it, and the world opened."""
    data_dir = tmp_path_factory.mktemp("built")
    return data_dir, open_dataset(NAME, data_dir=str(data_dir))


@pytest.fixture
def copied(built, tmp_path):
    """A copy that a test may spoil, and the folder of its records."""
    shutil.copytree(built[0], tmp_path, dirs_exist_ok=True)
    (info,) = tmp_path.rglob("dataset_info.json")
    return tmp_path, info.parent


def reopen(data_dir: pathlib.Path):
    return open_dataset(NAME, data_dir=str(data_dir), build=False)


def scans(monkeypatch) -> list:
    """Grows by one with every scan of a split's records."""
    done, columns = [], crop_source._columns
    monkeypatch.setattr(crop_source, "_columns", lambda *a: done.append(a) or columns(*a))
    return done


def assert_same(one, other):
    assert one.splits.keys() == other.splits.keys()
    for name, split in one.splits.items():
        for column in ("position", *crop_source.COLUMNS):
            ours, theirs = getattr(split, column), getattr(other.splits[name], column)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_it_is_built_and_opened(built):
    _, dataset = built
    assert dataset.name == NAME
    assert set(dataset.splits) == {"train", "query", "gallery"}
    assert [row["name"] for row in dataset.protocols] == ["A2G", "G2A", "ALL"]
    assert dataset.metadata["world_size"] == "tiny"
    assert dataset.attribute_groups and all(names for _, names in dataset.attribute_groups)
    for split in dataset.splits.values():
        assert len(split) == len(split.image_id) > 0
        assert split.attributes.shape == (len(split), len(dataset.attribute_groups))
        assert split.protocols.shape == (len(split), 3)
        assert (split.kind == KINDS.index("person")).all()


def test_columns_have_their_declared_types(built):
    split = built[1].splits["query"]
    types = {name: getattr(split, name).dtype.name for name in crop_source.COLUMNS[1:]}
    assert types == {
        "identity": "int64",
        "label": "int32",
        "kind": "int8",
        "camera": "int32",
        "platform": "int8",
        "altitude_level": "int8",
        "attributes": "int8",
        "protocols": "bool",
    }


def test_rows_are_sorted_and_read_their_own_image(built):
    for split in built[1].splits.values():
        ids = split.image_id.tolist()
        assert ids == sorted(set(ids))
        records = builders.records(split.folder, split.name)
        for row in (0, len(split) // 2, len(split) - 1):
            record = records[int(split.position[row])]
            assert record["image_id"].decode() == ids[row]
            assert record["identity"] == split.identity[row]
            assert record["camera"] == split.camera[row]
            assert split.read(row) == record["image"]
            assert decode(split.read(row)).ndim == 3


def test_train_labels_count_the_identities(built):
    dataset = built[1]
    train = dataset.splits["train"]
    _, expected = np.unique(train.identity, return_inverse=True)
    np.testing.assert_array_equal(train.label, expected)
    assert (dataset.splits["query"].label == -1).all()
    assert not np.isin(dataset.splits["query"].identity, train.identity).any()


def test_protocol_rows(built):
    dataset = built[1]
    query, gallery, described = dataset.protocol("A2G")
    assert described["query_platform"] == "aerial"
    assert len(query) and len(gallery)
    assert (dataset.splits["query"].platform[query] == builders.PLATFORMS.index("aerial")).all()
    assert (dataset.splits["gallery"].platform[gallery] == builders.PLATFORMS.index("ground")).all()


def record(image_id: bytes, attributes: list[int], protocols: list[int], **changes):
    numbers = {"identity": 5, "label": -1, "kind": 0, "camera": 2, "platform": -1}
    numbers |= {"altitude_level": -1, **changes}
    return {"image_id": image_id, "attributes": attributes, "protocols": protocols, **numbers}


def test_columns_of_records_by_hand():
    records = [
        record(b"b.jpg", [], [1], identity=2**40),
        record(b"c.jpg", [1, 0, 1], []),
        record(b"a.jpg", [1, 1, 0], [0, 2]),
    ]
    columns = crop_source._columns(records, 3)
    assert columns["position"].tolist() == [2, 0, 1]
    assert columns["image_id"].tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert columns["identity"].tolist() == [5, 2**40, 5]
    # A record without attributes has −1: unknown.
    assert columns["attributes"].tolist() == [[1, 1, 0], [-1, -1, -1], [1, 0, 1]]
    assert columns["protocols"].tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_columns_of_no_records():
    columns = crop_source._columns([], 2)
    assert columns["image_id"].dtype.kind == "U"
    assert columns["attributes"].shape == (0, 0) and columns["protocols"].shape == (0, 2)


def test_the_columns_are_cached(copied, built, monkeypatch):
    data_dir, folder = copied
    reopen(data_dir)  # the copied files are younger, so the cache is written anew
    done = scans(monkeypatch)
    again = reopen(data_dir)
    assert not done
    assert_same(again, built[1])
    caches = sorted(path.name for path in folder.glob("columns-*"))
    assert caches == ["columns-gallery.npz", "columns-query.npz", "columns-train.npz"]


def test_a_stale_cache_is_rebuilt(copied, built, monkeypatch):
    data_dir, folder = copied
    reopen(data_dir)
    cache = folder / "columns-query.npz"
    stored = dict(np.load(cache))
    np.savez(cache, **{**stored, "identity": stored["identity"] + 1})
    assert (reopen(data_dir).splits["query"].identity == stored["identity"] + 1).all()
    # The dataset is built again: its description is younger than the cache says.
    os.utime(folder / "dataset_info.json", ns=(1, int(stored["built"]) + 10**9))
    done = scans(monkeypatch)
    assert_same(reopen(data_dir), built[1])
    assert len(done) == 3
    assert_same(reopen(data_dir), built[1])
    assert len(done) == 3


@pytest.mark.parametrize("spoil", ["cut", "text", "empty", "column"])
def test_an_unreadable_cache_is_rebuilt(copied, built, monkeypatch, spoil):
    data_dir, folder = copied
    reopen(data_dir)
    cache = folder / "columns-train.npz"
    if spoil == "column":  # as another version would have written it
        stored = dict(np.load(cache))
        del stored["platform"]
        np.savez(cache, **stored)
    else:
        data = cache.read_bytes()
        cache.write_bytes({"cut": data[: len(data) // 2], "text": b"no", "empty": b""}[spoil])
    done = scans(monkeypatch)
    assert_same(reopen(data_dir), built[1])
    assert len(done) == 1


def test_a_folder_that_cannot_be_written_opens_all_the_same(copied, built, monkeypatch):
    data_dir, folder = copied
    for cache in folder.glob("columns-*"):
        cache.unlink()

    def refuse(*args, **kwargs):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(np, "savez", refuse)
    assert_same(reopen(data_dir), built[1])
    assert not list(folder.glob("columns-*"))


def test_a_split_pickles_without_its_records(built):
    split = built[1].splits["gallery"]
    first = split.read(1)
    data = pickle.dumps(split)
    assert len(data) < sum(len(split.read(row)) for row in range(len(split)))
    again = pickle.loads(data)
    assert again.read(1) == first
    np.testing.assert_array_equal(again.identity, split.identity)


def test_the_fingerprint_is_stable(built, copied):
    assert reopen(copied[0]).fingerprint == built[1].fingerprint
    assert len(built[1].fingerprint) == 12
    assert make_dataset().fingerprint == make_dataset().fingerprint


@pytest.mark.parametrize(
    "column", ["identity", "camera", "platform", "kind", "protocols", "attributes", "image_id"]
)
def test_the_fingerprint_sees_every_column(column):
    splits = make_dataset().splits
    changed = getattr(splits["query"], column).copy()
    changed[0] = "other" if column == "image_id" else changed[0] ^ 1
    other = {**splits, "query": dataclasses.replace(splits["query"], **{column: changed})}
    assert fingerprint(other) != fingerprint(splits)


def test_the_fingerprint_does_not_see_pixels():
    splits = make_dataset().splits
    blank = dataclasses.replace(splits["query"], images=(b"",) * len(splits["query"]))
    assert fingerprint({**splits, "query": blank}) == fingerprint(splits)


def test_the_data_folder_of_the_environment(built, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(built[0]))
    assert open_dataset(NAME, build=False).fingerprint == built[1].fingerprint


def test_unknown_dataset_gives_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="no dataset 'skygrund'; did you mean 'skyground'"):
        open_dataset("skygrund", data_dir=str(tmp_path))


def test_unknown_configuration_gives_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"no configuration 'crops_tny'; did you mean 'crops_tiny"):
        open_dataset("skyground/crops_tny", data_dir=str(tmp_path))


def test_unknown_protocol_gives_the_nearest(built):
    with pytest.raises(ValueError, match="crops_tiny has no protocol 'A2'; did you mean 'A2G'"):
        built[1].protocol("A2")


def test_a_dataset_that_is_not_built_and_shall_not_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{NAME} is not built in {tmp_path}"):
        open_dataset(NAME, data_dir=str(tmp_path), build=False)


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_download_says_where_to_put_it(tmp_path, exists):
    manual = tmp_path / "manual"
    if exists:
        manual.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        open_dataset("agreid", data_dir=str(tmp_path), manual_dir=str(manual))
    text = str(caught.value)
    assert "agreid is neither built in" in text
    assert f"nor downloaded in {manual}" in text
    assert f"Put it below {manual}" in text
    assert "--config.data.manual_dir" in text
    assert "http" in text


def test_the_manual_folder_below_the_data_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"Put it below {tmp_path}/downloads/manual"):
        open_dataset("agreid", data_dir=str(tmp_path))
