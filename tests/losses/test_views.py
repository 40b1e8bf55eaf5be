import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.views import orthogonal, view_cross_entropy, view_label

X = jnp.asarray([[3.0, 4.0], [1.0, 0.0]])
Y = jnp.asarray([[0.0, -2.0], [0.0, 5.0]])


def test_orthogonal_by_hand():
    assert orthogonal(X, Y) == pytest.approx((0.8 + 0.0) / 2, rel=1e-6)
    assert orthogonal(X, X) == pytest.approx(1.0, rel=1e-6)
    assert orthogonal(X, Y, jnp.asarray([True, False])) == pytest.approx(0.8, rel=1e-6)


def test_rows_above_the_cap_count_as_the_cap_and_get_no_gradient():
    half = jnp.asarray([[3.0, 4.0], [2.0, 4.0]])
    other = jnp.asarray([[0.0, -2.0], [-5.0, 3.0]])
    free, capped = (
        jax.value_and_grad(lambda x, cap=cap: orthogonal(x, other, cap=cap))(half)
        for cap in (None, 0.1)
    )
    small = 2 / np.sqrt(20 * 34)
    assert free[0] == pytest.approx((0.8 + small) / 2, rel=1e-5)
    assert capped[0] == pytest.approx((0.1 + small) / 2, rel=1e-5)
    np.testing.assert_allclose(capped[1][1], free[1][1], rtol=1e-5)
    assert not np.any(capped[1][0]) and np.any(free[1][0])


def test_aerial_is_one_and_all_others_are_zero():
    np.testing.assert_array_equal(view_label(jnp.asarray([0, 1, 2, -1])), [1, 0, 0, -1])


def test_view_cross_entropy_by_hand():
    logits = jnp.log(jnp.asarray([[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]]))
    expected = -(np.log(0.7) + np.log(0.6)) / 2
    got = view_cross_entropy(logits, jnp.asarray([0, 2, -1]))
    assert got == pytest.approx(expected, rel=1e-5)
    got = view_cross_entropy(logits, jnp.asarray([0, 2, 0]), jnp.asarray([True, True, False]))
    assert got == pytest.approx(expected, rel=1e-5)


FORMS = {
    "orthogonal": lambda x, y, p, m: orthogonal(x, y, m),
    "capped": lambda x, y, p, m: orthogonal(x, y, m, cap=0.3),
    "view": lambda x, y, p, m: view_cross_entropy(x[:, :2] + y[:, :2], p, m),
}
COMPILED = {name: jax.jit(jax.value_and_grad(f, argnums=(0, 1))) for name, f in FORMS.items()}


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "opposite", "tiny", "one view"]),
    rows=st.integers(0, 5),
)
def test_masked_rows_count_as_removed_and_gradients_are_finite(name, seed, kind, rows):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 5, 4)).astype(np.float32)
    platform = rng.integers(-1, 3, 5) if kind != "one view" else np.zeros(5, int)
    if kind == "duplicates":
        x[:] = y[:] = x[0]
    elif kind == "zeros":
        x[:] = 0
    elif kind == "opposite":
        y = -x
    elif kind == "tiny":
        x *= np.float32(1e-12)
    mask = np.zeros(5, bool)
    mask[rng.permutation(5)[:rows]] = True
    x[~mask] = np.nan

    def call(order):
        rows = (jnp.asarray(array[order]) for array in (x, y, platform, mask))
        return COMPILED[name](*rows)

    value, gradients = call(np.arange(5))
    assert np.isfinite(value) and value >= 0
    if rows == 0:
        assert value == 0.0
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert not np.asarray(gradient)[~mask].any()
    # The same rows in another order, and alone.
    np.testing.assert_allclose(call(rng.permutation(5))[0], value, rtol=1e-4, atol=1e-6)
    if rows:
        alone = FORMS[name](*(jnp.asarray(a[mask]) for a in (x, y, platform)), None)
        np.testing.assert_allclose(alone, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_half_precision_is_computed_in_float32(name):
    x, y = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    half = [jnp.asarray(a, jnp.bfloat16) for a in (x, y)]
    platform = jnp.asarray([0, 1, 2, 0, 1, 0])
    got = FORMS[name](*half, platform, None)
    assert got.dtype == jnp.float32
    if name != "view":
        expected = FORMS[name](*(a.astype(jnp.float32) for a in half), platform, None)
        assert got == pytest.approx(float(expected), rel=1e-6)
