"""A trained model on other datasets than its own."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from g2ajax.data.source import Dataset
from g2ajax.evaluation import embedded, rankings
from g2ajax.evaluation.embedded import EMBEDDED
from g2ajax.evaluation.results import Result
from g2ajax.training import loop
from g2ajax.training import setup as setups
from g2ajax.training.inference import score
from g2ajax.training.options import run_options
from g2ajax.training.setup import Setup


def evaluate_datasets(
    config: Mapping[str, Any],
    workdir: str | pathlib.Path,
    kind: str,
    names: Sequence[str] = (),
    asked: Sequence[str] = (),
) -> list[Result]:
    """Scores the checkpoint `kind` of a run on each of the datasets (its own if none is named).

    On its own dataset the run's protocols count, on another all it has. `asked`: the rankings; if
    none, those of the run, without the explained ones on other datasets. The run's own dataset must
    be there too: it says how many classes the checkpoint has.

    Raises ValueError or FileNotFoundError before anything is embedded for a dataset that cannot be
    opened or that the model cannot embed, and for rankings that do not fit.
    """
    options = run_options(config)
    for ranking in asked:
        rankings.requirement(ranking)
    names = tuple(names) or (options.dataset,)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"dataset {name!r} is named {names.count(name)} times; once is enough")
    others = {
        name: setups.open_dataset(
            name, data_dir=options.data.dir or None, manual_dir=options.data.manual_dir or None
        )
        for name in names
        if name != options.dataset
    }
    for other in others.values():
        protocols = [row["name"] for row in other.protocols]
        made = [r for r in asked or options.evaluate.rankings if r in EMBEDDED]
        embedded.check(other, protocols, made, options.evaluate.rerank, options.evaluate.expansion)
    own, meta = loop.reopen(config, workdir, kind)
    for ranking in asked:
        check_trained(own, meta["phase"], ranking)
    given = tuple(asked) or own.rankings(meta["phase"])
    for name, other in others.items():
        check_transfer(own.model, own.dataset, other)
        apart = [r for r in asked if r not in EMBEDDED]
        if apart:
            raise ValueError(
                f"ranking {apart[0]!r} explains distances by the attributes of {options.dataset}; "
                f"on {name} choose from {', '.join(EMBEDDED)}"
            )
    results = []
    for name in names:
        target = own if name == options.dataset else with_dataset(own, others[name])
        chosen = f" of {options.dataset}" * (kind == "best" and name != options.dataset)
        results += score(
            own.model,
            target,
            checkpoint=loop.describe(kind) + chosen,
            step=meta["total_step"],
            rankings=given if target is own else [r for r in given if r in EMBEDDED],
        )
    return results


def with_dataset(own: Setup, other: Dataset) -> Setup:
    """The run with another dataset to be scored on, on all its protocols."""
    evaluate = dataclasses.replace(own.options.evaluate, protocols=())
    return dataclasses.replace(
        own, dataset=other, options=dataclasses.replace(own.options, evaluate=evaluate)
    )


def check_trained(setup: Setup, phase: str, ranking: str) -> None:
    """Raises ValueError for an explained ranking that a checkpoint's phase has not trained."""
    trained = setup.options.phase[phase].rankings
    known = ", ".join(dict.fromkeys((*EMBEDDED, *trained)))
    if rankings.requirement(ranking) and ranking not in trained:
        raise ValueError(
            f"ranking {ranking!r} needs an explainable stream, and the checkpoint's phase {phase!r} "
            f"ranks by {', '.join(trained)}; choose from {known}"
        )


def check_transfer(model: nnx.Module, own: Dataset, other: Dataset) -> None:
    """Raises ValueError when a model's side information means nothing on another dataset."""
    names = {one.name.partition("/")[0] for one in (own, other)}
    if model.uses_camera and len(names) > 1:
        raise ValueError(
            f"the model embeds the cameras of {own.name}, and those of {other.name} are others, "
            "whatever their numbers; train with method.camera_embedding=False to evaluate across "
            "datasets"
        )
    if model.uses_camera:
        setups.check_cameras(model, own, other)
    platforms = getattr(getattr(model, "options", None), "platforms", 0)
    if platforms:
        for split in ("query", "gallery"):
            strange = sorted(
                {p for p in other.splits[split].platform.tolist() if not 0 <= p < platforms}
            )
            if strange:
                raise ValueError(
                    f"the model embeds the platforms 0 to {platforms - 1}, but the {split} split of "
                    f"{other.name} has {strange} (-1: unknown); train with method.platforms=0"
                )
