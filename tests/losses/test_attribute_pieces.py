"""Pieces of people, what their cells say, and the cross-entropy of attributes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.attribute_pieces import (
    HEIGHTS,
    RASTER,
    WIDTHS,
    at_size,
    attribute_cross_entropy,
    draw_pieces,
    mix,
    piece_logits,
)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_pieces_are_rectangles_of_the_stated_sizes(seed):
    pieces = np.asarray(draw_pieces(jax.random.key(seed), 16))
    assert pieces.shape == (16, *RASTER)
    for piece in pieces:
        rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
        assert HEIGHTS[0] <= len(rows) <= HEIGHTS[1]
        assert WIDTHS[0] <= len(columns) <= WIDTHS[1]
        assert piece.sum() == len(rows) * len(columns)
        assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()


def test_every_place_and_size_is_drawn():
    pieces = np.asarray(draw_pieces(jax.random.key(0), 2000))
    assert pieces.mean(0).min() > 0.1 and pieces.mean(0).max() < 0.9
    assert set(pieces.any(2).sum(1)) == set(range(HEIGHTS[0], HEIGHTS[1] + 1))
    assert set(pieces.any(1).sum(1)) == set(range(WIDTHS[0], WIDTHS[1] + 1))


@pytest.mark.parametrize("size", [(128, 64), (24, 8), (8, 4)])
def test_a_finer_raster_repeats_the_cells(size):
    pieces = draw_pieces(jax.random.key(1), 5)
    fine = np.asarray(at_size(pieces, size))
    steps = (size[0] // RASTER[0], size[1] // RASTER[1])
    np.testing.assert_array_equal(fine, np.kron(np.asarray(pieces), np.ones((1, *steps), bool)))


def test_a_coarser_raster_keeps_its_shape():
    assert at_size(draw_pieces(jax.random.key(1), 5), (4, 2)).shape == (5, 4, 2)


def test_mixed_images_show_their_own_pixels_in_the_piece_only():
    images = jnp.broadcast_to(jnp.arange(5.0)[:, None, None, None], (5, 16, 8, 3))
    pieces = draw_pieces(jax.random.key(2), 5)
    mixed, other = mix(images, pieces)
    assert (np.asarray(other) != np.arange(5)).all() and len(set(np.asarray(other))) == 5
    inside = np.asarray(at_size(pieces, (16, 8)))
    for i in range(5):
        assert set(np.unique(mixed[i][inside[i]])) == {i}
        assert set(np.unique(mixed[i][~inside[i]])) == {int(other[i])}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(-200, 200))
def test_the_logit_of_a_piece_lies_between_mean_and_maximum_of_its_cells(seed, shift):
    rng = np.random.default_rng(seed)
    logits = (3 * rng.normal(size=(3, 8, 4, 2)) + shift).astype(np.float32)
    inside = rng.uniform(size=(3, 8, 4)) < 0.4
    inside[:, 0, 0] = True
    found = np.asarray(piece_logits(jnp.asarray(logits), jnp.asarray(inside)))
    for i in range(3):
        own = logits[i][inside[i]]
        assert (found[i] <= own.max(0) + 1e-3).all() and (found[i] >= own.mean(0) - 1e-3).all()


def test_cells_outside_a_piece_do_not_matter():
    logits = jax.random.normal(jax.random.key(0), (2, 8, 4, 3))
    inside = draw_pieces(jax.random.key(1), 2)
    changed = jnp.where(inside[..., None], logits, 1e4)
    np.testing.assert_array_equal(piece_logits(logits, inside), piece_logits(changed, inside))
    gradient = jax.grad(lambda x: jnp.sum(piece_logits(x, inside)))(logits)
    assert not np.asarray(gradient)[~np.asarray(inside)].any()
    np.testing.assert_allclose(jnp.sum(gradient, (1, 2)), 1.0, rtol=1e-5)


def test_an_empty_piece_says_nothing():
    logits, nowhere = jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 2, 2), bool)
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(piece_logits(x, nowhere)))(logits)
    assert value == 0 and not gradient.any()


def test_cross_entropy_by_hand():
    logits = jnp.asarray([[2.0, -1.0], [0.5, 7.0]])
    attributes = jnp.asarray([[1, -1], [-1, 0]])
    rates, weight = jnp.asarray([0.25, 0.5]), jnp.asarray([1.0, 0.5])

    def softplus(x):
        return np.log1p(np.exp(x))

    entries = [
        (1.0, np.exp(0.75) * softplus(-2.0)),
        (1.0, np.exp(0.5) * softplus(-1.0)),
        (0.5, np.exp(0.25) * softplus(0.5)),
    ]
    expected = sum(w * v for w, v in entries) / sum(w for w, _ in entries)
    found = attribute_cross_entropy(logits, attributes, rates, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("held", [0.0, np.nan, np.inf])
def test_rows_without_weight_hold_anything(held):
    logits = jnp.asarray([[1.0, 2.0], [held, held]])
    attributes, rates = jnp.asarray([[1, -1], [1, 1]]), jnp.asarray([0.5, 0.5])

    def loss(logits):
        return attribute_cross_entropy(logits, attributes, rates, jnp.asarray([1.0, 0.0]))

    value, gradient = jax.value_and_grad(loss)(logits)
    alone = attribute_cross_entropy(logits[:1], attributes[:1], rates, jnp.ones(1))
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    assert np.isfinite(gradient).all() and not gradient[1].any()
    nothing = attribute_cross_entropy(logits, attributes, rates, jnp.zeros(2))
    assert nothing == 0
