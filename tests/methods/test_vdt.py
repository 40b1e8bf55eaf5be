import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.nn.patches import resize_pos_embed
from g2ajax.recipes.files import load
from g2ajax.tasks.crop_checks import check_platforms
from g2ajax.training.options import run_options
from g2ajax.training.schedules import learning_rates
from tests.fake_data import make_dataset
from tests.interop.models import backbone_file
from tests.interop.torch_writer import tensors, write_zip
from tests.methods.learning import (
    FACTS,
    SIZE,
    check_embedding,
    embed,
    evaluation,
    make_batch,
    train,
    untrained,
)


def make(*, seed=0, image_size=SIZE, **changes):
    config = {"name": "vdt", "backbone": {"name": "vit_test", "drop_path": 0.0}, **changes}
    facts = dataclasses.replace(FACTS, image_size=image_size)
    return methods.build(config, facts, rngs=nnx.Rngs(params=seed))


features = nnx.jit(lambda model, images: model.features(images))
terms_of = nnx.jit(lambda model, batch: model.loss(batch, nnx.Rngs(0))[1])


@pytest.fixture(scope="module")
def trained():
    """First gradients, the losses of 40 steps, the state before, the model after them."""
    model = make(view_weight=1.0)
    steps, start = train(model, make_batch())
    return steps, start, model


def test_every_parameter_is_trained(trained):
    loss, terms, gradient = trained[0][0]
    assert np.isfinite(loss)
    total = sum(terms[name] for name in ("identity", "triplet", "view", "orthogonal"))
    np.testing.assert_allclose(loss, total, rtol=1e-6)
    # The bias of the last norm cancels in the difference; the orthogonal loss alone sees it.
    assert not untrained(gradient)


def test_it_learns_people_and_views_and_keeps_them_apart(trained):
    steps, _, model = trained
    terms = [{name: float(value) for name, value in found.items()} for _, found, _ in steps]
    assert terms[-1]["identity"] < 0.3 * terms[0]["identity"], terms
    assert terms[-1]["view"] < 0.1 * terms[0]["view"], terms
    assert terms[-1]["view_accuracy"] == 1.0
    assert terms[-1]["orthogonal"] < 0.3 * terms[0]["orthogonal"], terms
    # The view is in the view token: it tells views apart on new images of the same people.
    batch, model = make_batch(1), evaluation(model)
    _, view = features(model, batch["image"])
    logits = model.view_heads(view, 1 - batch["platform"])["cls_outputs"]
    np.testing.assert_array_equal(jnp.argmax(logits, -1), 1 - batch["platform"])


def test_statistics_move_in_training_and_stay_in_evaluation(trained):
    _, start, model = trained
    after = to_state_dict(model)
    statistics = [name for name in start if "running" in name]
    assert len(statistics) == 2 * 2
    assert not [name for name in statistics if np.array_equal(start[name], after[name])]
    check_embedding(model, 32)


def test_an_embedding_needs_the_pixels_alone():
    batch, model = make_batch(), evaluation(make())
    one = embed(model, batch["image"])
    given = {"camera": batch["camera"], "platform": 1 - batch["platform"]}
    other = nnx.jit(lambda model, images: model.embed(images, **given))(model, batch["image"])
    np.testing.assert_array_equal(one, other)
    assert not model.needs_platform and not model.needs_camera


def test_the_view_token_is_subtracted_after_every_block():
    batch = make_batch()
    found = {}
    for hierarchical in (True, False):
        model = evaluation(make(hierarchical=hierarchical))
        model.backbone.view_token[...] = jnp.full((1, 1, 32), 0.5)
        found[hierarchical] = features(model, batch["image"])
        network = model.backbone
        tokens = network.embed_patches(model.preprocessing(batch["image"]))
        for block in network.blocks:
            tokens = block(tokens)
            if hierarchical:
                tokens = tokens.at[:, 0].add(-tokens[:, 1])
        tokens = network.norm(tokens)
        for got, place in zip(found[hierarchical], (0, 1), strict=True):
            # Of values near 1; the final norm enlarges the rounding of one program against many.
            np.testing.assert_allclose(got, tokens[:, place], atol=5e-4)
        whole, view = found[hierarchical]
        feature = model.heads.embed(whole - view)
        np.testing.assert_allclose(embed(model, batch["image"]), feature, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[True][0], found[False][0], atol=1e-3)


def test_the_class_token_moves_the_identity_statistics_only_if_asked():
    batch = make_batch()
    for second in (True, False):
        model = make(second_update=second)
        model.train()
        whole, view = features(model, batch["image"])
        terms_of(model, batch)
        expected = 0.1 * np.mean(whole - view, 0)
        if second:
            expected = 0.9 * expected + 0.1 * np.mean(whole, 0)
        got = model.heads.bottleneck[0].mean[...]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            model.view_heads.bottleneck[0].mean[...], 0.1 * np.mean(view, 0), rtol=1e-4, atol=1e-6
        )


