import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax import methods
from g2ajax.methods.visa import first_node, nearest
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
    model = make(balance_weight=0.1)
    return train(model, make_batch())[0], model


def test_every_parameter_is_trained_but_the_weights_of_a_single_key(trained):
    steps, model = trained
    loss, terms, gradient = steps[0]
    names = ("identity", "triplet", "view", "orthogonal", "local_identity", "local_triplet")
    total = sum(terms[name] for name in names) + 0.1 * terms["balance"]
    np.testing.assert_allclose(loss, total, rtol=1e-6)
    assert 2 <= terms["balance"] <= 6  # 1 for each group if all experts are as probable, else more
    silent = {path for path in untrained(gradient) if "experts" not in path}
    assert not silent
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
    experts = make().invariant_experts
    feature = jax.random.normal(jax.random.key(0), (4, 32))
    got = experts(feature, jnp.float32).queries
    logits = np.asarray(experts.gate(feature))
    for image in range(4):
        best = np.argsort(-logits[image])[:2]
        weight = np.exp(logits[image, best]) / np.exp(logits[image, best]).sum()
        parts = [experts.experts[i](feature[image : image + 1, None])[0] for i in best]
        expected = sum(w * np.asarray(part) for w, part in zip(weight, parts, strict=True))
        np.testing.assert_allclose(got[image], expected, atol=1e-5)


def test_a_graph_of_all_patches_is_the_same_for_both_ways_to_choose_them():
    arrays = jax.random.split(jax.random.key(0), 3)
    whole, view = (jax.random.normal(key, (2, 32)) for key in arrays[:2])
    patches = jax.random.normal(arrays[2], (2, 4, 32))
    image, query = (
        make(neighbours=4, nearest_to=way).local(whole, view, patches)[0]
        for way in ("image", "query")
    )
    np.testing.assert_allclose(image, query, atol=1e-4)


def test_gradients_go_through_the_graph_only_if_asked():
    patches = jax.random.normal(jax.random.key(0), (2, 4, 32))
    feature = jax.random.normal(jax.random.key(1), (2, 32))
    for asked in (False, True):
        model = make(graph_gradient=asked)
        gradient = jax.grad(lambda p, m=model: jnp.sum(m.local(feature, feature, p)[0] ** 2))
        assert np.any(gradient(patches)) == asked


def test_too_many_experts_or_neighbours_are_refused():
    with pytest.raises(ValueError, match=r"method\.active = 4: a group has 3 experts"):
        make(active=4)
    with pytest.raises(ValueError, match="neighbours = 5: images of 32x32 have 4 patches"):
        make(neighbours=5)
