"""The configuration of a run as frozen dataclasses: every field with a type, a default, a sentence.

A run has the blocks of `RunOptions` and those of its task (`tasks.base.Task.Options`), side by side; a
phase has the fields of `PhaseOptions` and those of its task (`Task.PhaseOptions`).
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from g2ajax import methods, tasks
from g2ajax.config import nearest, options
from g2ajax.config.ranges import Count, Decay, Natural, Range
from g2ajax.interop.load import InitOptions
from g2ajax.tasks import base
from g2ajax.training.optimizer import OptimizerOptions
from g2ajax.training.schedules import ScheduleOptions


@dataclasses.dataclass(frozen=True)
class MeshOptions:
    """Arrangement of the devices; `data=-1`: all that `fsdp` leaves."""

    data: Annotated[int, Range(1, also=-1)] = -1
    """Devices that share the batch; -1: all that `fsdp` leaves."""
    fsdp: Count = 1
    """Devices that share large parameters and their optimizer state."""


@dataclasses.dataclass(frozen=True)
class PhaseOptions:
    """One stretch of training: its parameters, loss, optimizer, schedule and length."""

    epochs: Count = 120
    """Length in epochs of `examples // batch` steps each, whatever the sampler's own pass is."""
    steps_per_epoch: Natural = 0
    """Steps of an epoch; 0: `examples // batch`."""
    trainable: tuple[str, ...] = ("*",)
    """Module paths that are trained with all below them; `*` matches everything."""
    frozen: tuple[str, ...] = ()
    """Module paths taken out of `trainable`; frozen modules run in evaluation mode."""
    loss: str = "loss"
    """Name of the method's function that computes the loss."""
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    ema: Decay = 0.0
    """Decay of the averaged parameters that are evaluated instead; 0: none are kept."""
    accumulate: Count = 1
    """Micro-batches a step; only for losses that look at one example at a time."""
    copy: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Module paths whose parameters and statistics are copied at the start of the phase, as target:
    source, for example `{"stream2": "stream1.backbone"}`."""
    task_options: base.PhaseOptions = base.PhaseOptions()
    """The task's fields of the phase; in a configuration they stand beside the others."""


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """Options of saving the state, besides at each evaluation and at the end."""

    every_steps: Count = 1000
    """Steps between checkpoints."""


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """Options of the output written while the run works."""

    every_steps: Count = 50
    """Steps between lines of the log."""
    tensorboard: bool = True
    """Write the log for TensorBoard too."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """One experiment."""

    dataset: str
    """Name of a builder in `tfds_builders`, with its configuration after a slash."""
    method: Mapping[str, Any]
    """`name` of a module of `g2ajax.methods`, and its options."""
    phase: Mapping[str, PhaseOptions]
    """Blocks of the phases, by name."""
    phases: tuple[str, ...]
    """Order in which the phases run."""
    name: str = ""
    """Name shown in tables of results."""
    task: str = "crops"
    """Kind of data: a module of `g2ajax.tasks`, or a dotted name outside the package; missing: the
    one that the method and the blocks of the configuration imply."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Seed of parameters, batches and augmentation."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, statistics, losses and distances are always float32."""
    init: InitOptions = InitOptions()
    mesh: MeshOptions = MeshOptions()
    checkpoint: CheckpointOptions = CheckpointOptions()
    cache: str = "auto"
    """Folder of compiled programs, which the next start reads instead of compiling again. `auto`:
    JAX_COMPILATION_CACHE_DIR, else ~/.cache/g2ajax/jax. Empty: none."""
    log: LogOptions = LogOptions()
    task_options: base.Options = base.Options()
    """The task's own blocks (`data`, `evaluate`, ...); in a configuration they stand beside the others."""

    @property
    def title(self) -> str:
        """The run's name with the network that it builds, for results: "BoT (ResNet-50)"."""
        name, network = self.name or self.method["name"], methods.network(self.method)
        return f"{name} ({network})" if network else name

    def phase_dataset(self, name: str) -> str:
        """The dataset of a phase."""
        return self.phase[name].task_options.dataset or self.dataset


