import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.training.schedules import ScheduleOptions, learning_rates

KINDS = (
    "constant",
    "cosine",
    "fastreid_multistep",
    "fastreid_cosine",
    "epoch_multistep",
    "epoch_cosine",
    "irra_cosine",
    "irra_exp",
    "irra_step",
    "detection_multistep",
)


def by_epoch(rates, steps):
    """One rate an epoch; asserts that it does not move inside one."""
    table = rates.reshape(-1, steps)
    assert (table == table[:, :1]).all()
    return table[:, 0]


def test_constant_with_warm_up():
    options = ScheduleOptions("constant", warmup_steps=4, warmup_factor=0.2)
    rates = learning_rates(options, 1.0, 4, 2)
    # From 0.2 in quarters of 0.8; the last warm-up step has the full rate.
    np.testing.assert_allclose(rates, [0.4, 0.6, 0.8, 1, 1, 1, 1, 1])


def test_cosine_with_warm_up_and_floor():
    options = ScheduleOptions("cosine", warmup_steps=2, warmup_factor=0.0, floor=0.1)
    rates = learning_rates(options, 1.0, 3, 2)
    expected = [0.5, 1.0, *(0.1 + 0.45 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    np.testing.assert_allclose(rates, expected)


def test_no_schedule_at_all():
    np.testing.assert_array_equal(learning_rates(ScheduleOptions("constant"), 0.3, 2, 2), 0.3)


FASTREID = ScheduleOptions(
    "fastreid_multistep", warmup_steps=2000, warmup_factor=0.1, milestones=(40, 90)
)


def test_fastreid_warm_up_ends():
    rates = learning_rates(FASTREID, 3.5e-4, 202, 120)
    assert len(rates) == 202 * 120
    np.testing.assert_allclose(rates[0], 3.5e-5)
    np.testing.assert_allclose(rates[1000], 3.5e-4 * 0.55)
    np.testing.assert_allclose(rates[1999], 3.5e-4 * (0.1 / 2000 + 1999 / 2000))
    np.testing.assert_allclose(rates[2000], 3.5e-4)


def test_fastreid_milestones_count_moves_after_the_warm_up():
    # 9 epochs are 1818 iterations, 10 are 2020: the first move is after epoch 10 (of 1), so move
    # 40 is after epoch 49 and move 90 after epoch 99.
    rates = by_epoch(learning_rates(FASTREID, 1.0, 202, 120)[202 * 10 :], 202)
    drops = np.flatnonzero(~np.isclose(rates[1:], rates[:-1])) + 1 + 10
    assert drops.tolist() == [49, 99]
    np.testing.assert_allclose(rates[[0, 38, 39, 88, 89, -1]], [1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(("steps", "warmup"), [(5, 10), (5, 9), (5, 11), (5, 0), (1, 1), (7, 7)])
def test_fastreid_boundaries_that_coincide(steps, warmup):
    """The counter of the reference, moved step by step: it tests after it has advanced."""
    epochs, done, moves, expected = 8, 0, 0, []
    for _ in range(epochs):
        expected.append(moves)
        done += steps
        moves += done >= warmup
    length = epochs - math.ceil(warmup / steps)
    multistep = ScheduleOptions("fastreid_multistep", warmup_steps=warmup, milestones=(1, 3))
    cosine = ScheduleOptions("fastreid_cosine", warmup_steps=warmup, floor=0.25)
    last = slice(steps - 1, None, steps)
    factor = np.minimum(np.arange(epochs * steps) / max(warmup, 1), 1.0) if warmup else 1.0
    factor = np.maximum(factor, 0.01 + 0.99 * factor) if warmup else np.ones(epochs * steps)
    rates = learning_rates(multistep, 1.0, steps, epochs)[last] / factor[last]
    np.testing.assert_allclose(rates, [0.1 ** sum(m >= k for k in (1, 3)) for m in expected])
    rates = learning_rates(cosine, 1.0, steps, epochs)[last] / factor[last]
    share = np.minimum(np.array(expected) / length, 1.0)
    np.testing.assert_allclose(rates, 0.25 + 0.375 * (1 + np.cos(np.pi * share)))


def test_fastreid_delay_holds_the_first_move_back():
    options = ScheduleOptions("fastreid_multistep", milestones=(2,), delay_epochs=3)
    # The epochs 1 to 3 do not move; epochs 4 and 5 do, so the drop is in the sixth.
    rates = by_epoch(learning_rates(options, 1.0, 5, 8), 5)
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 1, 0.1, 0.1, 0.1])


def test_fastreid_cosine_lasts_what_the_warm_up_leaves():
    options = ScheduleOptions(
        "fastreid_cosine", warmup_steps=10, warmup_factor=0.1, floor=0.01, delay_epochs=1
    )
    rates = learning_rates(options, 1.0, 4, 8)
    # 10 steps are 3 epochs (rounded up): 5 epochs of cosine, moving after the epochs 3 to 7.
    late = by_epoch(rates[12:], 4)
    expected = [0.01 + 0.495 * (1 + math.cos(math.pi * k / 5)) for k in range(1, 6)]
    np.testing.assert_allclose(late, expected)
    np.testing.assert_allclose(late[-1], 0.01)
    np.testing.assert_allclose(rates[:10], [0.1 * (1 - i / 10) + i / 10 for i in range(10)])


def test_strong_baseline_by_epochs():
    options = ScheduleOptions(
        "epoch_multistep", warmup_epochs=10, warmup_factor=0.01, milestones=(40, 70)
    )
    rates = by_epoch(learning_rates(options, 3.5e-4, 3, 120), 3) / 3.5e-4
    # The first epoch is number 1.
    np.testing.assert_allclose(rates[0], 0.01 * 0.9 + 0.1)
    np.testing.assert_allclose(rates[8], 0.01 * 0.1 + 0.9)
    np.testing.assert_allclose(rates[[9, 38, 39, 68, 69, 119]], [1, 1, 0.1, 0.1, 0.01, 0.01])


def test_counting_from_zero():
    options = ScheduleOptions("epoch_multistep", milestones=(2,), first_epoch=0)
    np.testing.assert_allclose(learning_rates(options, 1.0, 1, 4), [1, 1, 0.1, 0.1])


def test_transreid_bias_starts_where_the_weights_do():
    base = 0.008
    options = ScheduleOptions(
        "epoch_cosine", warmup_epochs=5, warmup_start=0.01 * base, floor=0.002 * base
    )
    weight = by_epoch(learning_rates(options, base, 2, 120), 2)
    bias = by_epoch(learning_rates(options, 2 * base, 2, 120), 2)
    # Both warm up from 1% of the weights' rate; after one fifth of the way:
    np.testing.assert_allclose(weight[0], 8e-5 + (0.008 - 8e-5) / 5)
    np.testing.assert_allclose(bias[0], 8e-5 + (0.016 - 8e-5) / 5)
    # The cosine counts from epoch 0, so epoch 5 is already below the base.
    np.testing.assert_allclose(
        weight[4], 1.6e-5 + 0.5 * (0.008 - 1.6e-5) * (1 + math.cos(math.pi * 5 / 120))
    )
    # In its last epoch, number 120, the cosine is over: the floor, the same for both.
    np.testing.assert_allclose([weight[-1], bias[-1]], 1.6e-5)
    assert weight[-2] > 1.6e-5


def test_warm_up_of_epochs_by_factor():
    options = ScheduleOptions("epoch_cosine", warmup_epochs=2, warmup_factor=0.1)
    rates = learning_rates(options, 1.0, 1, 4)
    expected = [0.55, 0.5 * (1 + math.cos(math.pi / 2)), 0.5 * (1 + math.cos(0.75 * math.pi)), 0]
    np.testing.assert_allclose(rates, expected, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(
    steps=st.integers(1, 7),
    epochs=st.integers(1, 9),
    warmup=st.integers(0, 80),
    base=st.floats(1e-5, 1.0),
    delay=st.integers(0, 12),
)
def test_rates_are_finite_positive_and_at_most_the_base(kind, steps, epochs, warmup, base, delay):
    options = ScheduleOptions(
        kind, warmup_steps=warmup, warmup_epochs=warmup // 10, milestones=(2, 5), delay_epochs=delay
    )
    rates = learning_rates(options, base, steps, epochs)
    assert rates.shape == (steps * epochs,) and rates.dtype == np.float64
    assert np.isfinite(rates).all()
    assert (rates >= 0).all() and (rates <= base * (1 + 1e-12)).all()


@pytest.mark.parametrize(("steps", "epochs"), [(0, 3), (3, 0)])
def test_nothing_to_schedule(steps, epochs):
    with pytest.raises(ValueError, match=f"{epochs} epochs of {steps} steps: nothing to schedule"):
        learning_rates(ScheduleOptions(), 1.0, steps, epochs)


@pytest.mark.parametrize("kind", ["fastreid_multistep", "epoch_multistep"])
def test_milestones_need_not_be_in_order(kind):
    one = ScheduleOptions(kind, milestones=(5, 2))
    other = ScheduleOptions(kind, milestones=(2, 5))
    np.testing.assert_array_equal(learning_rates(one, 1.0, 2, 8), learning_rates(other, 1.0, 2, 8))


def test_irra_warms_up_and_falls_by_epochs():
    options = ScheduleOptions("irra_cosine", warmup_epochs=2, warmup_factor=0.1)
    rates = by_epoch(learning_rates(options, 2.0, 3, 4), 3)
    np.testing.assert_allclose(rates, [0.2, 1.1, 2.0, 1.0])
    constant = ScheduleOptions(
        "irra_linear", warmup_epochs=2, warmup_factor=0.1, warmup_constant=True
    )
    np.testing.assert_allclose(learning_rates(constant, 2.0, 1, 4), [0.2, 0.2, 2.0, 1.0])


def test_irra_poly_rises():
    options = ScheduleOptions("irra_poly", power=0.9)
    np.testing.assert_allclose(learning_rates(options, 1.0, 1, 2), [0.9, 0.9**0.5])


def test_detectors_warm_up_in_the_first_epoch_and_drop_by_the_epoch():
    options = ScheduleOptions(
        "detection_multistep", warmup_steps=4, warmup_factor=0.2, milestones=(2,)
    )
    rates = learning_rates(options, 1.0, 3, 3)
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, 1, 1, 0.1, 0.1, 0.1])
    whole = dataclasses.replace(options, warmup_steps=0, warmup_epochs=1)
    np.testing.assert_allclose(
        learning_rates(whole, 1.0, 3, 3), [0.2, 0.6, 1, 1, 1, 1, 0.1, 0.1, 0.1]
    )
    stuck = dataclasses.replace(options, unfinished_warmup=True)
    np.testing.assert_allclose(
        learning_rates(stuck, 1.0, 3, 3), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.08, 0.08, 0.08]
    )
