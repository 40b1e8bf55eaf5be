"""One phase of a run: the loop over steps, with its evaluations, checkpoints and stops."""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jaxtyping import Int

from g2ajax.data.samplers import index_table
from g2ajax.evaluation.results import Result
from g2ajax.methods import Method
from g2ajax.training import checkpoint as checkpoints
from g2ajax.training.journal import Journal, Progress
from g2ajax.training.optimizer import build_optimizer
from g2ajax.training.options import PhaseOptions
from g2ajax.training.setup import Run
from g2ajax.training.state import (
    Leaves,
    Program,
    begin,
    begin_phase,
    copy_parts,
    make_step,
    trainable_filter,
)

IN_FLIGHT = 8
"""Most steps that are dispatched and not finished; a device is never idle with so many."""


class NonFiniteLoss(FloatingPointError):
    """A loss term became NaN or infinite; the message has the step and the batch's examples."""


class Stopped(SystemExit):
    """The run received a request to stop, has saved its state and ends: with status 0 after a
    SIGTERM, 130 after Ctrl-C."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Catches SIGTERM and Ctrl-C inside the context: `stop(step)` is True once one has come.

    A second Ctrl-C ends the process at once, without saving. Several processes agree on the step at
    which they stop.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received: list[int] = []

    def note(number: int, _stack: Any) -> None:
        if number == signal.SIGINT:
            if number in received:
                os._exit(128 + number)  # as shells have it
            print("\nsaving; Ctrl-C once more ends at once", file=sys.stderr, flush=True)
        received.append(number)

    caught = (signal.SIGTERM, signal.SIGINT)
    try:
        previous = {number: signal.signal(number, note) for number in caught}
    except ValueError:  # not in the main thread, as in a notebook's server: nothing to catch
        yield lambda step: False
        return
    try:
        yield lambda step: bool(received)
    except Stopped:
        if signal.SIGINT in received:
            raise Stopped(128 + signal.SIGINT) from None
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclasses.dataclass
class Best:
    """The best evaluation so far of the phase: another phase may have other rankings."""

    value: float = -1.0
    step: int = -1
    phase: str = ""


@dataclasses.dataclass
class _Training:
    """A running phase: its state, and the objects that save, score and log it."""

    run: Run
    index: int
    before: int
    """Number of steps of earlier phases."""
    program: Program
    leaves: Leaves
    best: Best
    store: checkpoints.Checkpoints
    journal: Journal

    @property
    def name(self) -> str:
        return self.run.options.phases[self.index]

    def save(self, kind: str, step: int) -> None:
        """Stores the state as the `latest` checkpoint, or the averaged parameters as the `best`."""
        tree = self.program.tree(self.leaves)
        model = self.program.model(self.leaves, averaged=kind == "best")
        items = {
            "params": checkpoints.flat_state(nnx.state(model, nnx.Param)),
            "stats": checkpoints.flat_state(nnx.state(model, nnx.Not(nnx.Param))),
        }
        if kind == "latest":
            items["optimizer"] = checkpoints.numbered(tree["optimizer"])
            items["ema"] = checkpoints.flat_state(tree["ema"]) if tree["ema"] is not None else {}
        total = self.before + step
        meta = {"phase": self.name, "step": step, "total_step": total, "best": vars(self.best)}
        self.store.save(kind, total, items, meta)

    def score(self, step: int) -> list[Result]:
        """The results of the averaged parameters; the best ones of the phase are stored."""
        options, total = self.run.options, self.before + step
        model = self.program.model(self.leaves, averaged=True)
        rankings = self.run.phase(self.index).options.rankings
        results = self.run.task.score(model, checkpoint="last", step=total, rankings=rankings)
        scalars = [result.scalars() for result in results]
        by = options.task_options.evaluate.best
        value = float(np.mean([scores[by] for scores in scalars if by in scores]))
        for result, scores in zip(results, scalars, strict=True):
            place = result.protocol
            if result.ranking != "reid":
                place += f"-{result.ranking}"
            self.journal.scalars(total, f"evaluation/{place}", scores)
            steps = self.run.phase_steps(self.index)
            self.journal.say(result.lines(f"{self.name}  {step}/{steps}  "))
        if value > self.best.value or self.best.phase != self.name:
            self.best.value, self.best.step, self.best.phase = value, total, self.name
            self.save("best", step)
        return results


def train_phase(
    run: Run,
    index: int,
    start: int,
    before: int,
    best: Best,
    store: checkpoints.Checkpoints,
    journal: Journal,
    stop: Callable[[int], bool],
) -> list[Result]:
    """Trains phase number `index` from step `start` to its end; `run.model` then holds the trained
    parameters (not the averaged ones: the next phase continues from the trained ones).

    `before` counts the steps of earlier phases. Returns the results of the last evaluation. Raises
    NonFiniteLoss, and Stopped once `stop` is True (after saving).
    """
    options, task, total = run.options, run.task, run.phase_steps(index)
    task_phase, per_epoch = run.phase(index), run.steps_per_epoch(index)
    name, phase = task_phase.name, options.phase[task_phase.name]
    due = options.task_options.evaluate.every_epochs * per_epoch
    if start >= total:
        return []
    if not start:
        _begin(run.model, name, phase)
    trained = trainable_filter(phase)
    optimizer = build_optimizer(
        phase.optimizer,
        phase.schedule,
        nnx.state(run.model, trained),
        steps_per_epoch=per_epoch,
        epochs=phase.epochs,
    )
    program, leaves = begin(run.model, phase, optimizer.transform, run.mesh)
    if start:
        leaves = _with_optimizer(program, leaves, store, start)
    training = _Training(run, index, before, program, leaves, best, store, journal)
    sampler = task.sampler(task_phase)
    table = index_table(sampler, start, total)
    batches, resident = task.batches(
        run.model, task_phase, table, start, trained=trained, say=journal.say
    )
    step_fn = make_step(
        program,
        phase,
        optimizer.transform,
        task.prepare(task_phase),
        run.mesh,
        options.seed + index,
    )
    progress = Progress(start, total, batch := task.batch_size(task_phase))
    journal.say(f"{name}: {total - start} steps of {batch} {task.noun}; the first is compiled now")
    pending: list[tuple[int, Mapping[str, jax.Array]]] = []
    results: list[Result] = []
    with contextlib.closing(batches):
        for step in range(start + 1, total + 1):
            training.leaves, metrics = step_fn(training.leaves, next(batches), resident)
            pending.append((step, metrics))
            jax.block_until_ready(pending[-IN_FLIGHT:][0][1])  # a stop waits for what is in flight
            evaluates = step == total or (due and step % due == 0)
            stops = stop(before + step)
            saves = stops or evaluates or step % options.checkpoint.every_steps == 0
            if saves or step == 1 or step % options.log.every_steps == 0:
                values = _settle(pending, table[pending[0][0] - 1 - start :], run, name)
                pending = []
                progress.advance(step)
                rates = optimizer.learning_rates(step - 1)
                journal.scalars(before + step, f"train/{name}", {**values, **rates})
                journal.say(progress.line(name, step, values, max(rates.values())))
            if evaluates:
                results = training.score(step)
            if saves:
                training.save("latest", step)
                progress.pause()
            if stops:
                store.wait()
                journal.say(f"stopped at step {step} of {name}; start again to go on from here")
                raise Stopped(0)
    nnx.update(run.model, nnx.state(program.model(training.leaves)))
    return results


def _begin(model: Method, name: str, phase: PhaseOptions) -> None:
    """Copies parts, and computes what the phase's loss reads, before the first step."""
    copy_parts(model, name, phase)
    begin_phase(model, phase.loss)


