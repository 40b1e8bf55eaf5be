"""Uni-Prompt: the three stages, the sentences of domains, refusals."""

import dataclasses
import functools
import itertools
from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.backbones import clip
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.methods import uni_prompt
from g2ajax.recipes.files import load
from g2ajax.training.options import run_options
from g2ajax.training.state import begin_phase, trainable_filter

SIZE = (32, 32)
FACTS = methods.DataFacts(num_classes=4, image_size=SIZE, num_cameras=4, num_platforms=2)
SHALLOW = dataclasses.replace(clip.VARIANTS["clip_test"], text_layers=1)
PHASES = run_options(load("configs/uni_prompt.py:tiny").to_dict()).phase


@functools.cache
def drawn():
    config = {"name": "uni_prompt", "backbone": {"name": "clip_shallow"}, "infrared": (1, 3)}
    with mock.patch.dict(clip.VARIANTS, {"clip_shallow": SHALLOW}):
        return methods.drawn(config, FACTS)


def make_batch():
    """Features of four people, each seen by a colour and an infrared camera of each platform."""
    label, camera = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    rng = np.random.default_rng(0)
    parts = (rng.normal(size=(n, 32)) for n in (4, 4))
    people, cameras = (part / 8.0 for part in parts)
    arrays = {"label": label, "camera": camera, "platform": camera // 2}
    feature = people[label] + cameras[camera] + rng.normal(size=(16, 32)) / 32.0
    return {
        "feature": jnp.asarray(feature, jnp.float32),
        "image": jnp.asarray(rng.integers(0, 255, (16, *SIZE, 3)), jnp.float32),
        **{k: jnp.asarray(v) for k, v in arrays.items()},
    }


def train(model, phase, steps):
    """Terms and first gradients of the parameters that the phase trains."""
    options, batch = PHASES[phase], make_batch()
    wrt = trainable_filter(options)
    begin_phase(model, options.loss)
    model.train()
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=wrt)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return model.function(options.loss)(batch, nnx.Rngs(0))

        state = nnx.DiffState(0, wrt)
        (value, terms), grads = nnx.value_and_grad(loss, argnums=state, has_aux=True)(model)
        optimizer.update(model, grads)
        return {"loss": value, **terms}, grads

    found = [step(model, optimizer) for _ in range(steps)]
    terms = [{name: float(value) for name, value in terms.items()} for terms, _ in found]
    return terms, dict(nnx.to_flat_state(found[0][1]))


@pytest.fixture(scope="module")
def trained():
    model = nnx.clone(drawn())
    states, found = [to_state_dict(model)], {}
    for phase, steps in (("identities", 15), ("domains", 15), ("reid", 2)):
        found[phase] = train(model, phase, steps)
        states.append(to_state_dict(model))
    return found, states, model


def test_each_stage_trains_its_own_words(trained):
    found, states, _ = trained
    parts = {"identities": {"ctx_generic"}}
    parts["domains"] = {"ctx_modality", "ctx_platform", "visual_enhanced_net"}
    for phase, (before, after) in zip(parts, itertools.pairwise(states), strict=False):
        terms, gradients = found[phase]
        assert {path[1] for path in gradients} == parts[phase]
        assert all(np.any(leaf[...] != 0) for leaf in gradients.values())
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        frozen = changed - {"prompt_learner.token_prefix", "prompt_learner.token_suffix"}
        assert {name.split(".")[1] for name in frozen} == parts[phase]
        assert terms[-1]["loss"] < 0.95 * terms[0]["loss"], (phase, terms)
    assert set(found["domains"][0][0]) == {"loss", "platform", "modality"}
    assert np.isfinite(found["reid"][0][-1]["loss"])


def test_sentences_of_domains(trained):
    model = trained[2]
    learner = model.prompt_learner
    ids = np.asarray(Tokenizer().encode(" ".join(16 * "X") + " person."))
    np.testing.assert_array_equal(ids, uni_prompt.SENTENCE)
    table = np.asarray(model.base_model.token_embedding.embedding[...])
    label, modality, platform = (jnp.asarray(x) for x in ([2, 0], [1, 0], [0, 1]))
    offset = jnp.ones((2, 64))
    got = learner.in_domain(label, modality, platform, offset)
    assert got.shape == (2, 77, 64)
    np.testing.assert_array_equal(got[0, 0], table[49406])
    np.testing.assert_array_equal(got[0, 17:20], table[np.asarray([2533, 269, 49407])])
    np.testing.assert_array_equal(got[:, 1:9], learner.ctx_generic[...][label])
    np.testing.assert_allclose(got[:, 9:13], learner.ctx_modality[...][modality] + 1, rtol=1e-6)
    np.testing.assert_allclose(got[:, 13:17], learner.ctx_platform[...][platform] + 1, rtol=1e-6)
    assert not np.any(learner.alone(label)[:, 9:17])
    mean = np.mean(learner.ctx_platform[...], axis=0)
    np.testing.assert_allclose(learner(label)[1, 13:17], mean, rtol=1e-5, atol=1e-7)
    # Stage 2 compares with the texts of the mean words.
    texts = nnx.jit(lambda model: model.text_features(jnp.arange(4)))(model)
    np.testing.assert_allclose(model.texts[...], texts, rtol=1e-3, atol=1e-5)


def test_what_is_refused():
    model = nnx.clone(drawn())
    model.check_phases(["identity_prompt_loss", "domain_prompt_loss", "loss"])
    with pytest.raises(ValueError, match=r"learns them .loss 'identity_prompt_loss'."):
        model.check_phases(["domain_prompt_loss", "loss"])
    with pytest.raises(ValueError, match="the data have 0; take data from the air and from the"):
        methods.build(
            {"name": "uni_prompt", "backbone": {"name": "clip_test"}},
            dataclasses.replace(FACTS, num_platforms=0),
            rngs=nnx.Rngs(params=0),
        )
