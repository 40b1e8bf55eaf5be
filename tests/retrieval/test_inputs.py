"""Input that is refused by name, and the forms, kinds and defaults that are accepted."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from g2ajax.retrieval import (
    evaluate,
    evaluate_blocks,
    evaluate_distances,
    expand,
    rerank,
    rerank_blocks,
    rerank_distances,
    roc,
    search,
    single_gallery_shot,
)
from g2ajax.retrieval.prepared import prepare, search_prepared
from g2ajax.retrieval.roc import pairs
from tests.retrieval.arrays import (
    ENTRIES,
    FORMS,
    G_CAM,
    G_ID,
    LABELS,
    Q_CAM,
    Q_ID,
    QUERIES,
    WIDTH,
    distances,
    embeddings,
    precision,
)

OPTIONS = {"k1": 4, "k2": 2}
PUBLIC = (
    *(evaluate, evaluate_blocks, evaluate_distances, search, prepare, search_prepared),
    *(rerank, rerank_blocks, rerank_distances, expand, roc, pairs, single_gallery_shot),
)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, np.nan, 0, 1], "query_identity holds nan at position 2"),
        (np.array([0, 1, np.nan, 0, 1]), "query_identity holds nan at position 2"),
        ([0, 1.5, 2, 0, 1], "query_identity holds 1.5 at position 1"),
        ([0, 1, 2, None, 1], "query_identity holds None at position 3"),
        (["0", "1", "2", "0", "1"], "query_identity holds text, gallery_identity integers"),
        ([True, False, True, True, True], "query_identity holds booleans, gallery_identity int"),
        ([0, 1, 2, "0", 1], r"mixes integers and text \(first at position 3\)"),
        (np.array([0, 1, 2, 0, 2**53], np.float64), "whole numbers below 9007199254740992"),
        (np.array([0, 1, 2, 0, 2**24], np.float32), "whole numbers below 16777216"),
        ([0, 1, 2, [0], 1], r"holds \[0\] at position 3; expected integers, text"),
        (np.arange(5).astype("M8[D]"), r"of kind datetime64\[D\]; expected integers, text"),
        (np.ma.masked_array([0, 1, 2, 0, 1], [0, 0, 0, 0, 1]), "some entries are masked"),
        (np.array([Q_ID]), r"query_identity has shape \(1, 5\), but there are 5 embeddings"),
        ("01201", "query_identity has shape"),
        (None, "query_identity is None; expected integers, text"),
    ],
)
def test_labels_that_equal_nothing_are_named(labels, message):
    query, gallery = embeddings(0)
    with pytest.raises(ValueError, match=message):
        evaluate(query, gallery, labels, *LABELS[1:])


def test_whole_floats_and_booleans_are_labels():
    query, gallery = embeddings(1)
    expected = evaluate(query, gallery, *LABELS, block_size=8).average_precision
    labels = Q_ID.astype(np.float32), G_ID.astype(np.float64), Q_CAM == 1, G_CAM == 1
    result = evaluate(query, gallery, *labels, block_size=8)
    np.testing.assert_array_equal(result.average_precision, expected)


RUBBISH = {
    "none": None,
    "text": "features",
    "number": 3,
    "nothing": [],
    "empty rows": [[], []],
    "ragged": [[1.0, 2.0], [3.0]],
    "texts": np.array([["a", "b"]] * QUERIES),
    "complex": np.ones((QUERIES, WIDTH), complex),
    "objects": np.array([[None] * WIDTH] * QUERIES, object),
    "times": np.ones((QUERIES, WIDTH), "m8[s]"),
    "three axes": np.ones((2, 2, 2)),
    "one axis": np.ones(WIDTH),
    "masked": np.ma.masked_array(np.ones((QUERIES, WIDTH)), np.eye(QUERIES, WIDTH)),
    "mapping": {"a": 1},
    "object": object(),
    "nan": np.full((QUERIES, WIDTH), np.nan),
    "infinite": np.full((QUERIES, WIDTH), np.inf),
}
FEATURES, MATRIX = np.ones((QUERIES, WIDTH)), np.ones((QUERIES, ENTRIES))
GALLERY = np.ones((ENTRIES, WIDTH))
CALLS = {
    "evaluate": lambda x: evaluate(x, GALLERY, *LABELS),
    "evaluate, gallery": lambda x: evaluate(FEATURES, x, *LABELS),
    "evaluate, identity": lambda x: evaluate(FEATURES, GALLERY, x, *LABELS[1:]),
    "evaluate, junk": lambda x: evaluate(FEATURES, GALLERY, *LABELS, junk=x),
    "evaluate_distances": lambda x: evaluate_distances(x, *LABELS),
    "evaluate_blocks": lambda x: evaluate_blocks([(slice(0, QUERIES), x)], *LABELS),
    "evaluate_blocks, rows": lambda x: evaluate_blocks([(np.array([99]), x)], *LABELS),
    "search": lambda x: search(x, GALLERY, 1),
    "search, gallery": lambda x: search(FEATURES, x, 1),
    "prepare": prepare,
    "search_prepared": lambda x: search_prepared(x, prepare(GALLERY), 1),
    "rerank": lambda x: rerank(x, GALLERY, **OPTIONS),
    "rerank_blocks": lambda x: rerank_blocks(FEATURES, x, **OPTIONS),
    "rerank_distances": lambda x: rerank_distances(x, np.eye(QUERIES), np.eye(ENTRIES), k1=1, k2=1),
    "expand": lambda x: expand(x, GALLERY),
    "roc": lambda x: roc(x, [True, False]),
    "roc, same": lambda x: roc([0.5, 0.2], x),
    "pairs": lambda x: pairs(x, *LABELS),
    "pairs, identity": lambda x: pairs(MATRIX, x, *LABELS[1:]),
    "single_gallery_shot": lambda x: single_gallery_shot(x, *LABELS),
    "single_gallery_shot, camera": lambda x: single_gallery_shot(MATRIX, *LABELS[:3], x),
}


@pytest.mark.parametrize("name", CALLS)
def test_rubbish_is_refused_with_a_value_error(name):
    for kind, value in RUBBISH.items():
        if (name, kind) == ("evaluate, junk", "none"):
            continue
        with pytest.raises(ValueError, match=r".+"):
            pytest.fail(f"{kind} gave {CALLS[name](value)}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["numpy", "jax", "list", "dlpack"])
def test_the_side_and_the_rows_that_are_not_finite_are_named(value, form):
    query, gallery = embeddings(2)
    gallery[7, 2] = value
    broken = FORMS[form](gallery)
    message = r"1 of 12 gallery embeddings are not finite \(rows \[7\]"
    for call in (
        lambda: evaluate(query, broken, *LABELS),
        lambda: search(query, broken, 1),
        lambda: prepare(broken),
        lambda: rerank(query, broken, **OPTIONS),
        lambda: rerank_blocks(query, broken, **OPTIONS),
        lambda: expand(query, broken),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=r"of 12 query embeddings are not finite \(rows \[7\]"):
        search_prepared(broken, prepare(query), 1)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_array_gives_the_same_digits(form):
    query, gallery = embeddings(3)
    written, expected = FORMS[form], evaluate(*embeddings(3), *LABELS, block_size=8)
    labels = [written(side) for side in LABELS]
    result = evaluate(written(query), written(gallery), *labels, block_size=8)
    np.testing.assert_array_equal(result.average_precision, expected.average_precision)
    np.testing.assert_array_equal(
        rerank(written(query), written(gallery), **OPTIONS), rerank(query, gallery, **OPTIONS)
    )
    for side, plain in zip(
        expand(written(query), written(gallery), k=3), expand(query, gallery, k=3), strict=True
    ):
        np.testing.assert_array_equal(side, plain)
    matrices = [
        np.asarray(distances(*pair, "euclidean"), np.float32)
        for pair in ((query, gallery), (query, query), (gallery, gallery))
    ]
    np.testing.assert_array_equal(
        rerank_distances(*map(written, matrices), **OPTIONS),
        rerank_distances(*matrices, **OPTIONS),
    )
    flags = np.arange(ENTRIES) == 3
    dropped = evaluate(query, gallery, *LABELS, junk=written(flags), block_size=8)
    assert dropped.mAP == evaluate(query, gallery, *LABELS, junk=flags, block_size=8).mAP


@pytest.mark.parametrize(
    "dtype", [np.float16, jnp.bfloat16, np.int8, np.int64, np.longdouble, bool]
)
def test_every_kind_of_number_is_an_embedding(dtype):
    rng = np.random.default_rng(0)
    query, gallery = (rng.integers(-3, 4, (n, WIDTH)).astype(dtype) for n in (QUERIES, ENTRIES))
    metric = {"metric": "squared_euclidean"}
    result = evaluate(query, gallery, *LABELS, block_size=8, **metric)
    expected = precision(distances(query, gallery, **metric))
    np.testing.assert_allclose(result.average_precision, expected, rtol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "squared_euclidean", "euclidean"])
@pytest.mark.parametrize("exponent", [-100, 100])
def test_a_sharded_gallery_of_any_magnitude(metric, exponent):
    query, gallery = embeddings(4)
    gallery = np.concatenate([gallery, gallery[:4] + 1])
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    sharded = jax.device_put(
        np.ldexp(gallery, exponent), NamedSharding(mesh, PartitionSpec("data"))
    )
    plain = search(query, gallery, 6, metric=metric)
    near = search(np.ldexp(query, exponent), sharded, 6, metric=metric)
    np.testing.assert_array_equal(near.index, plain.index)
    labels = Q_ID, np.arange(16) % 4, Q_CAM, np.arange(16) // 8
    result = evaluate(np.ldexp(query, exponent), sharded, *labels, metric=metric, block_size=8)
    expected = precision(distances(query, gallery, metric), *labels)
    np.testing.assert_allclose(result.average_precision, expected, rtol=1e-12)


def test_numbers_that_a_device_takes_for_0_are_refused_or_exact():
    query, gallery = embeddings(5)
    tiny = (gallery * np.float32(2) ** -140).astype(np.float32)
    agreed = precision(distances(query, tiny, "cosine"))
    result = evaluate(query, tiny, *LABELS, block_size=8)
    np.testing.assert_allclose(result.average_precision, agreed, rtol=1e-12)
    with pytest.raises(ValueError, match="which the device takes for 0; multiply them"):
        evaluate(query, jnp.asarray(tiny), *LABELS)


@pytest.mark.parametrize("power", [-70, 70])
def test_given_distances_beyond_squares_are_refused(power):
    sizes = ((2, 5), (2, 2), (5, 5))
    for dtype in (np.float32, np.float64):
        matrices = [np.full(size, 2.0**power, dtype) for size in sizes]
        with pytest.raises(ValueError, match="whose squares float32 cannot hold"):
            rerank_distances(*matrices, k1=2, k2=1)


def test_expansion_and_fastreid_refuse_what_their_results_cannot_hold():
    query, gallery = (side.astype(np.float64) for side in embeddings(6))
    for factor in (1e39, 1e-60):
        with pytest.raises(ValueError, match="float32 does not hold means of both"):
            expand(query * factor, gallery, k=3)
    with pytest.raises(ValueError, match="with the variant 'fastreid', whose weights"):
        rerank(query * 1e30, gallery * 1e30, metric="euclidean", variant="fastreid", **OPTIONS)


def test_powers_without_end_are_refused():
    # Of 90 cosines of an embedding with itself, some are rounded to more than 1.
    query, gallery = np.split(np.random.default_rng(0).normal(size=(90, 8)), [30])
    with pytest.raises(ValueError, match="float32 does not hold such powers of a cosine"):
        expand(query, gallery, k=3, alpha=10**9)


def test_without_cameras_nothing_is_dropped_for_them():
    query, gallery = embeddings(7)
    distance = distances(query, gallery, "cosine").astype(np.float32)
    apart = Q_ID, G_ID, np.zeros(QUERIES), np.ones(ENTRIES)
    expected = precision(distance, *apart)
    for result in (
        evaluate(query, gallery, Q_ID, G_ID, block_size=8),
        evaluate_distances(distance, Q_ID, G_ID),
        evaluate_blocks([(slice(None), distance)], Q_ID, G_ID),
    ):
        np.testing.assert_allclose(result.average_precision, expected, rtol=1e-12)
    np.testing.assert_array_equal(
        single_gallery_shot(distance, Q_ID, G_ID), single_gallery_shot(distance, *apart)
    )
    assert len(pairs(distance, Q_ID, G_ID)[0]) == QUERIES * ENTRIES
    for call in (
        lambda: evaluate(query, gallery, Q_ID, G_ID, Q_CAM),
        lambda: evaluate_distances(distance, Q_ID, G_ID, query_camera=Q_CAM),
        lambda: single_gallery_shot(distance, Q_ID, G_ID, query_camera=Q_CAM),
        lambda: pairs(distance, Q_ID, G_ID, Q_CAM),
    ):
        with pytest.raises(ValueError, match="gallery_camera is missing, but the other side's"):
            call()
    with pytest.raises(ValueError, match="query_camera is missing, but the other side's"):
        evaluate(query, gallery, Q_ID, G_ID, gallery_camera=G_CAM)


def test_ranks_are_one_or_several_whole_numbers():
    distance = np.random.default_rng(0).random((1, 80)).astype(np.float32)
    labels = [0], [0, *range(1, 80)]
    distance[0, 0] = np.sort(distance[0])[60] + 1e-4
    for ranks in (70, np.int64(70), [70], np.array([1, 70]), range(1, 71)):
        assert len(evaluate_distances(distance, *labels, ranks=ranks).cmc) == 70
    for ranks in ((), 5, 10**12):
        result = evaluate_distances(distance, *labels, ranks=ranks)
        # Ranks beyond those asked for are known all the same.
        assert (result.rank(50), result.rank(79), result.rank(500)) == (0.0, 1.0, 1.0)
    for ranks in (0, [1, -1], 1.5, [2.0], True):
        with pytest.raises(ValueError, match="a rank is"):
            evaluate_distances(distance, *labels, ranks=ranks)


def test_a_rank_outside_the_list_is_refused():
    distance = np.random.default_rng(1).random((QUERIES, ENTRIES)).astype(np.float32)
    result = evaluate_distances(distance, *LABELS)
    for rank in (0, -1, 1.5, 1.0, True):
        for call in (result.rank, result.hits):
            with pytest.raises(ValueError, match="expected a whole number from 1 to 12, the gall"):
                call(rank)
    assert result.rank(np.int64(12)) == result.rank(13) == 1.0


def test_draws_have_no_rank_that_was_not_asked_for():
    distance = np.random.default_rng(2).random((1, 90)).astype(np.float32)
    distance[0, 0] = 2.0
    options = {"cmc": "single-gallery-shot"}
    result = evaluate_distances(distance, [0], np.arange(90), **options)
    with pytest.raises(
        ValueError, match="rank 60 was not computed, only ranks 1 to 50; pass ranks=60"
    ):
        result.rank(60)
    assert evaluate_distances(distance, [0], np.arange(90), ranks=90, **options).rank(90) == 1.0


def test_a_result_is_one_line():
    distance = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    result = evaluate_distances(distance, [0, 0, 9], [1, 0, 1, 2])
    assert repr(result) == (
        "RetrievalResult(mAP=0.4167, rank-1=0.0000, mINP=0.4167, 2 of 3 queries valid, "
        "4 gallery entries)"
    )


def test_rows_given_twice_or_outside_are_refused():
    distance = np.ones((QUERIES, ENTRIES))
    with pytest.raises(ValueError, match="are given twice"):
        evaluate_blocks([(slice(0, 5), distance), (slice(0, 1), distance[:1])], *LABELS)
    with pytest.raises(ValueError, match="of 5 queries"):
        evaluate_blocks([(np.array([9]), distance[:1])], *LABELS)


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_hints_are_short(function):
    for parameter in inspect.signature(function).parameters.values():
        assert len(str(parameter)) < 110 and "jaxtyping" not in str(parameter)
