"""LATex: attributes are learned, the sentence has the platform, options, refusals."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.backbones import clip
from g2ajax.data.tokenizer import Tokenizer
from g2ajax.interop.state_dict import to_state_dict
from g2ajax.methods import latex
from g2ajax.recipes.files import load
from g2ajax.training.options import run_options

SIZE = (32, 32)
GROUPS = (("bag", ("backpack", "handbag", "none")), ("hat", ("yes", "no")), ("age", ("a", "b")))
FACTS = methods.DataFacts(4, SIZE, num_platforms=2, attribute_groups=GROUPS)
SHALLOW = dataclasses.replace(clip.VARIANTS["clip_test"], text_layers=1)


@functools.cache
def drawn(facts, abstract, changes):
    config = {"name": "latex", "backbone": {"name": "clip_shallow"}, **dict(changes)}
    with mock.patch.dict(clip.VARIANTS, {"clip_shallow": SHALLOW}):
        if abstract:
            return nnx.eval_shape(lambda: methods.build(config, facts, rngs=nnx.Rngs(params=0)))
        return methods.drawn(config, facts)


def make(facts=FACTS, *, abstract=False, **changes):
    return nnx.clone(drawn(facts, abstract, tuple(changes.items())))


def make_batch(seed=0):
    """Four people of one pattern each, with attributes; one code is unknown."""
    label, platform = np.repeat(np.arange(4), 4), np.tile([0, 1], 8)
    pattern = np.random.default_rng(9).integers(0, 200, (4, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    image = pattern[label] + np.random.default_rng(seed).integers(0, 50, (16, *SIZE, 3))
    attributes = np.stack([label % 3, label % 2, label // 2], axis=1)
    attributes[0, 0] = -1
    arrays = {"label": label, "platform": platform, "attributes": attributes}
    return {
        "image": jnp.asarray(image, jnp.float32),
        **{k: jnp.asarray(v) for k, v in arrays.items()},
    }


def evaluation(model):
    return nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)


embed = nnx.jit(lambda model, images, platform: model.embed(images, platform=platform))


@pytest.fixture(scope="module")
def trained():
    """First gradients, the terms of 20 steps, the state before, the model after them."""
    model = make()
    model.train()
    start = to_state_dict(model)
    optimizer = nnx.Optimizer(model, optax.adam(2e-3), wrt=nnx.Param)
    batch = make_batch()

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.value_and_grad(lambda m: m.loss(batch, nnx.Rngs(0)), has_aux=True)
        (loss, terms), grads = gradient(model)
        optimizer.update(model, grads)
        return {"loss": loss, **terms}, grads

    found = [step(model, optimizer) for _ in range(20)]
    terms = [{name: float(value) for name, value in terms.items()} for terms, _ in found]
    return terms, found[0][1], start, model


def test_every_parameter_is_trained(trained):
    terms, gradients, _, _ = trained
    total = 0.25 * terms[0]["identity"] + terms[0]["triplet"] + terms[0]["attributes"]
    assert terms[0]["loss"] == pytest.approx(total, rel=1e-5)
    silent = {path for path, leaf in nnx.to_flat_state(gradients) if not np.any(leaf[...] != 0)}
    # The tower's last norm is not applied.
    assert silent == {("base_model", "visual", "ln_post", name) for name in ("bias", "scale")}


def test_it_learns_people_and_attributes(trained):
    terms, _, start, model = trained
    for name in ("identity", "attributes"):
        assert terms[-1][name] < 0.8 * terms[0][name], (name, terms)
    assert terms[-1]["attribute_accuracy"] > 0.9
    after = to_state_dict(model)
    moved = {n for n in start if "running" in n and not np.array_equal(start[n], after[n])}
    assert moved == {name for name in start if "running" in name}
    batch = make_batch(1)
    feature = embed(evaluation(model), batch["image"], batch["platform"])
    assert feature.shape == (16, 2 * 32) and feature.dtype == jnp.float32
    other = embed(evaluation(model), batch["image"], 1 - batch["platform"])
    np.testing.assert_array_equal(feature[:, :32], other[:, :32])
    assert not np.allclose(feature[:, 32:], other[:, 32:], atol=1e-4)
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_the_sentence_word_by_word():
    model, tokenizer = make(), Tokenizer()
    table = np.asarray(model.base_model.token_embedding.embedding[...])
    words = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 64)), jnp.float32)
    got = model.sentence(words, jnp.asarray([0, 1, 2]))
    for row, view in enumerate(("UAV", "CCTV")):
        ids = tokenizer.encode(f"A {view} view photo of a X person")
        shared = model.shared_words[...]
        parts = (table[np.asarray(ids[:-3])], shared, words[row], table[np.asarray(ids[-3:])])
        np.testing.assert_array_equal(got[row], np.concatenate(parts))
    assert latex.VIEWS[2] == tokenizer.encode("wearable")[1]
    # These data have no third platform.
    assert np.isnan(got[2, :7]).all() and not np.isnan(got[2, 7:]).any()


def test_prompts_are_replaced_in_every_block():
    model = evaluation(make())
    tower, images = model.base_model.visual, make_batch()["image"][:2]

    @nnx.jit
    def compute(model):
        x = tower.embed_patches(images)
        count = x.shape[1]
        for block, prompt in zip(tower.transformer.resblocks, model.prompts, strict=True):
            own = jnp.tile(prompt[...][None], (2, 1, 1))
            x = block(jnp.concatenate([x[:, :count], own], axis=1))
        x = tower.project(x)
        prompts = [prompt[...] for prompt in model.prompts]
        return x[:, 0], x[:, -3:], latex.read_attributes(tower, prompts, images)

    image, tokens, got = compute(model)
    np.testing.assert_allclose(got[0], image, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got[1], tokens, rtol=1e-3, atol=1e-4)


def test_attention_to_one_key_is_the_same_for_all_queries():
    classifier = latex.AttributeClassifier(16, 2, 3, rngs=nnx.Rngs(params=0))
    rng = np.random.default_rng(0)
    visual, token = (jnp.asarray(rng.normal(size=(5, 16)), jnp.float32) for _ in range(2))
    others = jnp.asarray(rng.normal(size=(5, 2, 16)), jnp.float32)
    classifier = evaluation(classifier)

    @nnx.jit
    def compute(classifier):
        def call(factor, n):
            rows = (visual[:n], token[:n], factor * others[:n])
            return jnp.stack([classifier(*rows, kind)[:2] for kind in (False, True)])

        return call(1, 5), call(2, 5), call(1, 2)

    whole, doubled, part = compute(classifier)
    np.testing.assert_allclose(doubled[0], whole[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part[0], whole[0], rtol=1e-4, atol=1e-5)
    # Across the batch, as in the code, the other images decide.
    assert not np.allclose(part[1], whole[1], atol=1e-4)


@pytest.mark.slow
def test_the_text_is_normalised_at_test_only_if_asked(trained):
    batch = make_batch()
    arguments = batch["image"], batch["platform"]
    model = evaluation(trained[3])
    found = {}
    for normalised in (True, False):
        model.options = dataclasses.replace(model.options, norm_text=normalised)
        found[normalised] = embed(model, *arguments)
    text = nnx.jit(lambda model: model.features(*arguments)[2])(model)
    np.testing.assert_allclose(found[False][:, 32:], model.head_text.embed(text), rtol=1e-3)
    expected = model.head_text.embed(model.norm_text(text))
    np.testing.assert_allclose(found[True][:, 32:], expected, rtol=1e-2, atol=1e-3)


def test_without_attributes_the_tokens_are_words():
    wide = dataclasses.replace(SHALLOW, embed_dim=64)
    with mock.patch.dict(clip.VARIANTS, {"clip_wide": wide}):
        backbone = {"name": "clip_wide"}
        config = {"name": "latex", "backbone": backbone, "attributes": False, "prompts": 4}
        facts = dataclasses.replace(FACTS, attribute_groups=())
        model = nnx.eval_shape(lambda: methods.build(config, facts, rngs=nnx.Rngs(params=0)))
    assert not model.learns_from_attributes and not hasattr(model, "attributes")
    graph, state = nnx.split(model)

    def run(state, image, code):
        batch = {"image": image, "label": code, "platform": code}
        return nnx.merge(graph, state).loss(batch, nnx.Rngs(0))[1]

    image = jax.ShapeDtypeStruct((4, *SIZE, 3), jnp.float32)
    terms = jax.eval_shape(run, state, image, jax.ShapeDtypeStruct((4,), jnp.int32))
    assert "attributes" not in terms


def test_what_is_refused():
    bare = dataclasses.replace(FACTS, attribute_groups=())
    with pytest.raises(ValueError, match=r"the data have 0; take data with attributes, or set"):
        make(bare, abstract=True)
    with pytest.raises(ValueError, match=r"takes image tokens \(32 wide\) for words, which are 64"):
        make(bare, abstract=True, attributes=False)
    with pytest.raises(ValueError, match=r"the data have 0; expected 2 \(aerial, ground\) or 3"):
        make(dataclasses.replace(FACTS, num_platforms=0), abstract=True)
    with pytest.raises(ValueError, match="a sentence of 83 words; this CLIP reads 77"):
        make(abstract=True, shared_words=70)
    model = make(abstract=True)
    assert model.needs_platform and model.learns_from_attributes
    with pytest.raises(ValueError, match=r"pass platform .0 aerial, 1 ground, 2 wearable"):
        jax.eval_shape(lambda x: model.embed(x), jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32))


def test_recipe():
    for dataset, shape in (("agreid", (16, 8)), ("agreid_v2", (32, 4)), ("cargo", (16, 8))):
        run = run_options(load(f"configs/latex.py:dataset={dataset}").to_dict())
        sampler = run.task_options.sampler
        assert (sampler.identities, sampler.images) == shape
        assert run.method["attributes"] == (dataset != "cargo")
        assert run.method["shared_words"] == (16 if dataset == "agreid_v2" else 8)
        assert run.phase["reid"].frozen == ("base_model",)
        assert run.phase["reid"].optimizer.name == "adam"