def run_options(config: Mapping[str, Any]) -> RunOptions:
    """The options of a configuration.

    Raises ValueError for an unknown field, naming the nearest or the block that has it, for a value of
    another type or outside its range, and for values that cannot work together.
    """
    task = tasks.task_name(config)
    kind = tasks.task_class(task)
    check_names(config, kind, task)
    if "name" not in config.get("method", {}):
        raise ValueError("method.name is missing; it names a module of g2ajax.methods")
    phases = {
        name: _split(block, PhaseOptions, kind.PhaseOptions, f"phase.{name}")
        for name, block in dict(config.get("phase", {})).items()
    }
    values = {**config, "task": task, "phase": phases}
    run = _split(values, RunOptions, kind.Options, "config")
    if not run.phases:
        raise ValueError("phases is empty; name at least one")
    for name in run.phases:
        if name not in run.phase:
            raise ValueError(f"phases names {name!r}, but phase has only {sorted(run.phase)}")
    return run


def _split(values: Mapping[str, Any], core: type, own: type, where: str) -> Any:
    """The dataclass `core` of a block in which its fields stand beside those of the task's `own`."""
    names = {field.name for field in dataclasses.fields(own)}
    inner = options(own, {k: v for k, v in values.items() if k in names}, where)
    rest = {k: v for k, v in values.items() if k not in names}
    return options(core, {**rest, "task_options": inner}, where)


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with every default filled in, as nested dictionaries: two that mean the same
    are equal, whichever fields they state. The method's block is left as it is."""
    run = dataclasses.asdict(run_options(config))
    run |= run.pop("task_options")
    for phase in run["phase"].values():
        phase |= phase.pop("task_options")
    return run | {"method": methods.resolved(run["method"])}


def check_names(config: Mapping[str, Any], kind: type[base.Task], task: str) -> None:
    """Raises ValueError for a field that its block does not have, naming the block or the task that
    has it, or the nearest name."""
    top, phase = _fields(RunOptions, kind.Options), _fields(PhaseOptions, kind.PhaseOptions)
    places: dict[str, list[str]] = {}
    for path in (*_paths(top), *(f"phase.NAME.{path}" for path in _paths(phase))):
        block, _, name = path.rpartition(".")
        places.setdefault(name, []).append(block)

    def check(values: Mapping[str, Any], fields: Mapping[str, Any], where: str) -> None:
        for key, value in values.items():
            if key not in fields:
                why = _elsewhere(key, where, places, task) or nearest(key, fields)
                raise ValueError(f"{where} has no option {key!r}; {why}")
            if fields[key] and isinstance(value, Mapping):
                check(value, fields[key], f"{where}.{key}")

    check(config, top, "config")
    for name, block in dict(config.get("phase", {})).items():
        check(block, phase, f"phase.{name}")


def _elsewhere(key: str, where: str, places: Mapping[str, list[str]], task: str) -> str:
    """A sentence naming the block of a misplaced option; "" if there is none."""
    if key in places:
        blocks = [f"`{block}`" if block else "the top level" for block in places[key]]
        return f"`{key}` is an option of {' and of '.join(blocks)}"
    path = f"{where}.{key}".removeprefix("config.")
    for other in tasks.KINDS:
        kind = tasks.task_class(other)
        inside = path
        fields = _fields(kind.Options)
        if path.startswith("phase."):
            inside, fields = path.split(".", 2)[2], _fields(kind.PhaseOptions)
        if other != task and inside in set(_paths(fields)):
            return f"it is an option of the task {other!r}, and this run's task is {task!r}"
    return ""


def _fields(*classes: type) -> dict[str, dict[str, Any]]:
    """The nested fields of dataclasses; a field of another type has an empty dictionary."""
    fields: dict[str, dict[str, Any]] = {}
    for cls in classes:
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            arms = (hints[field.name], *typing.get_args(hints[field.name]))
            blocks = [arm for arm in arms if dataclasses.is_dataclass(arm)]
            fields[field.name] = _fields(*blocks) if field.name != "phase" else {}
    fields.pop("task_options", None)
    return fields


def _paths(fields: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all options, blocks before their fields."""
    for name, inside in fields.items():
        yield prefix + name
        yield from _paths(inside, f"{prefix}{name}.")
