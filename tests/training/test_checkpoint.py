import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from g2ajax.training import checkpoint


class Net(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(3, width, rngs=rngs)])
        self.norm = nnx.BatchNorm(width, rngs=rngs)


def params(width=4, seed=0):
    return nnx.state(Net(width, rngs=nnx.Rngs(seed)), nnx.Param)


def test_flat_names_are_the_module_paths_and_round_trip():
    state = params()
    flat = checkpoint.flat_state(state)
    assert set(flat) == {"layers.0.kernel", "layers.0.bias", "norm.scale", "norm.bias"}
    doubled = checkpoint.with_values(state, {name: 2 * x for name, x in flat.items()})
    np.testing.assert_array_equal(
        doubled["layers"][0]["kernel"][...], 2 * state["layers"][0]["kernel"][...]
    )


def test_another_model_is_refused_with_every_name():
    flat = checkpoint.flat_state(params(width=5))
    flat["extra"] = flat.pop("norm.bias")
    with pytest.raises(ValueError, match=r"(?s)missing: norm.bias.*unexpected: extra.*\(3, 5\)"):
        checkpoint.with_values(params(), flat)


def test_latest_is_replaced_and_best_stays(tmp_path):
    store = checkpoint.Checkpoints(tmp_path)
    flat = checkpoint.flat_state(params())
    store.save("latest", 1, {"params": flat, "ema": {}}, {"step": 1})
    store.save("best", 1, {"params": flat}, {"step": 1})
    later = {name: x + 1 for name, x in flat.items()}
    store.save("latest", 2, {"params": later, "ema": {}}, {"step": 2})
    store.wait()
    assert store.steps() == {"latest": 2, "best": 1}
    assert store.meta("latest") == {"step": 2}
    read = store.restore("latest", {"params": flat, "ema": {}})
    assert read["ema"] == {}
    np.testing.assert_array_equal(read["params"]["norm.scale"], later["norm.scale"])
    np.testing.assert_array_equal(
        store.restore("best", {"params": flat})["params"]["norm.scale"], flat["norm.scale"]
    )
    store.close()


def test_absent_and_foreign_checkpoints_are_named(tmp_path):
    store = checkpoint.Checkpoints(tmp_path)
    flat = checkpoint.flat_state(params())
    assert store.meta("best") is None
    with pytest.raises(ValueError, match="has no checkpoint of kind 'best'"):
        store.restore("best", {"params": flat})
    store.save("best", 1, {"params": flat}, {})
    store.wait()
    with pytest.raises(ValueError, match="is of another model or configuration"):
        store.restore("best", {"params": checkpoint.flat_state(params(width=7))})
    store.close()


def test_optimizer_state_round_trips():
    tree = {"a": (jnp.ones(2), jnp.zeros(3)), "b": jnp.arange(4)}
    numbered = checkpoint.numbered(tree)
    back = checkpoint.from_numbered(jax.tree.map(jnp.zeros_like, tree), numbered)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), tree, back))
