import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax import methods
from g2ajax.backbones.vit import class_token
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.losses.cross_entropy import cross_entropy
from g2ajax.losses.triplet import triplet
from g2ajax.methods import transreid
from g2ajax.recipes.files import load
from g2ajax.training.options import run_options
from g2ajax.training.schedules import learning_rates
from g2ajax.training.state import copy_parts
from tests.interop.torch_writer import tensors, write_zip

# 3 x 3 patches: one is repeated before the shuffle, one left out by the stripes.
SIZE = (40, 40)
CONFIG = {"name": "transreid", "backbone": {"name": "vit_test", "stride": 12}}


def make(*, image_size=SIZE, cameras=2, classes=4, **changes):
    task = methods.DataFacts(num_classes=classes, image_size=image_size, num_cameras=cameras)
    return methods.build({**CONFIG, **changes}, task, rngs=nnx.Rngs(params=0))


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 100, (8, *SIZE, 3))
    # Something to learn: each identity has a colour of its own.
    image[:, :, :, 0] += 30 * np.repeat(np.arange(4), 2)[:, None, None]
    return {
        "image": jnp.asarray(image, jnp.float32),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.tile(jnp.arange(2), 4),
        "platform": jnp.tile(jnp.arange(2), 4),
    }


def evaluation(model):
    return nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)


@pytest.fixture(scope="module")
def trained():
    """Gradients of the first step, the losses of 15 steps, the model before and after them."""
    model = make(platforms=2)
    model.train()
    start = to_state_dict(model)
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    batch = make_batch()

    @nnx.jit
    def step(model, optimizer, key):
        gradient = nnx.value_and_grad(lambda m: m.loss(batch, nnx.Rngs(key)), has_aux=True)
        (loss, metrics), grads = gradient(model)
        optimizer.update(model, grads)
        return loss, metrics, grads

    steps = [step(model, optimizer, key) for key in jax.random.split(jax.random.key(0), 15)]
    return steps, start, model


def test_every_parameter_is_trained(trained):
    loss, metrics, gradient = trained[0][0]
    assert np.isfinite(loss)
    assert set(metrics) == {"identity", "triplet", "accuracy"}
    silent = [
        path for path, leaf in nnx.to_flat_state(gradient) if not bool(jnp.any(leaf[...] != 0))
    ]
    assert not silent, silent


def test_loss_falls_on_one_batch(trained):
    losses = [float(loss) for loss, _, _ in trained[0]]
    assert losses[-1] < 0.7 * losses[0], losses


