"""The strong baseline on clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods

FACTS = methods.DataFacts(num_classes=4, image_size=(32, 16), num_cameras=2)
VIT = {"backbone": {"name": "vit_test"}, "head": {"pool": "Identity"}}
CONFIGS = {
    "mean": {"backbone": {"name": "vit_test"}, "head": {"pool": "GeneralizedMeanPoolingP"}},
    "attention": {**VIT, "temporal": "attention", "attention_dim": 8, "camera_embedding": True},
}


def make(name):
    config = {"name": "temporal_baseline", **CONFIGS[name]}
    return methods.build(config, FACTS, rngs=nnx.Rngs(params=0))


def make_batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (8, 3, 32, 16, 3)), jnp.float32),
        "frame_mask": jnp.asarray(np.arange(3) < rng.integers(1, 4, (8, 1))),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.tile(jnp.arange(2), 4),
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_frames_that_fill_up_change_nothing(name):
    """Nothing of the embedding, and nothing of the loss where no batch norm sees the frames."""
    model, batch = make(name), make_batch()
    mask = batch["frame_mask"]
    other = jnp.where(mask[:, :, None, None, None], batch["image"], 77.0)
    graphdef, state = methods.evaluated(model)

    @jax.jit
    def run(image):
        model = nnx.merge(graphdef, state, copy=True)
        feature = model.embed_tracklet(image, mask, camera=batch["camera"])
        first = model.embed_tracklet(image[:, :1], mask[:, :1], camera=batch["camera"])
        crop = model.embed(image[:, 0], camera=batch["camera"])
        loss, terms = model.loss({**batch, "image": image}, nnx.Rngs(dropout=0))
        return feature, first, crop, loss, terms

    feature, first, crop, loss, terms = run(batch["image"])
    np.testing.assert_array_equal(feature, run(other)[0])
    np.testing.assert_array_equal(loss, run(other)[3])
    np.testing.assert_allclose(first, crop, rtol=1e-4, atol=1e-4)
    assert feature.shape == (8, model.heads.feature_dim)
    assert np.isfinite(loss) and set(terms) == {"identity", "triplet", "accuracy"}
    assert (np.asarray(feature) != np.asarray(first)).any()


def test_every_parameter_is_trained():
    model, batch = make("attention"), make_batch()
    # Away from the start, where the weights of all frames are equal.
    model.attention.score.kernel[...] = jnp.ones((8, 1))
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def gradients(params):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return model.loss(batch, nnx.Rngs(jax.random.key(0)))[0]

        return jax.grad(loss)(params)

    found = nnx.to_flat_state(gradients(params))
    still = [path for path, leaf in found if not (np.asarray(leaf[...]) != 0).any()]
    assert still == []
    assert all(np.isfinite(leaf[...]).all() for _, leaf in found)
