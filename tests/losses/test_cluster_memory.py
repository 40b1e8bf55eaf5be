import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.cluster_memory import (
    MemoryOptions,
    cluster_memory,
    dual_memory,
    entered,
    memory_step,
)

step = jax.jit(jax.value_and_grad(cluster_memory, argnums=1, has_aux=True))


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def row_by_row(memory, x, label, momentum=0.1):
    memory, classes = np.array(memory, np.float64), len(memory) // 2
    for row, y in zip(x, label, strict=True):
        memory[y] = unit(momentum * memory[y] + (1 - momentum) * row)
    for y in set(label.tolist()):
        own = x[label == y]
        hard = own[np.argmin(own @ memory[y])]
        memory[y] = unit(momentum * memory[y] + (1 - momentum) * own.mean(0))
        memory[y + classes] = unit(momentum * memory[y + classes] + (1 - momentum) * hard)
    return memory


def test_by_hand():
    memory = dual_memory(jnp.asarray([[2.0, 0.0], [0.0, 3.0]]))
    np.testing.assert_array_equal(memory, [[1, 0], [0, 1], [1, 0], [0, 1]])
    feature = jnp.asarray([[3.0, 4.0]])
    loss, after = cluster_memory(memory, feature, jnp.asarray([1]), temperature=1.0)
    assert loss == pytest.approx(np.log1p(np.exp(0.6 - 0.8)), rel=1e-5)
    once = unit(0.1 * np.asarray([0, 1]) + 0.9 * np.asarray([0.6, 0.8]))
    twice = unit(0.1 * once + 0.9 * np.asarray([0.6, 0.8]))
    np.testing.assert_allclose(after, [[1, 0], twice, [1, 0], once], atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["random", "duplicates", "zeros", "one class"]),
    rows=st.integers(0, 6),
)
def test_updates_as_row_by_row_and_ignores_masked_rows(seed, kind, rows):
    rng = np.random.default_rng(seed)
    memory = dual_memory(jnp.asarray(rng.normal(size=(3, 4)), jnp.float32))
    x, label = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 3, 6)
    if kind == "duplicates":
        x[:] = x[0]
    elif kind == "zeros":
        x[:] = 0
    elif kind == "one class":
        label[:] = 1
    counts = np.zeros(6, bool)
    counts[rng.permutation(6)[:rows]] = True
    x[~counts] = np.nan
    (loss, after), gradient = step(memory, jnp.asarray(x), jnp.asarray(label), jnp.asarray(counts))
    assert np.isfinite(loss) and (rows > 0 or loss == 0)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[~counts].any()
    if kind != "duplicates":  # equal similarities: either row is the hardest
        np.testing.assert_allclose(
            after, row_by_row(memory, unit(x[counts]), label[counts]), atol=1e-5
        )


def test_no_rows_and_half_a_table():
    memory = dual_memory(jnp.eye(2))
    loss, after = cluster_memory(memory, jnp.zeros((0, 2)), jnp.zeros((0,), jnp.int32))
    assert loss == 0
    np.testing.assert_array_equal(after, memory)
    with pytest.raises(ValueError, match="a memory of 3 rows: expected a mean and a hard one"):
        cluster_memory(memory[:3], jnp.zeros((1, 2)), jnp.zeros((1,), jnp.int32))


def test_the_memory_gets_no_gradient():
    memory = dual_memory(jnp.eye(2))
    gradient = jax.grad(
        lambda m: cluster_memory(m, jnp.ones((1, 2)), jnp.zeros((1,), jnp.int32))[0]
    )
    assert not np.any(gradient(memory))


def test_a_class_enters_with_its_first_batch():
    memory = jnp.zeros((6, 2)).at[0].set(jnp.array([0.0, 1.0])).at[3].set(jnp.array([1.0, 0.0]))
    feature = jnp.asarray([[5.0, 0.0], [0.6, 0.8], [0.0, 9.0], [7.0, 7.0]])
    label = jnp.asarray([0, 2, 2, -1])
    # Class 0 is known, class 1 not in the batch, a row without a class is ignored.
    mean = np.asarray([0.6, 1.8]) / np.hypot(0.6, 1.8)
    expected = [[0, 1], [0, 0], mean, [1, 0], [0, 0], mean]
    table = entered(memory, feature, label)
    np.testing.assert_allclose(table, expected, rtol=1e-6)
    options = MemoryOptions(weight=1.0, temperature=0.5, momentum=0.3)
    loss, after = memory_step(memory, feature, label, options)
    x = unit(np.asarray(feature, np.float64))[:3]
    logits = [
        x @ unit(np.asarray(half, np.float64)).T / 0.5 for half in np.split(np.array(expected), 2)
    ]
    losses = [np.log(np.exp(one).sum(1)) - one[np.arange(3), [0, 2, 2]] for one in logits]
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    moved = row_by_row(np.array(expected), x, np.array([0, 2, 2]), 0.3)
    np.testing.assert_allclose(after, moved, rtol=1e-5, atol=1e-6)
