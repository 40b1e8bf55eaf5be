"""A run's model as a card, which makes its weights usable without the training data.

`WORKDIR/data.json` has the facts of each dataset of the run that decide the model. It is written when the run
starts, so that a checkpoint of a run that was killed can be packed too.
"""

import dataclasses
import importlib.metadata
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from jax.experimental import multihost_utils

from g2ajax import methods
from g2ajax.evaluation.results import Result, as_dict
from g2ajax.interop.model_folder import Card, sha256, write_model
from g2ajax.methods import DataFacts, Method
from g2ajax.tasks import base
from g2ajax.training.options import RunOptions
from g2ajax.training.setup import Run
from g2ajax.training.workdir import replace_text

FILE = "data.json"
PACKAGES = ("g2ajax", "jax", "flax", "numpy")


@dataclasses.dataclass(frozen=True)
class Trained:
    """Training data of a run, as `data.json` keeps them."""

    facts: DataFacts
    source: Mapping[str, Any]
    """Name, version and fingerprint of the dataset."""
    initial_weights: Mapping[str, Any]


def note_data(workdir: pathlib.Path, runs: Iterable[Run]) -> None:
    """Writes `data.json`; a run that continues compares it instead.

    Raises ValueError if the data have changed since the run started.
    """
    path = workdir / FILE
    runs = tuple({id(run): run for run in runs}.values())
    datasets = {run.task.info.dataset: _entry(run) for run in runs}
    if path.exists():
        earlier = json.loads(path.read_text())["datasets"]
        for name, entry in datasets.items():
            before, after = (e["source"]["fingerprint"] for e in (earlier.get(name, entry), entry))
            if before != after:
                raise ValueError(
                    f"{name} has changed since this run started (fingerprint {before}, now {after}): its "
                    "results would mix two datasets; restore the data, or name another --workdir"
                )
        return
    content = {"datasets": datasets, "initial_weights": _initial(runs[0].options)}
    replace_text(path, json.dumps(content, indent=2) + "\n")


def _entry(run: Run) -> dict[str, Any]:
    dataset = run.task.dataset
    source = {name: getattr(dataset, name) for name in ("name", "version", "fingerprint")}
    return {"source": source, "facts": run.task.facts.as_dict()}


def _initial(options: RunOptions) -> dict[str, Any]:
    """The file from which training started, without the folders of this machine."""
    file = options.init.file
    if not file:
        return {}
    path = pathlib.Path(file).expanduser()
    if file.startswith("hf:") or not path.is_file():
        return {"file": file if file.startswith("hf:") else path.name}
    return {"file": path.name, "sha256": sha256(path)}


def read_data(workdir: pathlib.Path, dataset: str) -> Trained | None:
    """The training data of a run on `dataset`; None for a run of an earlier version, which kept
    none."""
    path = workdir / FILE
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    entry = content["datasets"].get(dataset)
    if entry is None:
        return None
    facts = DataFacts.from_dict(entry["facts"])
    return Trained(facts, entry["source"], content["initial_weights"])


def trained_by(run: Run) -> Trained:
    """The training data of a run that is open."""
    return Trained(run.task.facts, _entry(run)["source"], _initial(run.options))


def portable(blocks: base.Options) -> dict[str, Any]:
    """The task's blocks without folders of the machine that trained."""
    values = dataclasses.asdict(blocks)
    values["data"] = {k: v for k, v in values["data"].items() if k not in ("dir", "manual_dir")}
    return values


def make_card(
    options: RunOptions,
    phase: str,
    trained: Trained,
    model: Method,
    *,
    checkpoint: str,
    step: int,
    results: Sequence[Mapping[str, Any]] = (),
) -> Card:
    """The card of a checkpoint of `phase`.

    `checkpoint`: its description in results; `results`: rows of `results.json`.
    """
    return Card(
        name=options.title,
        task=options.task,
        method=methods.resolved(options.method),
        facts=trained.facts.as_dict(),
        options=portable(options.task_options),
        metric=model.metric,
        feature=model.feature_name,
        preprocessing=dataclasses.asdict(model.preprocessing),
        origin=f"a run of g2ajax: {options.title}, step {step}",
        trained_on=trained.source,
        initial_weights=trained.initial_weights,
        checkpoint=checkpoint,
        step=step,
        seed=options.seed,
        rankings=options.phase[phase].task_options.rankings,
        results=tuple(results),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def write_finished(
    workdir: pathlib.Path,
    run: Run,
    phase: str,
    *,
    checkpoint: str,
    step: int,
    results: Sequence[Result],
) -> None:
    """Writes `WORKDIR/model` with the run's present weights and their results, in one process."""
    nnx.update(run.model, jax.tree.map(_whole, nnx.state(run.model)))
    if jax.process_index():
        return
    trained = read_data(workdir, run.task.info.dataset) or trained_by(run)
    card = make_card(
        run.options,
        phase,
        trained,
        run.model,
        checkpoint=checkpoint,
        step=step,
        results=[as_dict(result) for result in results],
    )
    write_model(workdir / "model", run.model, card)


def _whole(value: jax.Array) -> Any:
    """A value whose parts other processes hold, gathered in every process."""
    if value.is_fully_addressable or value.is_fully_replicated:
        return value
    return multihost_utils.process_allgather(value, tiled=True)
