"""Differences of two results, by hand."""

import dataclasses

import numpy as np
import pytest

from g2ajax.evaluation import comparison
from g2ajax.evaluation.comparison import compare_results
from g2ajax.evaluation.results import QueryScores, as_dict
from tests.evaluation.test_results import RESULT


def result(precision, rank1, identity, **changes):
    """A result whose means are those of the queries."""
    queries = QueryScores(
        row=np.arange(len(precision)),
        name=np.array([f"q{i}.png" for i in range(len(precision))]),
        identity=np.array(identity),
        average_precision=np.array(precision, float),
        rank1=np.array(rank1, float),
    )
    means = {"mAP": float(np.mean(precision)), "rank1": float(np.mean(rank1))}
    return dataclasses.replace(RESULT, **means, per_query=queries, **changes)


def test_two_people_by_hand():
    # Person 3 has two queries that rise by 30 and 10, person 7 one that falls by 10. Draws of two
    # people: (3, 3) gives (30 + 10) / 2 = 20, (3, 7) gives 30 / 3 = 10, (7, 7) gives -10.
    a = result([10, 20, 90], [0, 0, 100], [3, 3, 7])
    b = result([40, 30, 80], [100, 0, 100], [3, 3, 7])
    compared = compare_results(a, b)
    assert compared.mAP == pytest.approx((10.0, -10.0, 20.0))
    # Rank-1: (3, 3) gives 50, (3, 7) a third of 100, (7, 7) nothing.
    assert compared.rank1 == pytest.approx((100 / 3, 0.0, 50.0))
    for difference in (compared.mAP, compared.rank1):
        assert difference.low <= 0 <= difference.high
    assert compared.change.tolist() == [30, 10, -10]
    assert compared.most_changed(2).tolist() == [0, 1]
    assert "+10.00 [-10.00, +20.00]" in comparison.as_text(compared)
    assert "rises for 2, falls for 1" in comparison.details(compared)
    stored = comparison.as_dict(compared)
    assert stored["mAP"] == {"a": 40.0, "b": 50.0, "difference": 10.0, "interval": [-10.0, 20.0]}
    assert stored["people"] == 2 and stored["fingerprint"] == RESULT.fingerprint
    first = comparison.query_rows([compared])[0]
    assert first == (RESULT.protocol, 0, "q0.png", 3, 10.0, 40.0, 30.0)


def test_the_difficulty_of_a_person_cancels():
    """Every query rises by 2, whatever its score: the paired interval is a point."""
    rng = np.random.default_rng(0)
    precision, identity = 90 * rng.random(60), np.repeat(np.arange(20), 3)
    zero = np.zeros(60)
    compared = compare_results(
        result(precision, zero, identity), result(precision + 2, zero, identity)
    )
    assert compared.mAP == pytest.approx((2.0, 2.0, 2.0))
    assert compared.rank1 == (0.0, 0.0, 0.0)


def test_equal_results_have_no_changed_query():
    a = result([10, 20], [0, 0], [1, 2])
    compared = compare_results(a, a)
    assert compared.mAP == (0.0, 0.0, 0.0) and not len(compared.most_changed(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery": 9}, r"gallery: \d+ and 9"),
        ({"dataset_fingerprint": "ffff"}, "dataset_fingerprint: '.*' and 'ffff'"),
        ({"given": "true boxes"}, "given: None and 'true boxes'"),
    ],
)
def test_other_protocols_are_refused_with_what_differs(changes, message):
    scores = [10, 20], [0, 0], [1, 2]
    with pytest.raises(ValueError, match=message):
        compare_results(result(*scores), result(*scores, **changes))


def test_other_queries_are_refused():
    a, b = result([10, 20], [0, 0], [1, 2]), result([10, 20], [0, 0], [1, 3])
    with pytest.raises(ValueError, match="different queries"):
        compare_results(a, b)
    with pytest.raises(ValueError, match="B has no scores of single queries"):
        compare_results(a, dataclasses.replace(a, per_query=None))


def test_single_queries_are_not_stored():
    stored = as_dict(result([10, 20], [0, 0], [1, 2]))
    assert "per_query" not in stored and stored["mAP"] == 15.0
