"""ViT: grids, side information, position tables, gradients, drop path, recomputation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import build, feature_dim, vit
from g2ajax.interop.state_dict import load_state_dict, public_shapes, to_state_dict
from g2ajax.nn import patches

SIZE = (64, 32)


def small(**options):
    options = {"image_size": SIZE, "stride": 12, **options}
    return build("vit_test", rngs=nnx.Rngs(params=0), **options)


def images(batch=4, size=SIZE):
    return jax.random.normal(jax.random.key(7), (batch, *size, 3))


def evaluation(model):
    return nnx.view(model, deterministic=True)


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        ((256, 128), 16, (16, 8)),
        ((256, 128), 12, (21, 10)),
        ((256, 128), 11, (22, 11)),
        ((384, 128), 12, (31, 10)),
        ((70, 45), (16, 12), (4, 3)),
    ],
)
def test_grids(size, stride, expected):
    assert patches.grid_size(size, 16, stride) == expected


@pytest.mark.parametrize("stride", [16, 12])
def test_patches_are_a_convolution_that_drops_the_remainder(stride):
    size = (70, 45)
    model = small(image_size=size, stride=stride)
    x = images(2, size)
    kernel = np.asarray(model.patch_embed.proj.kernel[...])
    bias = jax.random.normal(jax.random.key(3), (32,))
    model.patch_embed.proj.bias[...] = bias
    rows, columns = model.grid
    expected = [
        np.einsum("bhwc,hwcd->bd", x[:, r : r + 16, c : c + 16], kernel) + bias[None]
        for r in range(0, rows * stride, stride)
        for c in range(0, columns * stride, stride)
    ]
    np.testing.assert_allclose(model.patch_embed(x), np.stack(expected, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "total"),
    [("vit_tiny", 5717416), ("vit_small", 22050664), ("vit_base", 86567656)],
)
def test_published_parameter_counts(name, total):
    """timm's totals at 224 pixels and 1000 classes, without the classifier."""
    model = nnx.eval_shape(lambda: build(name, image_size=(224, 224), rngs=nnx.Rngs(params=0)))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))
    assert count == total - (feature_dim(name) + 1) * 1000


def test_the_old_small_variant():
    model = nnx.eval_shape(
        lambda: build("vit_small_transreid", image_size=SIZE, rngs=nnx.Rngs(params=0))
    )
    names = public_shapes(model)
    assert names["blocks.7.mlp.fc1.weight"] == (2304, 768)
    assert "blocks.0.attn.qkv.bias" not in names
    assert model.blocks[0].attn.scale == 768**-0.5


def test_tokens_and_class_token():
    model = evaluation(small())
    tokens = model(images())
    assert tokens.shape == (4, 1 + 5 * 2, 32)
    np.testing.assert_array_equal(vit.class_token(tokens), tokens[:, 0])
    np.testing.assert_array_equal(tokens, model(images()))


def test_blocks_can_be_run_in_parts():
    model = evaluation(small())
    tokens = model.embed_patches(images())
    parts = model.run_blocks(model.run_blocks(tokens, stop=-1), start=-1)
    np.testing.assert_array_equal(parts, model.run_blocks(tokens))


def test_every_parameter_gets_a_gradient():
    model = small(cameras=2, views=2)
    ids = jnp.array([0, 1, 0, 1], jnp.int32), jnp.array([0, 0, 1, 1], jnp.int32)
    weight = jax.random.normal(jax.random.key(1), (4, 11, 32))

    @nnx.jit
    def gradients(model, rngs):
        def loss(model, rngs):
            return jnp.sum(weight * model(images(), camera=ids[0], view=ids[1], rngs=rngs))

        return nnx.grad(loss)(model, rngs)

    for path, value in nnx.to_flat_state(gradients(model, nnx.Rngs(dropout=0))):
        got = np.abs(value[...])
        assert got.max() > 0, path
        if path == ("sie_embed",):
            assert (got.max((1, 2)) > 0).all()


