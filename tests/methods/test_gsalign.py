import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.recipes import view_aware
from tests.methods.learning import (
    FACTS,
    check_embedding,
    check_learning,
    embed,
    evaluation,
    make_batch,
    train,
    untrained,
)


def make(*, image_size=(32, 32), **changes):
    config = {"name": "gsalign", "backbone": {"name": "vit_test", "drop_path": 0.0}, **changes}
    facts = dataclasses.replace(FACTS, image_size=image_size)
    return methods.build(config, facts, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def trained():
    model = make(view_weight=1.0, angle_weight=0.5)
    return train(model, make_batch())[0], model


def test_every_parameter_is_trained(trained):
    loss, terms, gradient = trained[0][0]
    names = ("identity", "triplet", "view", "orthogonal")
    total = sum(terms[name] for name in names) + 10 * terms["mask"] + 0.5 * terms["angle"]
    np.testing.assert_allclose(loss, total, rtol=1e-6)
    # On a 2x2 grid the points are the corners: at an angle of nearly 0 two of each are outside.
    assert not untrained(gradient)


def test_it_learns(trained):
    steps, model = trained
    check_learning(steps)
    assert model.in_batch_terms == ("triplet", "mask")
    check_embedding(model, 32)


def test_both_parts_can_be_left_out():
    images = make_batch()["image"]
    plain = make(warp=False, mask_weight=0.0)
    assert not hasattr(plain, "warps") and not hasattr(plain, "mask")
    assert plain.in_batch_terms == ("triplet",)
    config = {"name": "vdt", "backbone": {"name": "vit_test", "drop_path": 0.0}}
    vdt = methods.build(config, FACTS, rngs=nnx.Rngs(params=0))
    np.testing.assert_allclose(
        embed(evaluation(plain), images), embed(evaluation(vdt), images), atol=1e-5
    )


def test_at_an_angle_of_zero_the_patches_grow():
    warp = make(step=0.3).warps[0]
    getattr(warp.angle_predictor, "6").kernel[...] *= 0.0
    patches = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 32)), jnp.float32)
    got, angle = nnx.jit(lambda warp, patches: warp(patches))(warp, patches)
    np.testing.assert_allclose(got, 1.3 * patches, rtol=1e-5)
    np.testing.assert_array_equal(angle, np.zeros(3))


def test_what_cannot_be_warped_is_refused():
    with pytest.raises(ValueError, match="a grid of 2x1 places is too small to be warped"):
        make(image_size=(32, 16))
    assert make(image_size=(32, 16), warp=False)
    for points in (1, 5):
        with pytest.raises(ValueError, match=f"method.points = {points}: expected a square number"):
            make(points=points)


def test_recipe():
    for dataset, epochs, weight, rankings in (
        ("cargo", 150, 0.0, ()),
        ("agreid_v2", 120, 0.5, ("query_expansion",)),
    ):
        config = view_aware.gsalign(dataset)
        assert config.phase.reid.epochs == epochs and config.method.angle_weight == weight
        assert config.evaluate.rankings == rankings
