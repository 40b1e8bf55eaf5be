"""ResNet: shapes, options, gradients, recomputation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import build, feature_dim, resnet
from g2ajax.interop.state_dict import load_state_dict, public_shapes, to_state_dict

EVERY_OPTION = {"with_ibn": True, "with_se": True, "with_nl": True, "last_stride": 1}


def tiny(**options):
    return build("resnet_tiny", image_size=(64, 32), rngs=nnx.Rngs(params=0), **options)


def images(height=64, width=32, batch=4):
    return jax.random.normal(jax.random.key(7), (batch, height, width, 3))


def abstract_shape(model, height, width):
    """The output shape alone, without computing anything."""
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    graph, state = nnx.split(model)
    return jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, image).shape


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({}, (256, 128), (16, 8)),
        ({"last_stride": 2}, (256, 128), (8, 4)),
        ({}, (384, 128), (24, 8)),
        ({"pool": "fastreid"}, (66, 34), (4, 2)),
        ({"pool": "fastreid"}, (65, 33), (4, 2)),
        ({"pool": "torchvision"}, (65, 33), (5, 3)),
        ({"pool": "transreid"}, (65, 33), (4, 2)),
    ],
)
def test_output_sizes(options, size, expected):
    model = nnx.eval_shape(lambda: tiny(**options))
    assert abstract_shape(model, *size) == (2, *expected, 256)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_published_parameter_counts(name):
    """Without the classifier: torchvision's totals minus (features + 1) x 1000."""
    total = {"resnet18": 11689512, "resnet34": 21797672}
    total |= {"resnet50": 25557032, "resnet101": 44549160}
    model = nnx.eval_shape(lambda: build(name, image_size=(256, 128), rngs=nnx.Rngs(params=0)))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == total[name] - (feature_dim(name) + 1) * 1000
    assert model.feature_dim == feature_dim(name)


def test_non_local_blocks_follow_the_last_blocks_of_a_stage():
    model = nnx.eval_shape(
        lambda: build("resnet50", image_size=(64, 32), with_nl=True, rngs=nnx.Rngs(params=0))
    )
    names = public_shapes(model)
    assert names["NL_2.1.theta.weight"] == (1, 512, 1, 1)
    assert names["NL_3.2.W.0.weight"] == (1024, 1, 1, 1)
    assert not any(name.startswith(("NL_1", "NL_4", "NL_2.2", "NL_3.3")) for name in names)


def test_a_new_non_local_block_is_an_identity():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 8))
    np.testing.assert_array_equal(resnet.NonLocal(8, rngs=nnx.Rngs(params=0))(x), x)


def test_ibn_is_in_layers_one_to_three_only():
    names = public_shapes(nnx.eval_shape(lambda: tiny(with_ibn=True)))
    ibn = {name.split(".")[0] for name in names if ".IN." in name}
    assert ibn == {"layer1", "layer2", "layer3"}


def test_stem_relu_is_an_option():
    model = tiny(stem_relu=False)
    assert model.stem(images()).min() < 0
    assert tiny().stem(images()).min() >= 0


def test_every_parameter_gets_a_gradient():
    model = tiny(**EVERY_OPTION)
    # The last norm of a non-local block starts at zero, which hides what is before it.
    for stage in (model.NL_2, model.NL_3):
        stage[0].W[1].scale[...] = jnp.ones_like(stage[0].W[1].scale[...])
    weight = jax.random.normal(jax.random.key(1), (4, 4, 2, 256))

    @nnx.jit
    def gradients(model, x):
        return nnx.grad(lambda model: jnp.sum(weight * model(x)))(model)

    for path, value in nnx.to_flat_state(gradients(model, images())):
        largest = np.abs(value[...]).max()
        if path[-3:] == ("W", 0, "bias"):  # a bias before a batch norm does nothing
            continue
        assert largest > 1e-6, path


def test_evaluation_is_deterministic_and_per_image():
    model = nnx.view(tiny(**EVERY_OPTION), use_running_average=True)
    x = images()
    forward = nnx.jit(lambda model, x: model(x))
    together = forward(model, x)
    np.testing.assert_array_equal(together, forward(model, x))
    alone = forward(model, x[:1])
    np.testing.assert_allclose(alone, together[:1], atol=1e-4 * np.abs(together).max())


@pytest.mark.slow
def test_recomputation_changes_nothing():
    x = images()

    @nnx.jit
    def step(model):
        loss, grads = nnx.value_and_grad(lambda model: jnp.sum(jnp.square(model(x))))(model)
        return loss, grads

    plain, saving = tiny(), tiny(remat=True)
    (loss, grads), (loss2, grads2) = step(plain), step(saving)
    np.testing.assert_allclose(loss, loss2, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(grads2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max() + 1e-7)
    before = to_state_dict(tiny())["layer1.0.bn1.running_mean"]
    moved = to_state_dict(saving)["layer1.0.bn1.running_mean"]
    assert not np.allclose(before, moved)
    np.testing.assert_allclose(moved, to_state_dict(plain)["layer1.0.bn1.running_mean"], rtol=1e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = nnx.eval_shape(lambda: tiny(dtype=jnp.bfloat16, **EVERY_OPTION))
    graph, state = nnx.split(model)
    image = jax.ShapeDtypeStruct((2, 64, 32, 3), jnp.float32)
    out = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, image)
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def test_weights_round_trip_through_public_names():
    model, other = tiny(**EVERY_OPTION), tiny(**EVERY_OPTION)
    other.conv1.kernel[...] = other.conv1.kernel[...] * 2
    load_state_dict(other, to_state_dict(model))
    for a, b in zip(
        jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pool": "caffe"}, "max-pool 'caffe': expected one of fastreid"),
        ({"block": "dense"}, "expected 'basic' or 'bottleneck'"),
        ({"non_local": (0, 2, 0, 0)}, "asks for more blocks than"),
        ({"depths": (1, 1)}, "expected four stages"),
    ],
)
def test_errors(options, match):
    with pytest.raises(ValueError, match=match):
        resnet.ResNet(**{"depths": (1, 1, 1, 1), **options}, rngs=nnx.Rngs(params=0))


def test_unknown_names_and_places():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build("resnet55", image_size=(64, 32), rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="resnet18 has no places for non-local blocks"):
        build("resnet18", image_size=(64, 32), with_nl=True, rngs=nnx.Rngs(params=0))
