"""OSNet: shapes, published sizes, names, gates, gradients, recomputation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.backbones import build, feature_dim, osnet
from g2ajax.interop.state_dict import load_state_dict, public_shapes, to_state_dict
from g2ajax.nn.heads import FC


def tiny(**options):
    return build("osnet_test", image_size=(64, 32), rngs=nnx.Rngs(params=0), **options)


@functools.cache
def abstract(name, **options):
    return nnx.eval_shape(
        lambda: build(name, image_size=(256, 128), rngs=nnx.Rngs(params=0), **options)
    )


def parameters(module):
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def images(batch=4):
    return jax.random.normal(jax.random.key(7), (batch, 64, 32, 3))


def abstract_output(model, height, width):
    """The output's shape and dtype alone, without computing anything."""
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    graph, state = nnx.split(model)
    return jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, image)


@pytest.mark.parametrize(("size", "expected"), [((256, 128), (16, 8)), ((73, 41), (4, 2))])
def test_output_sizes(size, expected):
    assert abstract_output(abstract("osnet_test"), *size).shape == (2, *expected, 32)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("osnet_x1_0", 2193616),
        ("osnet_x0_75", 1299224),
        ("osnet_x0_5", 636520),
        ("osnet_x0_25", 203568),
        ("osnet_ibn_x1_0", 2194640),
        ("osnet_ain_x1_0", 2193616),
    ],
)
def test_published_parameter_counts(name, published):
    """torchreid counts the network with `fc`, and the gate once for each of its four streams."""
    model = abstract(name)
    head = nnx.eval_shape(lambda: FC(model.feature_dim, rngs=nnx.Rngs(params=0)))
    blocks = [block for stage in (model.conv2, model.conv3, model.conv4) for block in stage[:2]]
    shared = sum(parameters(block.gate) for block in blocks)
    assert parameters(model) + parameters(head) + 3 * shared == published
    assert model.feature_dim == feature_dim(name) == public_shapes(model)["conv5.conv.weight"][0]


def test_public_names():
    names = public_shapes(abstract("osnet_x0_25"))
    assert names["conv1.conv.weight"] == (16, 3, 7, 7)
    assert names["conv2.0.conv2a.conv2.weight"] == (16, 1, 3, 3)
    assert names["conv3.1.conv2d.3.bn.running_var"] == (24,)
    assert names["conv4.0.gate.fc1.weight"] == (2, 32, 1, 1)
    assert names["conv2.2.0.conv.weight"] == (64, 64, 1, 1)
    assert not any(".IN." in name or name.startswith(("pool", "conv4.2")) for name in names)
    head = nnx.eval_shape(lambda: FC(128, rngs=nnx.Rngs(params=0)))
    assert public_shapes(head)["0.weight"] == (512, 128)
    assert public_shapes(head)["1.running_mean"] == (512,)


def test_ibn_and_ain_have_instance_norms_in_their_places():
    ibn = public_shapes(abstract("osnet_ibn_x1_0"))
    found = {name.removesuffix(".IN.weight") for name in ibn if name.endswith(".IN.weight")}
    assert found == {"conv2.0", "conv2.1"}
    ain = public_shapes(abstract("osnet_ain_x0_25"))
    found = {name.removesuffix(".IN.weight") for name in ain if name.endswith(".IN.weight")}
    assert found == {"conv2.0", "conv2.1", "conv3.1", "conv4.0"}
    # There the instance norm takes the place of the last batch norm.
    assert all(
        (f"{b}.conv3.bn.weight" in ain) == (b in {"conv3.0", "conv4.1"})
        for b in ("conv2.0", "conv2.1", "conv3.0", "conv3.1", "conv4.0", "conv4.1")
    )
    assert "conv3.0.conv2.3.layers.3.conv1.weight" in ain
    assert "pool2.0.conv.weight" in ain
    parts = {part for parts in osnet.OSNet.parts for part in parts}
    for names in (ibn, ain):
        assert "conv1.bn.running_mean" not in names
        assert {name.split(".")[0] for name in names} <= parts


def test_gate_weighs_each_stream_by_the_same_network():
    gate = osnet.ChannelGate(2, 1, rngs=nnx.Rngs(params=0))
    gate.fc1.kernel[...] = jnp.eye(2)[None, None]
    gate.fc2.kernel[...] = jnp.eye(2)[None, None]
    first = jnp.array([[[[1.0, -4.0]], [[3.0, 0.0]]]])  # means 2 and -2: ReLU makes 2 and 0
    second = jnp.array([[[[0.0, 2.0]], [[0.0, 0.0]]]])  # means 0 and 1
    two, one = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-1.0))
    expected = [[[[two, -2.0 + 2.0 * one]], [[3.0 * two, 0.0]]]]
    np.testing.assert_allclose(gate([first, second]), expected, rtol=1e-6)


