"""VSLA-CLIP: padding, platforms, what each stage trains, refusals."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.backbones import clip
from g2ajax.losses.cluster_memory import MemoryOptions
from g2ajax.recipes.files import load
from g2ajax.training.options import run_options
from g2ajax.training.state import begin_phase, trainable_filter

FACTS = methods.DataFacts(num_classes=4, image_size=(32, 16), num_platforms=2)
SHALLOW = dataclasses.replace(clip.VARIANTS["clip_test"], vision_layers=2, text_layers=1)


@functools.cache
def drawn(changes, facts=FACTS):
    config = {
        "name": "vsla_clip",
        "backbone": {"name": "clip_shallow"},
        "adapter_width": 8,
        "temporal_heads": 2,
        "prompt_length": 2,
        "bridge_blocks": 1,
        **dict(changes),
    }
    with mock.patch.dict(clip.VARIANTS, {"clip_shallow": SHALLOW}):
        return methods.drawn(config, facts)


def make(facts=FACTS, **changes):
    return nnx.clone(drawn(tuple(sorted(changes.items())), facts))


def make_batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (8, 3, 32, 16, 3)), jnp.float32),
        "frame_mask": jnp.asarray(np.arange(3) < rng.integers(1, 3, (8, 1))),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.tile(jnp.arange(2), 4),
        "platform": jnp.tile(jnp.arange(2), 4),
    }


def test_frames_that_fill_up_change_nothing_and_others_matter():
    model, batch = make(), make_batch()
    mask, platform = batch["frame_mask"], batch["platform"]
    graphdef, state = methods.evaluated(model)

    @jax.jit
    def run(image, platform):
        model = nnx.merge(graphdef, state, copy=True)
        return model.clip_features(image, mask, platform)

    found = run(batch["image"], platform)
    hole = ~mask[:, :, None, None, None]
    for one, other in zip(found, run(jnp.where(hole, 77.0, batch["image"]), platform), strict=True):
        np.testing.assert_array_equal(one, other)
    # The order of the real frames does not matter; the platform and each frame do.
    two = np.asarray(mask[:, 1])
    swapped = batch["image"][:, jnp.array([1, 0, 2])]
    for one, other in zip(found, run(swapped, platform), strict=True):
        np.testing.assert_allclose(one[two], other[two], rtol=1e-3, atol=1e-4)
    assert (np.abs(found.normed - run(batch["image"], 1 - platform).normed) > 1e-6).any(1).all()
    changed = run(batch["image"].at[:, 1].set(50.0), platform)
    moved = (np.abs(found.normed - changed.normed) > 1e-6).any(1)
    assert moved.tolist() == two.tolist()


def test_each_stage_trains_its_own_parts():
    phases = run_options(load("configs/vsla_clip.py:dataset=g2a_vreid").to_dict()).phase
    model, batch = make(), make_batch()
    begin_phase(model, "prompt_loss")
    begin_phase(model, "loss")
    assert (np.asarray(model.texts[...]) != 0).any(1).all()
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def gradients(params):
        def of(name):
            def loss(params):
                model = nnx.merge(graphdef, params, rest, copy=True)
                return model.function(name)(batch, nnx.Rngs(jax.random.key(0)))[0]

            return jax.grad(loss)(params)

        return of("prompt_loss"), of("loss")

    expected = {
        "prompts": {"prompt_learner"},
        "reid": {"adapters", "neck", "neck_proj", "cv_embed"},
    }
    for (name, parts), gradient in zip(expected.items(), gradients(params), strict=True):
        trained, _ = nnx.split_state(gradient, trainable_filter(phases[name]), ...)
        flat = nnx.to_flat_state(trained)
        assert {path[0] for path, _ in flat} == parts
        still = [path for path, leaf in flat if not (np.asarray(leaf[...]) != 0).any()]
        # A constant added to all keys of an attention moves no weight of it.
        assert all(path[-1] == "in_proj_bias" for path in still), still
        assert all(np.isfinite(leaf[...]).all() for _, leaf in flat)


def test_pools_with_parameters_are_trained_and_the_memory_is_filled():
    file = "configs/vsla_clip.py:dataset=g2a_vreid,temporal=attention"
    phases = run_options(load(file).to_dict()).phase
    model = make(temporal="attention", attention_dim=4, memory=MemoryOptions(weight=0.5))
    batch = make_batch()
    for pool in model.frame_pools:  # away from the start, where the weights of all frames are equal
        pool.score.kernel[...] = jnp.ones((4, 1))
    begin_phase(model, "loss")
    model.train()
    pools, rest = nnx.split_state(nnx.state(model), nnx.PathContains("frame_pools"), ...)
    graphdef = nnx.graphdef(model)

    @jax.jit
    def run(pools):
        def loss(pools):
            model = nnx.merge(graphdef, pools, rest, copy=True)
            total, terms = model.loss(batch, nnx.Rngs(jax.random.key(0)))
            return total, (total, terms, model.memory[...])

        return jax.grad(loss, has_aux=True)(pools)

    gradient, (total, terms, memory) = run(pools)
    trained, _ = nnx.split_state(nnx.state(model, nnx.Param), trainable_filter(phases["reid"]), ...)
    expected = {path for path, _ in nnx.to_flat_state(trained) if path[0] == "frame_pools"}
    flat = dict(nnx.to_flat_state(gradient))
    assert set(flat) == expected and len(expected) == 3 * 3
    assert all(np.isfinite(x[...]).all() and (np.asarray(x[...]) != 0).any() for x in flat.values())
    # The class token and its projection, each twice: the mean and the hardest of four people.
    assert memory.shape == (2 * 4, 64 + 32) and model.in_batch_terms == ("triplet", "memory")
    np.testing.assert_allclose(np.linalg.norm(memory, axis=1), 1.0, rtol=1e-4)
    weighted = 0.25 * terms["identity"] + terms["triplet"] + terms["text"] + terms["contrast"]
    np.testing.assert_allclose(total, weighted + 0.5 * terms["memory"], rtol=1e-5)


def test_without_adapters_it_is_clip_on_each_frame():
    model, batch = make(adapters=False, bridge_blocks=0), make_batch()
    assert not len(model.adapters) and not model.needs_platform
    graphdef, state = methods.evaluated(model)

    @jax.jit
    def run(image, mask):
        model = nnx.merge(graphdef, state, copy=True)
        plain = model.base_model.visual.features(model.preprocessing(image[:, 0]))
        clips = model.clip_features(image, mask, adapted=False)
        return (
            plain,
            model.embed_tracklet(image[:, :1], mask[:, :1]),
            model.embed(image[:, 0]),
            clips,
        )

    plain, tracklet, crop, _ = run(batch["image"], batch["frame_mask"])
    joined = jnp.concatenate([plain.normed, plain.projected], -1)
    np.testing.assert_allclose(tracklet, joined, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(tracklet, crop)


@pytest.mark.parametrize(
    ("changes", "facts", "message"),
    [
        ({"bridge_blocks": 3}, FACTS, "bridge_blocks = 3, but the image tower has 2 blocks"),
        (
            {},
            dataclasses.replace(FACTS, num_platforms=1),
            r"has 1 platform\(s\), and bridge prompts",
        ),
        ({"adapter_widht": 3}, FACTS, "no option 'adapter_widht'; did you mean 'adapter_width'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, facts, message):
    with pytest.raises(ValueError, match=message):
        make(facts, **changes)


def test_texts_that_no_phase_learns_are_refused():
    with pytest.raises(ValueError, match="no phase before it learns them"):
        make().check_phases(["loss"])
    make().check_phases(["prompt_loss", "loss"])
    make(text_weight=0.0).check_phases(["loss"])
