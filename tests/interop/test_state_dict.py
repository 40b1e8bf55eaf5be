"""The strict loader: layouts, names, and everything it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from g2ajax.interop.state_dict import (
    guess_family,
    load_state_dict,
    public_shapes,
    to_state_dict,
)
from g2ajax.nn.norm import BatchNorm


class Model(nnx.Module):
    """One layer of every kind."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 3, (5, 4), rngs=rngs)
        self.fc = nnx.List([nnx.Linear(3, 7, rngs=rngs), jax.nn.relu, BatchNorm(7)])
        self.norm = nnx.LayerNorm(7, rngs=rngs)
        self.table = nnx.Embed(4, 7, rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, 7)))
        self.neck = BatchNorm(7, train_bias=False)
        self.drop = nnx.Dropout(0.1, rngs=rngs)


SHAPES = {
    "conv.weight": (3, 2, 5, 4),
    "conv.bias": (3,),
    "fc.0.weight": (7, 3),
    "fc.0.bias": (7,),
    **{f"fc.2.{n}": (7,) for n in ("weight", "bias", "running_mean", "running_var")},
    "norm.weight": (7,),
    "norm.bias": (7,),
    "table.weight": (4, 7),
    "cls_token": (1, 1, 7),
    **{f"neck.{n}": (7,) for n in ("weight", "bias", "running_mean", "running_var")},
}


@pytest.fixture
def model():
    return Model(nnx.Rngs(params=0, dropout=1))


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def test_public_names_and_shapes(model):
    assert public_shapes(model) == SHAPES


def test_layouts(model, tensors):
    report = load_state_dict(model, tensors)
    np.testing.assert_array_equal(
        model.conv.kernel[...], tensors["conv.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(model.fc[0].kernel[...], tensors["fc.0.weight"].T)
    np.testing.assert_array_equal(model.fc[2].var[...], tensors["fc.2.running_var"])
    np.testing.assert_array_equal(model.norm.scale[...], tensors["norm.weight"])
    np.testing.assert_array_equal(model.table.embedding[...], tensors["table.weight"])
    np.testing.assert_array_equal(model.neck.bias[...], tensors["neck.bias"])
    assert sorted(report.loaded) == sorted(SHAPES)
    assert report.ok


def test_round_trip(model, tensors):
    load_state_dict(model, tensors)
    back = to_state_dict(model)
    assert set(back) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_an_abstract_module_becomes_concrete(tensors):
    module = nnx.eval_shape(lambda: Model(nnx.Rngs(params=0, dropout=1)))
    load_state_dict(module, tensors)
    np.testing.assert_array_equal(to_state_dict(module)["fc.0.weight"], tensors["fc.0.weight"])


def test_all_that_is_wrong_is_named_at_once_and_nothing_is_changed(model, tensors):
    before = to_state_dict(model)
    del tensors["norm.bias"], tensors["fc.0.weight"]
    tensors["extra.weight"] = np.zeros(3, np.float32)
    tensors["conv.bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError) as caught:
        load_state_dict(model, tensors)
    message = str(caught.value)
    for part in (
        "does not fit this Model",
        "Missing in the file: fc.0.weight, norm.bias.",
        "Unexpected in the file: extra.weight.",
        "conv.bias: (4,) in the file, expected (3,).",
    ):
        assert part in message
    for name, value in to_state_dict(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_exceptions_are_named(model, tensors):
    del tensors["fc.0.weight"]
    kept = np.asarray(model.fc[0].kernel[...])
    tensors |= {"head.weight": np.zeros((2, 2)), "fc.2.num_batches_tracked": np.int64(7)}
    report = load_state_dict(
        model, tensors, ignore=[r"^head\."], allow_missing=[r"^fc\.0\.weight$"]
    )
    np.testing.assert_array_equal(model.fc[0].kernel[...], kept)
    assert report.names("kept") == ["fc.0.weight"]
    assert report.names("ignored") == ["head.weight", "fc.2.num_batches_tracked"]


def test_renaming(model, tensors):
    wrapped = {f"module.base.{name}": value for name, value in tensors.items()}
    report = load_state_dict(model, wrapped, rename=[(r"^module\.", ""), (r"^base\.", "")])
    assert report.ok
    twice = wrapped | {"base.cls_token": tensors["cls_token"]}
    with pytest.raises(ValueError, match=r"give both .* the name 'cls_token'"):
        load_state_dict(model, twice, rename=[(r"^(module\.)?base\.", "")])


def test_transform_runs_before_shapes_are_compared(model, tensors):
    tensors["cls_token"] = np.arange(7, dtype=np.float32)
    load_state_dict(model, tensors, transform={"cls_token": lambda x: x.reshape(1, 1, 7)})
    np.testing.assert_array_equal(model.cls_token[...][0, 0], np.arange(7))


def test_values_are_cast_copied_and_keep_their_sharding(model, tensors):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharding = NamedSharding(mesh, P("data"))
    model.table.embedding.set_value(jax.device_put(model.table.embedding[...], sharding))
    tensors["norm.weight"] = tensors["norm.weight"].astype(np.float16)
    load_state_dict(model, tensors)
    assert model.norm.scale[...].dtype == jnp.float32
    assert model.table.embedding[...].sharding.is_equivalent_to(sharding, 2)
    expected = tensors["norm.bias"].copy()
    tensors["norm.bias"][:] = 0
    np.testing.assert_array_equal(model.norm.bias[...], expected)


def test_the_table_lists_every_tensor(model, tensors):
    report = load_state_dict(model, tensors)
    table = report.table()
    assert all(name in table for name in SHAPES)
    assert "3x2x5x4" in table
    assert table.endswith(f"{len(SHAPES)} loaded")


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["layer1.0.conv1.weight", "bn1.running_mean", "fc.weight"], "torchvision/timm ResNet"),
        (["layer1.0.bn1.IN.weight"], "torchvision/timm ResNet with IBN (IBN-Net)"),
        (["blocks.0.attn.qkv.weight", "patch_embed.proj.weight"], "timm ViT"),
        (["base.blocks.0.attn.qkv.weight", "base.sie_embed"], "TransReID"),
        (["base.layer1.0.conv1.weight"], "reid-strong-baseline"),
        (["backbone.conv1.weight", "heads.weight"], "fast-reid"),
        (["backbone.conv1.weight", "heads.bnneck.weight"], "fast-reid, model zoo v0.1.1"),
        (["conv2.0.conv2a.conv1.weight"], "OSNet (torchreid)"),
        (["something.else"], None),
    ],
)
def test_families(names, family):
    assert guess_family(names) == family


def test_the_error_says_whose_file_it_is(model):
    with pytest.raises(ValueError, match="looks like a reid-strong-baseline checkpoint"):
        load_state_dict(model, {"base.layer1.0.conv1.weight": np.zeros((1, 1, 1, 1))})


def test_a_kernel_of_unknown_layout_is_refused():
    layer = nnx.LinearGeneral((2, 3), 4, axis=(-2, -1), rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match="no public layout is known for the kernel"):
        to_state_dict(layer)
