import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.detection.matcher import BELOW, BETWEEN, match
from g2ajax.detection.sampler import sample_balanced
from g2ajax.detection.targets import select_anchors, select_training_samples
from tests.detection.test_boxes import random_boxes

KEY = jax.random.key(3)


def test_matching_by_hand():
    iou = jnp.asarray([[0.8, 0.5, 0.2, 0.0, 0.1], [0.8, 0.1, 0.25, 0.0, 0.1]])
    plain = match(iou, high=0.7, low=0.3)
    np.testing.assert_array_equal(plain, [0, BETWEEN, BELOW, BELOW, BELOW])
    assert match(iou[:0], high=0.7, low=0.3).tolist() == [BELOW] * 5


def test_low_quality_gives_a_box_its_own_best_truth():
    # Candidate 1 is the best of truth 1, but its own best truth is 0.
    iou = jnp.asarray([[0.6, 0.5, 0.1], [0.1, 0.4, 0.2]])
    np.testing.assert_array_equal(match(iou, high=0.7, low=0.3, low_quality=True), [0, 0, BELOW])


def test_padded_truths_match_nothing():
    iou = jnp.zeros((3, 4)).at[0, 1].set(0.4)
    mask = jnp.asarray([True, False, False])
    got = match(iou, mask, high=0.7, low=0.3, low_quality=True)
    np.testing.assert_array_equal(got, [BELOW, 0, BELOW, BELOW])
    assert (match(iou, ~mask & False, high=0.7, low=0.3, low_quality=True) == BELOW).all()


draw = jax.jit(functools.partial(sample_balanced, size=8, positive_fraction=0.25))


@settings(deadline=None, max_examples=20)
@given(label=st.lists(st.integers(-1, 3), min_size=20, max_size=20), seed=st.integers(0, 99))
def test_the_drawn_rows_are_counted_ordered_and_allowed(label, seed):
    label = np.asarray(label)
    index, valid = draw(jax.random.key(seed), jnp.asarray(label))
    taken = np.asarray(index)[np.asarray(valid)]
    positives = min((label >= 1).sum(), 2)
    negatives = min((label == 0).sum(), 8 - positives)
    assert (label[taken] >= 1).sum() == positives
    assert (label[taken] == 0).sum() == negatives
    assert (np.diff(taken) > 0).all()
    assert not np.asarray(valid)[len(taken) :].any()


draw_two = jax.jit(functools.partial(sample_balanced, size=2, positive_fraction=0.5))


def test_every_candidate_can_be_drawn_and_a_large_size_takes_all():
    label = jnp.asarray([1, 0, -1, 1, 0, 0])
    seen = set()
    for seed in range(30):
        index, valid = sample_balanced(jax.random.key(seed), label, size=2, positive_fraction=0.5)
        seen |= set(np.asarray(index)[np.asarray(valid)].tolist())
    assert seen == {0, 1, 3, 4, 5}
    index, valid = sample_balanced(KEY, label, size=12, positive_fraction=0.5)
    assert np.asarray(index)[np.asarray(valid)].tolist() == [0, 1, 3, 4, 5]
    assert sample_balanced(KEY, label[:0], size=12, positive_fraction=0.5).index.shape == (0,)


select = jax.jit(functools.partial(select_training_samples, size=40))


def padded(rows, count, fill=0):
    rows = np.asarray(rows)
    width = [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return jnp.asarray(np.pad(rows, width, constant_values=fill))


def selected(boxes, truth, label, room=(12, 8), fill=0):
    """The valid rows of all fields; boxes and truths are padded to `room` rows."""
    samples = select(
        KEY,
        padded(boxes, room[0], fill),
        jnp.arange(room[0]) < len(boxes),
        padded(truth, room[1], fill),
        padded(label, room[1], 7),
        jnp.arange(room[1]) < len(truth),
    )
    valid = np.asarray(samples.valid)
    return [np.asarray(field)[valid] for field in samples]


def test_true_boxes_join_the_candidates_and_padding_changes_nothing():
    rng = np.random.default_rng(1)
    truth = random_boxes(rng, 3)
    boxes = np.concatenate([truth + 2, random_boxes(rng, 5, 400.0)])
    label = np.asarray([4, 5555, 9], np.int32)
    alone = selected(boxes, truth, label, room=(8, 3))
    np.testing.assert_array_equal(alone[0][-3:], truth)
    np.testing.assert_array_equal(alone[2][-3:], label)
    np.testing.assert_array_equal(alone[4][-3:], 0)
    for fill in (0, 50):
        for got, expected in zip(selected(boxes, truth, label, fill=fill), alone, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_an_image_without_people_is_all_background():
    boxes = random_boxes(np.random.default_rng(2), 4)
    none = np.zeros((0, 4), np.float32)
    for room in ((12, 0), (12, 8)):
        _, _, label, matched, codes = selected(boxes, none, np.zeros(0, np.int32), room)
        assert len(label) == 4
        assert not label.any() and not matched.any() and not codes.any()


def test_degenerate_true_boxes_are_ignored():
    boxes = random_boxes(np.random.default_rng(2), 4)
    truth = np.asarray([[5.0, 5, 5, 9], [9, 9, 5, 5]], np.float32)
    rows, _, label, _, codes = selected(boxes, truth, np.asarray([1, 2], np.int32))
    assert len(rows) == 4 and not label.any()
    assert np.isfinite(codes).all()


anchors_of = jax.jit(functools.partial(select_anchors, size=8))


def test_anchor_targets():
    anchors = jnp.asarray([[0.0, 0, 10, 10], [1, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60]])
    truth = jnp.asarray([[0.0, 0, 10, 10], [0, 0, 0, 0], [3, 3, 3, 3]])
    targets = anchors_of(KEY, anchors, truth, jnp.asarray([True, False, True]))
    taken = np.asarray(targets.index)[np.asarray(targets.valid)]
    np.testing.assert_array_equal(taken, [0, 1, 3])
    np.testing.assert_array_equal(targets.positive, [True, True, False, False])
    assert not np.asarray(targets.codes)[[0, 2, 3]].any()
    assert np.asarray(targets.codes)[1].any()
    empty = anchors_of(KEY, anchors, truth[:0], jnp.zeros((0,), bool))
    assert empty.valid.sum() == 4 and not empty.positive.any()
