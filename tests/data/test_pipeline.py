import dataclasses
import pickle
import threading

import jax
import numpy as np
import pytest

from g2ajax.data import pipeline
from g2ajax.data.images import decode
from g2ajax.data.pipeline import (
    eval_batches,
    image_batches,
    load,
    local_rows,
    train_batches,
)
from g2ajax.data.samplers import index_table, make_sampler
from g2ajax.data.sharding import batch_sharding
from g2ajax.training.mesh import make_mesh
from tests.fake_data import make_split

SPLIT = make_split("train", range(5), 2)  # 20 images of 48 x 20
SIZE = (24, 12)
SAMPLER = make_sampler(
    "random_identity", SPLIT.label, SPLIT.camera, identities=4, images=2, seed=(3,)
)


def sharding(devices: int = 1):
    return batch_sharding(make_mesh(devices=jax.devices()[:devices]))


def batches(table, split=SPLIT, devices=1, **options):
    options = {"image_size": SIZE, **options}
    stream = train_batches(split, table, sharding=sharding(devices), **options)
    return [jax.device_get(batch) for batch in stream]


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_index_table_is_a_window_of_the_run():
    whole = index_table(SAMPLER, 0, 9)
    assert whole.shape == (9, 8)
    np.testing.assert_array_equal(index_table(SAMPLER, 4, 7), whole[4:7])
    np.testing.assert_array_equal(whole[8], SAMPLER.batch_indices(8))


def test_index_table_of_no_steps_is_empty():
    table = index_table(SAMPLER, 5, 5)
    assert table.shape == (0, 8)
    assert batches(table) == []


def test_a_batch_says_what_its_rows_are():
    table = index_table(SAMPLER, 0, 2)
    for rows, batch in zip(table, batches(table), strict=True):
        assert batch["image"].shape == (8, *SIZE, 3) and batch["image"].dtype == np.uint8
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(batch["image"][i], load(SPLIT, int(row), SIZE, "bicubic"))
        for name in ("label", "identity", "camera", "platform", "attributes"):
            np.testing.assert_array_equal(batch[name], getattr(SPLIT, name)[rows])
        np.testing.assert_array_equal(batch["index"], rows)
        assert batch["mask"].all()
        kinds = {name: batch[name].dtype.name for name in batch}
        assert kinds == {
            **dict.fromkeys(("index", "label", "identity", "camera", "platform"), "int32"),
            "image": "uint8",
            "attributes": "int8",
            "mask": "bool",
        }


def test_images_at_their_own_size_are_not_touched():
    image = load(SPLIT, 3, (48, 20), "bicubic")
    np.testing.assert_array_equal(image, decode(SPLIT.read(3)))


@pytest.mark.parametrize("threads", [1, 7])
def test_threads_change_nothing(threads):
    table = index_table(SAMPLER, 0, 4)
    assert_same(batches(table, num_threads=threads), batches(table))


def test_without_reader_threads_too():
    table = index_table(SAMPLER, 0, 2)
    assert_same(batches(table, num_threads=0), batches(table))


@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_run_that_starts_later_reads_what_the_whole_one_would(start):
    whole = batches(index_table(SAMPLER, 0, 6))
    assert_same(batches(index_table(SAMPLER, start, 6)), whole[start:])


@pytest.mark.parametrize("devices", [4, 8])
def test_devices_change_nothing(devices):
    table = index_table(SAMPLER, 0, 2)
    assert_same(batches(table, devices=devices), batches(table))


def test_batches_are_dealt_to_the_devices():
    stream = train_batches(SPLIT, index_table(SAMPLER, 0, 1), sharding=sharding(4), image_size=SIZE)
    shards = next(iter(stream))["image"].addressable_shards
    assert [shard.data.shape[0] for shard in shards] == [2, 2, 2, 2]


def test_a_worker_process_gives_the_same_batches():
    table = index_table(SAMPLER, 0, 3)
    assert_same(batches(table, num_workers=1), batches(table))


