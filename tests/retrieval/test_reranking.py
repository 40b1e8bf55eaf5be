import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.retrieval import evaluate_distances, rerank, rerank_blocks, rerank_distances

VARIANTS = ["zhong", "fastreid"]


def features(seed, rows, width=6, identities=4):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(identities, width))
    noise = rng.normal(size=(rows, width))
    return (2 * centres[rng.integers(0, identities, rows)] + noise).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def euclidean(x, y):
    return np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=-1)


def written_out(query, gallery, k1, k2, lambda_value, variant):
    """The definition with Python's sets and whole matrices, for unit-length embeddings."""
    everything = np.concatenate([query, gallery])
    square = euclidean(everything, everything) ** 2
    count, width = len(square), k1 + (variant == "zhong")
    scaled = square / square.max(1, keepdims=True) if variant == "zhong" else square
    order = np.argsort(square - 10 * np.eye(count), axis=1, kind="stable")

    def reciprocal(i, size):
        return {j for j in order[i, :size] if i in order[j, :size]}

    weight = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(i, width)
        grown = set(own)
        for j in own:
            other = reciprocal(j, min(width, round(k1 / 2) + 1))
            if 3 * len(other & own) > 2 * len(other):
                grown |= other
        members = sorted(grown)
        weight[i, members] = np.exp(-scaled[i, members]) / np.exp(-scaled[i, members]).sum()
    weight = np.stack([weight[order[i, :k2]].mean(0) for i in range(count)])
    smaller = np.minimum(weight[: len(query), None], weight[None, len(query) :]).sum(-1)
    larger = np.maximum(weight[: len(query), None], weight[None, len(query) :]).sum(-1)
    original = scaled if variant == "zhong" else square / 2
    original = original[: len(query), len(query) :]
    return (1 - lambda_value) * (1 - smaller / larger) + lambda_value * original


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 1), (3, 2), (5, 3), (9, 4), (24, 6)])
def test_agrees_with_the_definition(variant, k1, k2):
    query, gallery = features(k1, 5), features(k1 + 1, 24)
    expected = written_out(unit(query), unit(gallery), k1, k2, 0.3, variant)
    got = rerank(query, gallery, k1=k1, k2=k2, variant=variant)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_two_pairs_by_hand():
    # On a line: query 0 with gallery 1 at distance 1, two others far off; k1 = 1, no mean.
    query, gallery = np.array([[0.0]], np.float32), np.array([[1.0], [10.0], [11.0]], np.float32)
    got = rerank(query, gallery, metric="euclidean", k1=1, k2=1, lambda_value=0.0)
    # Weights of the query 1 : exp(-1/121), of its neighbour exp(-1/100) : 1 (largest 121 and 100).
    own = 1 / (1 + np.exp(-1 / 121))
    neighbour = np.exp(-1 / 100) / (1 + np.exp(-1 / 100))
    shared = min(own, neighbour) + min(1 - own, 1 - neighbour)
    np.testing.assert_allclose(got, [[1 - shared / (2 - shared), 1, 1]], atol=1e-6)
    original = rerank(query, gallery, metric="euclidean", k1=1, k2=1, lambda_value=1.0)
    np.testing.assert_allclose(original, [[1 / 121, 100 / 121, 1]], rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean"])
def test_fastreid_keeps_the_metric_as_original_distance(metric):
    query, gallery = features(0, 3), features(1, 12)
    got = rerank(query, gallery, metric=metric, k1=4, k2=2, lambda_value=1.0, variant="fastreid")
    power = 1 if metric == "euclidean" else 2
    np.testing.assert_allclose(got, euclidean(query, gallery) ** power, rtol=1e-4)


@pytest.mark.parametrize("block_size", [1, 3, 4, 7, 100])
def test_distances_and_features_agree_in_blocks_of_any_size(block_size, tmp_path):
    query, gallery = features(3, 6), features(4, 23)
    matrices = [
        euclidean(*pair).astype(np.float32)
        for pair in ((query, gallery), (query, query), (gallery, gallery))
    ]
    options = {"k1": 6, "k2": 3}
    expected = rerank(query, gallery, metric="euclidean", **options)
    got = rerank(query, gallery, metric="euclidean", block_size=block_size, **options)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    got = rerank_distances(*matrices, block_size=block_size, **options)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    np.save(tmp_path / "gallery.npy", matrices[2])
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    got_mapped = rerank_distances(*matrices[:2], mapped, block_size=block_size, **options)
    np.testing.assert_array_equal(got_mapped, got)


def test_blocks_of_rows_are_the_rows_of_the_whole():
    query, gallery = features(5, 7), features(6, 15)
    whole = rerank(query, gallery, k1=4, k2=2, block_size=3)
    found = list(rerank_blocks(query, gallery, k1=4, k2=2, block_size=3))
    assert [rows for rows, _ in found] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), whole)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), variant=st.sampled_from(VARIANTS))
