"""CLIP-ReID: both stages learn, the texts of all identities, side information, files, refusals."""

import dataclasses
import functools
from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import g2ajax
from g2ajax import methods
from g2ajax.backbones import clip
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.interop.load import InitOptions, initialise
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.methods import clip_reid
from g2ajax.recipes.files import load
from g2ajax.training import loop
from g2ajax.training.options import run_options
from g2ajax.training.schedules import learning_rates
from g2ajax.training.state import begin_phase, trainable_filter
from tests.fake_data import make_dataset
from tests.interop.torch_writer import tensors, write_zip
from tests.runs import opens

SIZE = (32, 32)
FACTS = methods.DataFacts(num_classes=4, image_size=SIZE, num_cameras=2, num_platforms=2)
SHALLOW = dataclasses.replace(clip.VARIANTS["clip_test"], text_layers=1)
OPTIONS = run_options(load("configs/clip_reid.py:tiny").to_dict())
RNGS = nnx.Rngs(params=0)
SIDE = {"camera_embedding": True, "platforms": 2, "side_coefficient": 2.0}
STAGES = {"prompts": "prompt_loss", "reid": "loss"}


@functools.cache
def drawn(seed, facts, changes):
    config = {"name": "clip_reid", "backbone": {"name": "clip_shallow"}, **dict(changes)}
    with mock.patch.dict(clip.VARIANTS, {"clip_shallow": SHALLOW}):
        return methods.drawn(config, facts, seed=seed)


def make(*, seed=0, facts=FACTS, **changes):
    return nnx.clone(drawn(seed, facts, tuple(sorted(changes.items()))))


def abstract(facts=FACTS, **changes):
    config = {"name": "clip_reid", "backbone": {"name": "clip_shallow"}, **changes}
    with mock.patch.dict(clip.VARIANTS, {"clip_shallow": SHALLOW}):
        return nnx.eval_shape(lambda: methods.build(config, facts, rngs=nnx.Rngs(params=0)))


def make_batch(seed=0):
    """Four people of one pattern each."""
    label, platform = np.repeat(np.arange(4), 4), np.tile([0, 1], 8)
    pattern = np.random.default_rng(9).integers(0, 200, (4, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    image = pattern[label] + np.random.default_rng(seed).integers(0, 50, (16, *SIZE, 3))
    arrays = {"label": label, "platform": platform, "camera": 1 - platform}
    return {
        "image": jnp.asarray(image, jnp.float32),
        **{k: jnp.asarray(v) for k, v in arrays.items()},
    }


def evaluation(model):
    return nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)


@nnx.jit
def features_of(model, images):
    return model.image_feature(images), model.embed(images), model.features(images)


def train(model, phase, batch, steps, rate):
    """Terms and first gradients of the parameters that the phase trains."""
    wrt = trainable_filter(OPTIONS.phase[phase])
    begin_phase(model, OPTIONS.phase[phase].loss)
    model.train()
    optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=wrt)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return model.function(OPTIONS.phase[phase].loss)(batch, nnx.Rngs(0))

        state = nnx.DiffState(0, wrt)
        (value, terms), grads = nnx.value_and_grad(loss, argnums=state, has_aux=True)(model)
        optimizer.update(model, grads)
        return {"loss": value, **terms}, grads

    found = [step(model, optimizer) for _ in range(steps)]
    terms = [{name: float(value) for name, value in terms.items()} for terms, _ in found]
    return terms, dict(nnx.to_flat_state(found[0][1]))


@pytest.fixture(scope="module")
def trained():
    """Both stages, one after the other, and the states between them."""
    model, batch = make(), make_batch()
    start = to_state_dict(model)
    feature = features_of(evaluation(model), batch["image"])[0]
    prompts = train(model, "prompts", {**batch, "feature": feature}, 20, 1e-2)
    between = to_state_dict(model)
    reid = train(model, "reid", batch, 20, 2e-3)
    return {"prompts": prompts, "reid": reid}, (start, between), model


def test_every_parameter_of_each_stage_is_trained(trained):
    for terms, gradients in trained[0].values():
        assert all(np.isfinite(value) for value in terms[0].values())
        # No gradient is left of what a softmax takes away from all keys: their bias; the last
        # block's patches are not read.
        silent = {path for path, leaf in gradients.items() if not np.any(leaf[...] != 0)}
        assert not silent, silent
    (prompts, reid) = (gradients for _, gradients in trained[0].values())
    assert set(prompts) == {("prompt_learner", "cls_ctx")}
    assert {path[0] for path in reid} == {"base_model", "neck", "neck_proj"}
    assert {path[1] for path in reid if path[0] == "base_model"} == {"visual"}


