import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.methods.visa import first_node, nearest
from g2ajax.recipes import view_aware
from tests.methods.learning import (
    FACTS,
    check_embedding,
    check_learning,
    make_batch,
    train,
    untrained,
)


def make(**changes):
    config = {
        "name": "visa",
        "backbone": {"name": "vit_test", "drop_path": 0.0},
        **{"experts": 3, "active": 2, "queries": 2, "neighbours": 3},
        **changes,
    }
    return methods.build(config, FACTS, rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def trained():
    model = make(balance_weight=0.1, experts=2)
    return train(model, make_batch())[0], model


def test_every_parameter_is_trained_but_the_weights_of_a_single_key(trained):
    steps, model = trained
    loss, terms, gradient = steps[0]
    names = ("identity", "triplet", "view", "orthogonal", "local_identity", "local_triplet")
    total = sum(terms[name] for name in names) + 0.1 * terms["balance"]
    np.testing.assert_allclose(loss, total, rtol=1e-6)
    assert 2 <= terms["balance"] <= 4  # 1 for each group if all experts are as probable, else more
    for path in untrained(gradient):
        assert "cross_attn" in path and {"q_proj", "k_proj"} & set(path), path
    check_learning(steps, ("identity", "local_identity", "view"))
    check_embedding(model, 64)


def test_the_first_node_of_a_graph():
    rng = np.random.default_rng(0)
    queries, patches = rng.normal(size=(2, 4)), rng.normal(size=(3, 4))
    got = first_node(*(jnp.asarray(x[None], jnp.float32) for x in (queries, patches)))[0]
    for query, row in zip(queries, got, strict=True):
        nodes = np.concatenate([query[None], patches])
        unit = nodes / np.linalg.norm(nodes, axis=1, keepdims=True)
        edges = np.maximum(unit @ unit.T, 0) + np.eye(4)
        scale = np.diag(edges.sum(1) ** -0.5)
        np.testing.assert_allclose(row, (scale @ edges @ scale @ nodes)[0], atol=1e-5)


def test_nearest_by_cosine():
    patches = jnp.asarray([[[10.0, 10.0], [0.0, 1.0], [-1.0, 0.0]]])
    got = nearest(jnp.asarray([[[0.0, 3.0], [-1.0, -0.5]]]), patches, 2)
    np.testing.assert_array_equal(got, [[[1, 0], [2, 1]]])


def test_the_weighted_sum_of_the_active_experts():
    feature = jax.random.normal(jax.random.key(0), (4, 32))

    @nnx.jit
    def both(group):
        each = [expert(feature[:, None]) for expert in group.experts]
        return group(feature, jnp.float32).queries, group.gate(feature), jnp.stack(each, axis=1)

    got, logits, each = map(np.asarray, both(make().invariant_experts))
    for image in range(4):
        best = np.argsort(-logits[image])[:2]
        weight = np.exp(logits[image, best]) / np.exp(logits[image, best]).sum()
        expected = np.tensordot(weight, each[image, best], 1)
        np.testing.assert_allclose(got[image], expected, atol=1e-5)


@nnx.jit
def local(model, patches):
    """The local feature of two images, and whether patches get a gradient from it."""
    whole, view = jnp.sin(jnp.arange(128.0)).reshape(2, 2, 32)

    def feature(patches):
        value = model.local(whole, view, patches)[0]
        return jnp.sum(value**3), value

    gradient, value = jax.grad(feature, has_aux=True)(patches)
    return value, jnp.any(gradient != 0)


def test_the_graph():
    patches = jax.random.normal(jax.random.key(0), (2, 4, 32))
    # The same of both ways to choose patches, if all are chosen.
    small = {"experts": 1, "active": 1, "neighbours": 4}
    image, learns = local(make(**small), patches)
    query, also = local(make(**small, nearest_to="query", graph_gradient=True), patches)
    np.testing.assert_allclose(image, query, atol=1e-4)
    # Gradients go through it only if asked.
    assert also and not learns


def test_too_many_experts_or_neighbours_are_refused():
    with pytest.raises(ValueError, match=r"method\.active = 4: a group has 3 experts"):
        make(active=4)
    with pytest.raises(ValueError, match="neighbours = 5: images of 32x32 have 4 patches"):
        make(neighbours=5)


def test_recipe():
    for dataset, stride, active, images in (("cargo", 12, 2, 4), ("lagper", (12, 10), 3, 8)):
        config = view_aware.visa(dataset)
        assert (config.method.backbone.stride, config.method.active) == (stride, active)
        assert config.sampler.images == images and config.sampler.identities * images == 128
