"""Curves and groups of scores: by hand, against enumeration, and consistent with the metrics."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from g2ajax.evaluation import curves
from g2ajax.evaluation.curves import Groups
from g2ajax.retrieval import evaluate_distances, roc
from g2ajax.retrieval.person_detection import match_ranks
from g2ajax.retrieval.result import RetrievalResult


def test_precision_over_recall_by_hand():
    # Precisions 1 and 2/3 at recalls 1/2 and 1; the second query has its match at rank 2.
    curve = curves.precision_recall([np.array([3, 1]), np.array([2]), np.array([], int)], points=5)
    np.testing.assert_allclose(curve, 100 * (np.array([1, 1, 1, 2 / 3, 2 / 3]) + 0.5) / 2)


def test_precision_is_the_best_at_a_recall_or_beyond():
    ranks = np.array([2, 4, 5, 6, 20])
    recall, precision = np.arange(1, 6) / 5, np.arange(1, 6) / ranks
    expected = [100 * precision[recall >= r - 1e-9].max() for r in np.linspace(0, 1, 11)]
    np.testing.assert_allclose(curves.precision_recall([ranks], points=11), expected)
    with pytest.raises(ValueError, match="no query has a match"):
        curves.precision_recall([np.array([], int)])


def test_precision_is_nothing_beyond_the_recall_that_is_reached():
    # Two of four matches, at ranks 1 and 4; a query without ranks; one without matches.
    ranks = [np.array([1, 4]), np.array([], int), np.array([], int)]
    curve = curves.precision_recall(ranks, [4, 2, 0], points=5)
    np.testing.assert_allclose(curve, 100 * np.array([1, 1, 1 / 2, 0, 0]) / 2)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), missed=st.integers(0, 3))
def test_precision_is_that_of_the_best_threshold(seed, missed):
    rng = np.random.default_rng(seed)
    positive, score = rng.random(12) < 0.4, rng.integers(0, 6, 12) / 5
    people = int(positive.sum()) + missed
    assume(people)
    kept = [score >= threshold for threshold in np.unique(score)]
    steps = [(positive[k].sum() / people, positive[k].mean()) for k in kept]
    expected = [
        max((precision for recall, precision in steps if recall >= r - 1e-9), default=0.0)
        for r in np.linspace(0, 1, 11)
    ]
    curve = curves.precision_recall([match_ranks(positive, score)], [people], points=11)
    np.testing.assert_allclose(curve, 100 * np.array(expected), atol=1e-9)


def test_chance_is_the_mean_over_all_orders():
    entries, matches = 6, 2
    precisions = [
        np.mean([(i + 1) / (place + 1) for i, place in enumerate(places)])
        for places in itertools.combinations(range(entries), matches)
    ]
    mAP, rank1 = curves.chance(np.array([matches, 0]), np.array([entries, 4]))
    assert mAP == pytest.approx(100 * np.mean(precisions))
    assert rank1 == pytest.approx(100 * matches / entries)
    assert curves.chance(np.array([1]), np.array([1])) == (100.0, 100.0)


def ranked() -> tuple[RetrievalResult, np.ndarray, np.ndarray, np.ndarray]:
    """Ten queries of five people, each with four matches; cameras of queries and gallery."""
    rng = np.random.default_rng(3)
    q_id, g_id = np.arange(10) % 5, np.arange(20) % 5
    g_cam = rng.integers(0, 3, 20)
    distance = rng.random((10, 20)).astype(np.float32)
    return evaluate_distances(distance, q_id, g_id, top=1), q_id, np.arange(10) // 5, g_cam


def test_pairs_split_the_average_precision():
    result, _, q_cam, g_cam = ranked()
    mean, count = curves.by_pair(result, Groups(["a", "b"], q_cam), Groups(["x", "y", "z"], g_cam))
    assert mean.shape == (2, 3) and count.sum() == 40
    for camera in (0, 1):
        whole = np.nansum(mean[camera] * count[camera]) / count[camera].sum()
        assert whole == pytest.approx(100 * result.average_precision[q_cam == camera].mean())
    # Groups without a match are empty, those of code -1 are left out.
    mean, count = curves.by_pair(result, Groups(["a"], q_cam - 1), Groups(["x"], 0 * g_cam - 1))
    assert np.isnan(mean).all() and not count.any()
    with pytest.raises(ValueError, match="rank with top=1"):
        curves.by_pair(
            evaluate_distances(np.eye(2, dtype=np.float32), [0, 1], [0, 1]),
            Groups(["a"], np.zeros(2, int)),
            Groups(["a"], np.zeros(2, int)),
        )


def test_groups_have_the_mean_of_their_queries():
    precision = np.array([0.2, 0.4, np.nan, 1.0])
    groups = Groups(["low", "empty", "high"], np.array([0, 0, 0, 2]))
    low, high = curves.by_group(precision, groups, np.array([7, 8, 9, 9]), samples=20)
    assert (low.name, low.queries, high.name, high.queries) == ("low", 2, "high", 1)
    assert low.mAP == pytest.approx(30.0) and 20.0 <= low.low <= low.mAP <= low.high <= 40.0
    assert (high.low, high.mAP, high.high) == (100.0, 100.0, 100.0)


def test_thresholds_keep_to_their_rate():
    rng = np.random.default_rng(0)
    distance = np.concatenate([rng.normal(1, 0.4, 300), rng.normal(2, 0.4, 2000)])
    same = np.arange(2300) < 300
    result = curves.spread(distance, same, bins=20)
    assert result.pairs == (300, 2000)
    assert result.same.sum() == pytest.approx(100) and result.different.sum() == pytest.approx(100)
    assert [one.rate for one in result.operating] == [1e-1, 1e-2]  # 1e-3 would be of 2 pairs
    curve = roc(distance, same)
    for one in result.operating:
        assert (distance[~same] < one.threshold).mean() == pytest.approx(one.rate)
        assert one.accepted == pytest.approx((distance[same] < one.threshold).mean())
        assert one.accepted == pytest.approx(curve.tpr_at(one.rate), abs=0.02)
    with pytest.raises(ValueError, match="of one person and of two"):
        curves.spread(distance, same | True)


def test_similarities_have_thresholds_from_above():
    # One in ten of 100 different pairs is above 0.89, and two of four pairs of one person are.
    value = np.concatenate([np.arange(100) / 100, [0.995, 0.95, 0.5, 0.85]])
    result = curves.spread(value, np.arange(104) >= 100, similarity=True, bins=10)
    assert result.operating == (curves.Operating(0.1, 0.89, 0.5),)
    assert (result.edges[0], result.edges[-1]) == (0.0, 0.995)
    np.testing.assert_allclose(result.same, [0, 0, 0, 0, 0, 25, 0, 0, 25, 50])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), levels=st.integers(2, 50))
def test_a_threshold_of_similarity_keeps_to_its_rate(seed, levels):
    rng = np.random.default_rng(seed)
    value, same = rng.integers(0, levels, 400) / levels, np.arange(400) % 8 == 0
    result = curves.spread(value, same, similarity=True)
    assert result.same.sum() == pytest.approx(100) and result.different.sum() == pytest.approx(100)
    assert result.operating and (np.diff(result.edges) > 0).all()
    for one in result.operating:
        assert (value[~same] > one.threshold).mean() <= one.rate
        assert one.accepted == pytest.approx((value[same] > one.threshold).mean())