def test_recomputation_changes_nothing():
    @nnx.jit
    def step(model, rngs):
        def loss(model, rngs):
            return jnp.sum(jnp.square(model(images(), rngs=rngs)))

        return nnx.value_and_grad(loss)(model, rngs)

    loss, grads = step(small(drop_path=0.5), nnx.Rngs(dropout=0))
    loss2, grads2 = step(small(drop_path=0.5, remat=True), nnx.Rngs(dropout=0))
    np.testing.assert_allclose(loss, loss2, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(grads2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max() + 1e-7)


def test_recomputation_of_the_class_token_alone():
    plain, saving = (evaluation(small(remat=remat)) for remat in (False, True))
    expected = plain(images(), only_first=1)
    np.testing.assert_allclose(saving(images(), only_first=1), expected, rtol=1e-6, atol=1e-6)


def test_drop_path_grows_linearly_and_advances_its_random_numbers():
    model = build("vit_test", image_size=SIZE, drop_path=0.4, rngs=nnx.Rngs(params=0))
    assert [block.drop_path.rate for block in model.blocks] == [0.0, 0.4]
    rngs = nnx.Rngs(dropout=0)
    x = images(16)
    assert not np.allclose(model(x, rngs=rngs), model(x, rngs=rngs))
    with pytest.raises(ValueError, match="needs random numbers"):
        model(x)


def test_side_information_goes_to_every_token():
    model = evaluation(small(cameras=3, views=2, sie_coefficient=2.0))
    camera, view = jnp.array([0, 2, 1, 2], jnp.int32), jnp.array([1, 0, 1, 1], jnp.int32)
    got = model.embed_patches(images(), camera=camera, view=view)
    plain = evaluation(small())
    load_state_dict(plain, to_state_dict(model), ignore=["sie_embed"])
    table = np.asarray(model.sie_embed[...])[[1, 4, 3, 5]]
    expected = plain.embed_patches(images()) + 2.0 * table
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert public_shapes(small(views=2))["sie_embed"] == (2, 1, 32)
    assert public_shapes(small(cameras=3))["sie_embed"] == (3, 1, 32)


def test_side_information_errors():
    for options, match in (
        ({"cameras": 1}, "cameras=1: side information needs at least two cameras"),
        ({"views": 1}, "views=1: side information needs at least two views"),
        ({"cameras": -1}, "cameras=-1"),
    ):
        with pytest.raises(ValueError, match=match):
            small(**options)
    ids = np.array([0, 3, 0, 3], np.int32)
    with pytest.raises(ValueError, match=r"camera ids \[3\] are outside 0\.\.1"):
        small(cameras=2).embed_patches(images(), camera=ids)
    with pytest.raises(ValueError, match="needs the camera of every image"):
        small(cameras=2).embed_patches(images())
    with pytest.raises(ValueError, match="built with cameras=0"):
        small().embed_patches(images(), camera=ids)


def test_out_of_range_ids_under_jit_give_nan_and_never_a_neighbour():
    model = small(cameras=2, views=2)
    graph, state = nnx.split(model)

    @jax.jit
    def embed(state, camera, view):
        return nnx.merge(graph, state).embed_patches(images(), camera=camera, view=view)

    out = embed(state, jnp.array([0, 2, -1, 1]), jnp.array([0, 0, 1, 2]))
    np.testing.assert_array_equal(np.isnan(out).any((1, 2)), [False, True, True, True])


def test_another_image_size_is_refused():
    with pytest.raises(ValueError, match=r"images of 32x32 pixels; .* built for 64x32"):
        small()(images(size=(32, 32)))
    with pytest.raises(ValueError, match="smaller than a patch"):
        small(image_size=(64, 8))


def test_position_table_by_hand():
    table = np.arange(5, dtype=np.float32).reshape(5, 1)  # class token 0, grid [[1, 2], [3, 4]]
    got = patches.resize_pos_embed(table, (2, 4))
    expected = [0, 1, 1.25, 1.75, 2, 3, 3.25, 3.75, 4]
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(patches.resize_pos_embed(table, (2, 2)), table)
    # Shrinking does not antialias: the mean of the two middle values only.
    wide = np.array([0, 1, 10, 20, 100], np.float32).reshape(1, 5, 1)
    np.testing.assert_allclose(
        patches.resize_pos_embed(wide, (1, 1), old_grid=(1, 4))[0, :, 0], [0, 15]
    )
    with_view = patches.resize_pos_embed(table, (2, 2), extra_tokens=1)
    np.testing.assert_allclose(with_view[:, 0], [0, 1, 1, 2, 3, 4])


def test_position_table_that_is_no_grid():
    with pytest.raises(ValueError, match=r"198 places .* not a grid of 14x14"):
        patches.resize_pos_embed(np.zeros((1, 199, 4), np.float32), (16, 8))


def test_resizing_while_loading():
    source, target = small(stride=16), small(stride=12)
    tensors = to_state_dict(source)
    with pytest.raises(ValueError, match=r"pos_embed: \(1, 9, 32\) in the file"):
        load_state_dict(target, tensors)

    def resize(table):
        return np.asarray(patches.resize_pos_embed(table, target.grid, old_grid=source.grid))

    load_state_dict(target, tensors, transform={"pos_embed": resize})
    np.testing.assert_array_equal(target.pos_embed[...], resize(tensors["pos_embed"]))


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = evaluation(nnx.eval_shape(lambda: small(dtype=jnp.bfloat16, cameras=2)))
    graph, state = nnx.split(model)

    def forward(state, x, camera):
        tokens = nnx.merge(graph, state)(x, camera=camera)
        return tokens, vit.class_token(tokens)

    tokens, feature = jax.eval_shape(
        forward,
        state,
        jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.int32),
    )
    assert (tokens.dtype, feature.dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def test_unknown_name():
    with pytest.raises(ValueError, match="did you mean 'vit_base'"):
        build("vit_bas", image_size=SIZE, rngs=nnx.Rngs(params=0))
