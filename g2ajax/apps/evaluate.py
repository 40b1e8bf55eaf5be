"""Evaluation of a model, on its own dataset or on others; the model needs no dataset, the scores do."""

import dataclasses
from collections.abc import Callable, Sequence

from g2ajax.config import flatten
from g2ajax.data.crop_source import Dataset
from g2ajax.data.source import open_dataset
from g2ajax.evaluation import embedded, rankings
from g2ajax.evaluation.crops import scoring_fault
from g2ajax.evaluation.embedded import EMBEDDED
from g2ajax.evaluation.results import Result
from g2ajax.models.model import Model
from g2ajax.report.records import Report
from g2ajax.tasks import crops, task_class
from g2ajax.tasks.base import RunInfo, Task, scorable
from g2ajax.tasks.crop_checks import check_rankings, check_sides
from g2ajax.tasks.embedder import Embedder, embed_sides, score_crops
from g2ajax.tasks.explanation_pages import embedder_report
from g2ajax.tasks.scores import result_tables

TakesReport = Callable[[str, Report], None]


def evaluate_datasets(
    model: Model,
    names: Sequence[str] = (),
    asked: Sequence[str] = (),
    *,
    data_dir: str = "",
    manual_dir: str = "",
    report: TakesReport | None = None,
) -> list[Result]:
    """Scores a model on each of the datasets (the one that it was trained on if none is named).

    Its own dataset is scored on the protocols of its run, another one on all of its own. `asked`:
    the rankings; if none, those of the run, without the explained ones on other datasets. `report`: is
    given the name of each dataset and the model's report on it.

    Raises ValueError or FileNotFoundError before anything is embedded for a dataset that cannot be
    opened or that the model cannot embed, and for rankings that do not fit.
    """
    own = own_dataset(model)
    names = tuple(names) or ((own,) if own else ())
    if not names:
        raise ValueError(
            f"nothing is known of the data that {model.card.origin.partition(',')[0]} was trained on; name "
            "the datasets to score it on (--datasets=market1501)"
        )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"dataset {name!r} is named {names.count(name)} times; once is enough")
    for ranking in asked:
        if issubclass(task_class(model.card.task), crops.Task):
            rankings.requirement(ranking)
    folders = {
        "data_dir": data_dir or model.data_dir,
        "manual_dir": manual_dir or model.manual_dir,
    }
    if not issubclass(task_class(model.card.task), crops.Task):
        every = (_by_task(model, name, asked, report, **folders) for name in names)
        return [result for results in every for result in results]
    embedders = {name: on_dataset(model, name, asked, **folders) for name in names}
    results = []
    for name, embedder in embedders.items():
        applicable = ranking_names(model, name, asked)
        features = embed_sides(model.method, embedder, applicable)
        scored = score_crops(
            model.method,
            embedder,
            rankings=applicable,
            features=features,
            name=model.card.name,
            seed=model.card.seed,
            checkpoint=described_checkpoint(model, name),
            step=model.card.step,
        )
        results += scored
        if report:
            noun = task_class(model.card.task).noun
            page = embedder_report(model.method, embedder, scored, [], noun, own, features)
            report(name, _finished(page, model, scored))
    return results


def own_dataset(model: Model) -> str:
    """The name of the dataset that a model was trained on; "" if it is unknown."""
    return str(model.card.trained_on.get("name", ""))


def described_checkpoint(model: Model, name: str) -> str:
    """The checkpoint for a table: one that was chosen on a test split says on which."""
    own, text = own_dataset(model), model.card.checkpoint
    return text + f" of {own}" * (text.startswith("best") and name != own)


def ranking_names(model: Model, name: str, asked: Sequence[str]) -> tuple[str, ...]:
    """The rankings of a model on a dataset, by default those of its run that fit the dataset."""
    names = tuple(
        dict.fromkeys(tuple(asked) or (*model.card.rankings, *model.options.evaluate.rankings))
    )
    return names if name == own_dataset(model) else tuple(n for n in names if n in EMBEDDED)


def on_dataset(
    model: Model,
    name: str = "",
    asked: Sequence[str] = (),
    *,
    data_dir: str = "",
    manual_dir: str = "",
) -> Embedder:
    """The functions of a model of crops with a dataset and its protocols; `name` is by default the
    dataset that it was trained on.

    Protocols without a score are left out. Raises ValueError or FileNotFoundError for a dataset or
    rankings that do not fit the model, and if no protocol has a score.
    """
    own = own_dataset(model)
    name = name or own
    if not name:
        raise ValueError("nothing is known of the model's training data; name a dataset")
    for ranking in asked:
        check_trained(model, ranking)
        if name != own and ranking not in EMBEDDED:
            raise ValueError(
                f"ranking {ranking!r} explains distances by the attributes of {own or 'its data'}; on {name} "
                f"choose from {', '.join(EMBEDDED)}"
            )
    dataset = open_dataset(
        name,
        data_dir=data_dir or model.data_dir or None,
        manual_dir=manual_dir or model.manual_dir or None,
    )
    evaluate = model.options.evaluate
    protocols = scorable(dataset, evaluate.protocols if name == own else (), scoring_fault)
    embedded.check(
        dataset,
        protocols,
        sorted({*ranking_names(model, name, asked)} & {*EMBEDDED}),
        evaluate.rerank,
        evaluate.expansion,
    )
    check_transfer(model, dataset)
    check_sides(model.method, dataset, protocols)
    check_rankings(model.method, "evaluate", ranking_names(model, name, asked))
    return model.embedder.on(dataset, protocols=protocols)