def test_the_cap_stops_the_orthogonal_loss():
    batch = make_batch()
    model = make(cap=0.01)
    model.train()
    terms = terms_of(model, batch)
    assert 0 < terms["orthogonal"] <= 0.01


def test_images_of_unknown_platform_do_not_count_in_the_view_loss():
    batch = make_batch()
    model = make()
    model.train()
    platform = batch["platform"].at[jnp.asarray([0, 3])].set(-1)
    terms = terms_of(model, {**batch, "platform": platform})
    assert np.isfinite(terms["view"])
    none = terms_of(model, {**batch, "platform": jnp.full(16, -1)})
    assert none["view"] == 0 and none["identity"] > 0


def changed(dataset, platform):
    train = dataset.splits["train"]
    codes = np.asarray(platform(train.platform), np.int8)
    splits = {**dataset.splits, "train": dataclasses.replace(train, platform=codes)}
    return dataclasses.replace(dataset, splits=splits)


def test_training_data_without_two_views_are_refused():
    model, data = make(), make_dataset()
    check_platforms(model, data)
    for value, message in (
        (0, "fake has only aerial training images, so the view loss of the method vdt has nothing"),
        (1, "fake has no aerial training images.* or a method without views"),
        (-1, "the platform of 36 training images is unknown"),
    ):
        single = changed(data, lambda codes, value=value: np.full_like(codes, value))
        with pytest.raises(ValueError, match=message):
            check_platforms(model, single)
        other = {"name": "strong_baseline", "backbone": {"name": "vit_test"}}
        other = {**other, "head": {"pool": "Identity"}}
        check_platforms(methods.build(other, FACTS, rngs=nnx.Rngs(params=0)), single)


def test_other_backbones_and_options_are_refused():
    with pytest.raises(ValueError, match="ViT 'resnet_tiny' is unknown; expected one of vit_tiny"):
        make(backbone={"name": "resnet_tiny"})
    with pytest.raises(
        ValueError, match="has no option 'hierarchial'; did you mean 'hierarchical'"
    ):
        make(hierarchial=True)


def test_weights_of_one_special_token_give_the_view_token_the_first_place(tmp_path):
    state = backbone_file("vit_test", image_size=(64, 64))
    path = write_zip(tmp_path / "vit.pth", tensors(state))
    for size, grid in (((64, 32), (4, 2)), ((64, 64), (4, 4))):
        model = make(image_size=size)
        report = initialise(model, InitOptions(file=str(path)))
        assert "view_token" in str(report) and "first patch's position" in str(report)
        got = to_state_dict(model)
        expected = resize_pos_embed(state["pos_embed"], grid, extra_tokens=1)
        np.testing.assert_allclose(got["backbone.pos_embed"], expected, rtol=1e-6)
        first = state["pos_embed"][:, :2]
        np.testing.assert_array_equal(got["backbone.pos_embed"][:, :2], first)
        assert not np.any(got["backbone.view_token"])


def test_a_file_of_the_published_code_fills_all(tmp_path):
    state = {k: v + np.float32(0.5) for k, v in to_state_dict(make(seed=3)).items()}
    assert {"backbone.view_token", "heads.weight", "heads.bottleneck.0.running_mean"} <= set(state)
    assert {"view_heads.weight", "view_heads.bottleneck.0.weight"} <= set(state)
    path = write_zip(tmp_path / "vdt.pth", {"model": tensors(state)})
    model = make()
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "fast-reid" and not report.names("kept")
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)
    # Another grid: two special tokens stay as they are.
    model = make(image_size=(64, 32))
    initialise(model, InitOptions(file=str(path), part="all", position_grid=(2, 2)))
    expected = resize_pos_embed(state["backbone.pos_embed"], (4, 2), class_tokens=2)
    np.testing.assert_allclose(to_state_dict(model)["backbone.pos_embed"], expected, rtol=1e-6)


def test_recipe():
    run = run_options(load("configs/vdt.py").to_dict())
    phase, sampler = run.phase["reid"], run.task_options.sampler
    assert sampler.batch_size == 128 and sampler.images == 4
    assert run.task_options.evaluate.protocols[1] == "AG-pooled"
    optimizer = phase.optimizer
    decays = (optimizer.weight_decay, optimizer.weight_decay_norm, optimizer.weight_decay_bias)
    assert decays == (1e-4, 5e-4, 5e-4)
    assert (optimizer.clip_norm, optimizer.clip_by) == (5.0, "tensor")
    # CARGO: 401 steps an epoch, so the cosine is 120 - 5 epochs long.
    rates = learning_rates(phase.schedule, optimizer.learning_rate, 401, phase.epochs)
    np.testing.assert_allclose(rates[[0, 1000]], [8e-5, 8e-5 + 0.5 * (0.008 - 8e-5)], rtol=1e-6)
    np.testing.assert_allclose(
        rates[[4 * 401, 6 * 401]] / 0.008, [0.01 * 0.198 + 0.802, 1], rtol=1e-3
    )
    np.testing.assert_allclose(rates[-1], 1.6e-6, rtol=1e-6)
