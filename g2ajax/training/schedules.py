"""Learning rates as the field's codebases count them, in a table with one entry for each step."""

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float

from g2ajax.config.ranges import Natural, NonNegative, Positive, Range, Share


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """Options of the learning rate over a phase."""

    type: Literal[
        "constant", "cosine", "fastreid_multistep", "fastreid_cosine", "epoch_multistep",
        "epoch_cosine", "detection_multistep", "irra_cosine", "irra_linear", "irra_poly", "irra_exp",
        "irra_step",
    ] = "cosine"  # fmt: skip
    """`constant` and `cosine` (to `floor`) move every step after the warm-up. `fastreid_*`: warm-up
    every step, then one move an epoch. `epoch_multistep` (reid-strong-baseline) and `epoch_cosine`
    (TransReID, torchreid): one rate an epoch, warm-up included. `detection_multistep` (torchvision's
    detectors, person search): warm-up every step, drops by the epoch's number from 0. `irra_*`
    (IRRA, AEA-FIRM): one rate an epoch; after the warm-up, at the share r of the epochs left,
    (1 + cos πr) / 2, 1 − r, power^(1−r) or power^r; `irra_step`: drops."""
    warmup_steps: Natural = 0
    """Length of the warm-up, for the kinds that count it in steps."""
    warmup_epochs: Natural = 0
    """Length of the warm-up, for the kinds that count it in epochs; for `detection_multistep` it
    replaces `warmup_steps` and ends at the last step of these epochs."""
    warmup_factor: Share = 0.01
    """Start of the warm-up, as a share of the base rate."""
    warmup_start: NonNegative | None = None
    """Start of the warm-up of `epoch_cosine` as an absolute rate, the same for every group; None:
    from `warmup_factor`."""
    warmup_constant: bool = False
    """Keep the rate at `warmup_factor` for the whole warm-up of `irra_*`."""
    milestones: tuple[Natural, ...] = ()
    """Epochs (for `fastreid_multistep`: moves after the warm-up) at which the rate drops."""
    gamma: Annotated[float, Range(above=0, high=1)] = 0.1
    """Factor by which the rate drops."""
    floor: NonNegative = 0.0
    """Lowest rate of a cosine and of `irra_poly`, absolute."""
    power: Positive = 0.9
    """Power of `irra_poly` (which RISES from power to 1, as in that code) and of `irra_exp`."""
    unfinished_warmup: bool = False
    """`detection_multistep`: a warm-up longer than the first epoch stops at the end of that epoch
    and keeps its factor to the end of the run, as in the code of head distillation."""
    delay_epochs: Natural = 0
    """Epochs before the first move of `fastreid_*`."""
    first_epoch: Literal[0, 1] = 1
    """Number of the first epoch in the codebase of `epoch_*` (torchreid: 0)."""


