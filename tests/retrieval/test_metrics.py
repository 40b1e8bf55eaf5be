import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from g2ajax.retrieval import evaluate, evaluate_blocks, evaluate_distances, metrics, pairwise


def slow_evaluate(distance, q_id, g_id, q_cam, g_cam, junk, distractor):
    """The Market-1501 protocol as its text says it: sort, remove, count."""
    scores = []
    for row, identity, camera in zip(distance, q_id, q_cam, strict=True):
        order = np.argsort(row, kind="stable")
        order = order[~junk[order]]
        removed = (g_id[order] == identity) & (g_cam[order] == camera) & ~distractor[order]
        order = order[~removed]
        correct = (g_id[order] == identity) & ~distractor[order]
        if not correct.any():
            continue
        ranks = np.flatnonzero(correct) + 1
        scores.append(
            (
                np.mean(np.arange(1, len(ranks) + 1) / ranks),
                len(ranks) / ranks[-1],
                ranks[0],
            )
        )
    return np.array(scores)


def test_scores_known_by_hand():
    distance = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.1, 0.3, 0.2, 0.4]], np.float32)
    # Query 0 (identity 7, camera 0): its own camera's image is removed, matches at ranks 2 and 4.
    # Query 1 (identity 8): one match, at rank 1.
    result = evaluate_distances(distance, [7, 8], [7, 8, 7, 9, 7], [0, 0], [0, 1, 1, 1, 1])
    assert result.average_precision[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.inverse_negative_penalty[0] == pytest.approx(2 / 4)
    assert result.average_precision[1] == 1.0
    assert result.mAP == pytest.approx(0.75)
    assert result.mINP == pytest.approx(0.75)
    np.testing.assert_allclose(result.cmc[:3], [0.5, 1.0, 1.0])
    assert result.rank(1000) == 1.0


def test_ties_rank_in_gallery_order():
    distance = np.zeros((1, 4), np.float32)
    assert evaluate_distances(distance, [1], [2, 3, 1, 1], [0], [1] * 4).first_match[0] == 3
    assert evaluate_distances(distance, [1], [1, 3, 1, 1], [0], [1] * 4).mAP == pytest.approx(
        (1 / 1 + 2 / 3 + 3 / 4) / 3
    )


def test_junk_leaves_the_ranking_and_distractors_stay_in_it():
    distance = np.array([[0.1, 0.2, 0.3]], np.float32)
    labels = ([1], [1, 1, 1], [0], [1, 1, 1])
    first = np.array([True, False, False])
    assert evaluate_distances(distance, *labels).mAP == 1.0
    assert evaluate_distances(distance, *labels, junk=first).first_match[0] == 1
    assert evaluate_distances(distance, *labels, distractor=first).first_match[0] == 2


def test_queries_without_a_match_are_left_out_of_every_mean():
    distance = np.array([[0.1, 0.2], [0.2, 0.1]], np.float32)
    result = evaluate_distances(distance, [1, 5], [1, 2], [0, 0], [1, 1])
    assert result.valid.tolist() == [True, False]
    assert result.mAP == 1.0
    assert np.isnan(result.average_precision[1])
    assert result.first_match.tolist() == [1, 0]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([3, 1000]), drop=st.booleans())
def test_equals_the_sorted_evaluation(seed, levels, drop):
    rng = np.random.default_rng(seed)
    distance = (rng.integers(0, levels, (11, 23)) / levels).astype(np.float32)
    q_id, g_id = rng.integers(0, 4, 11), rng.integers(0, 4, 23)
    q_cam, g_cam = rng.integers(0, 2, 11), rng.integers(0, 2, 23)
    junk, distractor = rng.random(23) < 0.1, rng.random(23) < 0.1
    if not drop:
        g_cam = g_cam + 10
    expected = slow_evaluate(distance, q_id, g_id, q_cam, g_cam, junk, distractor)
    if not len(expected):
        return
    got = evaluate_distances(
        distance, q_id, g_id, q_cam, g_cam, junk=junk, distractor=distractor, block_size=4
    )
    np.testing.assert_allclose(got.average_precision[got.valid], expected[:, 0])
    np.testing.assert_allclose(got.inverse_negative_penalty[got.valid], expected[:, 1])
    np.testing.assert_array_equal(got.first_match[got.valid], expected[:, 2])
    np.testing.assert_allclose(
        got.cmc, [(expected[:, 2] <= k).mean() for k in range(1, len(got.cmc) + 1)]
    )


def _problem(rng, queries=13, entries=40, dims=8):
    return (
        rng.normal(size=(queries, dims)).astype(np.float32),
        rng.normal(size=(entries, dims)).astype(np.float32),
        rng.integers(0, 5, queries),
        rng.integers(0, 5, entries),
        rng.integers(0, 2, queries),
        rng.integers(0, 2, entries),
    )


@pytest.mark.parametrize("metric", ["cosine", "squared_euclidean", "euclidean"])
def test_from_embeddings_as_from_their_distances(metric):
    problem = _problem(np.random.default_rng(0))
    direct = evaluate(*problem, metric=metric, block_size=4)
    distance = pairwise(jnp.asarray(problem[0]), jnp.asarray(problem[1]), metric)
    np.testing.assert_array_equal(
        direct.first_match, evaluate_distances(distance, *problem[2:]).first_match
    )
    np.testing.assert_allclose(
        direct.mAP, evaluate_distances(distance, *problem[2:]).mAP, rtol=1e-6
    )


