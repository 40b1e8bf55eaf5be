"""CLIP's towers: shapes, causality, sizes, first values, what they refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import clip
from g2ajax.interop.state_dict import public_shapes

SMALL = dataclasses.replace(clip.VARIANTS["clip_test"], vocabulary_size=50, context_length=12)
IDS = jnp.array([[48, 5, 6, 49, 0, 0, 0, 0], [48, 7, 49, 0, 0, 0, 0, 0]])


def build(**options):
    options = {"image_size": (48, 32), **options}
    return clip.CLIP(SMALL, rngs=nnx.Rngs(0), **options)


@pytest.fixture(scope="module")
def model():
    return build()


@jax.jit
def encode(model, images, ids):
    return model.encode_image(images), model.encode_text(ids)


@pytest.fixture(scope="module")
def encoded(model):
    return encode(model, jax.random.normal(jax.random.key(1), (2, 48, 32, 3)), IDS)


def test_all_tokens_of_both_towers(encoded):
    image, text = encoded
    assert image.shape == (2, 1 + 3 * 2, 32) and text.shape == (2, 8, 32)
    assert np.isfinite(image).all() and np.isfinite(text).all()


def test_features_are_the_class_token_and_the_first_largest_id(encoded):
    image, text = encoded
    np.testing.assert_array_equal(clip.image_feature(image), image[:, 0])
    expected = [text[0, 3], text[1, 2]]
    np.testing.assert_array_equal(clip.text_feature(text, IDS), expected)


def test_padding_does_not_reach_the_feature(model, encoded):
    image = jnp.zeros((2, 48, 32, 3))
    other = IDS.at[:, 5:].set(9)
    _, text = encode(model, image, other)
    np.testing.assert_allclose(text[:, :5], encoded[1][:, :5], atol=1e-6)
    short = model.encode_text(IDS[:, :4])
    np.testing.assert_allclose(short, encoded[1][:, :4], atol=1e-5)


def test_remat_changes_no_value(encoded):
    image = jax.random.normal(jax.random.key(1), (2, 48, 32, 3))
    for got, expected in zip(encode(build(remat=True), image, IDS), encoded, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_features():
    shape = jax.ShapeDtypeStruct((2, 48, 32, 3), jnp.float32)
    model = nnx.eval_shape(lambda: build(dtype=jnp.bfloat16))
    assert {x.dtype for x in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    tokens = jax.eval_shape(lambda m, x: m.encode_image(x), model, shape)
    assert tokens.dtype == jnp.bfloat16
    assert jax.eval_shape(clip.image_feature, tokens).dtype == jnp.float32


@pytest.mark.parametrize(("stride", "grid"), [(None, (3, 2)), (8, (5, 3)), ((16, 8), (3, 3))])
def test_stride_and_grid(stride, grid):
    model = nnx.eval_shape(lambda: build(stride=stride))
    assert model.visual.grid == grid
    assert model.visual.positional_embedding.shape == (1 + grid[0] * grid[1], 64)


@pytest.mark.parametrize(("name", "millions"), [("clip_vit_b16", 149.62), ("clip_vit_l14", 427.62)])
def test_public_sizes(name, millions):
    # At 224x224, without OpenAI's one `logit_scale`.
    model = nnx.eval_shape(lambda: clip.build(name, image_size=(224, 224), rngs=nnx.Rngs(0)))
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert round(count / 1e6, 2) == millions
    assert clip.variant_of(public_shapes(model)) == clip.VARIANTS[name]


def test_first_values_of_the_text_tower(model):
    block = model.transformer.resblocks[0]
    for weight, std in (
        (model.token_embedding.embedding, 0.02),
        (block.attn.in_proj_weight, 64**-0.5),
        (block.attn.out_proj.kernel, 64**-0.5 * 4**-0.5),
        (block.mlp.c_fc.kernel, 128**-0.5),
        (model.text_projection, 64**-0.5),
    ):
        assert np.std(weight[...]) == pytest.approx(std, rel=0.05)
    bound = np.abs(model.visual.transformer.resblocks[0].mlp.c_fc.kernel[...]).max()
    assert bound == pytest.approx(1 / 8, rel=0.01)


def test_what_is_refused(model):
    with pytest.raises(ValueError, match=r"images of 32x32 pixels; this tower was built for 48x32"):
        model.encode_image(jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(ValueError, match=r"captions of 13 tokens; this text tower has 12 places"):
        model.encode_text(jnp.zeros((1, 13), jnp.int32))
    with pytest.raises(ValueError, match=r"CLIP 'rn50' is unknown; expected one of clip_vit_b16"):
        clip.build("rn50", image_size=(224, 224), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"visual.conv1.weight is not there"):
        clip.variant_of({"visual.layer1.0.conv1.weight": (64, 64, 1, 1)})
