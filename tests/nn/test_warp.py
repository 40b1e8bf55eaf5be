import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.nn.warp import read_bilinear, regular_points, rotation, spline_weights


def places(height, width):
    ys, xs = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([xs, ys], -1).reshape(-1, 2)


@pytest.mark.parametrize("side", [2, 3])
def test_a_spline_through_points_that_move_alike_is_that_map(side):
    targets = regular_points(side)
    matrix = spline_weights(side, 4, 3)
    np.testing.assert_allclose(matrix @ targets, places(4, 3), atol=1e-8)
    linear = np.asarray([[0.3, -1.0], [0.5, 0.2]])
    moved = targets @ linear + [[0.1, -0.4]]
    np.testing.assert_allclose(matrix @ moved, places(4, 3) @ linear + [[0.1, -0.4]], atol=1e-8)


def test_the_spline_goes_through_its_points():
    targets = regular_points(3)
    points = targets + np.random.default_rng(0).normal(0, 0.3, targets.shape)
    # On a 3x3 map the places are the targets, with x varying fastest.
    got = (spline_weights(3, 3, 3) @ points).reshape(3, 3, 2)
    np.testing.assert_allclose(got.transpose(1, 0, 2).reshape(-1, 2), points, atol=1e-6)


def test_a_grid_of_one_row_or_column_is_refused():
    for size in ((1, 4), (4, 1)):
        with pytest.raises(ValueError, match=r"a grid of .* places is too small to be warped"):
            spline_weights(2, *size)


def test_rotation_turns_row_vectors():
    turned = jnp.asarray([[1.0, 0.0]]) @ rotation(jnp.asarray([np.pi / 2]))[0]
    np.testing.assert_allclose(turned, [[0, 1]], atol=1e-6)


def test_reading_by_hand():
    values = jnp.asarray([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])[None, ..., None]
    points = jnp.asarray([[[-1, -1], [0.5, -1], [0, 0], [3, 0], [1, 1], [-9, 9]]], jnp.float32)

    def read(points):
        return read_bilinear(values, points)

    got = read(points)
    np.testing.assert_allclose(got[0, :, 0], [0, 1.5, 6, 7, 12, 10], atol=1e-6)
    np.testing.assert_allclose(read(jnp.asarray(places(2, 3)[None], jnp.float32))[0, :, 0],
                               [0, 1, 2, 10, 11, 12], atol=1e-6)  # fmt: skip
    gradient = jax.grad(lambda points: read(points).sum())(points)[0]
    # One column is 1 wide on [-1, 1], the row 2; outside and on the border there is none.
    np.testing.assert_allclose(
        gradient, [[0, 0], [1, 0], [1, 5], [0, 5], [0, 0], [0, 0]], atol=1e-5
    )