def test_order_of_queries_and_gallery_does_not_matter():
    rng = np.random.default_rng(1)
    q, g, q_id, g_id, q_cam, g_cam = _problem(rng)
    p, r = rng.permutation(len(q)), rng.permutation(len(g))
    one = evaluate(q, g, q_id, g_id, q_cam, g_cam)
    other = evaluate(q[p], g[r], q_id[p], g_id[r], q_cam[p], g_cam[r])
    np.testing.assert_allclose(other.average_precision, one.average_precision[p], rtol=1e-12)


def test_a_gallery_over_several_devices_gives_the_same_numbers():
    problem = _problem(np.random.default_rng(2), entries=64)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharded = jax.device_put(problem[1], NamedSharding(mesh, PartitionSpec("data")))
    one, four = evaluate(*problem), evaluate(problem[0], sharded, *problem[2:])
    np.testing.assert_allclose(four.average_precision, one.average_precision, rtol=1e-12)


def test_one_compilation_serves_all_blocks():
    rng = np.random.default_rng(3)
    problem = _problem(rng, queries=30, entries=50)
    evaluate(*problem, block_size=8)
    before = metrics._ranks_in._cache_size()
    evaluate(*problem, block_size=8)
    assert metrics._ranks_in._cache_size() == before


def test_bad_input_is_named_before_anything_is_ranked():
    q, g, q_id, g_id, q_cam, g_cam = _problem(np.random.default_rng(4))
    broken = q.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 13 query embeddings are not finite \(rows \[3\]"):
        evaluate(broken, g, q_id, g_id, q_cam, g_cam)
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        evaluate(q, g, q_id, g_id, q_cam, g_cam, metric="cosin")
    with pytest.raises(ValueError, match="query embeddings have 7 dimensions, gallery ones 8"):
        evaluate(q[:, :7], g, q_id, g_id, q_cam, g_cam)
    with pytest.raises(ValueError, match=r"gallery_camera has shape \(39,\)"):
        evaluate(q, g, q_id, g_id, q_cam, g_cam[1:])
    with pytest.raises(ValueError, match=r"13 have an identity that the gallery lacks"):
        evaluate(q, g, q_id + 100, g_id, q_cam, g_cam)
    with pytest.raises(ValueError, match="the gallery is empty"):
        evaluate(q, g[:0], q_id, g_id[:0], q_cam, g_cam[:0])
    with pytest.raises(ValueError, match="2 rows of the distances hold NaN"):
        evaluate_distances(np.full((2, 3), np.nan), [1, 1], [1, 1, 1], [0, 0], [1, 1, 1])


def test_blocks_in_any_order_give_the_numbers_of_the_whole():
    rng = np.random.default_rng(5)
    labels = _problem(rng)[2:]
    distance = rng.random((13, 40)).astype(np.float32)
    whole = evaluate_distances(distance, *labels, top=4)
    places = [slice(9, 13), slice(0, 4), slice(4, 9)]
    parts = evaluate_blocks(((place, distance[place]) for place in places), *labels, top=4)
    np.testing.assert_array_equal(parts.average_precision, whole.average_precision)
    np.testing.assert_array_equal(parts.cmc, whole.cmc)
    np.testing.assert_array_equal(parts.top, whole.top)


def test_blocks_that_do_not_fit_are_named():
    labels = _problem(np.random.default_rng(6))[2:]
    distance = np.zeros((13, 40), np.float32)
    with pytest.raises(ValueError, match="there are no distances of 9 of 13 queries"):
        evaluate_blocks([(slice(0, 4), distance[:4])], *labels)
    with pytest.raises(
        ValueError, match=r"distances of shape \(4, 39\) for 4 queries \(from \[2\]\)"
    ):
        evaluate_blocks([(slice(2, 6), distance[:4, :39])], *labels)


def test_the_kept_list_is_the_one_that_was_scored():
    """Average precision from the whole kept list is the metric's own, ties and junk included."""
    rng = np.random.default_rng(7)
    q, g, q_id, g_id, q_cam, g_cam = _problem(rng)
    g[5:15] = g[20:30]  # equal distances
    junk, distractor = rng.random(40) < 0.1, rng.random(40) < 0.1
    result = evaluate(
        *(q, g, q_id, g_id, q_cam, g_cam), junk=junk, distractor=distractor, top=40, block_size=4
    )
    for row in np.flatnonzero(result.valid):
        listed = result.top[row][result.top[row] >= 0]
        out = junk | ((g_id == q_id[row]) & (g_cam == q_cam[row]) & ~distractor)
        assert sorted(listed) == np.flatnonzero(~out).tolist()
        correct = (g_id[listed] == q_id[row]) & ~distractor[listed]
        ranks = np.flatnonzero(correct) + 1
        assert ranks[0] == result.first_match[row]
        assert result.listed[row] == len(listed)
        np.testing.assert_array_equal(result.match_ranks[row], ranks)
        np.testing.assert_array_equal(result.match_entries[row], listed[ranks - 1])
        assert result.match[row] == listed[ranks[0] - 1]
        assert result.match_distance[row] == pytest.approx(result.top_distance[row][ranks[0] - 1])
        precision = np.mean(np.arange(1, len(ranks) + 1) / ranks)
        assert precision == pytest.approx(result.average_precision[row], abs=1e-12)
        near = result.top_distance[row][: len(listed)]
        assert (np.diff(near) >= 0).all() and np.isnan(
            result.top_distance[row][len(listed) :]
        ).all()
    assert (result.match[~result.valid] == -1).all()
    assert all(len(result.match_ranks[row]) == 0 for row in np.flatnonzero(~result.valid))


def test_an_unknown_rule_is_refused():
    with pytest.raises(
        ValueError, match=r"CMC rule 'first' is not known; expected one of standard"
    ):
        evaluate_distances(np.zeros((1, 1)), [1], [1], [0], [1], cmc="first")
