import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions
from g2ajax.training.state import begin, make_step, under


def model(**config):
    options = {
        "name": "strong_baseline",
        "backbone": {"name": "resnet_tiny"},
        "head": {"pool": "GlobalAvgPool"},
        **config,
    }
    return methods.build(options, methods.DataFacts(4, (32, 16)), rngs=nnx.Rngs(params=0))


def make_batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (8, 32, 16, 3)), jnp.float32),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.zeros(8, jnp.int32),
    }


def run_step(phase: PhaseOptions, net: nnx.Module, steps: int = 1):
    mesh = make_mesh(devices=jax.devices()[:1])
    optimizer = optax.sgd(0.1)
    program, leaves = begin(net, phase, optimizer, mesh)
    step = make_step(program, phase, optimizer, lambda key, batch, store: batch, mesh, seed=0)
    for _ in range(steps):
        leaves, metrics = step(leaves, make_batch(), None)
    return program, leaves, metrics


def flat(state):
    return {
        ".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)
    }


def test_paths_match_whole_names_only():
    assert under(("backbone", "layer1", 0, "conv1"), ("backbone.layer1",))
    assert under(("backbone", "layer1", 0), ("backbone.layer1.0",))
    assert not under(("backbone", "layer10"), ("backbone.layer1",))
    assert under(("anything",), ("*",))
    assert not under(("heads",), ())


def test_frozen_modules_keep_parameters_and_statistics_and_have_no_optimizer_state():
    net = model()
    before = flat(nnx.state(net))
    phase = PhaseOptions(frozen=("backbone",))
    program, leaves, _ = run_step(phase, net, steps=2)
    after = flat(nnx.state(program.model(leaves)))
    for name, value in before.items():
        same = np.array_equal(value, after[name])
        assert same == name.startswith("backbone") or name == "heads.bottleneck.0.bias", name
    trained = {name for name in flat(program.tree(leaves)["trainable"])}
    assert trained == {"heads.weight", "heads.bottleneck.0.scale"}


def test_averaged_parameters_follow_with_their_decay():
    net = model()
    start = flat(nnx.state(net, nnx.Param))["heads.weight"]
    program, leaves, _ = run_step(PhaseOptions(ema=0.75), net)
    tree = program.tree(leaves)
    trained, averaged = (flat(tree[name])["heads.weight"] for name in ("trainable", "ema"))
    np.testing.assert_allclose(averaged, 0.75 * start + 0.25 * trained, rtol=1e-5, atol=1e-8)
    assert not np.allclose(trained, start)


def test_micro_batches_give_the_mean_gradient_of_losses_that_see_one_image_at_a_time():
    # Without batch norm in training mode the mean over micro-batches is the mean over the batch.
    config = {"backbone": {"name": "vit_test", "drop_path": 0.0}, "triplet_weight": 0.0}
    config["head"] = {"pool": "Identity"}
    phase = PhaseOptions(trainable=("backbone.blocks",))
    whole = run_step(phase, model(**config))
    parts = run_step(PhaseOptions(trainable=("backbone.blocks",), accumulate=2), model(**config))
    one, two = (flat(p.tree(leaves)["trainable"]) for p, leaves, _ in (whole, parts))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_step_numbers_give_the_randomness():
    net = model(backbone={"name": "vit_test", "drop_path": 0.5}, head={"pool": "Identity"})
    state = jax.tree.map(jnp.copy, nnx.state(net))
    graphdef, _ = nnx.split(net)
    first = run_step(PhaseOptions(), nnx.merge(graphdef, jax.tree.map(jnp.copy, state)), steps=2)
    again = run_step(PhaseOptions(), nnx.merge(graphdef, jax.tree.map(jnp.copy, state)), steps=2)
    assert first[2]["loss"] == again[2]["loss"]


def test_one_compilation_serves_all_steps():
    mesh = make_mesh(devices=jax.devices()[:1])
    optimizer, phase = optax.sgd(0.1), PhaseOptions()
    program, leaves = begin(model(), phase, optimizer, mesh)
    step = make_step(program, phase, optimizer, lambda key, batch, store: batch, mesh, seed=0)
    for _ in range(3):
        leaves, _ = step(leaves, make_batch(), None)
    assert step._cache_size() == 1


@pytest.mark.parametrize("fsdp", [1, 2])
def test_large_tensors_are_split_over_fsdp(fsdp, monkeypatch):
    from g2ajax.training import mesh as mesh_module

    monkeypatch.setattr(mesh_module, "FSDP_MIN_ELEMENTS", 64)
    mesh = make_mesh(fsdp=fsdp, devices=jax.devices()[:2])
    leaf = jax.ShapeDtypeStruct((6, 32), jnp.float32)
    spec = mesh_module.state_sharding(leaf, mesh).spec
    assert spec == (
        jax.sharding.PartitionSpec(None, "fsdp") if fsdp == 2 else jax.sharding.PartitionSpec()
    )