def test_a_permuted_gallery_permutes_the_columns(seed, variant):
    query, gallery = features(seed, 5), features(seed + 1, 24)
    order = np.random.default_rng(seed).permutation(24)
    options = {"k1": 6, "k2": 3, "variant": variant}
    np.testing.assert_allclose(
        rerank(query, gallery[order], **options),
        rerank(query, gallery, **options)[:, order],
        atol=1e-5,
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_identical_features_are_finite_and_at_no_distance(variant, value, metric):
    query, gallery = np.full((1, 4), value, np.float32), np.full((30, 4), value, np.float32)
    got = rerank(query, gallery, metric=metric, k1=5, k2=3, variant=variant, lambda_value=0.0)
    assert np.isfinite(got).all()
    assert ((got >= 0) & (got <= 1)).all()
    # With as many neighbours as there are embeddings all neighbourhoods are the same.
    got = rerank(query, gallery, metric=metric, k1=30, k2=1, lambda_value=0.0)
    np.testing.assert_allclose(got, np.zeros((1, 30)), atol=1e-6)


def test_neighbours_repair_a_ranking():
    # The query is nearer to a stranger than to the far end of its own chain of images.
    query = np.array([[0.0, 0.0]], np.float32)
    chain = [[0.5 * step, 0.0] for step in range(1, 7)]
    strangers = [[0.0, 2.9], [0.1, 3.3], [0.0, 3.6], [0.1, 4.0], [0.0, 4.3], [0.1, 4.6]]
    gallery = np.array(chain + strangers, np.float32)
    labels = ([0], [0] * 6 + [1] * 6, [0], [1] * 12)
    before = evaluate_distances(euclidean(query, gallery).astype(np.float32), *labels)
    reranked = rerank(query, gallery, metric="euclidean", k1=5, k2=2)
    assert before.mAP < 1.0
    assert evaluate_distances(reranked, *labels).mAP == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k1": 13}, "k1 is 13, but the gallery has only 12 entries: at most 12"),
        ({"k2": 13}, "k2 is 13, but the gallery has only 12 entries: at most 12"),
        ({"k1": 0}, "k1 is 0; it must be at least 1"),
        ({"k2": 0}, "k2 is 0; it must be at least 1"),
        ({"block_size": 0}, "block_size is 0; it must be at least 1"),
        ({"lambda_value": 1.5}, "lambda_value is 1.5; expected a share from 0 to 1"),
        ({"variant": "zong"}, "variant 'zong' is unknown; known: zhong, fastreid"),
        ({"metric": "l2"}, "metric 'l2' is unknown"),
        ({"query": features(0, 0)}, "0 queries and 12 gallery entries: both are needed"),
        ({"gallery": features(0, 0)}, "3 queries and 0 gallery entries: both are needed"),
        ({"gallery": features(0, 12, 5)}, "query embeddings have 6 dimensions, gallery ones 5"),
        ({"query": features(0, 3) * np.nan}, "3 of 3 query embeddings are not finite"),
    ],
)
def test_bad_input(change, message):
    arguments = {"query": features(0, 3), "gallery": features(1, 12), "k1": 4, "k2": 2} | change
    with pytest.raises(ValueError, match=message):
        rerank(**arguments)
    # At the call, not at the first block.
    with pytest.raises(ValueError, match=message):
        rerank_blocks(**arguments)


def test_bad_distances():
    qg, qq, gg = np.ones((2, 5)), np.ones((2, 2)), np.ones((5, 5))
    with pytest.raises(ValueError, match=r"have shapes \(2, 5\), \(5, 5\), \(2, 2\); expected"):
        rerank_distances(qg, gg, qq, k1=2, k2=1)
    gg[3, 2] = np.nan
    with pytest.raises(ValueError, match="rows 0 to 6 of the distances"):
        rerank_distances(qg, qq, gg, k1=2, k2=1)
    with pytest.raises(ValueError, match="k1 is 6, but the gallery has only 5 entries"):
        rerank_distances(qg, qq, gg, k1=6, k2=1)
    gg[3, 2] = -1.0
    with pytest.raises(ValueError, match="negative"):
        rerank_distances(qg, qq, gg, k1=2, k2=1)
