import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from g2ajax.losses.gaussian_mixture import (
    clamp_log_variance,
    half_mahalanobis,
    large_margin_gaussian_mixture,
)

FEATURE = jnp.asarray([[1.0, 0.0], [3.0, 2.0]])
MEANS = jnp.asarray([[0.0, 0.0], [3.0, 0.0]])
LABEL = jnp.asarray([0, 1])


def drawn(seed, rows=6, classes=3, dim=4):
    rng = np.random.default_rng(seed)
    feature, means, spread = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((rows, dim), (classes, dim), (classes, dim))
    )
    return feature, means, spread, jnp.asarray(rng.integers(0, classes, rows))


def test_identity_covariance_by_hand():
    out = large_margin_gaussian_mixture(FEATURE, MEANS, LABEL, alpha=0.5, likelihood_weight=0.1)
    np.testing.assert_allclose(out.logits, [[-0.5, -2.0], [-6.5, -2.0]])
    np.testing.assert_allclose(out.margin_logits, [[-0.75, -2.0], [-6.5, -3.0]])
    rows = [np.log(1 + np.exp(-1.25)), np.log(1 + np.exp(-3.5))]
    assert out.classification == pytest.approx(np.mean(rows), rel=1e-6)
    assert out.likelihood == pytest.approx(1.25)
    assert out.loss == pytest.approx(np.mean(rows) + 0.125, rel=1e-6)
    assert out.clamped == 0


def test_diagonal_covariance_is_the_density_of_a_gaussian():
    feature, means, spread, label = drawn(0)
    prior = jnp.log(jnp.asarray([0.5, 0.3, 0.2]))
    out = large_margin_gaussian_mixture(
        feature, means, label, log_variance=spread, log_prior=prior, alpha=0.0
    )
    density = norm.logpdf(
        np.asarray(feature)[:, None], np.asarray(means)[None], np.exp(np.asarray(spread) / 2)[None]
    ).sum(-1)
    constant = 2.0 * np.log(2 * np.pi)
    np.testing.assert_allclose(out.logits, density + constant + np.asarray(prior), rtol=2e-5)
    of_true = np.take_along_axis(density + constant, np.asarray(label)[:, None], 1)
    assert out.likelihood == pytest.approx(-of_true.mean(), rel=1e-5)
    np.testing.assert_array_equal(out.margin_logits, out.logits)


def test_likelihood_without_the_inverse_covariance():
    kw = {"log_variance": jnp.log(jnp.full((2, 2), 4.0))}
    paper = large_margin_gaussian_mixture(FEATURE, MEANS, LABEL, **kw).likelihood
    other = large_margin_gaussian_mixture(
        FEATURE, MEANS, LABEL, scaled_likelihood=False, **kw
    ).likelihood
    assert paper == pytest.approx(1.25 / 4 + np.log(4), rel=1e-6)
    assert other == pytest.approx(1.25 + np.log(4), rel=1e-6)


def test_small_distances_far_from_the_origin_keep_their_digits():
    far = 4096.0
    near = half_mahalanobis(FEATURE + far, MEANS + far)
    np.testing.assert_allclose(near, [[0.5, 2.0], [6.5, 2.0]])


def test_masked_and_unlabelled_rows_count_as_removed():
    feature, means, spread, label = drawn(1, rows=8)
    label = label.at[7].set(-1)
    mask = jnp.arange(8) != 6
    whole = large_margin_gaussian_mixture(feature, means, label, log_variance=spread, mask=mask)
    part = large_margin_gaussian_mixture(feature[:6], means, label[:6], log_variance=spread)
    assert whole.loss == pytest.approx(float(part.loss), rel=1e-6)
    none = large_margin_gaussian_mixture(feature, means, jnp.full(8, -1))
    assert none.loss == none.likelihood == 0


def test_an_exploding_covariance_is_clamped_and_said():
    feature, means, _, label = drawn(2)
    spread = jnp.zeros((3, 4)).at[0].set(1e4).at[1].set(-1e4)

    def loss(spread):
        out = large_margin_gaussian_mixture(feature, means, label, log_variance=spread, limit=8.0)
        return out.loss, out

    (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(spread)
    assert out.clamped == pytest.approx(8 / 12)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    assert jnp.isfinite(out.logits).all()
    at_the_clamp = large_margin_gaussian_mixture(
        feature, means, label, log_variance=jnp.clip(spread, -8.0, 8.0)
    )
    assert value == at_the_clamp.loss
    # Descent never leads farther out.
    assert (gradient[0] >= 0).all() and (gradient[1] <= 0).all()


def test_the_clamp_lets_a_parameter_come_back():
    value = jnp.asarray([[9.0, 9.0, -9.0, -9.0, 1.0]])
    pull = jnp.asarray([[2.0, -2.0, 2.0, -2.0, 3.0]])
    gradient = jax.grad(lambda v: jnp.sum(pull * clamp_log_variance(v, 8.0)))(value)
    np.testing.assert_array_equal(gradient, [[2.0, 0.0, 0.0, -2.0, 3.0]])
    descend = jax.jit(
        jax.grad(lambda v, wanted: jnp.sum((clamp_log_variance(v, 8.0) - wanted) ** 2))
    )
    for start, wanted in ((20.0, 2.0), (-20.0, -2.0)):
        parameter = jnp.full((1, 1), start)
        for _ in range(60):
            parameter -= 0.1 * descend(parameter, wanted)
        assert parameter[0, 0] == pytest.approx(wanted, abs=1e-3)


@jax.jit
def value_and_gradients(feature, means, spread, label, mask):
    def loss(feature, means, spread):
        out = large_margin_gaussian_mixture(
            feature, means, label, log_variance=spread, alpha=0.3, mask=mask
        )
        return out.loss, out

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(feature, means, spread)


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "all masked", "huge", "spread"]),
)
def test_finite_with_finite_gradients_and_blind_to_order_and_place(seed, kind):
    feature, means, spread, label = drawn(seed)
    mask = jnp.full(6, kind != "all masked")
    if kind == "duplicates":
        feature, means = jnp.broadcast_to(feature[0], (6, 4)), jnp.broadcast_to(feature[0], (3, 4))
    elif kind == "zeros":
        feature = jnp.zeros((6, 4))
    elif kind == "huge":
        feature = feature * 1e4
    elif kind == "spread":
        spread = spread * 100
    (value, out), gradients = value_and_gradients(feature, means, spread, label, mask)
    assert jnp.isfinite(value) and all(jnp.isfinite(g).all() for g in gradients)
    assert (out.margin_logits <= out.logits).all()
    assert out.classification >= 0
    if kind == "all masked":
        assert value == 0 and not any(g.any() for g in gradients)
    order = np.random.default_rng(seed).permutation(6)
    again = value_and_gradients(feature[order], means, spread, label[order], mask)[0][0]
    np.testing.assert_allclose(again, value, rtol=1e-4, atol=1e-6)
    if kind in ("random", "zeros", "duplicates"):
        moved = value_and_gradients(feature + 2.0, means + 2.0, spread, label, mask)[0][0]
        np.testing.assert_allclose(moved, value, rtol=1e-4, atol=1e-5)
