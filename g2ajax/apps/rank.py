"""The ranked lists of a model's queries, from the ranks behind its scores."""

from collections.abc import Sequence

from g2ajax.data.crop_source import Dataset
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.evaluation.results import dataset_label
from g2ajax.methods import Method
from g2ajax.report.album import Album
from g2ajax.report.records import Ranking, Report
from g2ajax.tasks.embedder import Embedder, rankers
from g2ajax.tasks.ranked_lists import Lists, list_queries, make_lists
from g2ajax.tasks.tracklets import Task as Tracklets

INTRO = (
    "Each row shows one query and the first {nouns} of its ranking{strips}: green frames are the query's "
    "person, dashed red ones are not. Where none of them shows the person, the first {noun} that does "
    "comes last, with its rank. Whatever the protocol leaves out for a query, {nouns} of its own person in "
    "its own camera and junk, is left out here too.",
    "AP is the average precision over the query's whole ranking, not over the {nouns} shown.",
)
STRIPS = ", each as a strip of some of its images in order of time"


def rank_queries(
    model: Method, source: Embedder | Tracklets, protocol: str, ranking: str, top: int
) -> Lists:
    """The scored ranking of a protocol, with the first `top` entries of each query's list.

    `source`: the dataset with the functions of a model of crops, or the task of tracklets.
    """
    if isinstance(source, Tracklets):
        made = source.rankers(model, (ranking,))
        ranker = next(one for one in made if one.protocol == protocol)
    else:
        (ranker,) = rankers(model, source.on(protocols=(protocol,)), (ranking,))
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
