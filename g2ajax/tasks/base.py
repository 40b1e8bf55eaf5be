"""The contract of a task: everything that training asks of one kind of data."""

import abc
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from g2ajax.config.ranges import Count, Natural
from g2ajax.data.samplers import Sampler
from g2ajax.data.sharding import check_batch
from g2ajax.evaluation.explanation import Measure
from g2ajax.evaluation.results import Result
from g2ajax.methods import DataFacts, Method
from g2ajax.report.records import Report

Batch = dict[str, jax.Array]
Say = Callable[[str], None]
"""Prints a line for the user."""


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Options of the dataset and its reading."""

    dir: str = ""
    """Folder of built datasets; empty: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    manual_dir: str = ""
    """Folder of downloaded archives; empty: `<dir>/downloads/manual`."""
    num_workers: Natural = 0
    """Processes that decode; 0: threads of the main process."""
    num_threads: Count = 4
    """Threads that decode, in each process."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Options of scoring a run."""

    every_epochs: Natural = 10
    """Epochs between evaluations; 0: only at the end."""
    batch_size: Count = 128
    """Images (or frames) embedded at a time."""
    protocols: tuple[str, ...] = ()
    """Names of the dataset's protocols; empty: all it has."""
    bootstrap_samples: Count = 1000
    """Resamplings of the query identities behind the 95% intervals."""
    best: str = "mAP"
    """Score that chooses the best checkpoint of a phase, averaged over protocols and rankings."""
    rankings: tuple[str, ...] = ()
    """Further rankings besides the phase's own when the run ends. They do not choose the best
    checkpoint."""
    reported_queries: Natural = 400
    """Most queries whose ranked lists are on the report page, the worst before others; 0: no page."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Blocks of a configuration that belong to the task; each is a top-level block."""

    data: DataOptions = DataOptions()
    evaluate: EvaluateOptions = EvaluateOptions()


@dataclasses.dataclass(frozen=True)
class PhaseOptions:
    """Options of a phase (`phase.NAME`) that belong to the task."""

    dataset: str = ""
    """Dataset of this phase, on which it is also scored; empty: the run's. When the dataset
    changes, the model is rebuilt for its identities, and every tensor independent of them is
    kept."""
    rankings: tuple[str, ...] = ("reid",)
    """Rankings of the gallery when this phase is scored."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of a run, as its task sees it."""

    index: int
    """Place in the run; with the run's seed it determines the randomness of the batches."""
    name: str
    options: PhaseOptions


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """Facts about the run that a task may use."""

    name: str
    dataset: str
    method: str
    seed: int
    dtype: str
    mesh: Mesh
    options: Options
    phases: tuple[Phase, ...]
    """Phases on this dataset."""


