import dataclasses

import jax
import numpy as np
import pytest

from g2ajax.data.pipeline import train_batches
from g2ajax.data.residency import gather_batch, load_resident
from g2ajax.data.samplers import index_table, make_sampler
from g2ajax.data.sharding import batch_sharding, replicated
from g2ajax.training.mesh import make_mesh
from tests.fake_data import make_split

SPLIT = make_split("train", range(5), 3)  # 30 images: 4 devices do not divide them
SIZE = (24, 12)
gather = jax.jit(gather_batch)


def resident(devices: int, split=SPLIT, **options) -> jax.Array:
    mesh = make_mesh(devices=jax.devices()[:devices])
    options = {"image_size": SIZE, **options}
    return load_resident(split, sharding=batch_sharding(mesh), parts=devices, **options)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("devices", [1, 4])
def test_gathered_batches_are_the_hosts(devices, interpolation):
    mesh = make_mesh(devices=jax.devices()[:devices])
    sampler = make_sampler(
        "random_identity", SPLIT.label, SPLIT.camera, identities=4, images=2, seed=(1,)
    )
    store = resident(devices, interpolation=interpolation)
    host = train_batches(
        SPLIT,
        index_table(sampler, 0, 4),
        sharding=batch_sharding(mesh),
        image_size=SIZE,
        interpolation=interpolation,
    )
    for batch in host:
        np.testing.assert_array_equal(gather(store, batch["index"]), batch["image"])


@pytest.mark.parametrize(("devices", "rows"), [(1, 30), (4, 32), (8, 32), (3, 30)])
def test_zero_images_fill_the_last_part_up(devices, rows):
    store = resident(devices)
    assert store.shape == (rows, *SIZE, 3) and store.dtype == np.uint8
    sizes = {shard.data.shape[0] for shard in store.addressable_shards}
    assert sizes == {rows // devices}
    host = np.asarray(store)
    assert host[:30].any((1, 2, 3)).all() and not host[30:].any()


def test_the_store_may_be_whole_on_every_device():
    mesh = make_mesh(devices=jax.devices()[:4])
    store = load_resident(SPLIT, sharding=replicated(mesh), parts=1, image_size=SIZE)
    assert {shard.data.shape[0] for shard in store.addressable_shards} == {30}
    np.testing.assert_array_equal(store, resident(1))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads):
    np.testing.assert_array_equal(resident(1, num_threads=threads), resident(1))


def test_progress_ends_with_the_whole():
    told = []
    resident(1, progress=lambda done, total: told.append((done, total)))
    assert told == [(30, 30)]


def test_a_corrupt_image_names_itself():
    images = list(SPLIT.images)
    images[7] = b"\x89PNG nothing"
    split = dataclasses.replace(SPLIT, images=tuple(images))
    with pytest.raises(ValueError, match=r"train/p001c0i1\.png \(train\) cannot be decoded"):
        resident(1, split)
