"""Evaluation of a trained model on other datasets than its own."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from g2ajax.data.crop_source import Dataset
from g2ajax.data.source import open_dataset
from g2ajax.evaluation import embedded, rankings
from g2ajax.evaluation.embedded import EMBEDDED
from g2ajax.evaluation.results import Result
from g2ajax.methods import Method
from g2ajax.tasks import crops
from g2ajax.tasks.crop_checks import check_cameras
from g2ajax.tasks.embedder import score_crops
from g2ajax.training import loop
from g2ajax.training.options import run_options
from g2ajax.training.setup import Run


def evaluate_datasets(
    config: Mapping[str, Any],
    workdir: str | pathlib.Path,
    kind: str,
    names: Sequence[str] = (),
    asked: Sequence[str] = (),
) -> list[Result]:
    """Scores the checkpoint `kind` of a run on each of the datasets (its own if none is named).

    Its own dataset is scored on the run's protocols, another one on all of its own. `asked`: the
    rankings; if none, those of the run, without the explained ones on other datasets. The run's own
    dataset must be present too: it determines the number of classes of the checkpoint.

    Raises ValueError or FileNotFoundError before anything is embedded for a dataset that cannot be
    opened or that the model cannot embed, and for rankings that do not fit.
    """
    loop.check_task(config, workdir, kind, crops.Task)
    options = run_options(config)
    data, evaluate = options.task_options.data, options.task_options.evaluate
    for ranking in asked:
        rankings.requirement(ranking)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"dataset {name!r} is named {names.count(name)} times; once is enough")
    run, meta = loop.reopen(config, workdir, kind, of=crops.Task)
    own = run.task.info.dataset  # that of the checkpoint's phase
    names = tuple(names) or (own,)
    others = {
        name: open_dataset(name, data_dir=data.dir or None, manual_dir=data.manual_dir or None)
        for name in names
        if name != own
    }
    for other in others.values():
        protocols = [row["name"] for row in other.protocols]
        embedded_names = [r for r in asked or evaluate.rankings if r in EMBEDDED]
        embedded.check(other, protocols, embedded_names, evaluate.rerank, evaluate.expansion)
    for ranking in asked:
        check_trained(run, meta["phase"], ranking)
    ranking_names = tuple(asked) or run.task.rankings(
        run.phase(options.phases.index(meta["phase"]))
    )
    for name, other in others.items():
        check_transfer(run.model, run.task.dataset, other)
        apart = [r for r in asked if r not in EMBEDDED]
        if apart:
            raise ValueError(
                f"ranking {apart[0]!r} explains distances by the attributes of {own}; "
                f"on {name} choose from {', '.join(EMBEDDED)}"
            )
    results = []
    for name in names:
        elsewhere = name != own
        embedder = run.task.embedder.on(others[name]) if elsewhere else run.task.embedder
        results += score_crops(
            run.model,
            embedder,
            name=options.name,
            seed=options.seed,
            checkpoint=loop.describe(kind) + f" of {own}" * (kind == "best" and elsewhere),
            step=meta["total_step"],
            rankings=[r for r in ranking_names if r in EMBEDDED] if elsewhere else ranking_names,
        )
    return results


def check_trained(run: Run, phase: str, ranking: str) -> None:
    """Raises ValueError for an explained ranking that a checkpoint's phase has not trained."""
    trained = run.options.phase[phase].task_options.rankings
    names = ", ".join(dict.fromkeys((*EMBEDDED, *trained)))
    if rankings.requirement(ranking) and ranking not in trained:
        raise ValueError(
            f"ranking {ranking!r} needs an explainable stream, and the checkpoint's phase {phase!r} "
            f"ranks by {', '.join(trained)}; choose from {names}"
        )


def check_transfer(model: Method, own: Dataset, other: Dataset) -> None:
    """Raises ValueError if a model's side information has no meaning on another dataset."""
    names = {one.name.partition("/")[0] for one in (own, other)}
    if model.needs_camera and len(names) > 1:
        raise ValueError(
            f"the model embeds the cameras of {own.name}, and those of {other.name} are others, "
            "whatever their numbers; train with method.camera_embedding=False to evaluate across "
            "datasets"
        )
    if model.needs_camera:
        check_cameras(model, own, other)
    if model.needs_platform:
        for split in ("query", "gallery"):
            strange = sorted(
                {p for p in other.splits[split].platform.tolist() if not 0 <= p < model.platforms}
            )
            if strange:
                raise ValueError(
                    f"the model embeds the platforms 0 to {model.platforms - 1}, but the {split} split of "
                    f"{other.name} has {strange} (-1: unknown); train with method.platforms=0"
                )
