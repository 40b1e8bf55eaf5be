import jax
import jax.numpy as jnp
import numpy as np

from g2ajax.losses.center import center

CENTERS = jnp.asarray([[0.0, 0.0], [1.0, 1.0]])
FEATURE = jnp.asarray([[3.0, 4.0], [1.0, 3.0], [9.0, 9.0]])


def test_mean_squared_distance_without_half():
    assert center(FEATURE[:2], CENTERS, jnp.asarray([0, 1])) == (25 + 4) / 2


def test_masked_and_unlabelled_rows_count_as_removed():
    mask = jnp.asarray([True, True, False])
    assert center(FEATURE, CENTERS, jnp.asarray([0, 1, 1]), mask) == (25 + 4) / 2
    assert center(FEATURE, CENTERS, jnp.asarray([0, 1, -1])) == (25 + 4) / 2


def test_empty_batch_and_exact_centers_are_finite():
    for mask in (jnp.zeros(2, bool), jnp.ones(2, bool)):
        value, gradient = jax.value_and_grad(center)(CENTERS, CENTERS, jnp.asarray([0, 1]), mask)
        np.testing.assert_allclose(value, 0.0, atol=1e-11)
        assert jnp.isfinite(gradient).all()
