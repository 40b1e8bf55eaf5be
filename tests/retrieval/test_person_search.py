import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.retrieval.person_detection import (
    average_precision,
    evaluate_detection,
    iou,
    match_ranks,
)
from g2ajax.retrieval.person_search import (
    ContextMatching,
    FrameDetections,
    SearchQuery,
    match_people,
    pairs,
    search,
)

BOX = np.asarray([[0.0, 0, 40, 100]])
FAR = np.asarray([[500.0, 0, 540, 100]])
ABSENT = np.full((1, 4), np.nan)


def frame(boxes, features, scores=None):
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    scores = np.full(len(boxes), 0.9) if scores is None else np.asarray(scores, np.float64)
    return FrameDetections(boxes, scores, np.asarray(features, np.float64).reshape(-1, 2))


def query(frames, boxes, feature=(1.0, 0.0), context=None):
    return SearchQuery(np.asarray(feature), np.asarray(frames), np.concatenate(boxes), context)


def test_average_precision_by_hand():
    assert average_precision(np.array([1, 0, 1], bool), np.array([3.0, 2, 1])) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    # One step for equal scores.
    assert average_precision(np.array([1, 0], bool), np.array([1.0, 1.0])) == 0.5
    assert average_precision(np.zeros(2, bool), np.ones(2)) == 0.0
    assert average_precision(np.zeros(0, bool), np.zeros(0)) == 0.0


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_average_precision_is_blind_to_order(seed):
    rng = np.random.default_rng(seed)
    positive, score = rng.random(12) < 0.4, rng.integers(0, 5, 12) / 5
    order = rng.permutation(12)
    expected = average_precision(positive, score)
    assert average_precision(positive[order], score[order]) == pytest.approx(expected)
    assert 0 <= expected <= 1


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_ranks_of_the_matches_give_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    positive, score = rng.random(12) < 0.4, rng.integers(0, 5, 12) / 5
    ranks = match_ranks(positive, score)
    assert len(ranks) == positive.sum()
    # As many matches as stand at a rank or before it, over the rank.
    precision = np.searchsorted(ranks, ranks, side="right") / ranks
    mean = precision.mean() if len(ranks) else 0.0
    assert mean == pytest.approx(average_precision(positive, score))


def test_overlaps_of_odd_boxes_are_zero():
    odd = np.asarray([[1.0, 1, 1, 1], [5, 5, 2, 2], [1, 1, 1, 9]])
    assert not iou(odd, odd).any()
    assert iou(odd[:0], odd).shape == (0, 3)


def test_detection_by_hand():
    truth = [np.concatenate([BOX, FAR]), BOX, np.zeros((0, 4))]
    # A hit and its duplicate; nothing; a false alarm in an empty frame.
    boxes = [np.concatenate([BOX, BOX + 1]), np.zeros((0, 4)), FAR]
    scores = [np.array([0.9, 0.8]), np.zeros(0), np.array([0.95])]
    result = evaluate_detection(truth, boxes, scores)
    assert result.recall == pytest.approx(1 / 3)
    assert result.average_precision == pytest.approx(1 / 3 * 1 / 2)
    assert result.match_ranks.tolist() == [2] and result.people == 3
    strict = evaluate_detection(truth, boxes, scores, score_threshold=0.97)
    assert strict[:2] == (0.0, 0.0) and not len(strict.match_ranks)
    assert np.isnan(evaluate_detection([np.zeros((0, 4))], [FAR], [np.ones(1)]).recall)
    with pytest.raises(ValueError, match=r"true boxes of 3 frames, detections of 2"):
        evaluate_detection(truth, boxes[:2], scores)


def test_search_by_hand():
    frames = [
        frame(np.concatenate([BOX, FAR]), [[0.9, 0], [0.95, 0]]),
        frame(BOX, [[0.5, 0]]),
        frame(np.zeros((0, 4)), np.zeros((0, 2))),
    ]
    # Ranking: the stranger of frame 0, the person of frame 0, of frame 1; frame 2 was missed.
    result = search(frames, [query([0, 1, 2], [BOX, BOX, BOX])], ranks=(1, 2))
    assert result.average_precision[0] == pytest.approx((1 / 2 + 2 / 3) / 2 * 2 / 3)
    assert result.top == {1: 0.0, 2: 1.0}
    assert (result.present[0], result.detected[0], result.first_match[0]) == (3, 2, 2)
    assert [r.correct for r in result.best[0]] == [False, True, True]
    assert result.match_ranks[0].tolist() == [2, 3]
    assert result.best[0][0][:2] == (0, 1)
    missed, confused = result.error_split()
    assert missed == pytest.approx(1 / 3)
    assert missed + confused == pytest.approx(1 - result.mAP)


def test_pairs_of_queries_and_detections_by_hand():
    frames = [
        # The person, a second box over them, somebody else.
        frame(np.concatenate([BOX, BOX + 1, FAR]), [[0.9, 0], [0.8, 0], [0.7, 0]]),
        frame(FAR, [[0.5, 0.1]]),
        frame(BOX, [[0.6, 0]], scores=[0.4]),
    ]
    one, other = query([0, 1], [BOX, ABSENT]), query([1, 2], [ABSENT, BOX], feature=(0.0, 1.0))
    similarity, same = pairs(frames, [one, other])
    np.testing.assert_allclose(similarity, [0.9, 0.7, 0.5, 0.1])
    assert same.tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="there are no queries"):
        pairs(frames, [])


