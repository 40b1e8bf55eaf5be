"""Comparison of two models on the same protocols.

Both are scored here, by the functions behind every other score: a finished run keeps means, not the
scores of single queries, and a public file keeps nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from g2ajax.apps import rank
from g2ajax.apps.evaluate import described_checkpoint, evaluate_datasets, own_dataset
from g2ajax.evaluation.comparison import Comparison, check_protocols, compare_results
from g2ajax.evaluation.crops import score_protocol
from g2ajax.evaluation.results import Result
from g2ajax.models.model import Model
from g2ajax.report.album import Album
from g2ajax.report.records import Listed
from g2ajax.tasks import crops, task_class, tracklets
from g2ajax.tasks.ranked_lists import Lists, list_queries, make_lists


class Compared(NamedTuple):
    """A protocol on which two models are compared."""

    comparison: Comparison
    lists: tuple[Lists, Lists] | None
    """Ranked lists of A and B; None for sentences and for whole frames."""


class Scored(NamedTuple):
    """A model on one protocol."""

    result: Result
    lists: Lists | None


def compare_models(
    a: Model,
    b: Model,
    *,
    dataset: str = "",
    rankings: tuple[str, str] = ("reid", "reid"),
    protocol: str = "",
    top: int = 10,
    samples: int = 1000,
    data_dir: str = "",
    manual_dir: str = "",
) -> list[Compared]:
    """Scores two models on a dataset and compares them on each protocol that both are scored on.

    Args:
      a, b: the models; differences are B minus A.
      dataset: name of the dataset; by default the one that both were trained on.
      rankings: the ranking of A and that of B.
      protocol: the only protocol to compare on; by default all.
      top: images in the ranked lists.
      samples: bootstrap draws.
      data_dir, manual_dir: folders of built datasets and of downloads; by default those of the models.

    Raises ValueError or FileNotFoundError before anything is embedded for models of different datasets
    or protocols (naming what differs), for a dataset that does not fit, and for an unknown protocol.
    """
    if not dataset:
        check_runs(a, b)
    name = dataset or own_dataset(a)
    folders = {"data_dir": data_dir, "manual_dir": manual_dir}
    sources = [
        _source(model, name, ranking, folders)
        for model, ranking in zip((a, b), rankings, strict=True)
    ]
    shared = _shared(sources, protocol)
    scored = [
        {
            one.result.protocol: one
            for one in _scored(model, name, source, ranking, shared, top, folders)
        }
        for model, source, ranking in zip((a, b), sources, rankings, strict=True)
    ]
    names = [name for name in scored[0] if name in scored[1] and protocol in ("", name)]
    if not names:
        lists = " and ".join(", ".join(side) or "none" for side in scored)
        raise ValueError(
            f"no protocol {protocol or 'in common'} to compare on: A and B are scored on {lists}"
        )
    compared = []
    for name in names:
        one, other = (side[name] for side in scored)
        comparison = compare_results(one.result, other.result, samples=samples)
        lists = (one.lists, other.lists) if one.lists and other.lists else None
        compared.append(Compared(comparison, lists))
    return compared


def check_runs(a: Model, b: Model) -> None:
    """Raises ValueError for models whose runs had different datasets, or were scored by different
    protocols, naming each field that differs."""
    names = [own_dataset(model) for model in (a, b)]
    for side, name in zip("AB", names, strict=True):
        if not name:
            raise ValueError(
                f"nothing is known of the data that {side} was trained on; name the dataset to compare "
                "on (--dataset=market1501)"
            )
    if names[0] != names[1]:
        raise ValueError(
            f"A was trained and scored on {names[0]}, B on {names[1]}: scores of different data have no "
            f"difference; name one dataset for both (--dataset={names[0]})"
        )
    stored = [{row["protocol"]: row for row in reversed(m.card.results)} for m in (a, b)]
    for protocol in stored[0].keys() & stored[1].keys():
        check_protocols(stored[0][protocol], stored[1][protocol])


def _source(model: Model, name: str, ranking: str, folders: dict[str, str]) -> rank.Source | None:
    """The ranking of crops or tracklets; None for whole frames, which are scored by their task."""
    kinds = (crops.Task, tracklets.Task)
    if not issubclass(task_class(model.card.task), kinds):
        return None
    return rank.source_on(model, name, (ranking,), **folders)


def _shared(sources: Sequence[rank.Source | None], protocol: str) -> tuple[str, ...]:
    """The protocols that both models are scored on; () if a task scores one of them on its own."""
    if None in sources:
        return ()
    one, other = (source.protocols for source in sources)
    names = tuple(name for name in one if name in other and protocol in ("", name))
    if not names:
        raise ValueError(
            f"no protocol {protocol or 'in common'} to compare on: A is scored on {', '.join(one)}, B on "
            f"{', '.join(other)}"
        )
    return names


def _scored(
    model: Model,
    name: str,
    source: rank.Source | None,
    ranking: str,
    protocols: tuple[str, ...],
    top: int,
    folders: dict[str, str],
) -> list[Scored]:
    """A model on the protocols, with ranked lists where images or tracklets rank their like."""
    if source is None:
        return [Scored(r, None) for r in evaluate_datasets(model, (name,), (ranking,), **folders)]
    data, scored = source.dataset, []
    for one in rank.source_rankers(model.method, source, protocols or source.protocols, ranking):
        images = [key for key, _ in data.sides(one.protocol)] == ["query", "gallery"]
        lists = make_lists(one, data, top if images else 0)
        result = score_protocol(
            lambda ranked=lists.result, **_: ranked,
            data,
            one.protocol,
            **one.described,
            name=model.card.name,
            checkpoint=described_checkpoint(model, name),
            step=model.card.step,
        )
        scored.append(Scored(result, lists if images else None))
    return scored


class Changed(NamedTuple):
    """A query whose average precision changed, with its ranked lists in A and in B."""

    title: str
    lists: tuple[Listed, Listed]


def changed_queries(compared: Compared, count: int, album: Album) -> list[Changed]:
    """The `count` queries that changed most, with their ranked lists; `album` takes the pictures.

    None where the protocol has no ranked lists of images.
    """
    if compared.lists is None:
        return []
    queries, changed = compared.comparison.queries, []
    for query in compared.comparison.most_changed(count):
        row = (int(queries.row[query]),)
        (one,), (other,) = (list_queries(lists, row, album) for lists in compared.lists)
        changed.append(Changed(one.title, (one, other)))
    return changed
