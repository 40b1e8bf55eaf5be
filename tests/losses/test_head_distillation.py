import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses import head_distillation as hkd

FORMS = {
    "logits": hkd.logit_divergence,
    "logits both": functools.partial(hkd.logit_divergence, bidirectional=True),
    "similarity": hkd.similarity_divergence,
    "similarity both": functools.partial(hkd.similarity_divergence, bidirectional=True),
    "distance": hkd.similarity_distance,
    "feature": hkd.feature_distance,
    "probability": hkd.probability_transfer,
}
COMPILED = {
    name: jax.jit(jax.value_and_grad(lambda x, y, m, form=form: form(x, y, m), argnums=(0, 1)))
    for name, form in FORMS.items()
}


def units(rng, kind="random"):
    x = rng.normal(size=(5, 4))
    if kind == "duplicates":
        x[:] = x[0]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(kind == "zeros", 0.0, x).astype(np.float32)


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros"]),
    rows=st.integers(0, 5),
)
def test_masked_rows_count_as_removed_and_gradients_are_finite(name, seed, kind, rows):
    rng = np.random.default_rng(seed)
    x, y = units(rng, kind), units(rng, kind)
    mask = np.zeros(5, bool)
    mask[rng.permutation(5)[:rows]] = True
    x[~mask] = np.nan
    value, gradients = COMPILED[name](jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask))
    if rows == 0:
        assert value == 0.0
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert not np.asarray(gradient)[~mask].any()
    # The same rows at the front.
    order = np.argsort(~mask, kind="stable")
    moved, _ = COMPILED[name](
        jnp.asarray(x[order]), jnp.asarray(y[order]), jnp.asarray(mask[order])
    )
    assert float(moved) == pytest.approx(float(value), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["similarity", "probability"])
def test_padding_equals_the_rows_alone(name):
    rng = np.random.default_rng(1)
    x, y = jnp.asarray(units(rng)), jnp.asarray(units(rng))
    alone = FORMS[name](x[:3], y[:3])
    assert float(FORMS[name](x, y, jnp.arange(5) < 3)) == pytest.approx(float(alone), rel=1e-5)


def test_equal_sides_have_no_loss():
    x = jnp.asarray(units(np.random.default_rng(2)))
    for name, (value, _) in ((n, c(x, x, jnp.ones(5, bool))) for n, c in COMPILED.items()):
        assert float(value) == pytest.approx(0.0, abs=1e-6), name


def test_divergences_by_hand():
    p, q = np.asarray([0.75, 0.25]), np.asarray([0.5, 0.5])
    student, teacher = jnp.asarray([2 * np.log(q)]), jnp.asarray([2 * np.log(p)])
    forward, back = np.sum(p * np.log(p / q)), np.sum(q * np.log(q / p))
    loss = hkd.logit_divergence(student, teacher)
    assert float(loss) == pytest.approx(4 * forward, rel=1e-5)
    both = hkd.logit_divergence(student, teacher, bidirectional=True)
    assert float(both) == pytest.approx(4 * (forward + back), rel=1e-5)
