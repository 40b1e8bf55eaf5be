import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.channel_mask import channel_mask_loss, masked_prototypes

call = jax.jit(jax.value_and_grad(channel_mask_loss, argnums=(0, 1)))


def test_by_hand():
    feature = jnp.asarray([[3.0, 4.0], [5.0, 0.0], [0.0, 2.0]])
    mask = jnp.asarray([[1.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    label = jnp.asarray([1, 1, 0])
    # The mean of class 1 is (4, 2).
    expected = np.asarray([[2 / 5**0.5, 1 / 5**0.5], [1, 0], [0, 1]])
    np.testing.assert_allclose(masked_prototypes(feature, mask, label), expected, atol=1e-6)
    x = np.asarray([[0.6, 0.8], [1, 0], [0, 1]])
    entropy = [0, 0, 0.5 * np.log(2)]
    loss = np.mean(np.mean((x - expected) ** 2, 1) + 0.1 * np.asarray(entropy))
    assert channel_mask_loss(feature, mask, label) == pytest.approx(loss, rel=1e-5)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "opposite", "shut"]),
    rows=st.integers(0, 5),
)
def test_masked_rows_count_as_removed_and_gradients_are_finite(seed, kind, rows):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    through = rng.uniform(size=(5, 4)).astype(np.float32)
    label, counts = rng.integers(0, 3, 5), np.zeros(5, bool)
    counts[rng.permutation(5)[:rows]] = True
    if kind == "duplicates":
        x[:] = x[0]
    elif kind == "zeros":
        x[:] = 0
    elif kind == "opposite":
        x[1::2] = -x[0]
    elif kind == "shut":
        through[:] = 0
    x[~counts] = np.nan
    arrays = [jnp.asarray(a) for a in (x, through, label, counts)]
    value, gradients = call(*arrays)
    assert np.isfinite(value) and (rows > 0 or value == 0)
    for gradient in gradients:
        assert np.isfinite(gradient).all() and not np.asarray(gradient)[~counts].any()
    order = rng.permutation(5)
    np.testing.assert_allclose(call(*(a[order] for a in arrays))[0], value, rtol=1e-4, atol=1e-6)
    labelled = jnp.where(arrays[3], arrays[2], -1)
    np.testing.assert_allclose(
        call(*arrays[:2], labelled, jnp.ones(5, bool))[0], value, rtol=1e-4, atol=1e-6
    )