def _finished(report: Report, model: Model, results: Sequence[Result]) -> Report:
    """The report with the tables of the results and the facts of the model's card."""
    card = dataclasses.asdict(model.card)
    facts = {name: card[name] for name in ("origin", "method", "options", "initial_weights")}
    settings = [(name, str(value)) for name, value in flatten(facts)]
    tables = [*result_tables(results), *report.tables]
    return dataclasses.replace(report, tables=tables, settings=settings)


def _by_task(
    model: Model,
    name: str,
    asked: Sequence[str],
    report: TakesReport | None,
    *,
    data_dir: str,
    manual_dir: str,
) -> list[Result]:
    """The results of a model of another kind of data, by its own task."""
    task = task_on(model, name, data_dir=data_dir, manual_dir=manual_dir)
    names = tuple(dict.fromkeys(asked or (*model.card.rankings, *model.options.evaluate.rankings)))
    results = task.score(
        model.method,
        checkpoint=described_checkpoint(model, name),
        step=model.card.step,
        rankings=names,
    )
    if report and model.options.evaluate.reported_queries:
        page = task.report(model.method, results, [], own_dataset(model))
        if page:
            report(name, _finished(page, model, results))
    return results


def task_on(model: Model, name: str = "", *, data_dir: str = "", manual_dir: str = "") -> Task:
    """The task of a model's kind of data on a dataset, by default the one that it was trained on, with
    the model in use. On another dataset all its protocols take part.

    Raises ValueError or FileNotFoundError for a dataset that does not fit the model.
    """
    own = own_dataset(model)
    name = name or own
    if not name:
        raise ValueError("nothing is known of the model's training data; name a dataset")
    blocks = model.options
    folders = {"dir": data_dir or model.data_dir, "manual_dir": manual_dir or model.manual_dir}
    data, evaluate = dataclasses.replace(blocks.data, **folders), blocks.evaluate
    if name != own:
        evaluate = dataclasses.replace(evaluate, protocols=())
    info = RunInfo(
        name=model.card.name,
        dataset=name,
        method=model.card.method["name"],
        seed=model.card.seed,
        dtype=str(model.facts.as_dict()["dtype"]),
        mesh=model.mesh,
        options=dataclasses.replace(blocks, data=data, evaluate=evaluate),
        phases=(),
    )
    task = task_class(model.card.task)(info)
    task.use(model.method)
    return task


def check_trained(model: Model, ranking: str) -> None:
    """Raises ValueError for an explained ranking that a model was not trained for."""
    trained = model.card.rankings
    if rankings.requirement(ranking) and ranking not in trained:
        names = ", ".join(dict.fromkeys((*EMBEDDED, *trained)))
        raise ValueError(
            f"ranking {ranking!r} needs a trained explainable stream, and this model ranks by "
            f"{', '.join(trained)}; choose from {names}"
        )


def check_transfer(model: Model, dataset: Dataset) -> None:
    """Raises ValueError if a model's side information has no meaning on a dataset."""
    method, own = model.method, own_dataset(model)
    if method.needs_camera and own.partition("/")[0] != dataset.name.partition("/")[0]:
        raise ValueError(
            f"the model embeds the cameras of {own or 'its training data'}, and those of {dataset.name} are "
            "others, whatever their numbers; train with method.camera_embedding=False to evaluate "
            "across datasets"
        )
    limits = {"camera": model.facts.num_cameras, "platform": method.platforms}
    needs = {"camera": method.needs_camera, "platform": method.needs_platform}
    for side in (side for side, needed in needs.items() if needed):
        for split in ("query", "gallery"):
            codes = set(getattr(dataset.splits[split], side).tolist())
            strange = sorted(code for code in codes if not 0 <= code < limits[side])
            if strange:
                raise ValueError(
                    f"the model embeds the {side}s 0 to {limits[side] - 1}, but the {split} split of "
                    f"{dataset.name} has {strange} (-1: unknown), whose side information is untrained; "
                    f"train without it ({_WITHOUT[side]})"
                )


_WITHOUT = {"camera": "method.camera_embedding=False", "platform": "method.platforms=0"}