def test_both_stages_learn(trained):
    for phase, name in (("prompts", "loss"), ("reid", "identity"), ("reid", "text")):
        terms = [step[name] for step in trained[0][phase][0]]
        assert terms[-1] < 0.8 * terms[0], (phase, name, terms)
    terms = trained[0]["reid"][0]
    assert terms[-1]["accuracy"] == terms[-1]["text_accuracy"] == 1.0
    total = 0.25 * terms[0]["identity"] + terms[0]["triplet"] + terms[0]["text"]
    assert terms[0]["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_each_stage_changes_its_own_part(trained):
    _, (start, between), model = trained
    after = to_state_dict(model)
    changed = {name for name in start if not np.array_equal(start[name], between[name])}
    words = {f"prompt_learner.{name}" for name in ("cls_ctx", "token_prefix", "token_suffix")}
    assert changed == words
    changed = {name for name in after if not np.array_equal(after[name], between[name])}
    assert not {n for n in changed if not n.startswith(("base_model.visual", "neck"))}
    assert {n for n in changed if "running" in n} == {
        f"{neck}.bottleneck.running_{name}"
        for neck in ("neck", "neck_proj")
        for name in ("mean", "var")
    }


def test_the_texts_are_those_of_the_sentences(trained):
    model = trained[2]
    ids = np.asarray(Tokenizer().encode("A photo of a X X X X person."))
    np.testing.assert_array_equal(ids, clip_reid.SENTENCE)
    table = np.asarray(model.base_model.token_embedding.embedding[...])
    words = np.tile(table[np.pad(ids, (0, 77 - len(ids)))], (4, 1, 1))
    words[:, 5:9] = model.prompt_learner.cls_ctx[...]
    np.testing.assert_array_equal(model.prompt_learner(jnp.arange(4)), words)
    texts = nnx.jit(lambda model, words: model.base_model.encode_embedded(words))(model, words)
    np.testing.assert_allclose(model.texts[...], texts[:, len(ids) - 1], rtol=1e-3, atol=1e-5)
    # The public state dict has the words, and not what is computed from them.
    names = set(to_state_dict(model))
    assert {"prompt_learner.cls_ctx", "prompt_learner.token_prefix"} <= names
    assert "texts" not in names


def test_more_identities_than_are_encoded_at_a_time(monkeypatch):
    monkeypatch.setattr(clip_reid, "TEXTS", 3)
    model = make()
    for loss in STAGES.values():
        begin_phase(model, loss)
    expected = nnx.jit(lambda model: model.text_features(jnp.arange(4)))(model)
    np.testing.assert_allclose(model.texts[...], expected, rtol=1e-4, atol=1e-5)


def test_the_embedding_joins_class_token_and_projection(trained):
    images, model = make_batch(1)["image"], evaluation(trained[2])
    projected, joined, features = features_of(model, images)
    assert joined.shape == (16, 64 + 32) and joined.dtype == jnp.float32
    np.testing.assert_array_equal(joined[:, :64], features.normed)
    np.testing.assert_allclose(joined[:, 64:], projected, rtol=1e-5, atol=1e-6)
    other = features_of(model, images[::-1])[1]
    np.testing.assert_allclose(other, joined[::-1], rtol=1e-3, atol=1e-4)
    assert model.metric == "cosine" and not model.needs_camera and not model.needs_platform


def test_side_information_moves_the_embedding_by_camera_and_view():
    model = evaluation(make(**SIDE))
    model.cv_embed[...] = model.cv_embed[...].at[3].set(0.0)
    images, zeros = make_batch()["image"][:4], jnp.zeros(4, jnp.int32)

    @nnx.jit
    def embed(model, camera, view):
        return model.embed(images, camera=camera, platform=view), model.image_feature(images)

    last, plain = embed(model, zeros + 1, zeros + 1)
    np.testing.assert_allclose(last[:, 64:], plain, rtol=1e-4, atol=1e-5)  # the row of zeros
    rows = [embed(model, zeros + c, zeros + v)[0] for c in (0, 1) for v in (0, 1)]
    assert all(not np.allclose(a, b, atol=1e-3) for i, a in enumerate(rows) for b in rows[:i])
    assert np.isnan(embed(model, zeros + 2, zeros)[0]).all()
    assert model.needs_camera and model.needs_platform


def test_what_is_refused():
    with pytest.raises(ValueError, match="CLIP 'vit_test' is unknown; expected one of clip_vit"):
        methods.build({"name": "clip_reid", "backbone": {"name": "vit_test"}}, FACTS, rngs=RNGS)
    one = dataclasses.replace(FACTS, num_cameras=1)
    with pytest.raises(ValueError, match=r"has 1 camera.*set it to False"):
        make(facts=one, camera_embedding=True)
    with pytest.raises(ValueError, match="views=1: side information needs at least two"):
        make(platforms=1)
    model = make()
    model.check_phases(["prompt_loss", "loss"])
    for losses in (["loss"], ["loss", "prompt_loss"]):
        with pytest.raises(ValueError, match=r"no phase before it learns them .*text_weight=0"):
            model.check_phases(losses)
    abstract(text_weight=0.0).check_phases(["loss"])
    begin_phase(model, "prompt_loss")
    model.check_phases(["loss"])


def test_a_file_of_the_published_code_fills_all(tmp_path):
    state = {k: v + np.float32(0.5) for k, v in to_state_dict(make(**SIDE)).items()}
    names = {
        "base_model.visual.": "image_encoder.",
        "base_model.": "text_encoder.",
        "neck_proj.bottleneck.": "bottleneck_proj.",
        "neck_proj.classifier.": "classifier_proj.",
        "neck.": "",
    }
    public = {}
    for name, value in state.items():
        start = next((start for start in names if name.startswith(start)), "")
        public[names.get(start, "") + name.removeprefix(start)] = value
    del public["text_encoder.token_embedding.weight"]
    assert {"cv_embed", "classifier.weight", "bottleneck_proj.running_mean"} <= set(public)
    path = write_zip(tmp_path / "clip_reid.pth", tensors(public))
    model = make(**SIDE)
    kept = to_state_dict(model)["base_model.token_embedding.weight"]
    report = initialise(model, InitOptions(file=str(path), part="all"))
    assert report.family == "CLIP-ReID"
    assert report.names("kept") == ["base_model.token_embedding.weight"]
    for name, value in to_state_dict(model).items():
        expected = kept if name.endswith("token_embedding.weight") else state[name]
        np.testing.assert_array_equal(value, expected, err_msg=name)
    # The file brought the words: stage 2 may begin, and stage 1 goes on with them.
    model.check_phases(["loss"])
    begin_phase(model, "prompt_loss")
    words = model.prompt_learner.token_prefix[...]
    np.testing.assert_array_equal(words, state["prompt_learner.token_prefix"])
    # Opened without its data; the table counts as that of cameras alone.
    with mock.patch.dict(clip.VARIANTS, {"clip_vit_b16": SHALLOW}):
        opened = g2ajax.load(str(path), architecture="clip_reid")
    assert opened.method.cameras == 4
    got = to_state_dict(opened.method)["base_model.text_projection"]
    np.testing.assert_array_equal(got, state["base_model.text_projection"])
    # Other people, another grid.
    facts = dataclasses.replace(FACTS, num_classes=5, image_size=(64, 32))
    model = abstract(facts, **SIDE)
    options = InitOptions(
        file=str(path), part="all", allow_classifier_mismatch=True, position_grid=(2, 2)
    )
    kept = initialise(model, options).names("kept")
    assert {"neck_proj.classifier.weight", "prompt_learner.cls_ctx"} <= set(kept)


def test_recipe():
    run = run_options(load("configs/clip_reid.py").to_dict())
    prompts, reid = run.phase["prompts"], run.phase["reid"]
    rates = learning_rates(prompts.schedule, prompts.optimizer.learning_rate, 1, prompts.epochs)
    assert len(rates) == 120 and rates[-1] == pytest.approx(1e-6, rel=1e-3)
    rates = learning_rates(reid.schedule, reid.optimizer.learning_rate, 1, reid.epochs)
    assert rates[0] == pytest.approx(0.19 * 5e-6) and rates[-1] == pytest.approx(5e-8)
    assert prompts.task_options.sampler.batch_size == run.task_options.sampler.batch_size == 64
    assert run.task_options.data.test_interpolation == "bilinear"


@pytest.mark.slow
def test_a_run_of_both_phases_goes_on_where_it_stopped(tmp_path):
    config = load("configs/clip_reid.py:tiny").to_dict()
    config["phase"]["prompts"].update(epochs=1, steps_per_epoch=2)
    config["phase"]["reid"].update(epochs=2, steps_per_epoch=1)
    config["data"].update(image_size=SIZE, residency="host")
    config["evaluate"]["every_epochs"] = 10
    config["checkpoint"]["every_steps"] = 1
    with opens(make_dataset()):
        results = loop.run(config, tmp_path)
        assert len(results) == 4 and all(np.isfinite(r.mAP) for r in results)
        run, meta = loop.reopen(config, tmp_path, "latest")
        assert meta["phase"] == "reid" and np.any(run.model.texts[...])
        with pytest.raises(ValueError, match="no phase before it learns them"):
            loop.run({**config, "phases": ("reid",)}, tmp_path / "other")
