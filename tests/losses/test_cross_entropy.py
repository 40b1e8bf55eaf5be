import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.cross_entropy import cross_entropy, focal

LOGITS = jnp.log(jnp.asarray([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
LABEL = jnp.asarray([0, 2])


def test_plain_is_minus_log_probability():
    expected = -(np.log(0.7) + np.log(0.5)) / 2
    for form in ("uniform", "fastreid"):
        assert cross_entropy(LOGITS, LABEL, form=form) == pytest.approx(expected, rel=1e-6)


def test_the_two_smoothings_by_hand():
    eps = 0.3
    uniform = -(0.7 + 0.1) * np.log(0.7) - 0.1 * (np.log(0.2) + np.log(0.1))
    fastreid = -0.7 * np.log(0.7) - 0.15 * (np.log(0.2) + np.log(0.1))
    first = (LOGITS[:1], LABEL[:1])
    assert cross_entropy(*first, smoothing=eps, form="uniform") == pytest.approx(uniform, rel=1e-5)
    assert cross_entropy(*first, smoothing=eps, form="fastreid") == pytest.approx(
        fastreid, rel=1e-5
    )


def test_adaptive_smoothing_takes_a_share_of_the_probability():
    eps = 0.2 * 0.7
    expected = -(1 - eps) * np.log(0.7) - eps / 2 * (np.log(0.2) + np.log(0.1))
    got = cross_entropy(LOGITS[:1], LABEL[:1], smoothing=-1.0, form="fastreid")
    assert got == pytest.approx(expected, rel=1e-5)


LOSSES = {
    "uniform": lambda x, y, m: cross_entropy(x, y, smoothing=0.1, mask=m),
    "fastreid": lambda x, y, m: cross_entropy(x, y, smoothing=0.1, form="fastreid", mask=m),
    "adaptive": lambda x, y, m: cross_entropy(x, y, smoothing=-1.0, form="fastreid", mask=m),
    "focal": lambda x, y, m: focal(x, y, mask=m),
}

COMPILED = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}


@pytest.mark.parametrize("name", LOSSES)
def test_masked_rows_count_as_removed(name):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    label = jnp.asarray([0, 1, 2, 3, 0, -1])
    mask = jnp.asarray([True, False, True, True, False, True])
    keep = jnp.asarray([0, 2, 3])
    padded = LOSSES[name](logits, label, mask)
    removed = LOSSES[name](logits[keep], label[keep], jnp.ones(3, bool))
    np.testing.assert_allclose(padded, removed, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.0, 1.0, 1e4]), none=st.booleans())
def test_finite_with_finite_gradients_and_blind_to_order(name, seed, scale, none):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(scale * rng.normal(size=(6, 4)), jnp.float32)
    label = jnp.asarray(rng.integers(-1, 4, 6))
    mask = jnp.zeros(6, bool) if none else jnp.ones(6, bool)
    value, gradient = COMPILED[name](logits, label, mask)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    assert value >= 0
    order = rng.permutation(6)
    np.testing.assert_allclose(
        COMPILED[name](logits[order], label[order], mask[order])[0], value, rtol=1e-5
    )
    if none:
        assert value == 0
