"""Special tokens by name, and hooks around and inside the blocks of a ViT and of CLIP's image tower."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import build, clip, clip_blocks, stack, vit
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
    "options",
    [
        pytest.param({"scan": True}, marks=pytest.mark.slow),
        pytest.param({"remat": True}, marks=pytest.mark.slow),
        {"scan": True, "remat": True},
    ],
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


class Inside(nnx.Module):
    """Parameters of hooks inside blocks: branches, tokens to attend to, another MLP."""

    def __init__(self, dim):
        keys = jax.random.split(jax.random.key(5), 4)
        self.side, self.below, self.other = (
            nnx.Param(0.1 * jax.random.normal(key, (dim, dim))) for key in keys[:3]
        )
        self.prompts = nnx.Param(jax.random.normal(keys[3], (2, dim)))

    def context(self, tokens):
        return jnp.tile(self.prompts[...], (tokens.shape[0], 1, 1))

    def hooks(self, replaced=(2,), **options):
        return (
            Hook(lambda x: jnp.tanh(x @ self.side[...]), "beside_attention", **options),
            Hook(lambda x: jnp.tanh(x @ self.below[...]), "beside_mlp", **options),
            Hook(self.context, "context", **options),
            Hook(lambda x: jnp.sin(x @ self.other[...]), "mlp", blocks=replaced),
        )


def make_clip(**options):
    variant = dataclasses.replace(clip.VARIANTS["clip_test"], vision_layers=3)
    options = {"image_size": (48, 16), **options}
    return clip.ImageTower(variant, rngs=nnx.Rngs(params=0), **options)


def by_hand(block, x, inside, replaced):
    """One block with the hooks, written down; without them when `inside` is None."""
    clip_block = isinstance(block, clip_blocks.Block)
    norm1, norm2 = (block.ln_1, block.ln_2) if clip_block else (block.norm1, block.norm2)
    if inside is None:
        x = x + block.attn(norm1(x))
        return x + block.mlp(norm2(x))
    y = jnp.concatenate([norm1(x), inside.context(x)], axis=1)
    x = x + block.attn(y)[:, : x.shape[1]] + jnp.tanh(x @ inside.side[...])
    y = norm2(x)
    y = jnp.sin(y @ inside.other[...]) if replaced else block.mlp(y)
    return x + y + jnp.tanh(x @ inside.below[...])


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_hooks_inside_blocks_by_hand(kind):
    if kind == "vit":
        model = nnx.view(make(image_size=(48, 16)), deterministic=True)
        blocks, inside = model.blocks, Inside(32)
    else:
        model = make_clip()
        blocks, inside = model.transformer.resblocks, Inside(64)
    image = jax.random.normal(jax.random.key(7), (3, 48, 16, 3))

    @nnx.jit
    def compute(model, blocks, inside):
        hooks = inside.hooks(blocks=(1, 2))
        x = tokens = model.embed_patches(image)
        for i, block in enumerate(blocks):
            x = by_hand(block, x, inside if i in (1, 2) else None, i == 2)
        got = [model.run_blocks(tokens, hooks=hooks)]
        part = model.run_blocks(tokens, stop=2, hooks=hooks)
        got.append(model.run_blocks(part, start=2, only_first=1, hooks=hooks))
        return x, got

    x, (got, first) = compute(model, blocks, inside)
    np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first, x[:, :1], rtol=1e-4, atol=1e-5)


@functools.cache
def step_inside(kind, **options):
    """Loss and gradients of a network and of the parameters that its hooks read."""
    if kind == "vit":
        model, inside = make(drop_path=0.4, **options), Inside(32)
    else:
        model, inside = make_clip(image_size=SIZE, **options), Inside(64)

    @nnx.jit
    def call(model, inside, rngs):
        def loss(model, inside, rngs):
            tokens = model.embed_patches(images(8))
            draws = {"rngs": rngs} if kind == "vit" else {}
            hooks = inside.hooks(replaced=(1,))
            tokens = model.run_blocks(tokens, only_first=1, hooks=hooks, **draws)
            return jnp.mean(jnp.square(tokens - 1.0))

        return nnx.value_and_grad(loss, argnums=(0, 1))(model, inside, rngs)

    return call(model, inside, nnx.Rngs(dropout=0))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("vit", {"scan": True, "remat": True}),
        pytest.param("vit", {"remat": True}, marks=pytest.mark.slow),
        pytest.param("clip", {"remat": True}, marks=pytest.mark.slow),
    ],
)
def test_loops_and_recomputation_change_nothing_inside(kind, options):
    (loss, grads), (loss2, grads2) = step_inside(kind), step_inside(kind, **options)
    np.testing.assert_allclose(loss, loss2, rtol=1e-5)
    for (path, a), b in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(grads2), strict=True):
        np.testing.assert_allclose(
            a, b, atol=1e-4 * np.abs(a).max() + 1e-6, rtol=0, err_msg=str(path)
        )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads[1]))


def test_two_mlps_in_one_block_are_refused():
    other = Hook(lambda x: x, "mlp")
    with pytest.raises(ValueError, match="2 hooks replace the MLP of one block; expected one"):
        make().run_blocks(jnp.zeros((1, 10, 32)), hooks=[other, other], rngs=nnx.Rngs(0))


def test_the_three_features_of_an_image_tower():
    model = make_clip()
    image = jax.random.normal(jax.random.key(7), (3, 48, 16, 3))
    side = jax.random.normal(jax.random.key(8), (3, 64))

    @nnx.jit
    def compute(model):
        tokens = model.embed_patches(image)
        x, depths = tokens, [tokens]
        for block in model.transformer.resblocks:
            depths.append(x := block(x))
        return model.features(image), depths, model(image), model.embed_patches(image, side=side)

    features, depths, whole, other = compute(model)
    np.testing.assert_allclose(features.entering, depths[-2][:, 0], rtol=1e-4, atol=1e-5)
    normed = model.ln_post(depths[-1][:, 0])
    np.testing.assert_allclose(features.normed, normed, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.projected, whole[:, 0], rtol=1e-4, atol=1e-5)
    # Side information changes the class token, which the norm sees afterwards, and nothing else.
    np.testing.assert_allclose(other[:, 1:], depths[0][:, 1:], rtol=1e-4, atol=1e-5)
    token = model.class_embedding[...] + model.positional_embedding[0]
    np.testing.assert_allclose(other[:, 0], model.ln_pre(token[None] + side), rtol=1e-4, atol=1e-5)
