"""Makes and checks everything a run needs before the first step."""

import dataclasses

import jax
from flax import nnx
from jax.sharding import Mesh

from g2ajax import methods, tasks
from g2ajax.data.sharding import check_batch
from g2ajax.interop.load import initialise, initialise_teacher
from g2ajax.methods import DataFacts, Method
from g2ajax.nn.memory import Memory
from g2ajax.tasks.base import Phase, RunInfo, Task
from g2ajax.training.mesh import make_mesh
from g2ajax.training.options import PhaseOptions, RunOptions
from g2ajax.training.state import check_copies, check_paths, check_prefix


@dataclasses.dataclass(frozen=True)
class Run:
    """The checked ingredients of a run: a method, and a task with one dataset."""

    options: RunOptions
    task: Task
    mesh: Mesh
    model: Method

    def phase(self, index: int) -> Phase:
        """The phase of this place in the run, as the task sees it."""
        name = self.options.phases[index]
        return Phase(index, name, self.options.phase[name].task_options)

    def steps_per_epoch(self, index: int) -> int:
        """Batches of a phase in its examples, rounded down."""
        phase = self.phase(index)
        steps = self.options.phase[phase.name].steps_per_epoch
        return steps or max(1, self.task.num_examples(phase) // self.task.batch_size(phase))

    def phase_steps(self, index: int) -> int:
        """The length of a phase."""
        return self.options.phase[self.options.phases[index]].epochs * self.steps_per_epoch(index)


def prepare(
    options: RunOptions, *, phase: str = "", trains: bool = True, fresh: bool = True
) -> Run:
    """Opens the data, builds the model, and checks that they fit each other and the devices.

    `phase`: the phase whose dataset is opened, by default the last. A model that is not `fresh`
    will be filled from a checkpoint: the file of `init` is not read.

    Raises ValueError or FileNotFoundError, whose text says what to do, if anything does not fit.
    """
    dataset = options.phase_dataset(phase or options.phases[-1])
    mesh = make_mesh(options.mesh.data, options.mesh.fsdp)
    indices = [i for i, p in enumerate(options.phases) if options.phase_dataset(p) == dataset]
    blocks = options.task_options
    if dataset != options.dataset:  # the protocols that are named are of the run's dataset
        evaluate = dataclasses.replace(blocks.evaluate, protocols=())
        blocks = dataclasses.replace(blocks, evaluate=evaluate)
    phases = [(i, options.phases[i]) for i in indices]
    task = tasks.task_class(options.task)(
        RunInfo(
            name=options.name,
            dataset=dataset,
            method=options.method["name"],
            seed=options.seed,
            dtype=options.dtype,
            mesh=mesh,
            options=blocks,
            phases=tuple(Phase(i, n, options.phase[n].task_options) for i, n in phases),
        )
    )
    model = methods.drawn(options.method, task.facts, seed=options.seed)
    task.use(model)
    if fresh:
        _initialise(options, model)
        model.check_phases([options.phase[name].loss for name in options.phases])
    run = Run(options, task, mesh, model)
    if trains:
        for index in indices:
            _check_phase(run, index)
    return run


def prepare_phases(options: RunOptions, *, fresh: bool = True) -> tuple[Run, ...]:
    """The run of each phase, by `prepare`; phases on one dataset share one. The file of `init`
    fills the first; when the dataset changes, `carry_over` fills the next."""
    runs: dict[str, Run] = {}
    for name in options.phases:
        dataset = options.phase_dataset(name)
        if dataset not in runs:
            runs[dataset] = prepare(options, phase=name, fresh=fresh and not runs)
    return tuple(runs[options.phase_dataset(name)] for name in options.phases)


def carry_over(options: RunOptions, source: Run, target: Run) -> None:
    """Copies the tensors trained on the previous dataset into the model of the next, in place.

    Tensors whose shape depends on the number of identities or cameras keep the values drawn from the
    seed: their rows mean other people here. So do memories, such as queues of features.
    """
    facts = target.task.facts
    other = dataclasses.replace(
        facts, num_classes=facts.num_classes + 1, num_cameras=facts.num_cameras + 1
    )
    varied = _shapes(_abstract(options, other))
    own = nnx.state(target.model, nnx.Not(Memory))
    trained = dict(nnx.to_flat_state(nnx.state(source.model)))
    values = {
        path: trained[path]
        for path, leaf in nnx.to_flat_state(own)
        if path in trained and trained[path].shape == leaf.shape and varied.get(path) == leaf.shape
    }
    nnx.update(target.model, nnx.from_flat_state(list(values.items())))


def _abstract(options: RunOptions, facts: DataFacts) -> nnx.State:
    def make() -> Method:
        return methods.build(options.method, facts, rngs=nnx.Rngs(params=options.seed))

    return nnx.state(nnx.eval_shape(make))


def _shapes(state: nnx.State) -> dict[tuple, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in nnx.to_flat_state(state)}


def _initialise(options: RunOptions, model: Method) -> None:
    """Fills the model from the files of `init`, if there are any."""
    reports = []
    if options.init.file:
        reports.append(initialise(model.pretrained, options.init))
    if options.init.teacher:
        reports.append(initialise_teacher(model.teacher, options.init))
    if jax.process_index() == 0:
        for report in reports:
            print(report, flush=True)


def _check_phase(run: Run, index: int) -> None:
    """Raises ValueError if a phase does not fit the model, the data or the devices."""
    options, model, task = run.options, run.model, run.task
    task_phase = run.phase(index)
    name, phase = task_phase.name, options.phase[task_phase.name]
    batch = task.batch_size(task_phase)
    check_batch(batch, run.mesh)
    task.check_phase(task_phase)
    task.sampler(task_phase)
    check_paths(model, name, phase)
    check_copies(model, name, phase)
    for prefix, _ in phase.optimizer.factors:
        check_prefix(model, prefix, f"phase.{name}.optimizer.factors")
    try:
        model.function(phase.loss)
    except ValueError as error:
        raise ValueError(f"phase.{name}.loss: {error}") from None
    if phase.accumulate > 1:
        _check_micro_batches(task, model, name, phase)
        check_batch(batch // phase.accumulate, run.mesh, "micro-batch")


def _check_micro_batches(task: Task, model: Method, name: str, phase: PhaseOptions) -> None:
    why = task.no_micro_batches
    if model.in_batch_terms:
        why = (
            f"the terms {', '.join(model.in_batch_terms)} compare the images of a batch with each "
            "other, so micro-batches would train another loss; use more devices, a smaller batch or "
            "the backbone's remat"
        )
    if why:
        raise ValueError(f"phase.{name}.accumulate = {phase.accumulate}: {why}")
