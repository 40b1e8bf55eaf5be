import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.pairwise import pairwise_circle, pairwise_cosface

FORMS = {"circle": pairwise_circle, "cosface": pairwise_cosface}
COMPILED = {
    name: jax.jit(jax.value_and_grad(lambda f, y, m, form=form: form(f, y, mask=m)))
    for name, form in FORMS.items()
}
POINTS = jnp.asarray([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
LABEL = jnp.asarray([0, 0, 1])


def softplus(x):
    return np.log1p(np.exp(x))


def test_by_hand():
    # Cosines: first-second 0 (positive), first-third 1, second-third 0; the third is alone: 0.
    circle = (softplus(2 * (1.25 * 0.75 + 1.25 * 0.75)) + softplus(2 * (0.9375 - 0.0625))) / 3
    assert pairwise_circle(POINTS, LABEL, margin=0.25, gamma=2.0) == pytest.approx(circle, rel=1e-6)
    cosface = (softplus(2 * 1.25) + softplus(2 * 0.25)) / 3
    assert pairwise_cosface(POINTS, LABEL, margin=0.25, gamma=2.0) == pytest.approx(
        cosface, rel=1e-6
    )


def test_circle_weights_carry_no_gradient():
    gradient = jax.grad(lambda f: pairwise_circle(f, LABEL, margin=0.25, gamma=2.0))(POINTS)

    def frozen(feature):
        unit = feature / jnp.linalg.norm(feature, axis=1, keepdims=True)
        s = jnp.sum(unit[jnp.asarray([0, 0, 1])] * unit[jnp.asarray([1, 2, 2])], -1)
        positive = -2 * 1.25 * (s[0] - 0.75)
        first = jax.nn.softplus(positive + 2 * 1.25 * (s[1] - 0.25))
        return (first + jax.nn.softplus(positive + 2 * 0.25 * (s[2] - 0.25))) / 3

    np.testing.assert_allclose(gradient, jax.grad(frozen)(POINTS), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FORMS)
def test_masked_rows_count_as_removed(name):
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.float32)
    label = jnp.asarray([0, 0, 1, 1, 2, 2, 0, -1])
    mask = jnp.asarray([True] * 6 + [False, True])
    np.testing.assert_allclose(
        FORMS[name](feature, label, mask=mask), FORMS[name](feature[:6], label[:6]), rtol=1e-5
    )


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "one identity", "all masked", "huge"]),
)
def test_finite_with_finite_gradients_and_blind_to_order(name, seed, kind):
    rng = np.random.default_rng(seed)
    feature = rng.normal(size=(6, 4)).astype(np.float32)
    label, mask = rng.integers(0, 3, 6), np.ones(6, bool)
    if kind == "duplicates":
        feature[:] = feature[0]
    elif kind == "zeros":
        feature[:] = 0
    elif kind == "one identity":
        label[:] = 1
    elif kind == "all masked":
        mask[:] = False
    elif kind == "huge":
        feature *= 1e4
    arguments = jnp.asarray(feature), jnp.asarray(label), jnp.asarray(mask)
    value, gradient = COMPILED[name](*arguments)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    assert value >= 0
    if kind in ("one identity", "all masked"):
        assert value == 0
    order = rng.permutation(6)
    again = COMPILED[name](*(a[order] for a in arguments))[0]
    np.testing.assert_allclose(again, value, rtol=1e-4, atol=1e-6)
