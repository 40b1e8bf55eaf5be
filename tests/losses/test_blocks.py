"""Losses over all pairs in blocks of rows: the values and gradients of the whole, less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses import image_text, pairwise, triplet
from g2ajax.losses.blocks import over_rows
from tests.losses import test_pairwise, test_triplet

MODULES = (triplet, pairwise, image_text)


def two_sided(name: str):
    """A loss of images and captions as one of a single feature."""

    def form(feature, label, mask):
        image, text = feature, jnp.roll(feature, 1, axis=-1) + feature**2
        if name == "itc":
            return image_text.itc(image, text, mask=mask)
        if name == "cmpm":
            return image_text.cmpm(image, text, label, mask=mask)
        number = jnp.arange(len(label)) // 2 if name == "sdm_of_images" else None
        return image_text.sdm(image, text, label, image_id=number, mask=mask)

    return form


TWO_SIDED = {name: two_sided(name) for name in ("sdm", "sdm_of_images", "cmpm", "itc")}
FORMS = {**test_triplet.FORMS, **test_pairwise.FORMS, **TWO_SIDED}
ROWS = 11  # three blocks of four, the last with a row too many


@functools.cache
def compiled(name: str):
    """Value and gradient of a loss, whole and in blocks of four rows."""
    form = FORMS[name]

    def both(feature, label, mask):
        whole = jax.value_and_grad(lambda f: form(f, label, mask=mask))(feature)
        with pytest.MonkeyPatch.context() as patch:
            for module in MODULES:
                patch.setattr(module, "over_rows", functools.partial(over_rows, block=4))
            blocked = jax.value_and_grad(lambda f: form(f, label, mask=mask))(feature)
        return whole, blocked

    return jax.jit(both)


def exact_features(rng: np.random.Generator) -> np.ndarray:
    """Rows whose norms, products and distances float32 holds exactly, normalised or not.

    The distance of a row to itself is the root of a difference of large numbers: rounded otherwise in
    a block than in the whole, it would be 1e-3 in place of 0.
    """
    signs = rng.choice([-1.0, 1.0], (ROWS, 5))
    signs[np.arange(ROWS), rng.integers(0, 5, ROWS)] = 0.0
    return (signs * rng.choice([0.5, 1.0, 2.0], (ROWS, 1))).astype(np.float32)


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "one identity", "all masked"]),
)
def test_blocks_give_what_the_whole_gives(name, seed, kind):
    rng = np.random.default_rng(seed)
    feature = exact_features(rng)
    label = rng.integers(-1, 4, ROWS)
    mask = rng.random(ROWS) < 0.8
    if kind == "duplicates":
        feature[::2] = feature[0]
    elif kind == "zeros":
        feature[3:] = 0
    elif kind == "one identity":
        label[:] = 1
    elif kind == "all masked":
        mask[:] = False
    whole, blocked = compiled(name)(jnp.asarray(feature), jnp.asarray(label), jnp.asarray(mask))
    assert jnp.isfinite(blocked[0]) and jnp.isfinite(blocked[1]).all()
    np.testing.assert_allclose(blocked[0], whole[0], rtol=1e-5, atol=1e-6)
    # Columns' gradients add up in another order. The root's derivative multiplies the rounding of
    # a distance that is all but 0.
    scale = 1e-6 + float(jnp.abs(whole[1]).max())
    atol = 2e-3 if kind == "duplicates" else 2e-5
    np.testing.assert_allclose(blocked[1] / scale, whole[1] / scale, atol=atol)


@pytest.mark.parametrize("count", [1, 4, 5, 8, 11])
def test_rows_come_back_in_their_order(count):
    x = jnp.arange(float(count))
    shapes = []

    def double(rows, flags):
        shapes.append(rows.shape)
        return {"twice": 2 * rows, "pair": jnp.stack([rows, -rows], 1), "not": ~flags}

    out = over_rows(double, x, x > 2, block=4)
    assert shapes == [(-(-count // -(-count // 4)),)]
    np.testing.assert_array_equal(out["twice"], 2 * x)
    np.testing.assert_array_equal(out["pair"], jnp.stack([x, -x], 1))
    np.testing.assert_array_equal(out["not"], x <= 2)


def largest(jaxpr) -> int:
    """Elements of the largest array that a program makes, inner programs included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [v.aval.size for v in equation.outvars if hasattr(v.aval, "size")]
        sizes += map(largest, jax.core.jaxprs_in_params(equation.params))
    return max(sizes)


@pytest.mark.parametrize("name", FORMS)
def test_a_large_batch_has_no_array_of_all_pairs(name):
    count = 4096
    shapes = (
        jax.ShapeDtypeStruct((count, 64), jnp.float32),
        jax.ShapeDtypeStruct((count,), jnp.int32),
        jax.ShapeDtypeStruct((count,), jnp.bool_),
    )
    form = FORMS[name]
    program = jax.make_jaxpr(jax.value_and_grad(lambda f, y, m: form(f, y, mask=m)))(*shapes)
    assert largest(program.jaxpr) == count * count // 8
