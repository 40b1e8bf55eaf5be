from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax import backbones, methods
from g2ajax.backbones import resnet
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.methods import mgn
from g2ajax.recipes.files import load
from g2ajax.training.options import run_options
from g2ajax.training.state import copy_parts
from tests.interop.torch_writer import tensors, write_zip

SIZE = (80, 32)
TASK = methods.DataFacts(num_classes=4, image_size=SIZE)
CONFIG = {
    "name": "mgn",
    "backbone": {"name": "resnet_short"},
    "head": {"embedding_dim": 8},
}


@pytest.fixture(scope="module", autouse=True)
def short():
    """The smallest network with blocks on both sides of the cut in layer3."""
    variant = resnet.Variant("basic", (1, 1, 2, 1), width=4)
    with mock.patch.dict(resnet.VARIANTS, {"resnet_short": variant}):
        yield


def make(**changes):
    task = methods.DataFacts(num_classes=4, image_size=changes.pop("image_size", SIZE))
    return methods.build({**CONFIG, **changes}, task, rngs=nnx.Rngs(params=0))


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8, *SIZE, 3))
    # Something to learn: each identity has a colour of its own.
    image[np.arange(8), :, :, :] //= 2
    image[:, :, :, 0] += 30 * np.repeat(np.arange(4), 2)[:, None, None]
    return {
        "image": jnp.asarray(image, jnp.float32),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.tile(jnp.arange(2), 4),
        "platform": jnp.tile(jnp.arange(2), 4),
    }


@pytest.fixture(scope="module")
def trained():
    """Gradients of the first step, the losses of ten steps, the model before and after them."""
    model = make()
    model.train()
    start = to_state_dict(model)
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    batch = make_batch()

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.value_and_grad(lambda m: m.loss(batch, nnx.Rngs(0)), has_aux=True)
        (loss, metrics), grads = gradient(model)
        optimizer.update(model, grads)
        return loss, metrics, grads

    steps = [step(model, optimizer) for _ in range(10)]
    return steps, start, model


def test_every_parameter_is_trained(trained):
    (loss, metrics, gradient), *_ = trained[0]
    assert np.isfinite(loss)
    assert set(metrics) == {"identity", "triplet", "accuracy"}
    silent = [
        path for path, leaf in nnx.to_flat_state(gradient) if not bool(jnp.any(leaf[...] != 0))
    ]
    assert not silent, silent


def test_loss_falls_on_one_batch(trained):
    losses = [float(loss) for loss, _, _ in trained[0]]
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.slow
def test_statistics_move_in_training_and_stay_in_evaluation(trained):
    _, start, model = trained
    after = to_state_dict(model)
    statistics = [name for name in start if name.endswith(("running_mean", "running_var"))]
    # Stem, five blocks of two norms and three shortcuts; the two other branches have one block of
    # layer3 and one of layer4 with its shortcut; a neck for each head.
    assert len(statistics) == 2 * ((1 + 10 + 3) + 2 * (2 + 2 + 1) + 8)
    still = [name for name in statistics if np.array_equal(start[name], after[name])]
    assert not still, still
    for name in mgn.HEADS:
        np.testing.assert_array_equal(after[f"{name}_head.bottleneck.1.bias"], 0.0)

    view = nnx.view(model, use_running_average=True, raise_if_not_found=False)
    images = make_batch(1)["image"]
    embed = nnx.jit(lambda model, images: model.embed(images))
    one = embed(view, images)
    np.testing.assert_array_equal(one, embed(view, images))
    np.testing.assert_allclose(one[:2], embed(view, images[:2]), rtol=1e-4, atol=1e-4)
    assert one.shape == (8, 64)
    assert one.dtype == jnp.float32
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


@pytest.mark.slow
def test_loss_is_the_mean_of_eight_and_of_five_terms():
    model = make(identity_weight=2.0, triplet_weight=0.5)
    model.train()
    batch = make_batch()
    label = batch["label"]
    total, metrics = model.loss(batch, nnx.Rngs(0))
    outputs = model.outputs(batch["image"], label)
    identity = [
        cross_entropy(outputs[name]["cls_outputs"], label, smoothing=0.1, form="fastreid")
        for name in mgn.HEADS
    ]
    joined = [
        *(outputs[name]["features"] for name in ("b1", "b2", "b3")),
        jnp.concatenate([outputs["b21"]["features"], outputs["b22"]["features"]], 1),
        jnp.concatenate([outputs[f"b3{i}"]["features"] for i in (1, 2, 3)], 1),
    ]
    ranking = [triplet(feature, label, margin=0.0) for feature in joined]
    np.testing.assert_allclose(metrics["identity"], sum(identity) / 8, rtol=1e-5)
    np.testing.assert_allclose(metrics["triplet"], sum(ranking) / 5, rtol=1e-4)
    np.testing.assert_allclose(total, 2 * metrics["identity"] + 0.5 * metrics["triplet"], rtol=1e-6)
    assert model.in_batch_terms == ("triplet",)
    assert make(triplet_weight=0.0).in_batch_terms == ()


