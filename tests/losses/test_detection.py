import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.losses.detection import (
    binary_cross_entropy,
    box_regression,
    class_cross_entropy,
    smooth_l1,
)

NONE = jnp.zeros((3,), bool)


def test_smooth_l1_by_hand():
    x = jnp.asarray([0.0, 0.05, 1.0, -3.0])
    zero = jnp.zeros((4,))
    np.testing.assert_allclose(smooth_l1(x, zero), [0, 0.00125, 0.5, 2.5], rtol=1e-5)
    beta = 1 / 9
    expected = [0, 0.5 * 0.0025 * 9, 1 - beta / 2, 3 - beta / 2]
    np.testing.assert_allclose(smooth_l1(x, zero, beta), expected, rtol=1e-5)
    np.testing.assert_allclose(smooth_l1(x, zero, 0.0), [0, 0.05, 1, 3], rtol=1e-5)


def test_regression_sums_positives_and_divides_by_all_valid_rows():
    codes = jnp.asarray([[2.0, 0, 0, 0], [9, 9, 9, 9], [7, 7, 7, 7]])
    targets = jnp.asarray([[0.0, 0, 0, 0], [0, 0, 0, 0], [jnp.nan, jnp.inf, 0, 0]])
    positive, valid = jnp.asarray([True, False, True]), jnp.asarray([True, True, False])
    loss, gradient = jax.value_and_grad(box_regression)(codes, targets, positive, valid)
    assert float(loss) == pytest.approx(1.5 / 2)
    np.testing.assert_allclose(gradient, [[0.5, 0, 0, 0], [0] * 4, [0] * 4])
    assert box_regression(codes, targets, positive, NONE) == 0.0


def test_cross_entropies_by_hand():
    logits, valid = jnp.asarray([2.0, -1.0, jnp.nan]), jnp.asarray([True, True, False])
    loss, gradient = jax.value_and_grad(binary_cross_entropy)(
        logits, jnp.asarray([True, False, True]), valid
    )
    assert np.isfinite(gradient).all()
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert binary_cross_entropy(logits, NONE, NONE) == 0.0
    classes = jnp.asarray([[0.0, 1.0], [3.0, 0.0], [5.0, 5.0]])
    label = jnp.asarray([1, 0, 99])
    loss = class_cross_entropy(classes, label, valid)
    expected = (np.log1p(np.exp(-1)) + np.log1p(np.exp(-3))) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert class_cross_entropy(classes, label, NONE) == 0.0
