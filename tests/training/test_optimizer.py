import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from g2ajax.training.optimizer import (
    OptimizerOptions,
    amsgrad,
    build_optimizer,
    clip_by_norm,
    group_of,
    label_groups,
)
from g2ajax.training.schedules import ScheduleOptions

CONSTANT = ScheduleOptions("constant")


class Model(nnx.Module):
    def __init__(self, rngs):
        self.backbone = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)
        self.head_of_names = nnx.Linear(4, 2, use_bias=False, rngs=rngs)


@pytest.fixture
def params():
    return nnx.state(Model(nnx.Rngs(0)), nnx.Param)


def flat(state):
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def ones(params):
    return jax.tree.map(jnp.ones_like, params)


def first_update(options, params, grads=None, schedule=CONSTANT):
    optimizer = build_optimizer(options, schedule, params, steps_per_epoch=2, epochs=2)
    grads = ones(params) if grads is None else grads
    updates, _ = optimizer.transform.update(grads, optimizer.transform.init(params), params)
    return flat(updates)


def groups(params, **options):
    labels, found = label_groups(params, OptimizerOptions(**options))
    names = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(labels)}
    return names, found


# Groups -------------------------------------------------------------------------------------------


def test_one_group_if_nothing_differs(params):
    names, found = groups(params, weight_decay=5e-4)
    assert {group.name for group in found} == {"weight_x1_wd0.0005"}
    assert len(names) == 7


def test_bias_factor_and_the_decays_of_norms_and_biases(params):
    names, found = groups(
        params, weight_decay=0.1, weight_decay_norm=0.02, weight_decay_bias=0.003, bias_factor=2.0
    )
    assert names == {
        "backbone.kernel": "weight_x1_wd0.1",
        "backbone.bias": "bias_x2_wd0.003",
        "norm.scale": "weight_x1_wd0.02",
        "norm.bias": "bias_x2_wd0.02",
        "head.kernel": "weight_x1_wd0.1",
        "head.bias": "bias_x2_wd0.003",
        "head_of_names.kernel": "weight_x1_wd0.1",
    }
    assert len(found) == 4


def test_factors_go_by_whole_module_names_and_the_last_counts(params):
    names, _ = groups(
        params, weight_decay=0.0, factors=(("head", 10.0), ("backbone", 0.5), ("backbone", 0.1))
    )
    assert names["head.kernel"] == "weight_x10_wd0"
    assert names["head_of_names.kernel"] == "weight_x1_wd0"
    assert names["backbone.kernel"] == "weight_x0.1_wd0"
    assert names["norm.scale"] == "weight_x1_wd0"


def test_a_factor_of_a_bias_multiplies():
    options = OptimizerOptions(bias_factor=2.0, factors=(("a.b", 5.0),))
    assert group_of(("a", "b", "bias"), {"bias", "kernel"}, options).factor == 10.0
    assert group_of(("a", "bias"), {"bias", "kernel"}, options).factor == 2.0
    # A list of modules has integer names.
    options = OptimizerOptions(factors=(("blocks.0", 0.0),))
    assert group_of(("blocks", 0, "kernel"), {"kernel"}, options).factor == 0.0


def test_rules_go_by_any_part_of_a_name_and_the_last_counts(params):
    rules = (("head", 5.0), ("bias", 2.0), ("of_names", 7.0))
    names, _ = groups(params, weight_decay=0.1, weight_decay_bias=0.0, rules=rules)
    assert names == {
        "backbone.kernel": "weight_x1_wd0.1",
        "backbone.bias": "bias_x2_wd0",
        "norm.scale": "weight_x1_wd0.1",
        "norm.bias": "bias_x2_wd0",
        "head.kernel": "weight_x5_wd0.1",
        "head.bias": "bias_x2_wd0",
        "head_of_names.kernel": "weight_x7_wd0.1",
    }


def test_updates_have_the_rate_and_decay_of_their_group(params):
    options = OptimizerOptions(
        "sgd", 0.1, momentum=0.0, weight_decay=0.5, weight_decay_norm=0.0, weight_decay_bias=0.0,
        bias_factor=2.0, factors=(("head", 10.0),),
    )  # fmt: skip
    updates, values = first_update(options, params), flat(params)

    def expect(name, rate, decay):
        np.testing.assert_allclose(updates[name], -rate * (1 + decay * values[name]), rtol=1e-6)

    expect("backbone.kernel", 0.1, 0.5)
    expect("backbone.bias", 0.2, 0.0)
    expect("norm.scale", 0.1, 0.0)
    expect("norm.bias", 0.2, 0.0)
    expect("head.kernel", 1.0, 0.5)
    expect("head.bias", 2.0, 0.0)
    expect("head_of_names.kernel", 0.1, 0.5)


