"""A run: its phases in order, resumed where a stopped or killed run left off, and its results."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging as absl_logging
from flax import nnx

from g2ajax.evaluation import published
from g2ajax.evaluation.explanation import Measure
from g2ajax.evaluation.results import Result, as_table, explanations_table, write_results
from g2ajax.tasks import task_class, task_name
from g2ajax.tasks.base import Task
from g2ajax.training import card, history, startup
from g2ajax.training import checkpoint as checkpoints
from g2ajax.training import workdir as folder
from g2ajax.training.journal import Journal
from g2ajax.training.mesh import state_sharding
from g2ajax.training.options import resolved, run_options
from g2ajax.training.phase import Best, Stopped, stop_requests, train_phase
from g2ajax.training.setup import Run, carry_over, prepare, prepare_phases
from g2ajax.training.state import trainable_filter

CHOSEN_ON_TEST = "best, chosen on the test split"
FEW_STEPS = 50


def run(config: Mapping[str, Any], workdir: str | pathlib.Path) -> list[Result]:
    """Trains and evaluates the run that `config` describes in `workdir`, or resumes the one there.

    Returns the results of the last and of the best checkpoint. Raises ValueError or
    FileNotFoundError for anything wrong with configuration, data, weights or folder, before compute
    is spent; NonFiniteLoss when training diverges; Stopped after a SIGTERM or Ctrl-C.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    workdir, options = pathlib.Path(workdir), run_options(config)
    process = jax.process_index()
    with folder.hold(workdir, process=process):
        folder.settle_config(workdir, config, write=process == 0, resolve=resolved)
        store = checkpoints.Checkpoints(workdir)
        lines = [startup.keep_programs(options.cache)]
        try:
            runs = prepare_phases(options, fresh=store.meta("latest") is None)
            lines.append(startup.describe_attention(runs[-1].model))
            if process == 0:
                print("\n".join(filter(None, lines)), flush=True)
            leaves = (jax.tree.leaves(nnx.state(run.model)) for run in runs)
            size = max(sum(leaf.nbytes for leaf in of_run) for of_run in leaves)
            # Space for the latest with two moments, its successor during the write, the best, and
            # the model.
            folder.check_space(workdir, 9 * size)
            if process == 0:
                card.note_data(workdir, runs)
            results, measures = _train(runs, workdir, store)
        finally:
            store.close()
        if process == 0:
            _show(results)
            if measures:
                print("\n" + explanations_table(measures, runs[-1].task.dataset.name), flush=True)
        return results


def evaluate(config: Mapping[str, Any], workdir: str | pathlib.Path, kind: str) -> list[Result]:
    """Scores the checkpoint `kind` ("best" or "latest") of the run in `workdir`; trains nothing."""
    run, meta = reopen(config, workdir, kind)
    results = run.task.score(
        run.model,
        checkpoint=describe(kind),
        step=meta["total_step"],
        rankings=run.task.rankings(run.phase(run.options.phases.index(meta["phase"]))),
    )
    if jax.process_index() == 0:
        _write(results, pathlib.Path(workdir), stem=f"results-{kind}")
        _show(results)
    return results


def _write(results: list[Result], workdir: pathlib.Path, **described: Any) -> None:
    """Writes the results' files, with the published ones beside them."""
    write_results(results, workdir, notes=published.lines(results), **described)


def _show(results: list[Result]) -> None:
    """Prints the results and the published ones beside them."""
    print("\n" + "\n".join([as_table(results), *published.lines(results)]), flush=True)


def reopen(
    config: Mapping[str, Any],
    workdir: str | pathlib.Path,
    kind: str,
    *,
    of: type[Task] | None = None,
) -> tuple[Run, dict[str, Any]]:
    """A finished (or stopped) run with the parameters of a checkpoint, and the latter's metadata.

    `of`: the task that the caller supports. Raises ValueError for a run of another task, without
    such a checkpoint, and when it does not fit the configuration and data.
    """
    if of:
        check_task(config, workdir, kind, of)
    absl_logging.set_verbosity(absl_logging.ERROR)
    store = checkpoints.Checkpoints(pathlib.Path(workdir), read_only=True)
    try:
        meta = store.meta(kind)
        if meta is None:
            raise ValueError(f"{workdir} has no {kind} checkpoint; train with this --workdir first")
        run = prepare(run_options(config), phase=meta["phase"], trains=False, fresh=False)
        _restore(run, store, kind, averaged=True)
    finally:
        store.close()
    return run, meta


def check_task(
    config: Mapping[str, Any], workdir: str | pathlib.Path, kind: str, of: type[Task]
) -> None:
    """Raises ValueError for a run of another task than `of`."""
    task = task_class(task_name(config))
    if not issubclass(task, of):
        raise ValueError(
            f"{workdir} holds a run on {task.noun}, and this command is for runs on {of.noun}; score "
            f"it with `python run.py --config=... --workdir={workdir} --evaluate={kind}`"
        )


