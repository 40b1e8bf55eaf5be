"""Predicted beside annotated attributes: by hand, and against a plain recount."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.evaluation.attributes import accuracies, predicted_codes
from g2ajax.evaluation.bootstrap import interval

GROUPS = (("bag", ("backpack", "nothing", "unknown")), ("hat", ("yes", "no")))


def test_the_largest_logit_of_a_known_class_is_predicted():
    logits = np.array([[0.1, 0.3, 9.0, -5.0, -4.0], [2.0, 1.0, 0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(predicted_codes(logits, GROUPS), [[1, 1], [0, 0]])
    nothing = predicted_codes(np.zeros((2, 1)), (("beard", ("unknown",)),))
    np.testing.assert_array_equal(nothing, [[-1], [-1]])
    with pytest.raises(ValueError, match="4 columns of logits for 5 classes"):
        predicted_codes(logits[:, :4], GROUPS)


def test_accuracy_stands_beside_the_most_frequent_class():
    # The bag of the last image is unknown; all hats are the same class, so there is nothing to tell.
    annotated = np.array([[0, 1], [1, 1], [1, 1], [1, 1], [2, 1]])
    predicted = np.array([[0, 1], [1, 0], [1, 1], [0, 1], [1, 1]])
    identity = np.array([7, 7, 8, 9, 9])
    (bag,) = accuracies(predicted, annotated, identity, GROUPS, samples=50)
    assert (bag.group, bag.images, bag.value, bag.chance) == ("bag", 4, 75.0, 75.0)
    assert bag.frequent == "nothing"
    expected = interval(np.array([100.0, 100, 100, 0]), identity[:4], samples=50)
    assert (bag.low, bag.high) == expected


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_order_and_unannotated_images_change_nothing(seed):
    rng = np.random.default_rng(seed)
    annotated, predicted = rng.integers(-1, 3, (12, 2)), rng.integers(0, 2, (12, 2))
    annotated[:, 1] = annotated[:, 1].clip(-1, 1)
    identity, order = rng.integers(0, 4, 12), rng.permutation(12)
    plain = accuracies(predicted, annotated, identity, GROUPS, samples=20)
    padded = accuracies(
        np.concatenate([predicted[order], predicted[:3]]),
        np.concatenate([annotated[order], np.full((3, 2), -1)]),
        np.concatenate([identity[order], identity[:3]]),
        GROUPS,
        samples=20,
    )
    assert [one.group for one in plain] == [one.group for one in padded]
    for one, other in zip(plain, padded, strict=True):
        assert one.images == other.images and one.chance == other.chance
        assert one.value == pytest.approx(other.value)
        assert (one.low, one.high) == pytest.approx((other.low, other.high))
