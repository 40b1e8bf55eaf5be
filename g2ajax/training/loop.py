"""The run: phases of training, evaluated, saved, resumable at any step."""

import json
import pathlib
import signal
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging as absl_logging
from flax import nnx
from jax.sharding import Mesh

from g2ajax import methods
from g2ajax.data.augment import augment
from g2ajax.data.pipeline import train_batches
from g2ajax.data.residency import gather_batch, load_resident
from g2ajax.data.samplers import make_sampler
from g2ajax.data.source import Dataset, open_dataset
from g2ajax.evaluation.results import Result, as_markdown, as_table, write_results
from g2ajax.interop.load import initialise
from g2ajax.training import checkpoint as checkpoints
from g2ajax.training import workdir as folder
from g2ajax.training.inference import score
from g2ajax.training.journal import Journal, Progress
from g2ajax.training.mesh import batch_sharding, check_batch, make_mesh, replicated
from g2ajax.training.optimizer import build_optimizer
from g2ajax.training.options import PhaseOptions, RunOptions, run_options
from g2ajax.training.state import Program, begin, check_paths, make_step, put_batch


class NonFiniteLoss(FloatingPointError):
    """A loss term became NaN or infinite; says where, and which images were in the batch."""


class Stopped(SystemExit):
    """The run was asked to stop (SIGTERM), has saved its state, and ends with exit status 0."""


def run(config: Mapping[str, Any], workdir: str | pathlib.Path) -> list[Result]:
    """Trains and evaluates what `config` describes in `workdir`, or takes up the run found there.

    Returns the results of the last and the best checkpoint. Raises ValueError for anything wrong
    with the configuration, the data, the weights or the folder, before compute is spent;
    NonFiniteLoss when training diverges; Stopped after a SIGTERM.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    workdir = pathlib.Path(workdir)
    options = run_options(config)
    with folder.hold(workdir, process=jax.process_index()):
        folder.settle_config(workdir, config, write=jax.process_index() == 0)
        setup = prepare(options)
        results = _train(setup, workdir)
        if jax.process_index() == 0:
            write_results(results, workdir)
            print(as_table(results))
        return results


def evaluate(config: Mapping[str, Any], workdir: str | pathlib.Path, kind: str) -> list[Result]:
    """Scores the checkpoint `kind` ("best" or "latest") of the run in `workdir`; trains nothing.

    The dataset may be another one than the run's: `results-<kind>.json` says which.
    """
    absl_logging.set_verbosity(absl_logging.ERROR)
    workdir = pathlib.Path(workdir)
    setup = prepare(run_options(config), trains=False)
    store = checkpoints.Checkpoints(workdir, read_only=True)
    meta = store.meta(kind)
    if meta is None:
        raise ValueError(f"{workdir} has no {kind} checkpoint; train with this --workdir first")
    model = _restored(setup, store, kind)
    results = score(
        model, setup.dataset, setup.options, setup.mesh, checkpoint=kind, step=meta["total_step"]
    )
    if jax.process_index() == 0:
        write_results(results, workdir, stem=f"results-{kind}")
        print(as_table(results))
    return results


@dataclasses.dataclass
class Setup:
    """All that a run needs, checked, before the first step."""

    options: RunOptions
    dataset: Dataset
    mesh: Mesh
    model: nnx.Module
    embed: Embed


def prepare(options: RunOptions, *, trains: bool = True) -> Setup:
    """Opens the data, builds the model and checks that they fit each other and the devices."""
    mesh = make_mesh(options.mesh.data, options.mesh.fsdp)
    check_batch(options.evaluate.batch_size, mesh, "evaluation batch")
    if trains and options.sampler.batch_size % mesh.size:
        check_batch(options.sampler.batch_size, mesh)
    dataset = open_dataset(
        options.dataset,
        data_dir=options.data.dir or None,
        manual_dir=options.data.manual_dir or None,
    )
    for name in options.evaluate.protocols:
        dataset.protocol(name)
    model = build_model(options, dataset)
    check_model(model, options, dataset)
    embed, _ = make_embed(model, mesh)
    return Setup(options, dataset, mesh, model, embed)


def build_model(options: RunOptions, dataset: Dataset) -> nnx.Module:
    """The run's model with its initial parameters, drawn or read as `init` says."""
    train = dataset.splits["train"]
    task = methods.Task(
        num_classes=int(train.label.max()) + 1,
        image_size=options.data.image_size,
        num_cameras=int(train.camera.max()) + 1,
        attribute_groups=dataset.attribute_groups,
        dtype=jnp.dtype(options.dtype),
    )

    def build() -> nnx.Module:
        return methods.build(options.method, task, rngs=nnx.Rngs(params=options.seed))

    # Under one jit: eager initialisation compiles every tensor's draw by itself.
    graphdef, _ = nnx.split(nnx.eval_shape(build))
    model = nnx.merge(graphdef, jax.jit(lambda: nnx.state(build()))())
    if options.init.file:
        report = initialise(model, options.init)
        if jax.process_index() == 0:
            print(report)
    return model


def check_model(model: nnx.Module, options: RunOptions, dataset: Dataset) -> None:
    """Raises ValueError where model, phases and data do not fit each other."""
    for name in options.phases:
        phase = options.phase[name]
        check_paths(model, name, phase)
        if not hasattr(model, phase.loss):
            raise ValueError(f"phase.{name}.loss: {options.method['name']} has no {phase.loss!r}")
        if phase.accumulate > 1:
            if model.in_batch_terms:
                raise ValueError(
                    f"phase.{name}.accumulate = {phase.accumulate}: the terms "
                    f"{', '.join(model.in_batch_terms)} compare the images of a batch with each "
                    "other, so micro-batches would train another loss; use a smaller batch, more "
                    "devices, or backbone remat"
                )
            if options.sampler.batch_size % phase.accumulate:
                raise ValueError(f"phase.{name}.accumulate does not divide the batch")
    if getattr(model, "uses_camera", False):
        seen = set(dataset.splits["train"].camera.tolist())
        for split in ("query", "gallery"):
            unseen = set(dataset.splits[split].camera.tolist()) - seen
            if unseen:
                raise ValueError(
                    f"cameras {sorted(unseen)} of the {split} split are not among the training "
                    f"cameras {sorted(seen)}: their side information embedding is untrained; set "
                    "method.backbone.sie_cameras to 0"
                )


def _train(setup: Setup, workdir: pathlib.Path) -> list[Result]:
    options = setup.options
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(setup.model)))
    folder.check_space(workdir, 8 * size)
    store = checkpoints.Checkpoints(workdir)
    meta = store.meta("latest")
    best = store.meta("best")
    state = RunState(best=best["best"] if best else None)
    first = 0
    if meta:
        first = options.phases.index(meta["phase"])
        state.total_step = meta["total_step"]
    journal = Journal(
        workdir,
        active=jax.process_index() == 0,
        resume_step=state.total_step,
        tensorboard=options.log.tensorboard,
    )
    if meta:
        journal.say(f"resuming at step {meta['step']} of phase {meta['phase']}")
        restored = store.restore("latest", _targets(setup.model, setup.mesh))
        _fill(setup.model, restored)
    try:
        with stop_requests() as stop:
            for index in range(first, len(options.phases)):
                start = meta["step"] if meta and index == first else 0
                phase = Phase(setup, index, state, store, journal, stop)
                results = phase.train(start)
        return results
    finally:
        store.wait()
        store.close()
        journal.close()
