import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.losses.oim import OimTables, oim_loss, update_tables, zero_tables

IDENTITIES, SLOTS, WIDTH, ROWS = 4, 3, 5, 8
PIDS = [0, 1, 2, 3, 4, 6, 5555]
"""Background, every identity, one beyond the table, without identity."""


def unit_rows(rng, count=ROWS):
    x = rng.normal(size=(count, WIDTH))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def tables_of(rng):
    header = jnp.asarray(rng.integers(0, SLOTS), jnp.int32)
    return OimTables(
        jnp.asarray(unit_rows(rng, IDENTITIES)), jnp.asarray(unit_rows(rng, SLOTS)), header
    )


def update_row_by_row(tables, x, pid, mask, momentum=0.5):
    lookup, queue = np.array(tables.lookup), np.array(tables.queue)
    header = int(tables.header)
    for row, label, there in zip(x, pid - 1, mask, strict=True):
        if not there or label < 0:
            continue
        if label < IDENTITIES:
            lookup[label] = momentum * lookup[label] + (1 - momentum) * row
            lookup[label] /= np.linalg.norm(lookup[label])
        else:
            queue[header] = row
            header = (header + 1) % SLOTS
    return lookup, queue, header


@functools.partial(jax.jit, static_argnames=("overflow", "without_target"))
def step(x, pid, tables, mask, overflow="unlabelled", without_target="update"):
    def loss(x):
        value, rows = oim_loss(x, pid, tables, mask, overflow=overflow)
        after = update_tables(
            tables, x, pid, mask, overflow=overflow, without_target=without_target
        )
        return value, (rows, after)

    (value, (rows, after)), gradient = jax.value_and_grad(loss, has_aux=True)(x)
    return value, gradient, rows, after


def on_device(x, pid, mask=None):
    mask = np.ones(len(pid), bool) if mask is None else mask
    return jnp.asarray(x), jnp.asarray(pid, jnp.int32), jnp.asarray(mask)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    pid=st.lists(st.sampled_from(PIDS), min_size=ROWS, max_size=ROWS),
    hidden=st.integers(0, ROWS),
)
def test_updates_as_row_by_row_and_ignores_padding(seed, pid, hidden):
    rng = np.random.default_rng(seed)
    tables, x = tables_of(rng), unit_rows(rng)
    mask = np.arange(ROWS) >= hidden
    x[~mask] = np.nan
    x_, pid_, mask_ = on_device(x, pid, mask)
    value, gradient, rows, after = step(x_, pid_, tables, mask_)
    expected = update_row_by_row(tables, x, np.asarray(pid), mask)
    for got, wanted in zip(after, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    named = mask & np.isin(pid, [1, 2, 3, 4])
    np.testing.assert_array_equal(rows.target, named)
    both = np.concatenate([tables.lookup, tables.queue])
    logits = 30.0 * x[named] @ both.T
    log_sum = np.log(np.exp(logits - logits.max(1, keepdims=True, initial=0)).sum(1))
    of_true = logits[np.arange(len(logits)), np.asarray(pid)[named] - 1]
    rows = log_sum + logits.max(1, initial=0) - of_true
    np.testing.assert_allclose(value, rows.mean() if named.any() else 0.0, atol=1e-4)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~named].any()


def test_repeated_identities_update_one_after_the_other():
    x = np.eye(WIDTH, dtype=np.float32)[:2]
    tables = update_tables(zero_tables(2, 1, WIDTH), jnp.asarray(x), jnp.asarray([2, 2], jnp.int32))
    np.testing.assert_allclose(tables.lookup[1, :2], [np.sqrt(0.5)] * 2, rtol=1e-6)
    assert not np.asarray(tables.lookup[0]).any() and tables.header == 0


def test_more_rows_than_slots_leave_the_last_ones():
    x = np.eye(WIDTH, dtype=np.float32)
    tables = zero_tables(1, 3, WIDTH)._replace(header=jnp.asarray(1, jnp.int32))
    after = update_tables(tables, jnp.asarray(x), jnp.full((WIDTH,), 5555, jnp.int32))
    assert after.header == 0
    np.testing.assert_array_equal(after.queue, x[[2, 3, 4]])


def test_a_step_without_identities():
    rng = np.random.default_rng(0)
    tables, x = tables_of(rng), unit_rows(rng)
    pid = [0, 5555, 5555, 0, 0, 0, 0, 0]
    value, gradient, _, after = step(*on_device(x, pid)[:2], tables, jnp.ones(ROWS, bool))
    assert value == 0.0 and not np.asarray(gradient).any()
    assert (np.asarray(after.queue) != np.asarray(tables.queue)).any(1).sum() == 2
    moved = (int(tables.header) + 2) % SLOTS
    assert after.header == moved
    # The slip of the code of head distillation.
    *_, slipped = step(
        *on_device(x, pid)[:2], tables, jnp.ones(ROWS, bool), without_target="advance_header"
    )
    np.testing.assert_array_equal(slipped.queue, tables.queue)
    np.testing.assert_array_equal(slipped.lookup, tables.lookup)
    assert slipped.header == moved


def test_identities_beyond_the_table():
    rng = np.random.default_rng(1)
    tables, x = tables_of(rng), unit_rows(rng)
    pid = [6, 1, 0, 0, 0, 0, 0, 900]
    inputs = (*on_device(x, pid)[:2], tables, jnp.ones(ROWS, bool))
    _, _, rows, after = step(*inputs)
    np.testing.assert_array_equal(rows.target, np.asarray(pid) == 1)
    _, _, column, same = step(*inputs, overflow="queue_column")
    np.testing.assert_array_equal(column.target, np.isin(pid, [1, 6]))
    for a, b in zip(after, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert after.header == (int(tables.header) + 2) % SLOTS


def test_the_rows_shared_out_over_devices_give_the_same_tables():
    rng = np.random.default_rng(2)
    tables, x = tables_of(rng), unit_rows(rng)
    x, pid, mask = on_device(x, [1, 1, 5555, 2, 1, 0, 5555, 5555])
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    one = step(x, pid, tables, mask)
    four = step(*jax.device_put((x, pid), sharding), tables, jax.device_put(mask, sharding))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_no_queue_and_no_rows():
    tables = update_tables(
        zero_tables(2, 0, WIDTH), jnp.zeros((2, WIDTH)), jnp.asarray([5555, 1], jnp.int32)
    )
    assert np.isfinite(tables.lookup).all() and tables.header == 0
    empty = jnp.zeros((0, WIDTH)), jnp.zeros((0,), jnp.int32)
    assert oim_loss(*empty, zero_tables(2, 3, WIDTH))[0] == 0.0
    assert update_tables(zero_tables(2, 3, WIDTH), *empty).header == 0


def test_an_all_zero_table_gives_every_class_the_same_share():
    x, pid, _ = on_device(unit_rows(np.random.default_rng(3)), [1] * ROWS)
    loss, _ = oim_loss(x, pid, zero_tables(IDENTITIES, SLOTS, WIDTH))
    assert float(loss) == pytest.approx(np.log(IDENTITIES + SLOTS), rel=1e-6)
