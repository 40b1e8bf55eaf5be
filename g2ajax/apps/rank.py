"""The ranked lists of a model's queries, from the ranks behind its scores."""

from collections.abc import Iterator, Sequence

from g2ajax.apps.evaluate import on_dataset, task_on
from g2ajax.data.crop_source import Dataset
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.evaluation.crops import Ranker
from g2ajax.evaluation.results import dataset_label
from g2ajax.methods import Method
from g2ajax.models.model import Model
from g2ajax.report.album import Album
from g2ajax.report.records import Ranking, Report
from g2ajax.tasks import task_class, tracklets
from g2ajax.tasks.embedder import Embedder, rankers
from g2ajax.tasks.ranked_lists import Lists, list_queries, make_lists

INTRO = (
    "Each row shows one query and the first {nouns} of its ranking{strips}: green frames are the query's "
    "person, dashed red ones are not. Where none of them shows the person, the first {noun} that does "
    "comes last, with its rank. Whatever the protocol leaves out for a query, {nouns} of its own person in "
    "its own camera and junk, is left out here too.",
    "AP is the average precision over the query's whole ranking, not over the {nouns} shown.",
)
STRIPS = ", each as a strip of some of its images in order of time"


Source = Embedder | tracklets.Task
"""A dataset with the functions of a model of crops, or the task of tracklets."""


def source_on(model: Model, name: str, rankings: Sequence[str], **folders: str) -> Source:
    """The dataset, by default the model's own, with what ranks it.

    Raises ValueError or FileNotFoundError for a dataset or rankings that do not fit the model.
    """
    if issubclass(task_class(model.card.task), tracklets.Task):
        tracklets.check_rankings(rankings)
        return task_on(model, name, **folders)
    return on_dataset(model, name, rankings, **folders)


def source_rankers(
    model: Method, source: Source, protocols: Sequence[str], ranking: str
) -> Iterator[Ranker]:
    """The rankers of these protocols."""
    if isinstance(source, tracklets.Task):
        every = source.rankers(model, (ranking,))
        return (one for one in every if one.protocol in protocols)
    return rankers(model, source.on(protocols=tuple(protocols)), (ranking,))


def rank_queries(model: Method, source: Source, protocol: str, ranking: str, top: int) -> Lists:
    """The scored ranking of a protocol, with the first `top` entries of each query's list."""
    (ranker,) = source_rankers(model, source, (protocol,), ranking)
    return make_lists(ranker, source.dataset, top)


def ranked_report(lists: Lists, rows: Sequence[int], dataset: Dataset, name: str) -> Report:
    """The lists of these queries as a page; `name` is the model's.

    Raises ValueError for a query whose person has no image left in its ranking: it has no score.
    """
    album, described = Album(), lists.ranker.described
    queries = list_queries(lists, rows, album, dataset)
    parameters = described.get("parameters")
    by = described["ranking"] + (f" ({parameters})" if parameters else "")
    label = f"{dataset_label(dataset.name)} {lists.ranker.protocol}"
    of_tracklets = isinstance(lists.query, TrackletSplit)
    noun = "tracklet" if of_tracklets else "image"
    words = {"noun": noun, "nouns": f"{noun}s", "strips": STRIPS * of_tracklets}
    intro = [line.format(**words) for line in INTRO]
    return Report(
        title=f"{name}: {label}",
        summary=[f"Ranked by {by}, {described['metric']}, {described['feature_name']}.", *intro],
        scores=(),
        charts=(),
        rankings=[Ranking(lists.ranker.protocol, queries)],
        pictures=album.pictures,
    )