def test_stripes_are_cut_as_the_reference_cuts():
    x = jnp.arange(7.0).reshape(1, 7, 1, 1)
    assert [part.shape[1] for part in mgn.stripes(x, 2)] == [4, 3]
    assert [part.shape[1] for part in mgn.stripes(x, 3)] == [3, 3, 1]
    assert [part.shape[1] for part in mgn.stripes(jnp.zeros((1, 16, 1, 1)), 3)] == [6, 6, 4]


@given(height=st.integers(1, 40), count=st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_stripes_lie_end_to_end(height, count):
    x = jnp.arange(float(height)).reshape(1, height, 1, 1)
    size = -(-height // count)
    if len(range(0, height, size)) < count:
        with pytest.raises(ValueError, match=f"one of height {height} gives fewer than {count}"):
            mgn.stripes(x, count)
        return
    parts = mgn.stripes(x, count)
    assert len(parts) == count
    np.testing.assert_array_equal(jnp.concatenate(parts, 1), x)


@pytest.mark.parametrize("height", [33, 80, 97])
@pytest.mark.parametrize("pool", ["fastreid", "torchvision"])
def test_height_of_the_map_is_known_before_it_is_made(height, pool):
    def run():
        network = backbones.build(
            "resnet_tiny", image_size=(height, 32), pool=pool, rngs=nnx.Rngs(params=0)
        )
        known.append(mgn.map_height(network, height))
        x = network.stem(jnp.zeros((2, height, 32, 3)))
        return network.stage(3, network.stage(2, network.stage(1, x)))

    known = []
    assert [nnx.eval_shape(run).shape[1]] == known


def published(state):
    """The same tensors under fast-reid's names of its MGN."""
    parts = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5"}
    out = {}
    for name, value in state.items():
        top, first, *rest = name.split(".")
        branch = "b1" if top == "backbone" else top
        if top.endswith("_head"):
            out[name] = value
        elif first in parts:
            out[".".join(["backbone", parts[first], *rest])] = value
        elif first == "layer4":
            out[".".join([branch, "1", *rest])] = value
        elif rest[0] == "0":
            out[".".join(["backbone.6", *rest[1:]])] = value
        else:
            out[".".join([branch, "0", str(int(rest[0]) - 1), *rest[1:]])] = value
    return out


def test_a_file_of_fastreid_fills_all(tmp_path):
    state = {k: v + np.float32(0.5) for k, v in to_state_dict(make()).items()}
    content = {**published(state), "pixel_mean": np.zeros((1, 3, 1, 1), "f4")}
    assert {"backbone.6.conv1.weight", "b1.0.0.conv1.weight", "b3.1.0.bn2.bias"} <= set(content)
    path = write_zip(tmp_path / "mgn.pth", {"model": tensors(content)})
    model = make()
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "fast-reid MGN"
    assert not report.names("kept")
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)

    other = methods.build(
        CONFIG, methods.DataFacts(num_classes=5, image_size=SIZE), rngs=nnx.Rngs(params=0)
    )
    with pytest.raises(ValueError, match=r"b1_head\.weight is for 4 classes, the model has 5"):
        initialise(other, InitOptions(file=str(path), part="all"))
    found = InitOptions(file=str(path), part="all", allow_classifier_mismatch=True)
    kept = initialise(other, found).names("kept")
    assert sorted(kept) == sorted(f"{name}_head.weight" for name in mgn.HEADS)


def test_branches_start_alike_from_a_file_of_imagenet(tmp_path):
    network = backbones.build("resnet_short", image_size=SIZE, rngs=nnx.Rngs(params=5))
    state = to_state_dict(network)
    path = write_zip(tmp_path / "resnet.pth", tensors(state))
    model = make()
    report = initialise(model, InitOptions(file=str(path)))
    assert report.family == "torchvision/timm ResNet"
    config = load("configs/market1501_mgn_r50.py").to_dict()
    first = run_options(config).phase[config["phases"][0]]
    copy_parts(model, "head", first)
    found = to_state_dict(model)
    branches = [name for name in found if name.startswith(("b2.", "b3."))]
    assert "b2.layer3.1.conv1.weight" in branches
    assert not [name for name in branches if name.startswith(("b2.layer3.0", "b2.layer2"))]
    for name in branches:
        np.testing.assert_array_equal(found[name], state[name[3:]], err_msg=name)


def test_images_too_low_for_three_stripes_are_refused():
    with pytest.raises(ValueError, match=r"3 stripes of ceil\(h/3\) rows; one of height 2 gives"):
        make(image_size=(32, 32))
    # Four rows in three: 2 + 2.
    with pytest.raises(ValueError, match="one of height 4 gives fewer than 3: use taller images"):
        make(image_size=(64, 32))


def test_other_backbones_are_refused():
    with pytest.raises(ValueError, match="'vit_test' is no ResNet: give resnet50"):
        make(backbone={"name": "vit_test"})
    with pytest.raises(ValueError, match=r"no places for non-local blocks .* \(0, 1, 1, 0\)"):
        make(backbone={"name": "resnet_tiny", "with_nl": True})
    with pytest.raises(ValueError, match=r"method\.head has no option 'widht'"):
        make(head={"widht": 8})
