import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.detection.anchors import cell_anchors, grid_anchors
from g2ajax.detection.boxes import (
    MAX_LOG_RATIO,
    ROI_WEIGHTS,
    areas,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    large_enough,
    pairwise_iou,
)

EMPTY = jnp.zeros((0, 4))
encode = jax.jit(encode_boxes, static_argnames="weights")
decode = jax.jit(decode_boxes, static_argnames="weights")


def random_boxes(rng, count, largest=100.0):
    corner = rng.uniform(0, largest, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, largest, (count, 2))], 1).astype("f4")


def test_iou_by_hand():
    a = jnp.asarray([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    b = jnp.asarray([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    np.testing.assert_allclose(pairwise_iou(a, b), [[1 / 7, 1, 0], [0, 0.25, 0]], rtol=1e-6)
    np.testing.assert_allclose(areas(b), [4, 4, 1])


def test_empty_points_and_inverted_boxes_overlap_nothing():
    odd = jnp.asarray([[1.0, 1, 1, 1], [1, 1, 1, 5], [4, 4, 2, 2], [0, 0, 0, 0]])
    table = np.asarray(pairwise_iou(odd, odd))
    assert np.isfinite(table).all()
    assert not table.any()
    assert pairwise_iou(EMPTY, odd).shape == (0, 4)
    assert not np.asarray(large_enough(odd, 1e-3)).any()


def test_clipping_lets_a_coordinate_equal_the_side():
    boxes = jnp.asarray([[-5.0, -1, 300, 300], [10, 20, 30, 40]])
    clipped = clip_boxes(boxes, jnp.asarray([120, 200]))
    np.testing.assert_allclose(clipped, [[0, 0, 200, 120], [10, 20, 30, 40]])


def test_codes_by_hand():
    code = encode_boxes(jnp.asarray([[10.0, 20, 30, 60]]), jnp.asarray([[0.0, 0, 10, 20]]))
    np.testing.assert_allclose(code, [[1.5, 1.5, np.log(2), np.log(2)]], rtol=1e-6)


def test_a_decoded_side_grows_at_most_by_the_limit():
    box = decode_boxes(jnp.asarray([[0.0, 0, 50, -1]]), jnp.asarray([[0.0, 0, 16, 16]]))
    np.testing.assert_allclose(box[0, 2] - box[0, 0], 1000.0, rtol=1e-5)
    np.testing.assert_allclose(box[0, 3] - box[0, 1], 16 * np.exp(-1), rtol=1e-5)
    assert np.isclose(np.exp(MAX_LOG_RATIO), 62.5)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_decoding_undoes_encoding(seed):
    rng = np.random.default_rng(seed)
    boxes, references = (jnp.asarray(random_boxes(rng, 6)) for _ in range(2))
    code = encode(boxes, references, weights=ROI_WEIGHTS)
    # Ratios above 62.5 are cut.
    sides = (boxes[:, 2:] - boxes[:, :2]) / (references[:, 2:] - references[:, :2])
    fits = np.asarray((sides < 60).all(1))
    back = decode(code, references, weights=ROI_WEIGHTS)
    np.testing.assert_allclose(back[fits], boxes[fits], rtol=1e-4, atol=1e-2)


def test_codes_of_empty_boxes_are_zero_with_finite_gradients():
    boxes = jnp.asarray([[0.0, 0, 0, 0], [5, 5, 9, 9], [9, 9, 5, 5]])
    references = jnp.asarray([[0.0, 0, 10, 10], [3, 3, 3, 3], [0, 0, 10, 10]])
    value, back = jax.vjp(encode_boxes, boxes, references)
    assert not np.asarray(value).any()
    assert all(np.isfinite(g).all() for g in back(jnp.ones((3, 4))))


def test_anchor_cells_by_hand_and_grid_order():
    cell = cell_anchors()
    assert cell.shape == (15, 4)
    np.testing.assert_array_equal(cell[:2], [[-23, -11, 23, 11], [-45, -23, 45, 23]])
    np.testing.assert_array_equal(cell[5], [-16, -16, 16, 16])
    np.testing.assert_array_equal(cell[10], [-11, -23, 11, 23])
    grid = grid_anchors(cell, (2, 3))
    assert grid.shape == (2 * 3 * 15, 4)
    np.testing.assert_array_equal(grid[15], cell[0] + [16, 0, 16, 0])
    np.testing.assert_array_equal(grid[3 * 15 + 4], cell[4] + [0, 16, 0, 16])
