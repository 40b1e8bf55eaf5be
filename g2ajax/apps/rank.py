"""The ranked lists of a model's queries, from the ranks behind its scores."""

from collections.abc import Sequence

from g2ajax.evaluation.results import dataset_label
from g2ajax.methods import Method
from g2ajax.report.album import Album
from g2ajax.report.records import Ranking, Report
from g2ajax.tasks.embedder import Embedder, rankers
from g2ajax.tasks.ranked_lists import Lists, list_queries, make_lists

INTRO = (
    "Each row shows one query and the first images of its ranking: green frames are the query's "
    "person, dashed red ones are not. Where none of them shows the person, the first image that does "
    "comes last, with its rank. Whatever the protocol leaves out for a query, images of its own person in "
    "its own camera and junk, is left out here too.",
    "AP is the average precision over the query's whole ranking, not over the images shown.",
)


def rank_queries(model: Method, embedder: Embedder, protocol: str, ranking: str, top: int) -> Lists:
    """The scored ranking of a protocol, with the first `top` entries of each query's list."""
    (ranker,) = rankers(model, embedder.on(protocols=(protocol,)), (ranking,))
    return make_lists(ranker, embedder.dataset, top)


def ranked_report(lists: Lists, rows: Sequence[int], embedder: Embedder, name: str) -> Report:
    """The lists of these queries as a page; `name` is the model's.

    Raises ValueError for a query whose person has no image left in its ranking: it has no score.
    """
    album, described = Album(), lists.ranker.described
    queries = list_queries(lists, rows, album, embedder.dataset)
    parameters = described.get("parameters")
    by = described["ranking"] + (f" ({parameters})" if parameters else "")
    label = f"{dataset_label(embedder.dataset.name)} {lists.ranker.protocol}"
    return Report(
        title=f"{name}: {label}",
        summary=[f"Ranked by {by}, {described['metric']}, {described['feature_name']}.", *INTRO],
        scores=(),
        charts=(),
        rankings=[Ranking(lists.ranker.protocol, queries)],
        pictures=album.pictures,
    )