# Update rules, against PyTorch's formulas ---------------------------------------------------------


def steps_of(options, grads, value=2.0, schedule=CONSTANT):
    params = nnx.State({"kernel": nnx.Param(jnp.array([value]))})
    optimizer = build_optimizer(options, schedule, params, steps_per_epoch=len(grads), epochs=1)
    state = optimizer.transform.init(params)
    trace = []
    for grad in grads:
        grad = jax.tree.map(lambda p, g=grad: jnp.full_like(p, g), params)
        updates, state = optimizer.transform.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        trace.append(float(flat(params)["kernel"][0]))
    return trace


def test_sgd_with_momentum_and_coupled_decay_by_hand():
    options = OptimizerOptions("sgd", 0.1, momentum=0.5, weight_decay=0.1)
    # g = 1 + 0.1 * 2 = 1.2; p = 2 - 0.12 = 1.88. Then 0.6 + 1 + 0.188 = 1.788; p = 1.7012.
    np.testing.assert_allclose(steps_of(options, [1.0, 1.0]), [1.88, 1.7012], rtol=1e-6)


def adam_by_hand(grads, *, rate, decay, decoupled=False, largest=False, value=2.0):
    m = v = top = 0.0
    trace = []
    for t, grad in enumerate(grads, start=1):
        if decoupled:
            value *= 1 - rate * decay
        else:
            grad = grad + decay * value
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        top = max(top, v)
        second = top if largest else v
        root = np.sqrt(second) / np.sqrt(1 - 0.999**t) + 1e-8
        value -= rate * m / (1 - 0.9**t) / root
        trace.append(value)
    return trace


# After a large gradient small ones, so that the second moment sinks.
GRADS = [3.0, 0.1, -0.2, 0.05, 0.1]


@pytest.mark.parametrize(
    ("name", "more"),
    [("adam", {}), ("adamw", {"decoupled": True}), ("amsgrad", {"largest": True})],
)
def test_adam_and_its_kin_by_hand(name, more):
    options = OptimizerOptions(name, 0.1, weight_decay=0.05)
    expected = adam_by_hand(GRADS, rate=0.1, decay=0.05, **more)
    np.testing.assert_allclose(steps_of(options, GRADS), expected, rtol=1e-5)


def test_amsgrad_is_not_optaxs():
    ours, theirs = amsgrad(0.9, 0.999, 1e-8), optax.scale_by_amsgrad(0.9, 0.999, 1e-8)
    value = jnp.zeros(1)
    one, other = ours.init(value), theirs.init(value)
    differ = []
    for grad in GRADS:
        update, one = ours.update(jnp.array([grad]), one)
        optaxs, other = theirs.update(jnp.array([grad]), other)
        differ.append(float(abs(update - optaxs)[0]))
    assert differ[0] < 1e-6
    assert differ[-1] > 0.01


# Clipping -----------------------------------------------------------------------------------------


def test_clipping_by_hand():
    transform = clip_by_norm(1.0)
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    clipped, _ = transform.update(grads, transform.init(grads))
    np.testing.assert_allclose([clipped["a"][0], clipped["b"][0]], [0.6, 0.8], rtol=1e-6)
    small = {"a": jnp.array([0.3]), "b": jnp.array([0.4])}
    kept, _ = transform.update(small, transform.init(small))
    np.testing.assert_array_equal(kept["a"], small["a"])
    zero, _ = transform.update({"a": jnp.zeros(2)}, transform.init(grads))
    np.testing.assert_array_equal(zero["a"], 0.0)