class Task(abc.ABC):
    """One kind of data on one dataset: its batches for training, its scores for a model.

    The constructor takes the run's options, opens the data and checks it; then `facts` describe the
    model to build, and `use` takes that model. A batch is a dict of arrays under the names that all
    methods use: `image`, `label`, `camera`, `platform` (-1: unknown), `index`, `mask`, and what a kind
    of data adds (`frame_mask`, `caption`, `boxes`, ...). A method reads those that it needs.
    """

    noun: ClassVar[str]
    """The kind of data in a sentence: "crops"."""
    Options: ClassVar[type[Options]] = Options
    PhaseOptions: ClassVar[type[PhaseOptions]] = PhaseOptions
    no_micro_batches: ClassVar[str] = ""
    """Reason why a phase may not accumulate gradients over parts of a batch; "" if it may."""
    dataset: Any
    """The opened dataset; has `name`, `version`, `fingerprint` and `protocols`."""
    scored: tuple[int, Any] = (-1, None)
    """Step of the last model that was scored, and its embeddings (or detections) of the test data."""

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        check_batch(info.options.evaluate.batch_size, info.mesh, "evaluation batch")

    @property
    def options(self) -> Any:
        """The task's own blocks of the configuration."""
        return self.info.options

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols on which a model is scored."""
        names = self.options.evaluate.protocols
        return tuple(names or (row["name"] for row in self.dataset.protocols))

    @property
    @abc.abstractmethod
    def facts(self) -> DataFacts:
        """Facts of the data that decide the model."""

    @abc.abstractmethod
    def use(self, model: Method) -> None:
        """Takes the model that all later calls use, and makes its jitted functions.

        Raises ValueError for a model that does not fit the data, before anything is computed.
        """

    def check_phase(self, phase: Phase) -> None:
        """Raises ValueError for a phase that does not fit the data or the model."""
        return None

    @abc.abstractmethod
    def num_examples(self, phase: Phase) -> int:
        """Examples of one epoch of a phase."""

    @abc.abstractmethod
    def batch_size(self, phase: Phase) -> int:
        """Examples of one step of a phase."""

    @abc.abstractmethod
    def sampler(self, phase: Phase) -> Sampler:
        """The rows of each step of a phase, a function of (seed, phase, step)."""

    @abc.abstractmethod
    def batches(
        self,
        model: Method,
        phase: Phase,
        table: Int[np.ndarray, "S B"],
        start: int,
        *,
        trained: Callable[..., bool],
        say: Say,
    ) -> tuple[Iterator[Batch], Any]:
        """The batches of the sampler's rows, from step `start` on, and the store on the device.

        `model` has the values from which the phase continues; `trained` is the NNX filter of the
        parameters that it trains.
        """

    def prepare(self, phase: Phase) -> Callable[[jax.Array, Batch, Any], Batch]:
        """The function `(key, batch, store) -> batch` that a step calls first, inside jit: it gathers,
        augments and masks. By default the batch is returned unchanged."""
        return lambda key, batch, store: batch

    @abc.abstractmethod
    def names(self, rows: Int[np.ndarray, " B"]) -> list[str]:
        """The names of training examples, for messages."""

    def rankings(self, phase: Phase) -> tuple[str, ...]:
        """Rankings of the gallery when the run ends, or its checkpoint is scored, in a phase."""
        return tuple(dict.fromkeys((*phase.options.rankings, *self.options.evaluate.rankings)))

    @abc.abstractmethod
    def score(
        self, model: Method, *, checkpoint: str, step: int, rankings: Sequence[str]
    ) -> list[Result]:
        """The results of a model on the run's protocols, by each of the rankings.

        `checkpoint` and `step` identify the model in the results.
        """

    def scored_at(self, step: int) -> Any:
        """The embeddings that `scored` keeps, if they are of the model of this step; else None."""
        return self.scored[1] if self.scored[0] == step else None

    def measure(self, model: Method, rankings: Sequence[str], say: Say) -> list[Measure]:
        """Further measures besides the scores, taken once, of the last checkpoint."""
        return []

    def report(
        self,
        model: Method,
        results: Sequence[Result],
        measured: Sequence[Measure],
        trained_on: str,
    ) -> Report | None:
        """The report of a model whose `results` are given; None if this kind of data has none.

        The last call of `score` may have been of the same step: what it computed of the test data
        need not be computed again. `trained_on`: the dataset that the model was trained on; "" if it is unknown.
        """
        return None


def on_protocols(info: RunInfo, dataset: Any, fault: Callable[[Any, str], str]) -> RunInfo:
    """The same run, scored on the protocols that can be (`scorable`)."""
    evaluate = info.options.evaluate
    names = scorable(dataset, evaluate.protocols, fault)
    evaluate = dataclasses.replace(evaluate, protocols=names)
    return dataclasses.replace(info, options=dataclasses.replace(info.options, evaluate=evaluate))


def scorable(
    dataset: Any, named: Sequence[str], fault: Callable[[Any, str], str]
) -> tuple[str, ...]:
    """The protocols to score a model on: those `named`, else all of the dataset's but those at fault,
    each of which a line names.

    `fault(dataset, protocol)`: the reason why a protocol gives no score; "" if it does. Raises
    ValueError for a named protocol at fault, and if all of the dataset's are.
    """
    names = tuple(named or (row["name"] for row in dataset.protocols))
    reasons = {name: reason for name in names if (reason := fault(dataset, name))}
    if reasons and (named or len(reasons) == len(names)):
        name, reason = next(iter(reasons.items()))
        hint = (
            "; name others in evaluate.protocols" if len(dataset.protocols) > len(reasons) else ""
        )
        raise ValueError(f"protocol {name} of {dataset.name} cannot be scored: {reason}{hint}")
    for name, reason in reasons.items():
        warn(f"protocol {name} of {dataset.name} is left out: {reason}")
    return tuple(name for name in names if name not in reasons)


def warn(text: str) -> None:
    """Prints a warning to stderr, each text once."""
    if text not in _WARNED:
        _WARNED.add(text)
        print(f"warning: {text}", file=sys.stderr, flush=True)


_WARNED: set[str] = set()