def test_pairs_are_those_that_search_ranks():
    rng = np.random.default_rng(2)
    frames = [frame(np.concatenate([BOX, FAR]), rng.normal(size=(2, 2))) for _ in range(5)]
    queries = [query(np.arange(5), [BOX if k % 2 else ABSENT for k in range(5)]) for _ in range(70)]
    similarity, same = pairs(frames, queries)
    result = search(frames, queries, keep=10)
    ranked = [(one.similarity, one.correct) for one in result.best[69]]
    drawn = zip(similarity[-10:].tolist(), same[-10:].tolist(), strict=True)
    assert sorted(drawn) == sorted(ranked)
    assert len(similarity) == 700 and same.sum() == result.detected.sum()


def test_the_order_of_the_gallery_does_not_matter():
    rng = np.random.default_rng(4)
    boxes = [np.concatenate([BOX, FAR])[: 1 + k % 2] for k in range(6)]
    frames = [frame(b, rng.normal(size=(len(b), 2))) for b in boxes]
    order = rng.permutation(6)
    true = [BOX if k % 3 else ABSENT for k in range(6)]
    context = rng.normal(size=(3, 2))
    for matching in (None, ContextMatching(4, 2)):
        one = query(np.arange(6), true, context=context)
        other = query(order, [true[k] for k in order], context=context)
        results = search(frames, [one, other], context_matching=matching)
        assert results.average_precision[0] == pytest.approx(results.average_precision[1])
        assert results.best[0] == results.best[1]


def test_a_frame_listed_twice_is_scored_once_and_counted_twice():
    frames = [frame(BOX, [[0.9, 0]])]
    result = search(frames, [query([0, 0], [BOX, BOX])])
    assert result.average_precision[0] == pytest.approx(0.5)
    assert result.present[0] == 2 and len(result.best[0]) == 1


def test_low_scores_do_not_exist_and_small_people_need_less_overlap():
    frames = [frame(BOX, [[0.9, 0]], scores=[0.49])]
    result = search(frames, [query([0], [BOX])])
    assert result.mAP == 0.0 and result.top[1] == 0.0 and result.best == [[]]
    small = np.asarray([[0.0, 0, 4, 10]])
    shifted = frame([[0.0, 0, 8, 20]], [[0.9, 0]])
    assert search([shifted], [query([0], [small])]).mAP == 1.0


def test_a_query_without_matches_scores_nothing():
    frames = [frame(BOX, [[0.9, 0]])]
    result = search(frames, [query([0], [ABSENT]), query([0], [FAR])])
    np.testing.assert_array_equal(result.average_precision, [0, 0])
    np.testing.assert_array_equal(result.present, [0, 1])
    empty = search(frames, [query(np.zeros(0, int), [np.zeros((0, 4))])])
    assert empty.mAP == 0.0


def test_context_lifts_the_query_to_the_best_weight_of_the_matching():
    friend = np.asarray([0.0, 1.0])
    frames = [
        frame(np.concatenate([BOX, FAR]), [[0.6, 0.0], [0.0, 0.9]]),
        frame(FAR, [[0.7, 0.0]]),
    ]
    one = [query([0, 1], [BOX, ABSENT], context=np.stack([[1.0, 0.0], friend]))]
    assert search(frames, one).mAP == pytest.approx(0.5)
    # In frame 0 query and friend are matched; the friend's 0.9 is the larger weight.
    lifted = search(frames, one, context_matching=ContextMatching(k1=2, k2=2))
    assert lifted.mAP == 1.0 and lifted.best[0][0].similarity == pytest.approx(0.9)
    # Only frames of the k1 most similar detections are looked at.
    assert search(frames, one, context_matching=ContextMatching(1, 2)).mAP == pytest.approx(0.5)
    # More context than detections: the query stays unmatched, its similarity as it was.
    crowd = [frame(BOX, [[0.1, 0.9]])]
    loser = [query([0], [BOX], context=np.stack([[1.0, 0.0], friend]))]
    kept = search(crowd, loser, context_matching=ContextMatching(1, 2))
    assert kept.best[0][0].similarity == pytest.approx(0.1)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_the_matching_is_the_heaviest(seed, rows, columns):
    weights = np.random.default_rng(seed).normal(size=(rows, columns))
    pairs, largest = match_people(weights)
    got = weights[pairs[:, 0], pairs[:, 1]]
    tall = weights if rows <= columns else weights.T
    best = max(
        sum(tall[i, j] for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(tall.shape[1]), tall.shape[0])
    )
    assert got.sum() == pytest.approx(best)
    assert largest == got.max()


def test_what_cannot_be_scored_is_refused():
    frames = [frame(BOX, [[0.9, 0]])]
    with pytest.raises(ValueError, match=r"there are no queries"):
        search(frames, [])
    with pytest.raises(ValueError, match=r"query 0 asks for gallery frame 3, but there are 1"):
        search(frames, [query([3], [BOX])])
    with pytest.raises(ValueError, match=r"query 0 has 1 gallery frames but 2 boxes"):
        search(frames, [query([0], [BOX, BOX])])
    with pytest.raises(ValueError, match=r"the embedding of query 0 is not finite"):
        search(frames, [query([0], [BOX], feature=(np.nan, 0.0))])
    with pytest.raises(ValueError, match=r"embeddings of gallery frame 0 are not finite"):
        search([frame(BOX, [[np.inf, 0]])], [query([0], [BOX])])
    with pytest.raises(ValueError, match=r"query 0 has no context to re-rank with"):
        search(frames, [query([0], [BOX])], context_matching=ContextMatching())
