"""Special tokens by name, and hooks beside the blocks of a ViT: plain, looped, recomputed."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import build, stack, vit
from g2ajax.backbones.split import patch_map
from g2ajax.backbones.tokens import Hook, Layout, stretches
from g2ajax.interop.state_dict import public_shapes, to_state_dict

SIZE = (64, 32)
DEEP = dataclasses.replace(vit.VARIANTS["vit_test"], depth=4)


def make(**options):
    options = {"image_size": SIZE, "tokens": ("view",), **options}
    with mock.patch.dict(vit.VARIANTS, {"deep": DEEP}):
        return build("deep", rngs=nnx.Rngs(params=0), **options)


def images(batch=3):
    return jax.random.normal(jax.random.key(7), (batch, *SIZE, 3))


def subtract(tokens):
    return LAYOUT.replace(tokens, "cls", tokens[:, 0] - tokens[:, 1])


LAYOUT = Layout(("cls", "view"))
EVERY = (Hook(subtract),)


def test_layout_by_hand():
    tokens = jnp.arange(8.0).reshape(1, 4, 2)
    np.testing.assert_array_equal(LAYOUT.token(tokens, "view"), [[2, 3]])
    np.testing.assert_array_equal(LAYOUT.patches(tokens), tokens[:, 2:])
    for place, name in enumerate(LAYOUT.special):
        got = LAYOUT.replace(tokens, name, jnp.asarray([[9.0, 9.0]]))
        np.testing.assert_array_equal(got, tokens.at[:, place].set(9.0))
    with pytest.raises(ValueError, match="no token 'platform'; this network has cls, view"):
        LAYOUT.token(tokens, "platform")
    for special in (("view", "cls"), ("cls", "cls"), ()):
        with pytest.raises(ValueError, match="expected `cls` first"):
            Layout(special)


def test_special_tokens_stand_behind_the_class_token():
    model = make(tokens=("view", "platform"))
    shapes = public_shapes(model)
    assert shapes["view_token"] == shapes["platform_token"] == (1, 1, 32)
    assert shapes["pos_embed"] == (1, 3 + 4 * 2, 32)
    assert not np.any(model.view_token[...])
    model.view_token[...] = jnp.full((1, 1, 32), 2.0)
    tokens = model.embed_patches(images())
    view = model.layout.token(tokens, "view") - model.pos_embed[:, 1]
    np.testing.assert_allclose(view, np.full((3, 32), 2.0), rtol=1e-5)
    assert patch_map(model, tokens).shape == (3, 4, 2, 32)


def test_a_network_without_them_draws_the_same_parameters():
    plain, other = to_state_dict(make(tokens=())), to_state_dict(make())
    assert other.keys() - plain.keys() == {"view_token"}
    for name in plain.keys() - {"pos_embed"}:
        np.testing.assert_array_equal(plain[name], other[name], err_msg=name)


def test_runs_of_equal_hooks():
    first, both = Hook(subtract, blocks=(2,)), Hook(subtract, "before", blocks=(1, 2))
    assert stretches(range(5), (), 5) == [[0, 1, 2, 3, 4]]
    assert stretches(range(5), EVERY, 5) == [[0, 1, 2, 3, 4]]
    assert stretches(range(5), (first,), 5) == [[0, 1], [2], [3, 4]]
    assert stretches(range(1, 5), (first, both), 5) == [[1], [2], [3, 4]]
    assert stretches([], EVERY, 5) == []
    with pytest.raises(ValueError, match=r"names the blocks \[4\]; expected 0 to 3"):
        make().run_blocks(jnp.zeros((1, 10, 32)), hooks=[Hook(subtract, blocks=(4,))])


def test_hooks_act_beside_their_blocks():
    model = nnx.view(make(), deterministic=True)
    model.view_token[...] = jax.random.normal(jax.random.key(1), (1, 1, 32))
    x = tokens = model.embed_patches(images())
    hooks = (Hook(lambda t: 2.0 * t, "before", blocks=(1, 2)), Hook(subtract), Hook(jnp.tanh))
    for i, block in enumerate(model.blocks):
        x = jnp.tanh(subtract(block(2.0 * x if i in (1, 2) else x)))
    np.testing.assert_allclose(model.run_blocks(tokens, hooks=hooks), x, rtol=1e-5, atol=1e-6)
    # In parts, and only the tokens that are read.
    part = model.run_blocks(tokens, stop=2, hooks=hooks)
    part = model.run_blocks(part, start=2, only_first=2, hooks=hooks)
    np.testing.assert_allclose(part, x[:, :2], rtol=1e-5, atol=1e-6)


@functools.cache
def step(**options):
    """Loss and gradients with a hook everywhere, and with one block of its own between two runs."""
    hooks = (*EVERY, Hook(lambda t: 1.5 * t, "before", blocks=(2,)))

    @nnx.jit
    def call(model, rngs):
        def loss(model, rngs):
            return jnp.mean(jnp.square(model(images(8), only_first=2, hooks=hooks, rngs=rngs) - 1))

        return nnx.value_and_grad(loss)(model, rngs)

    return call(make(drop_path=0.4, **options), nnx.Rngs(dropout=0))


@pytest.mark.parametrize(
    "options", [{"scan": True}, {"remat": True}, {"scan": True, "remat": True}]
)
def test_loops_and_recomputation_change_nothing(options):
    (loss, grads), (loss2, grads2) = step(), step(**options)
    np.testing.assert_allclose(loss, loss2, rtol=1e-5)
    for (path, a), b in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(grads2), strict=True):
        bound = 1e-4 * np.abs(a).max() + 1e-6
        np.testing.assert_allclose(a, b, atol=bound, rtol=0, err_msg=str(path))
        assert np.abs(a).max() > 0, path


def test_a_hook_may_change_the_number_of_tokens():
    model = nnx.view(make(), deterministic=True)
    fewer = Hook(lambda tokens: tokens[:, :5], blocks=(2,))
    assert model(images(), hooks=[fewer, *EVERY]).shape == (3, 5, 32)
    looped = nnx.view(make(scan=True), deterministic=True)
    got = looped(images(), hooks=[fewer, *EVERY])
    np.testing.assert_allclose(got, model(images(), hooks=[fewer, *EVERY]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="changes their number must name one block"):
        looped(images(), hooks=[Hook(lambda tokens: tokens[:, :5])])


@pytest.mark.parametrize("scan", [False, True])
def test_hooks_do_not_see_the_padding_of_odd_lengths(monkeypatch, scan):
    seen = []

    def noted(tokens):
        seen.append(tokens.shape[1])
        return subtract(tokens)

    model = nnx.view(make(image_size=(48, 16), scan=scan), deterministic=True)
    tokens = model.embed_patches(jax.random.normal(jax.random.key(7), (3, 48, 16, 3)))
    run = jax.jit(lambda tokens: model.run_blocks(tokens, hooks=[Hook(noted)]))
    expected = run(tokens)

    def even(x, attention):  # as cuDNN's kernels need it on a GPU
        return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0)))

    monkeypatch.setattr(stack, "pad_tokens", even)
    got = jax.jit(lambda tokens: model.run_blocks(tokens, hooks=[Hook(noted)]))(tokens)
    assert set(seen) == {5} and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
