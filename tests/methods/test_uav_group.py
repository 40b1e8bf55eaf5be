import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import save_file

from g2ajax import methods
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.gaussian_mixture import large_margin_gaussian_mixture
from g2ajax.losses.triplet import triplet
from g2ajax.methods.uav_group import ChannelGroups
from g2ajax.recipes.files import load
from g2ajax.training.options import run_options
from g2ajax.training.schedules import learning_rates

TASK = methods.DataFacts(num_classes=4, image_size=(32, 16))
SMALL = {
    "backbone": {"name": "resnet_tiny"},
    "ranking_width": 32,
    "group_width": 16,
    "embedding_dim": 8,
    "dropout": 0.1,
}


def make(task=TASK, **config):
    config = {"name": "uav_group", **SMALL, **config}
    return methods.build(config, task, rngs=nnx.Rngs(params=0))


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (8, 32, 16, 3)), jnp.float32),
        "label": jnp.repeat(jnp.arange(4), 2),
    }


def evaluated(model):
    return nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)


def test_loss_falls_on_one_batch_and_every_parameter_is_trained():
    model, batch = make(covariance="diagonal"), make_batch()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, rest, moments, key):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            value, metrics = model.loss(batch, nnx.Rngs(key))
            return value, (metrics, nnx.split(model, nnx.Param, ...)[2])

        (_, (metrics, rest)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), rest, moments, metrics, gradient

    moments, history = optimizer.init(params), []
    for i in range(30):
        params, rest, moments, metrics, gradient = step(params, rest, moments, jax.random.key(i))
        history.append({name: float(value) for name, value in metrics.items()})
        if i == 0:
            silent = [p for p, leaf in nnx.to_flat_state(gradient) if not (leaf[...] != 0).any()]
            assert not silent, silent
    assert set(history[0]) == {"triplet", "mixture", "likelihood", "accuracy", "clamped"}
    assert history[-1]["triplet"] < 0.5 * history[0]["triplet"]
    assert history[-1]["mixture"] < 0.5 * history[0]["mixture"]
    assert history[-1]["accuracy"] == 1.0
    assert history[-1]["clamped"] == 0.0


def test_loss_is_the_weighted_sum_over_groups():
    model, batch = make(mixture_weight=0.5, dropout=0.0, margin=0.3), make_batch()
    graphdef, state = nnx.split(model)

    @jax.jit
    def both_ways(state, batch):
        model = nnx.merge(graphdef, state)
        total, metrics = model.loss(batch, nnx.Rngs(0))
        feature = model.embed(batch["image"])
        ranking = triplet(model.ranking(feature, nnx.Rngs(0)), batch["label"], margin=0.3)
        return total, metrics, model.local(feature), ranking

    total, metrics, local, ranking = both_ways(state, batch)
    assert local.shape == (4, 8, 8)
    mixture = sum(
        large_margin_gaussian_mixture(local[i], model.mixtures.means[i], batch["label"]).loss
        for i in range(4)
    )
    np.testing.assert_allclose(metrics["mixture"], mixture, rtol=1e-5)
    np.testing.assert_allclose(metrics["triplet"], ranking, rtol=1e-4)
    np.testing.assert_allclose(total, metrics["triplet"] + 0.5 * metrics["mixture"], rtol=1e-6)


def test_groups_are_consecutive_channels_and_share_one_layer():
    groups = ChannelGroups(12, 3, 5, 2, rngs=nnx.Rngs(params=0))
    for layer in groups.fc:  # the same last layer: then equal groups give equal embeddings
        layer.kernel[...] = groups.fc[0].kernel[...]
    x = jax.random.normal(jax.random.key(0), (6, 4))
    out = evaluated(groups)(jnp.tile(x, (1, 3)))
    np.testing.assert_array_equal(out[0], out[1])
    changed = evaluated(groups)(jnp.tile(x, (1, 3)).at[:, 4:8].add(1.0))
    np.testing.assert_array_equal(changed[jnp.asarray([0, 2])], out[jnp.asarray([0, 2])])
    assert not np.allclose(changed[1], out[1])


def test_triplet_alone_builds_no_groups():
    model, batch = make(mixture_weight=0.0), make_batch()
    tops = {path[0] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert tops == {"backbone", "ranking"}
    graphdef, state = nnx.split(model)
    loss = jax.jit(lambda state: nnx.merge(graphdef, state).loss(batch, nnx.Rngs(0)))
    total, metrics = loss(state)
    assert set(metrics) == {"triplet"} and total == metrics["triplet"]


def test_embedding_is_the_pooled_map_without_random_parts():
    model, images = evaluated(make(dropout=0.5)), make_batch()["image"]
    feature = model.embed(images, camera=jnp.zeros(8, jnp.int32))
    pooled = model.backbone(model.preprocessing(images)).mean((1, 2))
    np.testing.assert_array_equal(feature, pooled)
    assert feature.dtype == jnp.float32
    assert model.metric == "squared_euclidean" and model.in_batch_terms == ("triplet",)


def test_the_second_stage_starts_from_the_first_stages_backbone(tmp_path):
    first = make(mixture_weight=0.0)
    first.backbone.bn1.mean[...] += 1.0
    save_file(to_state_dict(first), tmp_path / "first.safetensors")
    other = methods.DataFacts(num_classes=7, image_size=(32, 16))
    second = make(other)
    before = jnp.array(second.ranking.fc1.kernel[...])
    second.ranking.fc1.kernel[...] += 1.0
    initialise(second, InitOptions(file=str(tmp_path / "first.safetensors")))
    images = make_batch()["image"]
    np.testing.assert_array_equal(evaluated(second).embed(images), evaluated(first).embed(images))
    np.testing.assert_array_equal(second.ranking.fc1.kernel[...], before + 1.0)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"256 channels do not split into 3 equal groups"):
        make(groups=3)
    with pytest.raises(ValueError, match=r"uav_group averages a map .* 'vit_test' gives tokens"):
        make(backbone={"name": "vit_test"})
    with pytest.raises(ValueError, match="covariance"):
        make(covariance="full")


def test_the_recipes_rate_is_the_papers_in_steps_of_100():
    run = run_options(load("configs/crops_uav_group.py").to_dict())
    phase = run.phase["reid"]
    rates = learning_rates(
        phase.schedule, phase.optimizer.learning_rate, phase.steps_per_epoch, phase.epochs
    )
    end_of_hundred = (np.arange(16_000) // 100 + 1) * 100
    share = np.maximum(end_of_hundred - 8_000, 0) / 8_000
    np.testing.assert_allclose(rates, 1e-4 * 0.001**share, rtol=1e-9)
    assert run.task_options.sampler.batch_size == 128