def _train(
    runs: tuple[Run, ...], workdir: pathlib.Path, store: checkpoints.Checkpoints
) -> tuple[list[Result], list[Measure]]:
    """Trains the phases from where the latest checkpoint left off, then scores the last state and the
    best one."""
    options = runs[0].options
    meta, best_meta = store.meta("latest"), store.meta("best")
    best = Best(**best_meta["best"]) if best_meta else Best()
    first, start, total_step = 0, 0, 0
    if meta:
        first, start, total_step = (
            options.phases.index(meta["phase"]),
            meta["step"],
            meta["total_step"],
        )
        _restore(runs[first], store, "latest")
    journal = Journal(
        workdir,
        active=jax.process_index() == 0,
        resume_step=total_step,
        tensorboard=options.log.tensorboard,
    )
    if meta:
        journal.say(f"goes on at step {start} of phase {meta['phase']}")
    results: list[Result] = []
    for line in _short_phases(runs):
        journal.say(line)
    try:
        with stop_requests() as stop:
            for index in range(first, len(runs)):
                run = runs[index]
                if index > first and run is not runs[index - 1]:
                    carry_over(options, runs[index - 1], run)
                results = (
                    train_phase(run, index, start, total_step - start, best, store, journal, stop)
                    or results
                )
                total_step, start = total_step - start + run.phase_steps(index), 0
            store.wait()
            if stop(total_step + 1):  # asked for while the last step was scored
                journal.say("stopped after the last step; start again for the final scores")
                raise Stopped(0)
        return _finish(runs[-1], results, best, total_step, workdir, store, journal)
    finally:
        journal.close()


def _short_phases(runs: tuple[Run, ...]) -> list[str]:
    """Warnings about phases whose data give too few steps to learn much."""
    lines = []
    for index, run in enumerate(runs):
        name, steps = run.options.phases[index], run.phase_steps(index)
        if steps < FEW_STEPS and not run.options.phase[name].steps_per_epoch:
            examples = run.task.num_examples(run.phase(index))
            lines.append(
                f"warning: phase {name} has {steps} steps on {examples} {run.task.noun}, too few to learn much; "
                f"more images, or more epochs (--config.phase.{name}.epochs)"
            )
    return lines


def _finish(
    run: Run,
    results: list[Result],
    best: Best,
    step: int,
    workdir: pathlib.Path,
    store: checkpoints.Checkpoints,
    journal: Journal,
) -> tuple[list[Result], list[Measure]]:
    """Scores the last state (scored in part already: `results`) and the best one, takes the further
    measures, and writes the report."""
    task, last = run.task, run.phase(len(run.options.phases) - 1)
    rankings = task.rankings(last)
    # The last phase has its scores already, unless the run had ended before.
    extra = rankings[len(last.options.rankings) :] if results else rankings
    if extra:
        _restore(run, store, "latest", averaged=True)
        results = results + task.score(run.model, checkpoint="last", step=step, rankings=extra)
    results = _in_order(results, rankings)
    measures = task.measure(run.model, rankings, journal.say)
    _restore(run, store, "best")
    if best.step == step:  # the last checkpoint is the best one
        best_results = [dataclasses.replace(one, checkpoint=CHOSEN_ON_TEST) for one in results]
    else:
        best_results = task.score(
            run.model, checkpoint=CHOSEN_ON_TEST, step=best.step, rankings=rankings
        )
        best_results = _in_order(best_results, rankings)
    phase = best.phase or last.name
    card.write_finished(
        workdir, run, phase, checkpoint=CHOSEN_ON_TEST, step=best.step, results=best_results
    )
    journal.say(f"model: {workdir / 'model'}")
    every = [*results, *best_results]
    if jax.process_index() == 0:  # before the report: whatever happens to it, the scores are there
        _write(every, workdir, explanations=measures)
    if best.step != step:
        _restore(run, store, "latest", averaged=True)
    report = None
    if run.options.task_options.evaluate.reported_queries:
        report = task.report(run.model, results, measures, task.info.dataset)
    if report and jax.process_index() == 0:
        history.write_run_report(report, workdir, every)
        journal.say(f"report: {workdir / 'report.html'}")
    return every, measures


def _in_order(results: list[Result], rankings: Sequence[str]) -> list[Result]:
    """The results by protocol, then ranking: whether a run was stopped between two scorings or not."""
    protocols = list(dict.fromkeys(result.protocol for result in results))

    def place(result: Result) -> tuple[int, int]:
        listed = result.ranking in rankings
        return protocols.index(result.protocol), rankings.index(result.ranking) if listed else 0

    return sorted(results, key=place)


def describe(kind: str) -> str:
    """Description of a checkpoint for the results."""
    return CHOSEN_ON_TEST if kind == "best" else "last"


def _restore(
    run: Run, store: checkpoints.Checkpoints, kind: str, *, averaged: bool = False
) -> None:
    """Reads parameters and statistics of a checkpoint into the run's model.

    `averaged`: with the averaged parameters if the checkpoint's phase keeps any (the best
    checkpoint's parameters are already the scored ones).
    """
    params, rest = nnx.state(run.model, nnx.Param), nnx.state(run.model, nnx.Not(nnx.Param))

    def target(state: nnx.State) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            name: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=state_sharding(leaf, run.mesh)
            )
            for name, leaf in checkpoints.flat_state(state).items()
        }

    targets = {"params": target(params), "stats": target(rest)}
    phase = run.options.phase[store.meta(kind)["phase"]]
    if averaged and kind == "latest" and phase.ema:
        targets["ema"] = target(nnx.state(run.model, trainable_filter(phase)))
    read = store.restore(kind, targets)
    flat = {**read["params"], **read.get("ema", {})}
    nnx.update(run.model, checkpoints.with_values(params, flat))
    nnx.update(run.model, checkpoints.with_values(rest, read["stats"]))
