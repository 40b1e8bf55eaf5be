import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.evaluation.bootstrap import interval


def width(scores, identity, **options):
    low, high = interval(scores, identity, **options)
    return high - low


def test_the_seed_decides():
    rng = np.random.default_rng(0)
    scores, identity = rng.random(60), np.repeat(np.arange(20), 3)
    assert interval(scores, identity, seed=4) == interval(scores, identity, seed=4)
    assert interval(scores, identity, seed=4) != interval(scores, identity, seed=5)


def test_one_identity_has_the_score_itself():
    scores = np.array([20.0, 40.0, 90.0])
    assert interval(scores, np.array([7, 7, 7])) == pytest.approx((50.0, 50.0))


def test_two_identities_by_hand():
    # Draws of two people of 0 and 100: mean 0, 50 or 100, with chances 1/4, 1/2, 1/4.
    scores, identity = np.array([0.0, 100.0]), np.array([3, 9])
    assert interval(scores, identity, samples=2000) == (0.0, 100.0)
    assert interval(scores, identity, samples=2000, level=0.4) == (50.0, 50.0)


def test_queries_weigh_equally_within_a_draw():
    # Three queries of 0, one of 100: a draw of both people has mean 25, not 50.
    scores, identity = np.array([0.0, 0.0, 0.0, 100.0]), np.array([1, 1, 1, 2])
    assert interval(scores, identity, samples=2000, level=0.4) == (25.0, 25.0)


def test_more_identities_narrow_it():
    rng = np.random.default_rng(1)
    scores = rng.random(1600)
    few, many = width(scores[:16], np.arange(16)), width(scores, np.arange(1600))
    # As 1 / sqrt(n): ten times narrower.
    assert 5 < few / many < 20


def test_queries_of_one_person_do_not_narrow_it():
    rng = np.random.default_rng(2)
    scores, identity = rng.random(20), np.arange(20)
    repeated = width(np.repeat(scores, 50), np.repeat(identity, 50))
    assert repeated == pytest.approx(width(scores, identity))


def test_the_normal_interval_is_approached():
    rng = np.random.default_rng(3)
    scores = rng.normal(50.0, 10.0, 400)
    low, high = interval(scores, np.arange(400), samples=4000)
    half = 1.96 * scores.std() / 20
    assert low == pytest.approx(scores.mean() - half, abs=0.15)
    assert high == pytest.approx(scores.mean() + half, abs=0.15)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), people=st.integers(1, 12), level=st.floats(0.1, 0.99))
def test_it_lies_among_the_scores_and_in_order(seed, people, level):
    rng = np.random.default_rng(seed)
    identity = rng.integers(0, people, 30)
    scores = 100 * rng.random(30)
    low, high = interval(scores, identity, samples=100, level=level)
    assert scores.min() - 1e-9 <= low <= high <= scores.max() + 1e-9


def test_without_scores_or_samples():
    with pytest.raises(ValueError, match="no scores"):
        interval(np.zeros(0), np.zeros(0, int))
    with pytest.raises(ValueError, match="0 bootstrap samples"):
        interval(np.ones(2), np.arange(2), samples=0)
