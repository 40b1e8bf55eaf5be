import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from g2ajax.retrieval import pairwise, search

BY_ROWS = PartitionSpec("data")
METRICS = ["cosine", "squared_euclidean", "euclidean"]


def whole_numbers(seed, rows, width=5, values=3):
    """Products of small whole numbers are exact in any order, so equal distances are equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(-values, values + 1, (rows, width)).astype(np.float32)


def by_sorting(queries, gallery, k, metric="squared_euclidean"):
    distance = np.asarray(pairwise(jnp.asarray(queries), jnp.asarray(gallery), metric))
    index = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(distance, index, axis=1)


def sharded(gallery, shape=(8,), spec=BY_ROWS, axes=AxisType.Auto):
    names = ("data", "model")[: len(shape)]
    axis_types = (axes,) * len(shape)
    mesh = jax.make_mesh(shape, names, axis_types=axis_types)
    return jax.device_put(gallery, NamedSharding(mesh, spec))


def equal(found, expected):
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.distance, expected.distance)


def test_by_hand_with_ties_in_gallery_order():
    gallery = np.array([[3.0], [1.0], [-1.0], [1.0], [0.0]], np.float32)
    found = search(np.array([[0.0], [3.0]], np.float32), gallery, 4, metric="squared_euclidean")
    np.testing.assert_array_equal(found.index, [[4, 1, 2, 3], [0, 1, 3, 4]])
    np.testing.assert_array_equal(found.distance, [[0, 1, 1, 1], [0, 4, 4, 9]])


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_agrees_with_a_sort(metric):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(7, 12)), rng.normal(size=(53, 12))
    queries, gallery = queries.astype(np.float32), gallery.astype(np.float32)
    found = search(queries, gallery, 10, metric=metric, block_size=3, gallery_block_size=16)
    index, distance = by_sorting(queries, gallery, 10, metric)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, atol=1e-5)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_blocks_iterators_and_shards_give_the_same_with_ties(seed):
    queries, gallery = whole_numbers(seed, 6, values=1), whole_numbers(seed + 1, 40, values=1)
    index, distance = by_sorting(queries, gallery, 17)
    options = {"metric": "squared_euclidean"}
    found = search(queries, gallery, 17, **options)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_array_equal(found.distance, distance)
    equal(search(queries, gallery, 17, block_size=4, gallery_block_size=7, **options), found)
    blocks = (gallery[start:stop] for start, stop in [(0, 3), (3, 3), (3, 28), (28, 40)])
    equal(search(queries, blocks, 17, gallery_block_size=16, **options), found)
    # Each of the 8 shards has 5 rows, fewer than k.
    equal(search(queries, sharded(gallery), 17, block_size=4, **options), found)


@pytest.mark.parametrize("axes", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((4, 2), PartitionSpec(("data", "model"))),
        ((2, 4), PartitionSpec("model")),
        ((8,), PartitionSpec()),
        ((2, 4), PartitionSpec(None, "model")),
    ],
)
def test_any_sharding(shape, spec, axes):
    queries, gallery = whole_numbers(0, 5, width=8), whole_numbers(1, 48, width=8)
    found = search(queries, sharded(gallery, shape, spec, axes), 9, metric="euclidean")
    equal(found, search(queries, gallery, 9, metric="euclidean"))


@pytest.mark.parametrize("metric", METRICS)
def test_sharded_floats(metric):
    rng = np.random.default_rng(3)
    queries = rng.normal(size=(5, 16)).astype(np.float32)
    gallery = rng.normal(size=(64, 16)).astype(np.float32)
    found = search(queries, sharded(gallery), 6, metric=metric)
    whole = search(queries, gallery, 6, metric=metric)
    np.testing.assert_array_equal(found.index, whole.index)
    np.testing.assert_allclose(found.distance, whole.distance, rtol=1e-6, atol=1e-6)


def test_memory_map(tmp_path):
    queries, gallery = whole_numbers(5, 4), whole_numbers(6, 30)
    path = tmp_path / "gallery.npy"
    np.save(path, gallery)
    mapped = np.load(path, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    found = search(queries, mapped, 8, metric="euclidean", gallery_block_size=8)
    equal(found, search(queries, gallery, 8, metric="euclidean"))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_permuted_gallery_permutes_the_result(seed):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(4, 6)).astype(np.float32)
    gallery = rng.normal(size=(20, 6)).astype(np.float32)
    order = rng.permutation(20)
    found = search(queries, gallery, 5)
    permuted = search(queries, gallery[order], 5)
    np.testing.assert_array_equal(order[permuted.index], found.index)


def test_identical_features_rank_in_gallery_order():
    found = search(np.ones((2, 3), np.float32), np.ones((9, 3), np.float32), 9, metric="euclidean")
    np.testing.assert_array_equal(found.index, np.tile(np.arange(9), (2, 1)))


def test_padding_never_appears_even_beside_infinite_distances():
    far = np.full((3, 2), 3e30, np.float32)
    found = search(
        -far[:1], [far[:1], far[1:]], 3, metric="squared_euclidean", gallery_block_size=8
    )
    np.testing.assert_array_equal(found.index, [[0, 1, 2]])


FEW, MANY = np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "message"),
    [
        (FEW, MANY, 6, "k is 6, but the gallery has only 5 entries: at most 5"),
        (FEW, [MANY, MANY], 11, "k is 11, but the gallery has only 10 entries: at most 10"),
        (FEW, MANY, 0, "k is 0; it must be at least 1"),
        (FEW[:0], MANY, 1, "there are no queries"),
        (FEW, MANY[:0], 1, "the gallery is empty"),
        (FEW, [], 1, "the gallery is empty"),
        (FEW[:, :2], MANY, 1, "query embeddings have 2 dimensions, gallery ones 3"),
        (FEW, [MANY, MANY[:, :2]], 1, "query embeddings have 3 dimensions, gallery ones 2"),
        (FEW[0], MANY, 1, r"query embeddings have shape \(3,\); expected \[rows, D\]"),
        (FEW, MANY[0], 1, r"gallery embeddings have shape \(3,\); expected \[rows, D\]"),
        (FEW * np.nan, MANY, 1, "2 of 2 query embeddings are not finite"),
    ],
)
def test_bad_input(queries, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        search(queries, gallery, k)


def test_not_finite_rows_are_numbered_through_the_blocks():
    broken = MANY.copy()
    broken[3] = np.inf
    with pytest.raises(ValueError, match=r"1 of 5 gallery embeddings are not finite \(rows \[8\]"):
        search(FEW, [MANY, broken], 1)


def test_bad_input_of_a_sharded_gallery():
    gallery = np.ones((8, 3), np.float32)
    with pytest.raises(ValueError, match="k is 9, but the gallery has only 8 entries"):
        search(FEW, sharded(gallery), 9)
    with pytest.raises(ValueError, match="8 of 8 gallery embeddings are not finite"):
        search(FEW, sharded(gallery * np.nan), 1)
    with pytest.raises(ValueError, match="gallery ones 2; embed both with one network"):
        search(FEW, sharded(gallery[:, :2]), 1)


def test_unknown_metric_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        search(FEW, MANY, 1, metric="cosin")
