import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.retrieval import evaluate_distances, single_gallery_shot


def naive(distance, q_id, g_id, q_cam, g_cam, junk, repeats, seed, max_rank):
    """The rule as its text says it: filter, draw one of each identity, sort, look."""
    result = np.full((len(distance), max_rank), np.nan)
    identities = np.unique(g_id[~junk])
    for row, near in enumerate(distance):
        kept = [g for g in range(len(g_id)) if not junk[g]]
        kept = [g for g in kept if (g_id[g], g_cam[g]) != (q_id[row], q_cam[row])]
        if q_id[row] not in g_id[kept]:
            continue
        draw = np.random.default_rng((seed, row)).random((repeats, len(identities)))
        total = np.zeros(max_rank)
        for repeat in range(repeats):
            drawn = []
            for column, identity in enumerate(identities):
                own = [g for g in kept if g_id[g] == identity]
                if own:
                    drawn.append(own[int(draw[repeat, column] * len(own))])
            ranking = sorted(drawn, key=lambda g: (near[g], g))
            hits = np.cumsum([g_id[g] == q_id[row] for g in ranking])
            hits = np.append(hits, np.full(max_rank, hits[-1]))[:max_rank]
            total += hits
        result[row] = total / repeats
    return result


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([3, 1000]))
def test_equals_the_naive_loop(seed, levels):
    rng = np.random.default_rng(seed)
    distance = (rng.integers(0, levels, (7, 23)) / levels).astype(np.float32)
    labels = [rng.integers(0, high, size) for high, size in ((6, 7), (5, 23), (2, 7), (2, 23))]
    junk = rng.random(23) < 0.2
    got = single_gallery_shot(distance, *labels, seed=seed, max_rank=8, junk=junk)
    np.testing.assert_allclose(got, naive(distance, *labels, junk, 10, seed, 8), rtol=1e-12)


def test_many_draws_reach_what_counting_gives():
    """Two images of 1, two of 2, three of 3: the chance of each rank by listing all galleries."""
    near = np.array([0.2, 0.6, 0.1, 0.5, 0.3, 0.4, 0.7], np.float32)
    g_id = np.array([1, 1, 2, 2, 3, 3, 3])
    ranks = [
        1 + (near[other] < near[own]) + (near[third] < near[own])
        for own, other, third in itertools.product((0, 1), (2, 3), (4, 5, 6))
    ]
    expected = [np.mean([rank <= k for rank in ranks]) for k in (1, 2, 3)]
    got = single_gallery_shot(
        near[None], [1], g_id, [0], np.ones(7, int), repeats=20000, max_rank=3
    )
    np.testing.assert_allclose(got[0], expected, atol=0.01)
    assert got[0, -1] == 1.0


def test_one_image_an_identity_is_the_standard_rule():
    rng = np.random.default_rng(1)
    distance = rng.random((5, 9)).astype(np.float32)
    labels = (np.arange(5), np.arange(9), np.zeros(5, int), np.ones(9, int))
    plain = evaluate_distances(distance, *labels)
    shots = evaluate_distances(distance, *labels, cmc="single-gallery-shot", block_size=2)
    np.testing.assert_allclose(shots.cmc, plain.cmc)
    np.testing.assert_array_equal(shots.hits(1), plain.hits(1))
    assert shots.mAP == plain.mAP and plain.shots is None


def test_blocks_do_not_change_the_draws():
    rng = np.random.default_rng(2)
    distance = rng.random((9, 30)).astype(np.float32)
    labels = [rng.integers(0, high, size) for high, size in ((4, 9), (4, 30), (2, 9), (2, 30))]
    one, other = (
        evaluate_distances(distance, *labels, cmc="single-gallery-shot", block_size=size)
        for size in (2, 9)
    )
    np.testing.assert_array_equal(one.shots, other.shots)
    direct = single_gallery_shot(distance, *labels)
    np.testing.assert_array_equal(one.shots, direct)
    assert one.rank(1) == pytest.approx(np.nanmean(direct[:, 0]))


def test_a_distractor_of_the_same_number_matches_nobody():
    near = np.array([[0.1, 0.2, 0.3]], np.float32)
    distractor = np.array([True, False, False])
    labels = ([1], [1, 1, 2], [0], [1, 1, 1])
    assert single_gallery_shot(near, *labels, distractor=distractor)[0, :2].tolist() == [0.0, 1.0]
    alone = single_gallery_shot(near, *labels, distractor=np.array([True, True, False]))
    assert np.isnan(alone).all()


def test_bad_input():
    with pytest.raises(ValueError, match="0 repeats; at least 1 is needed"):
        single_gallery_shot(np.zeros((1, 1)), [1], [1], [0], [1], repeats=0)
    with pytest.raises(ValueError, match=r"cameras of \[1, 1\] queries and \[2, 1\] entries"):
        single_gallery_shot(np.zeros((1, 2)), [1], [1, 2], [0], [1])
