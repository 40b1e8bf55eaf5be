"""The steps of a detector behind one another, batched over images and shared out over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.detection.anchors import cell_anchors, grid_anchors
from g2ajax.detection.boxes import decode_boxes
from g2ajax.detection.proposals import filter_proposals
from g2ajax.detection.roi_align import roi_align
from g2ajax.detection.targets import select_anchors, select_training_samples
from g2ajax.losses.detection import binary_cross_entropy, box_regression
from tests.detection.test_boxes import random_boxes

IMAGES, GRID, TRUTHS = 4, (5, 6), 3
ANCHORS = grid_anchors(cell_anchors((32, 64), (1.0, 2.0)), GRID)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    count = len(ANCHORS)
    return {
        "features": jnp.asarray(rng.normal(size=(IMAGES, *GRID, 4)), jnp.float32),
        "logits": jnp.asarray(rng.normal(size=(IMAGES, count)), jnp.float32),
        "codes": jnp.asarray(0.1 * rng.normal(size=(IMAGES, count, 4)), jnp.float32),
        "size": jnp.asarray([[80, 96], [70, 90], [80, 60], [50, 96]]),
        "boxes": jnp.asarray(np.stack([random_boxes(rng, TRUTHS, 45.0) for _ in range(IMAGES)])),
        "label": jnp.asarray(rng.integers(1, 9, (IMAGES, TRUTHS)), jnp.int32),
        # The last image has nobody.
        "there": jnp.asarray([[True] * 3, [True, False, False], [True] * 3, [False] * 3]),
    }


@jax.jit
def step(batch):
    """Losses of all images, and what each image's stages gave."""

    def one(image):
        # Drawing takes everything: no result depends on the key.
        key = jax.random.key(0)
        targets = select_anchors(
            key, ANCHORS, image["boxes"], image["there"], size=2 * len(ANCHORS)
        )
        found = filter_proposals(
            image["logits"], image["codes"], ANCHORS, image["size"], pre_nms=60, post_nms=20
        )
        samples = select_training_samples(
            key, found.boxes, found.valid, image["boxes"], image["label"], image["there"], size=99
        )
        pooled = roi_align(image["features"], samples.boxes, samples.valid, output_size=3)
        codes = jnp.mean(pooled, (1, 2))
        refined = decode_boxes(codes, samples.boxes)
        return targets, samples, codes, refined

    def loss(batch):
        targets, samples, codes, refined = jax.vmap(one)(batch)
        flat = [x.reshape(-1, *x.shape[2:]) for x in (codes, samples.codes)]
        positive, valid = (samples.label > 0).reshape(-1), samples.valid.reshape(-1)
        logits = jnp.take_along_axis(batch["logits"], targets.index, axis=1)
        rows = [x.reshape(-1) for x in (logits, targets.positive, targets.valid)]
        total = box_regression(*flat, positive, valid) + binary_cross_entropy(*rows)
        return total, (samples, refined)

    def of_features(features, logits):
        return loss(batch | {"features": features, "logits": logits})

    return jax.value_and_grad(of_features, argnums=(0, 1), has_aux=True)(
        batch["features"], batch["logits"]
    )


def test_every_image_trains_what_it_should(batch):
    (loss, (samples, refined)), (of_features, of_logits) = step(batch)
    assert np.isfinite(loss) and np.isfinite(refined).all()
    for gradient in (of_features, of_logits):
        assert np.isfinite(gradient).all()
    assert np.asarray(of_logits).any((1,)).all()
    # The image without people has background to learn from, but no box.
    np.testing.assert_array_equal(np.asarray(of_features).any((1, 2, 3)), [True, True, True, False])
    assert not np.asarray(samples.label[3]).any() and samples.valid[3].any()
    assert np.asarray(samples.label[:3]).any(1).all()


def test_four_devices_give_what_one_gives_and_compile_once_each(batch):
    before = step._cache_size()
    one = step(batch)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    four = step(jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data"))))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    other = jax.tree.map(lambda x: x[::-1], batch)
    (loss, _), _ = step(other)
    np.testing.assert_allclose(loss, one[0][0], rtol=1e-5)
    assert step._cache_size() <= before + 2


def test_more_room_for_true_boxes_changes_nothing(batch):
    room = ((0, 0), (0, 5))
    wide = batch | {
        "boxes": jnp.pad(batch["boxes"], (*room, (0, 0)), constant_values=30.0),
        "label": jnp.pad(batch["label"], room, constant_values=3),
        "there": jnp.pad(batch["there"], room),
    }
    (loss, (samples, _)), gradients = step(batch)
    (wide_loss, (wide_samples, _)), wide_gradients = step(wide)
    np.testing.assert_allclose(wide_loss, loss, rtol=1e-5)
    for a, b in zip(gradients, wide_gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    count = samples.valid.shape[1]
    np.testing.assert_array_equal(wide_samples.boxes[:, :count], samples.boxes)
    assert not wide_samples.valid[:, count:].any()
