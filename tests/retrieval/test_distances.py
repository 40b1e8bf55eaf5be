import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.retrieval import pairwise, roc

X = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
Y = jnp.asarray([[4.0, 3.0], [-3.0, -4.0], [3.0, 4.0]])


def test_known_distances():
    np.testing.assert_allclose(pairwise(X, Y, "cosine")[0], [1 - 24 / 25, 2, 0], atol=1e-6)
    np.testing.assert_allclose(pairwise(X, Y, "squared_euclidean")[0], [2, 100, 0], atol=1e-5)
    np.testing.assert_allclose(pairwise(X, Y, "euclidean")[0], [np.sqrt(2), 10, 1e-6], rtol=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "squared_euclidean", "euclidean"])
def test_gradients_are_finite_at_zero_and_at_equal_rows(metric):
    gradient = jax.grad(lambda x: pairwise(x, x, metric).sum())(jnp.zeros((3, 2)))
    assert jnp.isfinite(gradient).all()


def test_roc_by_hand_in_both_conventions():
    distance = np.array([0.1, 0.2, 0.3, 0.4])
    same = np.array([True, False, True, False])
    usual = roc(distance, same)
    np.testing.assert_allclose(usual.fpr, [0, 0, 0.5, 0.5, 1])
    np.testing.assert_allclose(usual.tpr, [0, 0.5, 0.5, 1, 1])
    assert usual.auc == pytest.approx(0.75)
    assert roc(distance, same, convention="fastreid").auc == pytest.approx(0.75)
    assert roc(distance, same, convention="fastreid").tpr_at(0.0) == pytest.approx(0.0)


def test_roc_refuses_one_kind_of_pairs():
    with pytest.raises(ValueError, match="pairs of one identity and pairs of two"):
        roc(np.array([0.1, 0.2]), np.array([True, True]))