def _settle(
    pending: list[tuple[int, Mapping[str, jax.Array]]],
    rows: Int[np.ndarray, "S B"],
    run: Run,
    phase: str,
) -> dict[str, float]:
    """The mean of each metric over the pending steps, whose batches have these `rows`.

    Raises NonFiniteLoss naming the first step that is not finite.
    """
    fetched = jax.device_get([metrics for _, metrics in pending])
    for (step, _), metrics, of_step in zip(pending, fetched, rows, strict=False):
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            names = run.task.names(of_step)
            raise NonFiniteLoss(
                f"{', '.join(bad)} not finite at step {step} of phase {phase}; the last checkpoint "
                f"is from before it. Examples of the batch: {', '.join(names)}"
            )
    return {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}


def _with_optimizer(
    program: Program, leaves: Leaves, store: checkpoints.Checkpoints, start: int
) -> Leaves:
    """The state of a resumed phase: optimizer, averages and step from the latest checkpoint."""
    tree = program.tree(leaves)
    ema = checkpoints.flat_state(tree["ema"]) if tree["ema"] is not None else {}
    restored = store.restore(
        "latest", {"optimizer": checkpoints.numbered(tree["optimizer"]), "ema": ema}
    )
    tree["optimizer"] = checkpoints.from_numbered(tree["optimizer"], restored["optimizer"])
    if tree["ema"] is not None:
        tree["ema"] = checkpoints.with_values(tree["ema"], restored["ema"])
    tree["step"] = jax.device_put(np.int32(start), tree["step"].sharding)
    return jax.tree.leaves(tree)
