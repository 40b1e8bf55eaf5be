"""The strong baseline on clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.losses.cluster_memory import cluster_memory, dual_memory, memory_step
from g2ajax.losses.triplet import normalise
from g2ajax.methods import temporal_baseline

FACTS = methods.DataFacts(num_classes=4, image_size=(32, 16), num_cameras=2)
VIT = {"backbone": {"name": "vit_test"}, "head": {"pool": "Identity"}}
CONFIGS = {
    "mean": {"backbone": {"name": "vit_test"}, "head": {"pool": "GeneralizedMeanPoolingP"}},
    "attention": {**VIT, "temporal": "attention", "attention_dim": 8, "camera_embedding": True},
    "granular": {
        **VIT,
        "temporal": "granular",
        "attention_dim": 8,
        "memory": {"weight": 0.5, "temperature": 0.1},
    },
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
    memory = {"memory"} if name == "granular" else set()
    assert np.isfinite(loss) and set(terms) == {"identity", "triplet", "accuracy"} | memory
    assert model.in_batch_terms == ("triplet", *memory)
    assert (np.asarray(feature) != np.asarray(first)).any()


@pytest.mark.parametrize("name", ["attention", "granular"])
def test_every_parameter_is_trained(name, monkeypatch):
    model, batch, seen = make(name), make_batch(), []
    # Away from the start, where the weights of all frames are equal.
    for attention in model.attention.attention if name == "granular" else [model.attention]:
        attention.score.kernel[...] = jnp.ones((8, 1))
    if name == "granular":  # a quarter of the clip must have two frames to weigh
        batch["image"] = jnp.concatenate([batch["image"]] * 3, 1)[:, :8]
        batch["frame_mask"] = jnp.ones((8, 8), bool)
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def step(table, feature, *others):
        seen.append(feature)
        return memory_step(table, feature, *others)

    monkeypatch.setattr(temporal_baseline, "memory_step", step)

    @jax.jit
    def run(params):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            total, terms = model.loss(batch, nnx.Rngs(jax.random.key(0)))
            table = model.memory[...] if name == "granular" else None
            return total, (total, terms, table, list(seen))

        return jax.grad(loss, has_aux=True)(params)

    gradient, (total, terms, table, features) = run(params)
    found = nnx.to_flat_state(gradient)
    still = [path for path, leaf in found if not (np.asarray(leaf[...]) != 0).any()]
    assert still == []
    assert all(np.isfinite(leaf[...]).all() for _, leaf in found)
    assert len(features) == (name == "granular")
    if name == "granular":
        check_memory(batch["label"], total, terms, table, *features)


def check_memory(label, total, terms, table, feature):
    """A first batch fills the table with its own people, of whose features the loss is."""
    # After the neck: the batch norm has just made them.
    np.testing.assert_allclose(feature.mean(0), 0.0, atol=1e-4)
    means = [normalise(feature[row : row + 2], 1e-12).mean(0) for row in range(0, 8, 2)]
    loss, after = cluster_memory(dual_memory(jnp.stack(means)), feature, label, temperature=0.1)
    np.testing.assert_allclose(terms["memory"], loss, rtol=1e-4)
    np.testing.assert_allclose(table, after, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(total, terms["identity"] + terms["triplet"] + 0.5 * loss, rtol=1e-5)