def learning_rates(
    options: ScheduleOptions, base: float, steps_per_epoch: int, epochs: int
) -> Float[np.ndarray, " steps"]:
    """The rate of every step of `epochs` epochs for a group whose base rate is `base`, float64.

    Raises ValueError for a length below one step.
    """
    if steps_per_epoch < 1 or epochs < 1:
        raise ValueError(f"{epochs} epochs of {steps_per_epoch} steps: nothing to schedule")
    steps = np.arange(steps_per_epoch * epochs)
    if options.type in ("constant", "cosine"):
        return _by_step(options, base, steps)
    if options.type == "detection_multistep":
        warm = np.minimum(steps, steps_per_epoch) if options.unfinished_warmup else steps
        warmup = options.warmup_steps or options.warmup_epochs * steps_per_epoch - 1
        share = np.minimum(warm / max(warmup, 1), 1.0)
        factor = options.warmup_factor * (1.0 - share) + share if warmup > 0 else 1.0
        epoch = steps // steps_per_epoch
        passed = np.searchsorted(np.sort(options.milestones), epoch, side="right")
        return base * factor * options.gamma ** passed.astype(np.float64)
    if options.type.startswith("fastreid"):
        return _fastreid(options, base, steps, steps_per_epoch, epochs)
    if options.type.startswith("irra"):
        return np.repeat(_irra(options, base, np.arange(epochs), epochs), steps_per_epoch)
    rates = np.array(
        [_of_epoch(options, base, options.first_epoch + e, epochs) for e in range(epochs)]
    )
    return rates[steps // steps_per_epoch]


def _by_step(options, base, steps):
    warm = np.minimum(1.0, (steps + 1) / max(options.warmup_steps, 1))
    factor = options.warmup_factor + (1.0 - options.warmup_factor) * warm
    factor = np.where(steps < options.warmup_steps, factor, 1.0)
    if options.type == "constant":
        return base * factor
    span = max(len(steps) - options.warmup_steps, 1)
    progress = np.clip((steps - options.warmup_steps) / span, 0.0, 1.0)
    cosine = options.floor + 0.5 * (base - options.floor) * (1.0 + np.cos(np.pi * progress))
    return np.where(steps < options.warmup_steps, base * factor, cosine)


def _fastreid(options, base, steps, steps_per_epoch, epochs):
    """Warm-up factor w(1 − i/W) + i/W at step i. The epoch's scheduler moves after an epoch only
    once W steps are done and the epoch's count exceeds the delay; so milestones count moves, not
    epochs, and the cosine takes the remaining epochs. The reference tests after its
    counter has advanced: a warm-up of whole epochs ends with the last of them."""
    warmup = options.warmup_steps
    finished_epochs = np.arange(1, epochs + 1)
    moves_after = (finished_epochs * steps_per_epoch >= warmup) & (
        finished_epochs > options.delay_epochs
    )
    moves = np.concatenate([[0], np.cumsum(moves_after)[:-1]])
    if options.type == "fastreid_multistep":
        passed = np.searchsorted(np.sort(options.milestones), moves, side="right")
        rates = base * options.gamma ** passed.astype(np.float64)
    else:
        length = epochs - max(math.ceil(warmup / steps_per_epoch), options.delay_epochs)
        angle = np.pi * np.minimum(moves / max(length, 1), 1.0)
        rates = options.floor + 0.5 * (base - options.floor) * (1.0 + np.cos(angle))
    share = np.minimum(steps / max(warmup, 1), 1.0)
    factor = options.warmup_factor * (1.0 - share) + share if warmup else 1.0
    return rates[steps // steps_per_epoch] * factor


def _irra(options, base, epoch, epochs):
    """Epochs count from 0 and the last is at r = 1 − 1 / (epochs after the warm-up)."""
    warm = np.minimum(epoch / max(options.warmup_epochs, 1), 1.0)
    factor = options.warmup_factor * (1.0 - warm) + warm
    if options.warmup_constant:
        factor = np.full(len(epoch), options.warmup_factor)
    r = np.maximum((epoch - options.warmup_epochs) / max(epochs - options.warmup_epochs, 1), 0.0)
    span = base - options.floor
    passed = np.searchsorted(np.sort(options.milestones), epoch, side="right")
    rates = {
        "irra_cosine": options.floor + span * 0.5 * (1.0 + np.cos(np.pi * r)),
        "irra_linear": base * (1.0 - r),
        "irra_poly": options.floor + span * options.power ** (1.0 - r),
        "irra_exp": base * options.power**r,
        "irra_step": base * options.gamma ** passed.astype(np.float64),
    }
    return np.where(epoch < options.warmup_epochs, base * factor, rates[options.type])


def _of_epoch(options, base, epoch, epochs):
    if options.type == "epoch_multistep":
        factor = 1.0
        if epoch < options.warmup_epochs:
            share = epoch / options.warmup_epochs
            factor = options.warmup_factor * (1.0 - share) + share
        return base * factor * options.gamma ** sum(epoch >= m for m in options.milestones)
    if epoch < options.warmup_epochs:
        start = options.warmup_start
        start = base * options.warmup_factor if start is None else start
        return start + epoch * (base - start) / options.warmup_epochs
    if epoch >= epochs:
        return options.floor
    angle = math.pi * epoch / epochs
    return options.floor + 0.5 * (base - options.floor) * (1.0 + math.cos(angle))
