"""Drop path."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.nn.drop_path import DropPath


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    layer = DropPath(0.25)
    y = np.asarray(layer(jnp.ones((4000, 2, 3)), rngs=nnx.Rngs(dropout=0)))
    kept = y[:, 0, 0] != 0
    np.testing.assert_allclose(y[kept], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(y[~kept], 0)
    assert abs(kept.mean() - 0.75) < 0.03  # four standard deviations


def test_drop_path_is_off_in_evaluation_and_at_rate_zero():
    x = jnp.ones((3, 2))
    assert nnx.view(DropPath(0.5), deterministic=True)(x) is x
    assert DropPath(0.0)(x) is x


def test_drop_path_errors():
    with pytest.raises(ValueError, match="needs random numbers"):
        DropPath(0.5)(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="expected 0 <= rate < 1"):
        DropPath(1.0)