def test_each_tensor_by_its_own_norm():
    transform = clip_by_norm(1.0, each=True)
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.5])}
    clipped, _ = transform.update(grads, transform.init(grads))
    np.testing.assert_allclose(clipped["a"], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(clipped["b"], grads["b"])
    params = nnx.State({"one": nnx.Param(jnp.zeros(2)), "two": nnx.Param(jnp.zeros(1))})
    grads = nnx.State({"one": nnx.Param(grads["a"]), "two": nnx.Param(grads["b"])})
    options = OptimizerOptions(
        "sgd", 1.0, momentum=0.0, weight_decay=0.0, clip_norm=1.0, clip_by="tensor"
    )
    update = first_update(options, params, grads)
    np.testing.assert_allclose(update["one"], [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(update["two"], -0.5, rtol=1e-6)


def test_each_group_by_its_own_norm_or_all_by_one():
    params = nnx.State(
        {"kernel": nnx.Param(jnp.zeros(1)), "bias": nnx.Param(jnp.zeros(1))},
    )
    grads = nnx.State({"kernel": nnx.Param(jnp.array([3.0])), "bias": nnx.Param(jnp.array([4.0]))})
    common = {"momentum": 0.0, "weight_decay": 0.0, "bias_factor": 2.0, "clip_norm": 1.0}
    together = first_update(OptimizerOptions("sgd", 1.0, clip_by="global", **common), params, grads)
    np.testing.assert_allclose(together["kernel"], -0.6, rtol=1e-6)
    np.testing.assert_allclose(together["bias"], -1.6, rtol=1e-6)
    apart = first_update(OptimizerOptions("sgd", 1.0, clip_by="group", **common), params, grads)
    np.testing.assert_allclose(apart["kernel"], -1.0, rtol=1e-6)
    np.testing.assert_allclose(apart["bias"], -2.0, rtol=1e-6)


def test_no_clipping_by_default(params):
    grads = jax.tree.map(lambda p: jnp.full_like(p, 1e6), params)
    options = OptimizerOptions("sgd", 1.0, momentum=0.0, weight_decay=0.0)
    for update in first_update(options, params, grads).values():
        np.testing.assert_array_equal(update, -1e6)


# The run ------------------------------------------------------------------------------------------


def test_frozen_parameters_have_no_state(params):
    head = nnx.State({"head": params["head"]})
    optimizer = build_optimizer(
        OptimizerOptions("adam"), CONSTANT, head, steps_per_epoch=2, epochs=1
    )
    state = optimizer.transform.init(head)
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim)
    # First and second moments of a kernel [4, 2] and a bias [2]; nothing else.
    assert shapes == [(2,), (2,), (4, 2), (4, 2)]


def test_learning_rates_of_the_log(params):
    schedule = ScheduleOptions("epoch_multistep", milestones=(2,), first_epoch=1)
    options = OptimizerOptions("sgd", 0.1, weight_decay=0.0, bias_factor=2.0)
    optimizer = build_optimizer(options, schedule, params, steps_per_epoch=2, epochs=2)
    assert optimizer.learning_rates(0) == pytest.approx(
        {"lr/bias_x2_wd0": 0.2, "lr/weight_x1_wd0": 0.1}
    )
    assert optimizer.learning_rates(3) == pytest.approx(
        {"lr/bias_x2_wd0": 0.02, "lr/weight_x1_wd0": 0.01}
    )


def test_steps_use_the_rates_of_the_log():
    schedule = ScheduleOptions("cosine", warmup_steps=2)
    options = OptimizerOptions("sgd", 0.1, momentum=0.0, weight_decay=0.0)
    values = steps_of(options, [1.0] * 6, schedule=schedule)
    params = nnx.State({"kernel": nnx.Param(jnp.zeros(1))})
    optimizer = build_optimizer(options, schedule, params, steps_per_epoch=6, epochs=1)
    logged = [optimizer.learning_rates(step)["lr/weight_x1_wd0"] for step in range(6)]
    np.testing.assert_allclose(-np.diff([2.0, *values]), logged, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "amsgrad", "adamw"])
def test_the_same_inside_jit(params, name):
    options = OptimizerOptions(name, 0.1, bias_factor=2.0, clip_norm=0.5, clip_by="group")
    transform = build_optimizer(options, CONSTANT, params, steps_per_epoch=2, epochs=1).transform

    def step(params, state):
        updates, state = transform.update(ones(params), state, params)
        return optax.apply_updates(params, updates), state

    plain, jitted = (params, transform.init(params)), (params, jax.jit(transform.init)(params))
    fast = jax.jit(step)
    for _ in range(2):
        plain, jitted = step(*plain), fast(*jitted)
    assert jax.tree.structure(plain) == jax.tree.structure(jitted)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(jitted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_shapes_suffice_to_build_it(params):
    shapes = jax.eval_shape(lambda: params)
    options = OptimizerOptions("adam", bias_factor=2.0)
    built = build_optimizer(options, CONSTANT, shapes, steps_per_epoch=2, epochs=1)
    real = build_optimizer(options, CONSTANT, params, steps_per_epoch=2, epochs=1)
    assert built.tables.keys() == real.tables.keys()
    one, other = (jax.eval_shape(o.transform.init, shapes) for o in (built, real))
    assert jax.tree.structure(one) == jax.tree.structure(other)