def test_average_pool_leaves_out_an_odd_last_row():
    x = jnp.array([[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]])[None, :, :, None]
    np.testing.assert_array_equal(osnet.average_pool(x), [[[[3.0]]]])


def test_fc_is_a_linear_map_a_norm_and_relu():
    head = nnx.view(FC(2, 2, rngs=nnx.Rngs(params=0)), use_running_average=True)
    load_state_dict(
        head,
        {
            "0.weight": np.array([[1, 0], [1, 1]], "f4"),
            "0.bias": np.array([0, 1], "f4"),
            "1.weight": np.array([2, -1], "f4"),
            "1.bias": np.array([1, 0], "f4"),
            "1.running_mean": np.array([1, 0], "f4"),
            "1.running_var": np.array([1, 1], "f4") - np.float32(1e-5),
        },
    )
    np.testing.assert_allclose(head(jnp.array([[3.0, 4.0]])), [[5.0, 0.0]], rtol=1e-6)


def step(model, forward, x):
    """Loss, gradients and the state dict after one pass in training mode."""
    weight = jax.random.normal(jax.random.key(1), jax.eval_shape(forward, model, x).shape)
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, x):
        model = nnx.merge(graph, state)
        loss, grads = nnx.value_and_grad(lambda model: jnp.sum(weight * forward(model, x)))(model)
        return loss, grads, nnx.state(model)

    loss, grads, state = run(state, x)
    return loss, grads, to_state_dict(nnx.merge(graph, state))


@pytest.mark.slow
def test_every_parameter_gets_a_gradient():
    _, grads, _ = step(tiny(instance_norm="ain"), lambda model, x: model(x), images())
    for path, value in nnx.to_flat_state(grads):
        assert np.abs(value[...]).max() > 1e-6, path


@pytest.mark.slow
def test_recomputation_changes_nothing():
    x = jax.random.normal(jax.random.key(2), (4, 8, 4, 8))
    results = [
        step(tiny(depths=(1, 1, 1), remat=remat), lambda model, x: model.stage(1, x), x)
        for remat in (False, True)
    ]
    (loss, grads, after), (loss2, grads2, after2) = results
    np.testing.assert_allclose(loss, loss2, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(grads2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max() + 1e-6)
    name = "conv2.0.conv2b.1.bn.running_mean"
    assert np.abs(after2[name]).max() > 1e-3
    np.testing.assert_allclose(after[name], after2[name], rtol=1e-4, atol=1e-6)


def test_evaluation_is_deterministic_per_image_and_the_sum_of_its_stages():
    model = nnx.view(tiny(instance_norm="ibn"), use_running_average=True)
    x = images()

    @nnx.jit
    def forward(model, x):
        y = model.stem(x)
        for number in (1, 2, 3, 4):
            y = model.stage(number, y)
        return model(x), y

    together, staged = forward(model, x)
    np.testing.assert_array_equal(together, staged)
    np.testing.assert_array_equal(together, forward(model, x)[0])
    alone = forward(model, x[:1])[0]
    np.testing.assert_allclose(alone, together[:1], atol=1e-4 * np.abs(together).max())


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = abstract("osnet_test", dtype=jnp.bfloat16, instance_norm="ibn", depths=(1, 1, 1))
    assert abstract_output(model, 64, 32).dtype == jnp.bfloat16
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))}
    assert dtypes == {jnp.dtype("float32")}


@pytest.mark.parametrize("kind", ["none", "ain"])
def test_weights_round_trip_through_public_names(kind):
    model, other = tiny(instance_norm=kind), tiny(instance_norm=kind)
    other.conv1.conv.kernel[...] = other.conv1.conv.kernel[...] * 2
    load_state_dict(other, to_state_dict(model))
    for a, b in zip(
        jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(other)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pool": "caffe"}, "max-pool 'caffe': expected one of fastreid"),
        ({"instance_norm": "gn"}, "instance norm 'gn': expected one of none, ibn, ain"),
        ({"instance_norm": "ain", "depths": (1, 1, 1)}, r"is defined for \(2, 2, 2\) only"),
        ({"widths": (8, 16)}, "expected four and three numbers"),
    ],
)
def test_errors(options, match):
    with pytest.raises(ValueError, match=match):
        osnet.OSNet(**{"widths": (8, 16, 24, 32), **options}, rngs=nnx.Rngs(params=0))


def test_unknown_names_and_small_images():
    with pytest.raises(ValueError, match="did you mean 'osnet_x0_75'"):
        build("osnet_x0_70", image_size=(64, 32), rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="OSNet 'osnet' is unknown; expected one of osnet_x1_0"):
        osnet.build("osnet", rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="norm 'ain' of a block: expected one of none, after_sum"):
        osnet.OSBlock(8, 8, instance_norm="ain", rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="map of 2x1: the image is too small"):
        abstract_output(abstract("osnet_test"), 16, 8)
