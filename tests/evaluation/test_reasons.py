"""Reasons by groups of attributes: by hand, and against a plain recount."""

import numpy as np
import pytest

from g2ajax.evaluation import reasons

GROUPS = (("bag", ("backpack", "nothing", "unknown")), ("hat", ("yes", "no")))


def test_shares_of_groups_leave_unknown_classes_out():
    distance = np.array([[1.0, 2.0, 90.0, 3.0, 4.0]], np.float32)
    np.testing.assert_allclose(reasons.group_shares(distance, GROUPS), [[0.3, 0.7]], rtol=1e-6)
    codes = np.array([[2, 0], [1, 1], [-1, 0]])
    np.testing.assert_array_equal(reasons.known_codes(codes, GROUPS), [[-1, 0], [1, 1], [-1, 0]])


def test_a_share_is_unusual_beside_those_of_the_gallery():
    share = np.array([[0.2, 0.8], [0.2, 0.8], [0.5, 0.5], [0.9, 0.1]], np.float32)
    kept = np.array([True, True, True, False])
    result = reasons.unusual(share, kept)
    mean, spread = 0.3, np.std([0.2, 0.2, 0.5])
    np.testing.assert_allclose(result.ratio[:, 0], share[:, 0] / mean, rtol=1e-5)
    np.testing.assert_allclose(result.deviation[2, 0], 0.2 / spread, rtol=1e-5)
    assert not reasons.unusual(share[:2], kept[:2]).deviation.any()


def test_only_what_stands_out_is_a_reason():
    deviation = np.array([1.6, 0.2, 4.0, 1.4, 2.0, 3.0])
    ratio = np.full(6, 1.5)
    assert reasons.strongest(ratio, deviation) == [2, 5, 4]
    assert reasons.strongest(ratio, deviation / 4) == []
    ratio[5] = 1.04  # far from a mean about which shares hardly vary
    assert reasons.strongest(ratio, deviation) == [2, 4, 0]


def test_precision_of_groups_is_a_recount():
    rng = np.random.default_rng(0)
    query, gallery = rng.integers(-1, 3, (4, 6)), rng.integers(-1, 3, (9, 6))
    score, mask = rng.random((4, 9, 6)).astype(np.float32), rng.random((4, 9)) < 0.8
    gallery[0] = query[0]  # alike: no group differs
    precision, chance = reasons.group_precision(score, query, gallery, mask)
    for q in range(4):
        values, random = [], []
        for g in range(9):
            known = [k for k in range(6) if query[q, k] >= 0 and gallery[g, k] >= 0]
            differing = {k for k in known if query[q, k] != gallery[g, k]}
            if not differing or not mask[q, g]:
                continue
            best = sorted(known, key=lambda k: -score[q, g, k])[: len(differing)]
            values.append(len(differing & set(best)) / len(differing))
            random.append(len(differing) / len(known))
        assert precision[q] == pytest.approx(np.mean(values), abs=1e-6)
        assert chance[q] == pytest.approx(np.mean(random), abs=1e-6)
    nothing = reasons.group_precision(score, query, gallery, mask & False)
    assert np.isnan(nothing).all()