def test_a_split_pickles():
    again = pickle.loads(pickle.dumps(SPLIT))
    assert again.read(4) == SPLIT.read(4)
    np.testing.assert_array_equal(again.identity, SPLIT.identity)


def test_without_images():
    (batch,) = batches(index_table(SAMPLER, 0, 1), image_size=None)
    assert "image" not in batch
    np.testing.assert_array_equal(batch["index"], SAMPLER.batch_indices(0))


def test_every_row_once_in_order_and_the_last_batch_padded():
    stream = eval_batches(SPLIT, batch_size=8, sharding=sharding(), image_size=SIZE)
    read = [jax.device_get(batch) for batch in stream]
    assert [len(batch["image"]) for batch in read] == [8, 8, 8]
    index = np.concatenate([batch["index"] for batch in read])
    mask = np.concatenate([batch["mask"] for batch in read])
    np.testing.assert_array_equal(index, [*range(20), -1, -1, -1, -1])
    np.testing.assert_array_equal(mask, index >= 0)
    last = read[-1]
    assert (last["image"][4:] == 0).all() and last["image"][:4].any((1, 2, 3)).all()
    assert (last["label"][4:] == -1).all() and (last["identity"][4:] == -1).all()


def test_an_even_split_needs_no_padding():
    stream = eval_batches(SPLIT, batch_size=10, sharding=sharding(), image_size=SIZE)
    assert [bool(batch["mask"].all()) for batch in stream] == [True, True]


def test_local_rows_of_one_process_are_all():
    table = np.arange(12, dtype=np.int32).reshape(2, 6)
    np.testing.assert_array_equal(local_rows(table), table)


def test_local_rows_are_contiguous_pieces_in_order(monkeypatch):
    table = np.arange(12, dtype=np.int32).reshape(2, 6)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    pieces = []
    for process in range(3):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        pieces.append(local_rows(table))
    assert [piece.shape for piece in pieces] == [(2, 2)] * 3
    np.testing.assert_array_equal(np.concatenate(pieces, 1), table)


def test_local_rows_that_do_not_divide(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(ValueError, match="batch of 6 cannot be dealt to 4 processes"):
        local_rows(np.zeros((2, 6), np.int32))


def corrupt(row: int):
    images = list(SPLIT.images)
    images[row] = images[row][:60]
    return dataclasses.replace(SPLIT, images=tuple(images))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_names_itself_through_the_readers(workers):
    table = np.arange(8, dtype=np.int32)[None]
    with pytest.raises(Exception, match=r"train/p001c0i1\.png \(train\) cannot be decoded"):
        batches(table, corrupt(5), num_workers=workers)


def test_a_corrupt_image_that_no_batch_needs_does_no_harm():
    assert len(batches(np.arange(4, dtype=np.int32)[None], corrupt(5))) == 1


def test_batches_are_read_ahead_by_the_declared_number():
    taken = []

    def host():
        for step in range(6):
            taken.append(step)
            yield {"x": np.full((2,), step)}

    stream = pipeline.sharded_batches(host(), sharding())
    assert int(next(stream)["x"][0]) == 0
    assert taken == list(range(pipeline.PREFETCH + 1))
    assert [int(batch["x"][0]) for batch in stream] == [1, 2, 3, 4, 5]


def test_a_run_that_stops_early_leaves_no_reader_behind():
    before = set(threading.enumerate())
    stream = train_batches(
        SPLIT, index_table(SAMPLER, 0, 50), sharding=sharding(), image_size=SIZE, num_threads=2
    )
    next(stream)
    started = set(threading.enumerate()) - before
    assert started
    stream.close()
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)


def test_image_batches_reads_minus_one_as_black():
    table = np.array([[-1, 2]], np.int32)
    (images,) = image_batches(SPLIT, table, image_size=SIZE, interpolation="bicubic")
    assert not images[0].any() and images[1].any()
