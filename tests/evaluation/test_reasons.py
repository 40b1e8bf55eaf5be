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
    deviation = np.array([[1.6, 0.2, 4.0, 1.4, 2.0, 3.0]])
    ratio, every = np.full((1, 6), 1.5), np.ones(6, bool)
    assert reasons.strongest(reasons.Unusual(ratio, deviation), every) == [[2, 5, 4]]
    assert reasons.strongest(reasons.Unusual(ratio, deviation / 4), every) == [[]]
    ratio[0, 5] = 1.04  # far from a mean about which shares hardly vary
    relative = reasons.Unusual(ratio, deviation)
    assert reasons.strongest(relative, every) == [[2, 4, 0]]
    np.testing.assert_array_equal(
        np.flatnonzero(reasons.standing_out(relative, every)[0]), [0, 2, 4]
    )
    every[2] = False  # nobody has taught it
    assert reasons.strongest(relative, every) == [[4, 0]]


def test_a_group_in_which_all_people_of_the_training_are_alike_is_no_reason():
    np.testing.assert_array_equal(reasons.telling(GROUPS), [True, True])
    for rates, expected in (
        ((0.4, 0.1, 0.5, 0.9, 0.1), [True, True]),
        ((0.0, 0.0, 1.0, 1.0, 0.0), [False, False]),
        ((0.3, 0.0, 0.7, 0.5, 0.5), [False, True]),
    ):
        np.testing.assert_array_equal(reasons.telling(GROUPS, rates), expected)


def test_reasons_are_counted_beside_those_of_other_pairs():
    # One query, three groups; the last image is alike in all, the third lacks group 1.
    query, gallery = np.array([[0, 0, 0]]), np.array([[1, 0, 1], [0, 1, 1], [1, -1, 0], [0, 0, 0]])
    chosen = np.zeros((1, 4, 3), bool)
    chosen[0, [0, 1, 2, 3], [0, 0, 1, 2]] = True
    chosen[0, 1, 2] = True
    counted = reasons.truth(chosen, query, gallery, np.ones((1, 4), bool))
    np.testing.assert_array_equal(counted.named, [[2, 0, 1]])
    np.testing.assert_array_equal(counted.true, [[1, 0, 1]])
    np.testing.assert_allclose(counted.expected, [[2 * 2 / 3, 0, 2 / 3]])
    own, random = counted.precision()
    np.testing.assert_allclose([own, random], [[2 / 3], [2 / 3]])
    assert counted.precision(2)[0][0] == 1.0 and np.isnan(counted.precision(1)).all()
    masked = reasons.truth(chosen, query, gallery, np.array([[True, False, True, True]]))
    np.testing.assert_array_equal(masked.named, [[1, 0, 0]])


def test_a_perfect_decomposition_has_true_reasons():
    """Where the classes that differ share what the training asks of them, reasons find the groups."""
    rng = np.random.default_rng(0)
    groups = tuple((str(k), tuple(map(str, range(size)))) for k, size in enumerate((2, 3, 5, 8, 8)))
    codes = np.stack([rng.integers(0, len(names), 60) for _, names in groups], 1)
    hot = np.concatenate(
        [codes[:, [k]] == np.arange(len(names))[None] for k, (_, names) in enumerate(groups)], 1
    )
    query, gallery = slice(0, 20), slice(20, 60)
    differs = hot[query][:, None] != hot[gallery][None]
    count = differs.sum(-1, keepdims=True)
    total = np.sqrt(count / 26)  # (M_E / M)^v
    rest = (1 - total) / np.maximum(26 - count, 1)
    distance = np.where(differs, total / np.maximum(count, 1), rest).astype(np.float32)
    share, mask = reasons.group_shares(distance, groups), np.ones((20, 40), bool)
    relative = [reasons.unusual(one, mask[0]) for one in share]
    pairs = codes[query], codes[gallery], mask
    deviation = np.stack([one.deviation for one in relative])
    own, random = reasons.group_precision(deviation, *pairs)
    plain, _ = reasons.group_precision(share, *pairs)
    usual, _ = reasons.group_precision(
        np.broadcast_to(share.mean(1, keepdims=True), share.shape), *pairs
    )
    assert own.mean() > 0.99 > plain.mean() > usual.mean() > random.mean() + 0.03
    chosen = np.stack([reasons.standing_out(one, np.ones(5, bool)) for one in relative])
    true, expected = reasons.truth(chosen, *pairs).precision()
    assert np.nanmean(true) > np.nanmean(expected) + 0.1


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
