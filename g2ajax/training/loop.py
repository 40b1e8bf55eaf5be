"""A run: its phases in order, taken up where a stopped or killed run left off, and its results."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging as absl_logging
from flax import nnx

from g2ajax.evaluation.explanation import Measure
from g2ajax.evaluation.results import Result, as_table, explanations_table, write_results
from g2ajax.training import checkpoint as checkpoints
from g2ajax.training import explaining, frames, reporting
from g2ajax.training import workdir as folder
from g2ajax.training.inference import score
from g2ajax.training.journal import Journal
from g2ajax.training.mesh import state_sharding
from g2ajax.training.options import run_options
from g2ajax.training.phase import Best, stop_requests, train_phase
from g2ajax.training.resolved import resolved
from g2ajax.training.setup import Setup, prepare
from g2ajax.training.state import trainable_filter

CHOSEN_ON_TEST = "best, chosen on the test split"


def run(config: Mapping[str, Any], workdir: str | pathlib.Path) -> list[Result]:
    """Trains and evaluates what `config` describes in `workdir`, or takes up the run found there.

    Returns the results of the last and of the best checkpoint. Raises ValueError or
    FileNotFoundError for anything wrong with configuration, data, weights or folder, before compute
    is spent; NonFiniteLoss when training diverges; Stopped after a SIGTERM.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    workdir, options = pathlib.Path(workdir), run_options(config)
    process = jax.process_index()
    with folder.hold(workdir, process=process):
        folder.settle_config(workdir, config, write=process == 0, resolve=resolved)
        store = checkpoints.Checkpoints(workdir)
        try:
            setup = prepare(options, fresh=store.meta("latest") is None)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(setup.model)))
            # Latest with two moments, its successor while it is written, and best.
            folder.check_space(workdir, 8 * size)
            results, measured = _train(setup, workdir, store)
        finally:
            store.close()
        if process == 0:
            write_results(results, workdir, explanations=measured)
            print("\n" + as_table(results), flush=True)
            if measured:
                print("\n" + explanations_table(measured, options.dataset), flush=True)
        return results


def evaluate(config: Mapping[str, Any], workdir: str | pathlib.Path, kind: str) -> list[Result]:
    """Scores the checkpoint `kind` ("best" or "latest") of the run in `workdir`; trains nothing."""
    setup, meta = reopen(config, workdir, kind, on_frames=True)
    results = score(
        setup.model,
        setup,
        checkpoint=describe(kind),
        step=meta["total_step"],
        rankings=setup.rankings(meta["phase"]),
    )
    if jax.process_index() == 0:
        write_results(results, pathlib.Path(workdir), stem=f"results-{kind}")
        print("\n" + as_table(results), flush=True)
    return results


def reopen(
    config: Mapping[str, Any], workdir: str | pathlib.Path, kind: str, *, on_frames: bool = False
) -> tuple[Setup, dict[str, Any]]:
    """A finished (or stopped) run with the parameters of a checkpoint, and what that is of.

    Raises ValueError without such a checkpoint, when it does not fit the configuration and data,
    and for a run on whole frames unless the caller can do with one (`on_frames`).
    """
    if config.get("frames") and not on_frames:
        raise ValueError(
            f"{workdir} holds a run on whole frames, and this command is for runs on crops; score "
            f"it with `python run.py --config=... --workdir={workdir} --evaluate={kind}`"
        )
    absl_logging.set_verbosity(absl_logging.ERROR)
    store = checkpoints.Checkpoints(pathlib.Path(workdir), read_only=True)
    try:
        meta = store.meta(kind)
        if meta is None:
            raise ValueError(f"{workdir} has no {kind} checkpoint; train with this --workdir first")
        setup = prepare(run_options(config), trains=False, fresh=False)
        _restore(setup, store, kind, averaged=True)
    finally:
        store.close()
    return setup, meta


def _train(
    setup: Setup, workdir: pathlib.Path, store: checkpoints.Checkpoints
) -> tuple[list[Result], list[Measure]]:
    options = setup.options
    meta, best_meta = store.meta("latest"), store.meta("best")
    best = Best(**best_meta["best"]) if best_meta else Best()
    first, start, done = 0, 0, 0
    if meta:
        first, start, done = options.phases.index(meta["phase"]), meta["step"], meta["total_step"]
        _restore(setup, store, "latest")
    journal = Journal(
        workdir,
        active=jax.process_index() == 0,
        resume_step=done,
        tensorboard=options.log.tensorboard,
    )
    if meta:
        journal.say(f"goes on at step {start} of phase {meta['phase']}")
    results: list[Result] = []
    rankings = setup.rankings(options.phases[-1])
    extra = rankings[len(options.phase[options.phases[-1]].rankings) :]
    try:
        with stop_requests() as stop:
            for index in range(first, len(options.phases)):
                results = (
                    train_phase(setup, index, start, done - start, best, store, journal, stop)
                    or results
                )
                steps = setup.phase_steps(options.phases[index])
                done, start = done - start + steps, 0
            store.wait()
            if not results:  # the run had ended before: it is scored again
                _restore(setup, store, "latest", averaged=True)
                results = score(setup.model, setup, checkpoint="last", step=done, rankings=rankings)
            elif extra:
                _restore(setup, store, "latest", averaged=True)
                results += score(setup.model, setup, checkpoint="last", step=done, rankings=extra)
            measured: list[Measure] = []
            if "decomposed" in rankings:
                journal.say("measuring the explanations")
                measured = explaining.measure(setup.model, setup)
                if options.evaluate.reported_queries:
                    text = reporting.run_page(setup.model, setup, results, measured)
                    _write_page(workdir, text, journal)
            _restore(setup, store, "best")
            chosen = score(
                setup.model, setup, checkpoint=CHOSEN_ON_TEST, step=best.step, rankings=rankings
            )
            if setup.frames and options.evaluate.reported_queries:
                _write_page(workdir, frames.run_page(setup, [*results, *chosen]), journal)
        return [*results, *chosen], measured
    finally:
        journal.close()


def _write_page(workdir: pathlib.Path, text: str, journal: Journal) -> None:
    if jax.process_index() == 0:
        folder.replace_text(workdir / "report.html", text)
        journal.say(f"report: {workdir / 'report.html'}")


def describe(kind: str) -> str:
    """A checkpoint for the results."""
    return CHOSEN_ON_TEST if kind == "best" else "last"


def _restore(
    setup: Setup, store: checkpoints.Checkpoints, kind: str, *, averaged: bool = False
) -> None:
    """Reads parameters and statistics of a checkpoint into the run's model.

    `averaged`: with the averaged parameters where the checkpoint's phase keeps any (the best
    checkpoint's parameters are what was scored already).
    """
    params, rest = nnx.state(setup.model, nnx.Param), nnx.state(setup.model, nnx.Not(nnx.Param))

    def target(state: nnx.State) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            name: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=state_sharding(leaf, setup.mesh)
            )
            for name, leaf in checkpoints.flat_state(state).items()
        }

    wanted = {"params": target(params), "stats": target(rest)}
    phase = setup.options.phase[store.meta(kind)["phase"]]
    if averaged and kind == "latest" and phase.ema:
        wanted["ema"] = target(nnx.state(setup.model, trainable_filter(phase)))
    read = store.restore(kind, wanted)
    flat = {**read["params"], **read.get("ema", {})}
    nnx.update(setup.model, checkpoints.with_values(params, flat))
    nnx.update(setup.model, checkpoints.with_values(rest, read["stats"]))
