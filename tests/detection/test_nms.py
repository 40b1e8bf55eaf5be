import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.detection.nms import batched_nms, nms
from g2ajax.detection.proposals import filter_detections, filter_proposals
from tests.detection import oracles
from tests.detection.test_boxes import random_boxes

COUNT = 30
run = jax.jit(functools.partial(nms, threshold=0.5, tile=8))
run_few = jax.jit(functools.partial(nms, threshold=0.5, tile=8, max_output=7))


def boxes_of(kind, rng):
    boxes = random_boxes(rng, COUNT, 30.0)
    if kind == "integers":
        boxes = np.round(boxes)
    elif kind == "duplicates":
        boxes = boxes[rng.integers(0, 4, COUNT)]
    elif kind == "inverted":
        boxes = boxes[:, [2, 3, 0, 1]]
    elif kind == "empty":
        boxes[:, 2:] = boxes[:, :2]
    elif kind == "chain":
        # Each overlaps its neighbours only: as many dependences as boxes.
        x = np.arange(COUNT, dtype=np.float32) * 3.0
        boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], 1)
    return boxes.astype(np.float32)


@pytest.mark.parametrize("kind", ["random", "integers", "duplicates", "inverted", "empty", "chain"])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_equals_the_greedy_loop(kind, seed):
    rng = np.random.default_rng(seed)
    boxes = boxes_of(kind, rng)
    scores = np.round(rng.normal(size=COUNT), 1).astype(np.float32)
    if kind == "chain":
        scores = -np.arange(COUNT, dtype=np.float32)
    mask = rng.random(COUNT) < 0.8
    expected = oracles.nms(boxes, scores, 0.5, mask)
    for compiled, most in ((run, COUNT), (run_few, 7)):
        index, valid = compiled(jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(mask))
        assert np.asarray(index)[np.asarray(valid)].tolist() == expected[:most]
        assert (np.diff(np.asarray(valid).astype(int)) <= 0).all()


@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.5])
def test_an_overlap_of_exactly_the_threshold_survives_as_the_reference_counts(threshold):
    # Widths chosen so that the overlap is 3/10, 2/5 and 1/2 in float32.
    width = {0.3: (6.5, 6.5, 3.5), 0.4: (7.0, 7.0, 3.0), 0.5: (2.0, 1.0, 0.0)}[threshold]
    boxes = np.asarray([[0, 0, width[0], 1], [width[2], 0, width[2] + width[1], 1]], np.float32)
    kept = nms(jnp.asarray(boxes), jnp.asarray([2.0, 1.0]), threshold=threshold)
    expected = 1 if float(oracles.iou(*boxes)) > threshold else 2
    assert kept.valid.sum() == expected


def test_no_boxes_and_none_valid():
    none = nms(jnp.zeros((0, 4)), jnp.zeros((0,)), threshold=0.5)
    assert none.index.shape == (0,)
    boxes = jnp.asarray(random_boxes(np.random.default_rng(0), 5))
    kept = run(boxes, jnp.ones((5,)), jnp.zeros((5,), bool))
    assert not kept.valid.any() and not kept.index.any()


def test_groups_do_not_suppress_each_other():
    box = jnp.asarray([[0.0, 0, 10, 10]] * 4)
    scores = jnp.asarray([0.1, 0.4, 0.3, 0.2])
    kept = batched_nms(box, scores, jnp.asarray([0, 0, 1, 1]), threshold=0.5)
    assert np.asarray(kept.index)[np.asarray(kept.valid)].tolist() == [1, 2]


def test_batched_over_images_it_equals_each_image_and_has_no_gradient():
    rng = np.random.default_rng(5)
    boxes = jnp.asarray(np.stack([random_boxes(rng, COUNT, 30.0) for _ in range(3)]))
    scores = jnp.asarray(rng.normal(size=(3, COUNT)), jnp.float32)
    mask = jnp.asarray(np.stack([np.arange(COUNT) < n for n in (COUNT, 3, 0)]))
    together = jax.jit(jax.vmap(functools.partial(nms, threshold=0.5, tile=8)))
    index, valid = together(boxes, scores, mask)
    for k in range(3):
        alone = run(boxes[k], scores[k], mask[k])
        np.testing.assert_array_equal(alone.index, index[k])
        np.testing.assert_array_equal(alone.valid, valid[k])

    def total(boxes, scores):
        kept = nms(boxes, scores, threshold=0.5, tile=8)
        return jnp.sum(jnp.where(kept.valid[:, None], boxes[kept.index], 0.0))

    gradient = jax.jit(jax.grad(total))(boxes[0], scores[0])
    assert set(np.unique(gradient)) == {0.0, 1.0}


ANCHORS = jnp.asarray(random_boxes(np.random.default_rng(7), 40, 60.0))
proposals = jax.jit(
    functools.partial(filter_proposals, pre_nms=20, post_nms=9, min_size=1.0),
    static_argnames="levels",
)


def test_proposals_are_sorted_clipped_and_padded():
    rng = np.random.default_rng(8)
    logits = jnp.asarray(rng.normal(size=40), jnp.float32)
    codes = jnp.asarray(0.2 * rng.normal(size=(40, 4)), jnp.float32)
    found = proposals(logits, codes, ANCHORS, jnp.asarray([50, 45]))
    boxes, scores = np.asarray(found.boxes), np.asarray(found.scores)
    count = int(found.valid.sum())
    assert 0 < count <= 9
    assert (np.diff(scores[:count]) <= 0).all() and (boxes >= 0).all()
    assert (boxes[:, 2] <= 45).all() and (boxes[:, 3] <= 50).all()
    assert (boxes[:count, 2:] - boxes[:count, :2] >= 1.0).all()
    outside = proposals(logits, codes, ANCHORS + 500.0, jnp.asarray([50, 45]))
    assert not outside.valid.any() and not outside.boxes.any()
    assert np.isneginf(outside.scores).all()
    with pytest.raises(ValueError, match=r"levels \[3, 4\] have 7 anchors, the map 40"):
        proposals(logits, codes, ANCHORS, jnp.asarray([50, 45]), levels=(3, 4))


def test_levels_are_filtered_apart():
    logits = jnp.asarray([3.0, 2.0, 1.0, 0.0])
    anchors = jnp.asarray([[0.0, 0, 9, 9]] * 4)
    options = {"pre_nms": 2, "post_nms": 4}
    found = filter_proposals(
        logits, jnp.zeros((4, 4)), anchors, jnp.asarray([20, 20]), levels=(2, 2), **options
    )
    np.testing.assert_allclose(found.scores[:2], jax.nn.sigmoid(logits[jnp.asarray([0, 2])]))
    assert found.valid.sum() == 2


def test_detections_above_the_threshold():
    boxes = jnp.asarray(
        [[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30], [5, 5, 5, 9], [40, 0, 49, 9]]
    )
    scores = jnp.asarray([0.9, 0.8, 0.5, 0.99, 0.7])
    found = filter_detections(boxes, scores, max_output=4)
    assert np.asarray(found.index)[np.asarray(found.valid)].tolist() == [0, 4]
    assert np.isneginf(found.scores[2:]).all()
