"""The exchange of tokens, overlapping patches, and batch norm over the cells of a map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.nn.norm import BatchNorm
from g2ajax.nn.norm_aware import MaskedBatchNorm
from g2ajax.nn.occluded import PatchWriter, draw_exchange


def test_valid_rows_exchange_one_stripe():
    mask = jnp.asarray([True, False, True, True, False])
    exchange = jax.jit(draw_exchange, static_argnames="size")
    drawn = [exchange(jax.random.key(i), mask, size=4) for i in range(60)]
    columns, indices, orders = set(), set(), set()
    for source, stripe in drawn:
        source, stripe = np.asarray(source), np.asarray(stripe)
        assert sorted(source[[0, 2, 3]]) == [0, 2, 3] and list(source[[1, 4]]) == [1, 4]
        assert stripe.sum() == 4
        rows, places = np.nonzero(stripe)
        is_column = len(set(places)) == 1
        columns.add(is_column)
        indices.add(int(places[0] if is_column else rows[0]))
        orders.add(tuple(source))
    # Both directions, never the last one, every permutation.
    assert columns == {True, False} and indices == {0, 1, 2} and len(orders) == 6


def test_an_exchange_reads_what_was_there():
    source, stripe = jnp.asarray([1, 0]), jnp.asarray([[True, False]])
    exchange = type(draw_exchange(jax.random.key(0), jnp.ones(2, bool)))(source, stripe)
    x = jnp.asarray([[[1.0, 2.0]], [[3.0, 4.0]]])[..., None]
    np.testing.assert_array_equal(exchange(x)[..., 0], [[[3, 2]], [[1, 4]]])


def test_overlapping_patches_add_up():
    writer = PatchWriter(2, 3, 3, dtype=jnp.float32, rngs=nnx.Rngs(params=0))
    tokens = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    patches = tokens @ np.asarray(writer.embedding.kernel[...])
    patches = (patches + np.asarray(writer.embedding.bias[...])).reshape(4, 5, 3, 3, 3)
    expected = np.zeros((6, 7, 3), np.float32)
    for y in range(4):
        for x in range(5):
            expected[y : y + 3, x : x + 3] += patches[y, x].transpose(1, 2, 0)
    np.testing.assert_allclose(
        writer(jnp.asarray(tokens))[0], expected[1:-1, 1:-1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("cells", [True, False])
def test_masked_statistics_are_those_of_what_counts(cells):
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 4, 4, 3)).astype(np.float32)
    inside = np.zeros((2, 4, 4), bool)
    inside[:, :2, :3] = True
    mask = inside if cells else np.asarray([True, False])
    kept = x[:, :2, :3] if cells else x[:1]
    x[~mask] = np.nan
    masked, plain = MaskedBatchNorm(3), BatchNorm(3)
    y, expected = masked(jnp.asarray(x), jnp.asarray(mask)), plain(jnp.asarray(kept))
    got = np.asarray(y)[:, :2, :3] if cells else np.asarray(y)[:1]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(masked.var[...], plain.var[...], rtol=1e-5)
    np.testing.assert_allclose(masked.mean[...], plain.mean[...], rtol=1e-5)
