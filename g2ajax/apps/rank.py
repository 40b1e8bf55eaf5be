"""The ranked lists of a model's queries, from the ranks behind its scores."""

import dataclasses
import posixpath
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.data.images import decode
from g2ajax.data.tracklet_source import TrackletSplit
from g2ajax.evaluation.crops import Ranker, protocol_rows, rank_protocol
from g2ajax.evaluation.results import dataset_label
from g2ajax.methods import Method
from g2ajax.report import Explanation, Query, RankedImage
from g2ajax.report.strips import strip
from g2ajax.retrieval import RetrievalResult
from g2ajax.tasks.embedder import Embedder, rankers
from g2ajax.tasks.tracklets import Task as Tracklets

INTRO = """\
Each figure shows one query and the first images of its ranking: green frames are the query's person, \
red ones are not. Where none of them shows the person, the first image that does comes last, with its \
rank. Images that the protocol leaves out for a query (its own person in its own camera, \
and junk) are left out here too.

AP is the average precision over the query's whole ranking, not over the images shown."""
OF_TRACKLETS = """\
Each figure shows one query and the first tracklets of its ranking, each as a strip of some of its images \
in order of time: green frames are the query's person, red ones are not. Where none of them shows the \
person, the first tracklet that does comes last, with its rank. What the protocol leaves out for a query, \
tracklets of its own person in its own camera and junk, is left out here too.

AP is the average precision over the query's whole ranking, not over the tracklets shown."""
STRIP = 4
"""Most images of a tracklet's strip."""


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """One ranking of one protocol."""

    ranker: Ranker
    result: RetrievalResult
    query: CropSplit
    gallery: CropSplit
    """Rows that take part, as in the result."""


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
    ranked = rank_protocol(ranker.rank, source.dataset, protocol, top=top)
    return Lists(ranker, ranked, *sides(source.dataset, protocol))


def sides(dataset: Dataset, protocol: str) -> tuple[CropSplit, CropSplit]:
    """The queries and the gallery of a protocol of crops or tracklets, the rows that take part."""
    query, gallery = protocol_rows(dataset, protocol)
    return dataset.splits["query"].take(query), dataset.splits["gallery"].take(gallery)


def worst(result: RetrievalResult, count: int) -> Int[np.ndarray, " n"]:
    """The valid queries of the lowest average precision, the worst first."""
    valid = np.flatnonzero(result.valid)
    return valid[np.argsort(result.average_precision[valid], kind="stable")][:count]


def figures(lists: Lists, rows: Sequence[int], dataset: str) -> list[Explanation]:
    """A figure of each of these queries.

    Raises ValueError for a query whose person has no image left in its ranking: it has no score.
    """
    result, explanations = lists.result, []
    label = f"{dataset_label(dataset)} {lists.ranker.protocol}"
    described = lists.ranker.described
    parameters = described.get("parameters")
    by = described["ranking"] + (f" ({parameters})" if parameters else "")
    person = lists.gallery.kind == KINDS.index("person")
    for row in rows:
        if not result.valid[row]:
            raise ValueError(
                f"query {row} ({lists.query.image_id[row]}) has no image of its person left in the "
                "gallery, so it has no average precision and is not scored; choose another"
            )
        entries, distances = result.top[row], result.top_distance[row]
        entries = entries[entries >= 0]
        shown = [(*pair, None) for pair in zip(entries, distances, strict=False)]
        first = int(result.first_match[row])
        if first > len(entries):
            shown.append((result.match[row], result.match_distance[row], first))
        correct = person & (lists.gallery.identity == lists.query.identity[row])
        explanations.append(
            Explanation(
                Query(_image(lists.query, row), title(lists, row)),
                (),
                tuple(
                    RankedImage(
                        _image(lists.gallery, entry),
                        _name(lists.gallery, entry),
                        bool(correct[entry]),
                        float(distance),
                        rank=rank,
                    )
                    for entry, distance, rank in shown
                ),
                (),
                f"{by}, {described['metric']}, {described['feature_name']}",
                label,
            )
        )
    return explanations


def title(lists: Lists, row: int) -> str:
    """A query with its scores."""
    result = lists.result
    return (
        f"{row} {_name(lists.query, row)}: AP {100 * result.average_precision[row]:.2f}, "
        f"first match at rank {result.first_match[row]}"
    )


def _image(split: CropSplit, row: int | np.integer) -> np.ndarray:
    name = str(split.image_id[row])
    if not isinstance(split, TrackletSplit):
        return decode(split.read(int(row)), name)
    frames = split.encoded(int(row))
    places = np.unique(np.linspace(0, len(frames) - 1, STRIP).round().astype(int))
    return strip([decode(frames[place], name) for place in places])


def _name(split: CropSplit, row: int | np.integer) -> str:
    """The image's name without the folders that all images of the split are in, and its camera."""
    # Rows are sorted: what the first and the last share all do.
    ends = [posixpath.dirname(str(split.image_id[end])) for end in (0, -1)]
    folder = posixpath.commonpath(ends)
    name = str(split.image_id[row])[len(folder) + 1 if folder else 0 :]
    camera = split.camera[row]
    return name if camera < 0 else f"{name} (camera {camera})"