def test_statistics_move_in_training_and_stay_in_evaluation(trained):
    _, start, model = trained
    after = to_state_dict(model)
    statistics = [name for name in start if "running" in name]
    assert len(statistics) == 2 * 5
    assert not [name for name in statistics if np.array_equal(start[name], after[name])]
    batch = make_batch(1)
    given = {"camera": batch["camera"], "platform": batch["platform"]}
    embed = nnx.jit(lambda model, images, given: model.embed(images, **given))
    one = embed(evaluation(model), batch["image"], given)
    # Nothing is dropped, no row depends on another, nothing moves.
    order = np.arange(8)[::-1]
    turned = {name: ids[order] for name, ids in given.items()}
    other = embed(evaluation(model), batch["image"][order], turned)
    np.testing.assert_allclose(one[order], other, rtol=1e-5, atol=1e-5)
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_loss_is_shared_between_the_global_feature_and_the_stripes():
    model = make(identity_weight=2.0, triplet_weight=0.5, global_share=0.25)
    model.train()
    batch = make_batch()
    label = batch["label"]
    total, metrics = model.loss(batch, nnx.Rngs(0))
    features = model.features(batch["image"], batch["camera"], rngs=nnx.Rngs(0))
    assert len(features) == len(model.necks) == 5
    logits = [neck(one)[1] for neck, one in zip(model.necks, features, strict=True)]
    identity = [cross_entropy(one, label) for one in logits]
    ranking = [triplet(one, label) for one in features]
    expected = [0.25 * t[0] + 0.75 * sum(t[1:]) / 4 for t in (identity, ranking)]
    np.testing.assert_allclose(metrics["identity"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["triplet"], expected[1], rtol=1e-4)
    np.testing.assert_allclose(total, 2 * metrics["identity"] + 0.5 * metrics["triplet"], rtol=1e-6)
    assert model.in_batch_terms == ("triplet",)
    assert make(triplet_weight=0.0).in_batch_terms == ()


def test_shuffle_by_hand():
    patches = jnp.arange(1.0, 10.0).reshape(1, 9, 1)
    # Rolled by two: 3 4 5 6 7 8 9 1 2, and 1 again; two runs of five, interleaved.
    out = transreid.shuffle_patches(patches, 3, 2)
    np.testing.assert_array_equal(out[0, :, 0], [3, 8, 4, 9, 5, 1, 6, 2, 7, 1])


@given(count=st.sampled_from([6, 12]), shift=st.integers(1, 6), groups=st.sampled_from([1, 2, 3]))
@settings(deadline=None, max_examples=20)
def test_shuffle_is_a_permutation(count, shift, groups):
    patches = jnp.arange(float(count)).reshape(1, count, 1)
    out = transreid.shuffle_patches(patches, shift, groups)
    np.testing.assert_array_equal(jnp.sort(out, axis=1), patches)
    assert float(out[0, 0, 0]) == shift - 1


def test_embedding_joins_the_global_feature_and_a_quarter_of_each_stripe():
    batch = make_batch()
    images, camera = batch["image"], batch["camera"]
    model = evaluation(make())
    embedding = model.embed(images, camera=camera)
    assert embedding.shape == (8, 5 * 32)
    assert embedding.dtype == jnp.float32
    np.testing.assert_array_equal(embedding, model.embed(images, camera=camera))
    whole = model.backbone(model.preprocessing(images), camera=camera)
    np.testing.assert_allclose(embedding[:, :32], class_token(whole), rtol=1e-5, atol=1e-6)
    features = model.features(images, camera)
    np.testing.assert_allclose(embedding[:, 32:64], features[1] / 4, rtol=1e-6)

    after = evaluation(make(test_feature="after"))
    for neck in after.necks:
        neck.bottleneck.mean[...] = jnp.full(32, 0.1)
    found = after.embed(images, camera=camera)
    np.testing.assert_allclose(found[:, 64:96], (features[2] - 0.1) / 4, rtol=1e-4, atol=1e-5)
    assert (model.feature_name, after.feature_name) == (
        "before neck, global and 4 stripes joined",
        "after neck, global and 4 stripes joined",
    )


def test_without_jigsaw_it_is_the_plain_transformer():
    batch = make_batch()
    model = make(jigsaw=False)
    model.train()
    total, metrics = model.loss(batch, nnx.Rngs(0))
    np.testing.assert_allclose(total, metrics["identity"] + metrics["triplet"], rtol=1e-6)
    assert evaluation(model).embed(batch["image"], camera=batch["camera"]).shape == (8, 32)
    assert not [name for name in to_state_dict(model) if name.startswith(("b2.", "neck_"))]
    assert model.feature_name == "before neck"


@pytest.mark.parametrize("which", ["camera", "platform"])
def test_side_information_moves_the_embedding_only_if_asked(which):
    batch = make_batch()
    for asked in (True, False):
        model = make(
            camera_embedding=asked and which == "camera",
            jigsaw=False,
            platforms=2 if asked and which == "platform" else 0,
        )
        model = evaluation(model)
        given = {name: batch[name] for name in ("camera", "platform")}
        one = model.embed(batch["image"], **given)
        other = model.embed(batch["image"], **{**given, which: 1 - given[which]})
        assert np.allclose(one, other) != asked
        assert model.needs_camera == (asked and which == "camera")


def test_cameras_that_training_did_not_see_are_refused():
    batch = make_batch()
    model = evaluation(make(jigsaw=False))
    with pytest.raises(ValueError, match=r"camera ids \[3\] are outside 0\.\.1"):
        model.embed(batch["image"][:2], camera=jnp.array([0, 3]))
    with pytest.raises(ValueError, match="needs the camera of every image"):
        model.embed(batch["image"][:2])
    # Where the ids are not known before the program runs, the row is not a number.
    rows = jax.jit(lambda camera: model.embed(batch["image"][:2], camera=camera))(jnp.array([0, 3]))
    assert np.isfinite(rows[0]).all()
    assert np.isnan(rows[1]).all()
    for count in (0, 1):
        with pytest.raises(ValueError, match=rf"has {count} camera\(s\).*camera_embedding=False"):
            make(cameras=count)
    make(cameras=1, camera_embedding=False)


def test_grids_too_small_are_refused():
    with pytest.raises(ValueError, match="stripes = 4: the grid of 1 x 3 patches is too small"):
        make(image_size=(16, 40))
    with pytest.raises(ValueError, match="shift = 5: expected 1 to 4, the number of patches"):
        make(image_size=(28, 28))
    make(image_size=(28, 28), rearrange=False)
    make(image_size=(16, 16), jigsaw=False)
    with pytest.raises(ValueError, match="shuffle_groups = 4: 9 patches, or 10 with one repeated"):
        make(shuffle_groups=4)


def test_other_backbones_and_options_are_refused():
    with pytest.raises(ValueError, match="'resnet_tiny' is none: give vit_base"):
        make(backbone={"name": "resnet_tiny"}, camera_embedding=False)
    with pytest.raises(ValueError, match="has no option 'jigsw'; did you mean 'jigsaw'"):
        make(jigsw=True)


def published(state, last="1"):
    """The same tensors under the names of TransReID's code; what it does not use is zero."""
    out = {"base.fc.weight": np.zeros((10, 32), "f4"), "base.fc.bias": np.zeros(10, "f4")}
    for name, value in state.items():
        for ours, theirs in (
            (f"backbone.blocks.{last}.", "b1.0."),
            ("backbone.norm.", "b1.1."),
            (f"b2.blocks.{last}.", "b2.0."),
            ("b2.norm.", "b2.1."),
            ("backbone.", "base."),
            *((f"neck_{i}.{what}.", f"{what}_{i}.") for what in PARTS for i in (1, 2, 3, 4)),
            *((f"neck.{what}.", f"{what}.") for what in PARTS),
        ):
            if name.startswith(ours):
                out[theirs + name.removeprefix(ours)] = value
                if theirs.startswith("b1"):
                    out[name.replace("backbone.", "base.")] = value * 0
                break
    return out


PARTS = ("bottleneck", "classifier")


def test_a_file_of_transreid_fills_all(tmp_path):
    state = {k: v + np.float32(0.5) for k, v in to_state_dict(make()).items()}
    content = published(state)
    assert {"bottleneck.weight", "classifier_4.weight", "b2.1.bias", "base.norm.bias"} <= set(
        content
    )
    path = write_zip(tmp_path / "jpm.pth", tensors(content))
    model = make()
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "TransReID with jigsaw patches"
    assert not report.names("kept")
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)

    # Another number of classes, and the plain network, which has no use for the jigsaw branch.
    chosen = InitOptions(file=str(path), part="all", allow_classifier_mismatch=True)
    kept = initialise(make(classes=5), chosen).names("kept")
    assert len(kept) == 5
    assert all("classifier" in name for name in kept)
    plain = make(jigsaw=False)
    initialise(plain, InitOptions(file=str(path), part="all"))
    for name, value in to_state_dict(plain).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)

    # A stripe's neck that is missing is no small matter.
    del content["bottleneck_2.weight"]
    path = write_zip(tmp_path / "less.pth", tensors(content))
    with pytest.raises(ValueError, match=r"Missing in the file: neck_2\.bottleneck\.weight"):
        initialise(make(), InitOptions(file=str(path), part="all"))


def test_recipe():
    config = load("configs/market1501_transreid.py").to_dict()
    phase = run_options(config).phase["reid"]
    model = make()
    before = to_state_dict(model)
    assert not np.array_equal(
        before["b2.blocks.1.mlp.fc1.weight"], before["backbone.blocks.1.mlp.fc1.weight"]
    )
    copy_parts(model, "reid", phase)
    after = to_state_dict(model)
    branch = [name for name in after if name.startswith("b2.")]
    assert {name.split(".")[1] for name in branch} == {"blocks", "norm"}
    for name in branch:
        np.testing.assert_array_equal(after[name], after["backbone." + name[3:]], err_msg=name)
    # Warm-up from a hundredth of the rate, the same for biases, whose rate is twice as high.
    for base in (0.008, 0.016):
        rates = learning_rates(phase.schedule, base, 1, phase.epochs)
        np.testing.assert_allclose(rates[0], 8e-5 + (base - 8e-5) / 5)
        np.testing.assert_allclose(rates[-1], 1.6e-5)
