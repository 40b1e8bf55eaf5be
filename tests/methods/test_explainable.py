"""The explainable stream: what is shared, frozen and learned, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.losses.attribute_distillation import attribute_distances
from g2ajax.nn.attribute_head import activation
from g2ajax.nn.pooling import build_pool, guided
from g2ajax.retrieval.attributes import signed

GROUPS = (("bag", ("backpack", "nothing", "unknown")), ("hat", ("yes", "no")))
TASK = methods.DataFacts(
    num_classes=4,
    image_size=(48, 32),
    num_cameras=2,
    attribute_groups=GROUPS,
    attribute_rates=(0.5, 0.3, 0.2, 0.5, 0.5),
)
BACKBONES = {
    "vit": ({"name": "vit_test"}, "GlobalAvgPool"),
    "resnet": ({"name": "resnet_tiny"}, "GeneralizedMeanPoolingP"),
    "osnet": ({"name": "osnet_test"}, "GlobalAvgPool"),
}
NAMES = ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet", "osnet"))]


def make(name="vit", pool=None, task=TASK, fc_dim=0, **config):
    backbone, usual = BACKBONES[name]
    stream1 = {"name": "strong_baseline", "backbone": backbone, "head": {"pool": pool or usual}}
    stream1["fc_dim"] = fc_dim
    config = {"name": "explainable", "stream1": stream1, **config}
    model = methods.build(config, task, rngs=nnx.Rngs(params=0))
    model.train()
    model.stream1.eval()
    return model


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (8, 48, 32, 3)), jnp.float32),
        "label": jnp.repeat(jnp.arange(4), 2),
        "camera": jnp.tile(jnp.arange(2), 4),
        "platform": jnp.tile(jnp.arange(2), 4),
        "index": jnp.arange(8),
        "mask": jnp.ones(8, bool),
        "attributes": jnp.repeat(jnp.array([[0, 0], [1, 1], [2, 0], [-1, 1]], jnp.int8), 2, axis=0),
    }


def evaluated(model):
    return nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_stream2_and_its_head_only(name):
    model = make(name)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def gradients(params, batch):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            value, metrics = model.explain_loss(batch, nnx.Rngs(jax.random.key(0)))
            return value, (metrics, nnx.state(model, nnx.Not(nnx.Param)))

        return jax.value_and_grad(loss, has_aux=True)(params)

    (value, (metrics, after)), slope = gradients(params, make_batch())
    assert np.isfinite(float(value)) and all(np.isfinite(float(m)) for m in metrics.values())
    slopes = {path: np.abs(g[...]).max() for path, g in nnx.to_flat_state(slope)}
    unused = {path for path, g in slopes.items() if path[0] in ("stream2", "adh") and g == 0}
    assert not unused
    # What the streams share, and the last map of stream 1, are constants of this loss; its head
    # hands gradients on to the attention and is itself kept by the phase's filter.
    below = {path: g for path, g in slopes.items() if path[:2] == ("stream1", "backbone")}
    assert set(below) and all(p[0] == "stream1" for p in below)
    # Statistics of stream 1 stand still, those of stream 2 and of its head move.
    before = dict(nnx.to_flat_state(rest))
    for path, value in nnx.to_flat_state(after):
        if "mean" in path or "var" in path:
            moved = np.any(np.asarray(value[...]) != np.asarray(before[path][...]))
            assert moved == (path[0] in ("stream2", "adh")), path


@pytest.mark.parametrize("name", NAMES)
def test_streams_that_are_alike_see_alike(name):
    """With stream 1's upper stages copied, stream 2 sees stream 1's map from the shared stages."""
    model = evaluated(make(name))
    for path, value in nnx.to_flat_state(nnx.state(model.stream2)):
        twin = nnx.state(model.stream1.backbone)
        for part in path:
            twin = twin[part]
        value[...] = twin[...]
    images = make_batch()["image"]
    from g2ajax.backbones import split as cut

    low, features, embedding = model._stream1(images, None)
    np.testing.assert_allclose(cut.upper(model.stream2, low, model.split), features, atol=1e-5)
    np.testing.assert_allclose(model.embed(images), embedding, atol=1e-4)


@pytest.mark.parametrize("pool", ["GlobalAvgPool", "GeneralizedMeanPooling"])
def test_guided_pooling_is_pooling_of_masked_maps(pool):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(0.01, 2, (2, 3, 4, 5)), jnp.float32)
    a = jnp.asarray(rng.uniform(0.1, 2, (2, 3, 4, 6)), jnp.float32)
    layer = build_pool(pool)
    slow = jnp.stack([layer(x * a[..., [k]]) for k in range(6)], 1)
    np.testing.assert_allclose(guided(layer, x, a), slow, rtol=1e-5)


@pytest.mark.parametrize("p", [1.0, 3.0, 12.0])
def test_guided_pooling_is_finite_where_everything_is_zero(p):
    layer = build_pool("GeneralizedMeanPooling", p=p)
    zeros = jnp.zeros((1, 2, 2, 3))
    value, slope = jax.value_and_grad(lambda a: jnp.sum(guided(layer, zeros, a)))(zeros)
    assert np.isfinite(float(value)) and np.isfinite(slope).all()


def test_no_masked_map_of_every_attribute_is_held():
    """88 attributes of a wide map: temporary memory stays below ONE copy of the M masked maps."""
    rows, places, width, attributes = 8, (16, 8), 512, 88
    x = jax.ShapeDtypeStruct((rows, *places, width), jnp.float32)
    a = jax.ShapeDtypeStruct((rows, *places, attributes), jnp.float32)
    layer = build_pool("GeneralizedMeanPooling")

    def distances(a, x):
        return jnp.sum(attribute_distances(guided(layer, x, a)))

    compiled = jax.jit(jax.value_and_grad(distances)).lower(a, x).compile()
    masked = rows * places[0] * places[1] * width * attributes * 4
    assert compiled.memory_analysis().temp_size_in_bytes < masked / 10


def learn(model, loss_name, batch, steps, rate):
    """Trains stream 2 and its head on one batch; the metrics of every step, and the trained model."""

    def trained(path, value):
        return isinstance(value, nnx.Param) and path[0] in ("stream2", "adh")

    graphdef, own, rest = nnx.split(model, trained, ...)
    optimizer = optax.adam(rate)

    @jax.jit
    def step(own, rest, state, key):
        def loss(own):
            model = nnx.merge(graphdef, own, rest, copy=True)
            value, metrics = getattr(model, loss_name)(batch, nnx.Rngs(key))
            return value, (metrics, nnx.split(model, trained, ...)[2])

        (_, (metrics, rest)), slope = jax.value_and_grad(loss, has_aux=True)(own)
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(own, updates), rest, state, metrics

    state, history = optimizer.init(own), []
    for number in range(steps):
        own, rest, state, metrics = step(own, rest, state, jax.random.key(number))
        history.append({name: float(value) for name, value in metrics.items()})
    return history, nnx.merge(graphdef, own, rest)


def test_learns_to_explain():
    history, _ = learn(make("resnet"), "explain_loss", make_batch(), 120, 3e-3)
    first, last = history[0], history[-1]
    assert last["exclusive_share"] > 1.3 * last["exclusive_share_uniform"]
    assert last["exclusive_share"] > first["exclusive_share"] + 0.05
    assert last["group"] < 0.6 * first["group"]


@pytest.mark.slow
def test_attributes_are_learned_where_they_show():
    """Hats are a bright top, bags a bright bottom: each map is highest in that half."""
    rng = np.random.default_rng(0)
    codes = np.array([[0, 0], [1, 1], [0, 1], [1, 0]] * 8, np.int8)
    images = rng.integers(0, 60, (32, 64, 32, 3)).astype(np.float32)
    images[codes[:, 1] == 0, :16] += 150
    images[codes[:, 0] == 0, 48:] += 150
    batch = {
        "image": jnp.asarray(images),
        "camera": jnp.zeros(32, jnp.int32),
        "mask": jnp.ones(32, bool),
        "attributes": jnp.asarray(codes),
    }
    task = methods.DataFacts(4, (64, 32), 2, GROUPS, (0.5, 0.5, 0.0, 0.5, 0.5))
    history, model = learn(make("resnet", task=task), "attribute_loss", batch, 80, 3e-3)
    losses = [entry["attributes"] for entry in history]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    low, _, _ = evaluated(model)._stream1(batch["image"], batch["camera"])
    maps = np.asarray(evaluated(model).attention_of(low)).mean(2)
    hat, bag = maps[codes[:, 1] == 0, :, 3], maps[codes[:, 0] == 0, :, 0]
    half = maps.shape[1] // 2
    assert (hat.argmax(1) < half).mean() > 0.8
    assert (bag.argmax(1) >= half).mean() > 0.8


def test_padding_teaches_no_attributes():
    """The rows of padding hold a person of their own, and nothing they hold counts."""
    model = make("resnet")
    batch = make_batch() | {"mask": jnp.arange(8) < 5}
    strange = batch | {"attributes": batch["attributes"].at[5:].set(jnp.int8(1))}
    losses = [m.attribute_loss(b, nnx.Rngs(0))[0] for m, b in ((model, batch), (model, strange))]
    assert float(losses[0]) == float(losses[1]) > 0


def test_activation_by_hand():
    x = jnp.array([-1.0, 0.0, 3.0, -1e4, 1e30])
    np.testing.assert_allclose(activation(x), [np.exp(-1), 1, 2, 0, 1e15], rtol=1e-5)
    slope = jax.vmap(jax.grad(activation))(x)
    assert np.isfinite(slope).all() and float(slope[1]) == 0.5


def test_attributes_as_signs():
    found = signed(jnp.array([[1, 0], [-1, 1]], jnp.int8), (3, 2))
    np.testing.assert_array_equal(found, [[-1, 1, -1, 1, -1], [0, 0, 0, -1, 1]])


@pytest.mark.slow
def test_predictor_learns_what_it_is_told():
    model = make("resnet", predictor=True)
    value, metrics = model.explain_loss(make_batch(), nnx.Rngs(0))
    assert "attributes" in metrics and float(value) > 0
    logits = evaluated(model).attribute_logits(make_batch()["image"])
    predicted = model.attributes_of(logits)
    np.testing.assert_array_equal(predicted, np.asarray(logits) > 0.5)
    assert predicted.shape == (8, 5) and predicted.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "Identity"}, "Identity.*a class token has no map"),
        ({"pool": "GeneralizedMeanPooling"}, "of a ViT pools its patch tokens by GlobalAvgPool"),
        ({"fc_dim": 8}, "of a ViT pools its patch tokens by GlobalAvgPool, with the batch norm"),
        ({"name": "resnet", "pool": "GlobalMaxPool"}, "GlobalMaxPool.*expected GlobalAvgPool"),
        ({"split": 9}, "split = 9: expected 0 to 1"),
        ({"task": methods.DataFacts(4, (48, 32))}, "agreid, agreid_v2 and skyground have them"),
        ({"alhpa": 1.0}, "did you mean 'alpha'"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
