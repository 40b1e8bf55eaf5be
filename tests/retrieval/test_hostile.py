"""Arguments of any kind, shape and range: the right number or a ValueError, never anything else."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.retrieval import (
    evaluate,
    evaluate_blocks,
    evaluate_distances,
    expand,
    rerank,
    roc,
    search,
    single_gallery_shot,
)
from g2ajax.retrieval.prepared import prepare, search_prepared
from g2ajax.retrieval.roc import pairs
from tests.retrieval.arrays import (
    ENTRIES,
    FORMS,
    LABELS,
    QUERIES,
    OnlyDlpack,
    apart,
    distances,
    embeddings,
    precision,
)

OPTIONS = {"k1": 4, "k2": 2}
EUCLIDEAN = ["squared_euclidean", "euclidean"]
examples = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 10**6)


def agrees(result, expected):
    np.testing.assert_allclose(result.average_precision, expected, rtol=1e-12)
    assert result.mAP == pytest.approx(np.nanmean(expected), rel=1e-12)


def searches(query, gallery, metric):
    yield search(query, gallery, 6, metric=metric)
    yield search(query, iter([gallery[:8], gallery[8:]]), 6, metric=metric, gallery_block_size=8)
    yield search_prepared(query, prepare(gallery, metric), 6)


@examples
@given(seed=seeds, form=st.sampled_from(list(FORMS)), exponent=st.integers(-37, 38), data=st.data())
def test_cosine_does_not_depend_on_the_magnitude(seed, form, exponent, data):
    query, gallery = embeddings(seed)
    expected = precision(distances(query, gallery, "cosine"))
    scale = np.float64(10.0) ** exponent
    if form != "jax":
        # Each row by a factor of its own, beyond the range of float32.
        rng = np.random.default_rng(data.draw(seeds))
        query, gallery = query.astype(np.float64), gallery.astype(np.float64)
        scale = scale * 10.0 ** rng.integers(-150, 150, (ENTRIES, 1))
        query = query * 10.0 ** float(data.draw(st.integers(-290, 290)))
    with np.errstate(all="ignore"):
        scaled = (gallery * scale).astype(gallery.dtype)
    lost = not np.isfinite(scaled).all() or (np.abs(scaled).max(1) < 1.2e-38).any()
    if form == "jax" and lost:
        with pytest.raises(ValueError, match="gallery embeddings"):
            evaluate(query, jnp.asarray(scaled), *LABELS, block_size=8)
        return
    form = FORMS[form]
    agrees(evaluate(form(query), form(scaled), *LABELS, block_size=8), expected)
    near = search(form(query), form(scaled), 6)
    order = np.argsort(distances(query, gallery, "cosine"), axis=1)[:, :6]
    np.testing.assert_array_equal(near.index, order)
    near = search_prepared(form(query), prepare(form(scaled)), 6)
    np.testing.assert_array_equal(near.index, order)


@examples
@given(
    seed=seeds,
    metric=st.sampled_from(["cosine", *EUCLIDEAN]),
    kind=st.sampled_from([(np.float32, 100), (np.float64, 470)]),
    share=st.floats(-1, 1),
)
def test_powers_of_2_change_no_digit(seed, metric, kind, share):
    (dtype, most), (query, gallery) = kind, embeddings(seed)
    exponent = int(share * most)
    big = [np.ldexp(side.astype(dtype), exponent) for side in (query, gallery)]
    agrees(
        evaluate(*big, *LABELS, metric=metric, block_size=8),
        precision(distances(query, gallery, metric)),
    )
    power = {"cosine": 0, "euclidean": exponent, "squared_euclidean": 2 * exponent}[metric]
    for near, plain in zip(searches(*big, metric), searches(query, gallery, metric), strict=True):
        np.testing.assert_array_equal(near.index, plain.index)
        with np.errstate(all="ignore"):
            distance = np.ldexp(plain.distance.astype(np.float64), power).astype(np.float32)
        np.testing.assert_array_equal(near.distance, distance)
    np.testing.assert_array_equal(
        rerank(*big, metric=metric, **OPTIONS), rerank(query, gallery, metric=metric, **OPTIONS)
    )
    try:
        expanded = expand(*big, k=3)
    except ValueError:
        assert abs(exponent) > 110
    else:
        for side, plain in zip(expanded, expand(query, gallery, k=3), strict=True):
            np.testing.assert_array_equal(side, np.ldexp(plain, exponent))


@examples
@given(seed=seeds, metric=st.sampled_from(EUCLIDEAN), exponent=st.integers(-40, 40))
def test_rows_of_other_magnitudes_rank_right_or_are_refused(seed, metric, exponent):
    query, gallery = embeddings(seed)
    gallery = gallery.astype(np.float64)
    gallery[3:5] *= 10.0**exponent
    expected = distances(query, gallery, metric)
    if not apart(expected):
        # So near to nothing that they are equally far: float32 may not tell.
        return
    try:
        result = evaluate(query, gallery, *LABELS, metric=metric, block_size=8, top=12)
    except ValueError:
        if abs(exponent) <= {"euclidean": 17, "squared_euclidean": 30}[metric]:
            raise
        return
    assert abs(exponent) < 36
    agrees(result, precision(expected))
    listed = result.top >= 0
    with np.errstate(over="ignore"):
        own = np.take_along_axis(expected, np.maximum(result.top, 0), 1).astype(np.float32)
    np.testing.assert_allclose(result.top_distance[listed], own[listed], rtol=1e-3)


@examples
@given(
    seed=seeds,
    dtype=st.sampled_from([np.float32, np.float64, np.int64, np.uint64, np.int8]),
    form=st.sampled_from(["numpy", "list", "dlpack", "__array__"]),
    exponent=st.integers(-300, 300),
)
def test_given_distances_rank_by_their_exact_values(seed, dtype, form, exponent):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        if np.issubdtype(dtype, np.integer):
            distance = rng.integers(0, 30, (QUERIES, ENTRIES)).astype(dtype)
            distance += np.iinfo(dtype).max - np.array(40, dtype)
        else:
            # Neighbours are one digit apart.
            steps = rng.integers(0, 30, (QUERIES, ENTRIES)) * np.finfo(dtype).eps
            distance = ((1 + steps) * 10.0**exponent).astype(dtype)
    given, expected = FORMS[form](distance), precision(distance)
    result = evaluate_distances(given, *LABELS, block_size=3, top=1)
    agrees(result, expected)
    first = np.take_along_axis(distance, result.top, 1)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            result.top_distance[np.isfinite(result.top_distance)],
            first.astype(np.float32)[np.isfinite(result.top_distance)],
        )
    shots = single_gallery_shot(given, *LABELS, repeats=2)
    np.testing.assert_array_equal(np.isnan(shots[:, 0]), np.isnan(expected))
    values, same = pairs(given, *LABELS)
    better = (values[same][:, None] < values[~same][None]).mean()
    equal = (values[same][:, None] == values[~same][None]).mean()
    assert roc(values, same).auc == pytest.approx(better + equal / 2, rel=1e-9)


WIDE = 2**53
# How labels are written, by kind: from Python's integers.
KINDS = {
    "integers": (
        lambda x: [int(v) for v in x],
        lambda x: np.array([int(v) for v in x], np.int64),
        lambda x: np.array([int(v) for v in x], np.uint64),
        lambda x: np.array([int(v) for v in x], object),
        lambda x: OnlyDlpack(np.array([int(v) for v in x], np.int64)),
    ),
    "text": (
        lambda x: [f"p{v}" for v in x],
        lambda x: np.array([f"p{v}" for v in x]),
        lambda x: np.array([f"p{v}" for v in x], object),
    ),
    "bytes": (
        lambda x: [b"p%d" % v for v in x],
        lambda x: np.array([b"p%d" % v for v in x]),
    ),
    "objects": (lambda x: [("p", v) for v in x], lambda x: [*map(lambda v: ("p", v), x)]),
}


def written(data, kind, values):
    return data.draw(st.sampled_from(KINDS[kind]))(values)


@examples
@given(
    seed=seeds,
    kinds=st.tuples(*[st.sampled_from(["integers", *KINDS])] * 4),
    alike=st.booleans(),
    offset=st.sampled_from([0, 2**31, WIDE, 2**63 - 10]),
    data=st.data(),
)
def test_labels_of_one_kind_count_and_others_are_refused(seed, kinds, alike, offset, data):
    distance = np.random.default_rng(seed).random((QUERIES, ENTRIES)).astype(np.float32)
    if alike:
        kinds = (kinds[0], kinds[0], kinds[2], kinds[2])
    labels = [
        written(data, kind, [int(value) + offset for value in values])
        for kind, values in zip(kinds, LABELS, strict=True)
    ]
    blocks = [(slice(0, QUERIES), distance)]
    shots = {"repeats": 2, "max_rank": 5}
    if kinds[0] != kinds[1] or kinds[2] != kinds[3]:
        names = "identity holds|camera holds"
        for call in (
            functools.partial(evaluate, distance[:, :4], distance.T[:, :4]),
            functools.partial(evaluate_distances, distance),
            functools.partial(evaluate_blocks, blocks),
            functools.partial(single_gallery_shot, distance),
            functools.partial(pairs, distance),
        ):
            with pytest.raises(ValueError, match=names):
                call(*labels)
        return
    expected = precision(distance)
    agrees(evaluate_distances(distance, *labels, block_size=8), expected)
    agrees(evaluate_blocks(blocks, *labels), expected)
    np.testing.assert_array_equal(
        single_gallery_shot(distance, *labels, **shots),
        single_gallery_shot(distance, *LABELS, **shots),
    )
    for got, plain in zip(pairs(distance, *labels), pairs(distance, *LABELS), strict=True):
        np.testing.assert_array_equal(got, plain)
