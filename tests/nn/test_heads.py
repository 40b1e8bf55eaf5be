"""Necks and classifiers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.interop.state_dict import public_shapes
from g2ajax.nn.heads import CLASSIFIERS, BNNeck, EmbeddingHead, margin_logits, unit

COSINE = jnp.array([[0.5, -0.2, 0.1]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Linear", [5.0, -2.0, 1.0]),
        ("CosSoftmax", [3.0, -2.0, 1.0]),
        ("ArcSoftmax", [10 * np.cos(np.arccos(0.5) + 0.2), -2.0, 1.0]),
        ("ArcFace", [10 * np.cos(np.arccos(0.5) + 0.2), -2.0, 1.0]),
        # true: 10 * (1.2 - 0.5) * (0.5 - 0.8); others 10 * (c + 0.2) * (c - 0.2)
        ("CircleSoftmax", [-2.1, 0.0, 10 * 0.3 * -0.1]),
    ],
)
def test_margins_by_hand(kind, expected):
    got = margin_logits(kind, COSINE, jnp.array([0]), 10, 0.2)
    np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_without_a_label_there_is_no_margin(kind):
    got = margin_logits(kind, COSINE, jnp.array([-1]), 10, 0.2)
    other = margin_logits(kind, COSINE, jnp.array([2]), 10, 0.2)
    np.testing.assert_array_equal(got[0, :2], other[0, :2])


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_margin_gradients_are_finite_at_the_ends(kind):
    gradient = jax.grad(lambda c: jnp.sum(margin_logits(kind, c, jnp.array([0, 0]), 30, 0.5)))(
        jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    )
    assert np.isfinite(gradient).all()


def test_arcface_adds_the_margin_to_the_angle_of_the_true_class():
    angles = jnp.asarray([[0.3, 1.0], [1.2, 2.0]])
    logits = margin_logits("ArcFace", jnp.cos(angles), jnp.asarray([0, 1]), 10.0, 0.5)
    expected = 10 * np.cos([[0.8, 1.0], [1.2, 2.5]])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    unknown = margin_logits("ArcFace", jnp.cos(angles), jnp.asarray([-1, -1]), 10.0, 0.5)
    np.testing.assert_allclose(unknown, 10 * jnp.cos(angles))


def test_arcface_keeps_falling_where_the_plain_margin_rises_again():
    cosine = jnp.cos(jnp.linspace(0.01, math.pi - 0.01, 200))[:, None]
    label = jnp.zeros(200, jnp.int32)
    assert (jnp.diff(margin_logits("ArcFace", cosine, label, 30.0, 0.5)[:, 0]) < 0).all()
    assert (jnp.diff(margin_logits("ArcSoftmax", cosine, label, 30.0, 0.5)[:, 0]) > 0).any()


def test_unit_of_a_zero_row():
    np.testing.assert_allclose(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros((2, 3)))).all()


def test_head_names_and_features():
    head = EmbeddingHead(
        8,
        5,
        embedding_dim=4,
        pool="GeneralizedMeanPoolingP",
        classifier="CircleSoftmax",
        neck_feature="after",
        rngs=nnx.Rngs(params=0),
    )
    assert public_shapes(head) == {
        "bottleneck.0.weight": (4, 8, 1, 1),
        **{f"bottleneck.1.{n}": (4,) for n in ("weight", "bias", "running_mean", "running_var")},
        "pool_layer.p": (1,),
        "weight": (5, 4),
    }
    x = jax.random.uniform(jax.random.key(0), (6, 3, 2, 8))
    out = head(x, jnp.arange(6) % 5)
    assert {name: value.shape for name, value in out.items()} == {
        "cls_outputs": (6, 5),
        "pred_class_logits": (6, 5),
        "features": (6, 4),
        "after": (6, 4),
    }
    np.testing.assert_array_equal(out["features"], out["after"])
    evaluated = nnx.view(head, use_running_average=True)
    assert evaluated.embed(x).shape == (6, 4)


def test_before_is_the_pooled_feature_and_embed_the_one_after_the_neck():
    head = EmbeddingHead(8, 5, neck_feature="before", rngs=nnx.Rngs(params=0))
    x = jax.random.uniform(jax.random.key(0), (6, 3, 2, 8), jnp.bfloat16)
    out = head(x, jnp.zeros(6, jnp.int32))
    np.testing.assert_allclose(out["features"], x.astype(jnp.float32).mean((1, 2)), rtol=1e-6)
    assert out["features"].dtype == head.embed(x).dtype == jnp.float32
    assert not np.allclose(head.embed(x), out["features"])


def test_head_errors():
    for options, match in (
        ({"classifier": "Softmax"}, "classifier 'Softmax' is unknown"),
        ({"neck_feature": "both"}, "expected 'before' or 'after'"),
        ({"pool": "Mean"}, "pooling 'Mean' is unknown"),
    ):
        with pytest.raises(ValueError, match=match):
            EmbeddingHead(8, 5, rngs=nnx.Rngs(params=0), **options)


@pytest.mark.parametrize("with_norm", [True, False])
def test_neck_names(with_norm):
    neck = BNNeck(8, 5, with_norm=with_norm, rngs=nnx.Rngs(params=0))
    names = set(public_shapes(neck))
    if with_norm:
        assert names == {
            "classifier.weight",
            *(f"bottleneck.{n}" for n in ("weight", "bias", "running_mean", "running_var")),
        }
        assert set(nnx.to_pure_dict(nnx.state(neck, nnx.Param))["bottleneck"]) == {"scale"}
    else:
        assert names == {"classifier.weight", "classifier.bias"}


def test_neck_normalises_and_classifies():
    neck = BNNeck(8, 5, rngs=nnx.Rngs(params=0))
    x = 3.0 + jax.random.normal(jax.random.key(0), (16, 8))
    after, logits = neck(x)
    np.testing.assert_allclose(after.mean(0), np.zeros(8), atol=1e-5)
    expected = np.asarray(after) @ np.asarray(neck.classifier.kernel[...])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


def test_every_parameter_of_the_head_gets_a_gradient():
    head = EmbeddingHead(
        8,
        5,
        embedding_dim=4,
        pool="GeneralizedMeanPoolingP",
        classifier="ArcSoftmax",
        scale=30,
        margin=0.5,
        rngs=nnx.Rngs(params=0),
    )
    x = jax.random.uniform(jax.random.key(0), (6, 3, 2, 8))
    label = jnp.arange(6) % 5

    def loss(head):
        logits = jax.nn.log_softmax(head(x, label)["cls_outputs"])
        return -jnp.take_along_axis(logits, label[:, None], 1).mean()

    for path, value in nnx.to_flat_state(nnx.grad(loss)(head)):
        assert np.abs(value[...]).max() > 0, path
