import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.methods.sd_reid import moved_centroids
from tests.methods.learning import (
    FACTS,
    check_embedding,
    check_learning,
    evaluation,
    make_batch,
    train,
    untrained,
)


def make(**changes):
    config = {"name": "sd_reid", "backbone": {"name": "vit_test", "drop_path": 0.0}, **changes}
    return methods.build(config, FACTS, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def trained():
    model = make(view_weight=1.0)
    return train(model, make_batch())[0], model


def test_every_parameter_is_trained_and_it_learns(trained):
    steps, model = trained
    loss, terms, gradient = steps[0]
    np.testing.assert_allclose(loss, terms["identity"] + terms["triplet"] + terms["view"])
    assert not untrained(gradient)
    check_learning(steps)
    check_embedding(model, 32)


def test_the_centroids_are_near_their_views(trained):
    batch, model = make_batch(), evaluation(trained[1])
    view = nnx.jit(lambda model, images: model.features(images)[1])(model, batch["image"])
    distance = jnp.linalg.norm(view[:, None] - model.centroids[...][None], axis=-1)
    np.testing.assert_array_equal(jnp.argmin(distance, axis=1), batch["platform"])


def test_centroids_by_hand():
    centroids, view = jnp.asarray([[1.0], [2.0]]), jnp.asarray([[4.0], [6.0], [np.nan]])

    def move(platform):
        rows = view[: len(platform)]
        return moved_centroids(centroids, rows, jnp.asarray(platform), new_share=0.8)

    np.testing.assert_allclose(move([0, 0]), [[0.8 * 5 + 0.2], [2.0]], rtol=1e-6)
    np.testing.assert_allclose(move([2, 0]), [[0.8 * 6 + 0.2], [0.8 * 4 + 0.4]], rtol=1e-6)
    np.testing.assert_array_equal(move([-1, -1]), centroids)


def test_the_second_stage_is_refused():
    with pytest.raises(
        ValueError, match=r"method\.stage = 2: .* Stable Diffusion .* train stage 1"
    ):
        make(stage=2)
