"""Search for a person in the user's own whole frames, with a model of person search.

import g2ajax
from g2ajax.apps.search_frames import search_frames
found, count = search_frames(g2ajax.load("runs/seqnet"), query_image, box, frames, top=10)
"""

import dataclasses
import heapq
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8

from g2ajax.data.footage import Named
from g2ajax.methods import Detects, SearchesPersons, method_name
from g2ajax.models.model import Model
from g2ajax.models.pictures import check_box

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of an image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sighting:
    """A frame with somebody in it."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    boxes: Float[np.ndarray, "N 4"]
    """Boxes of the detected people, the most similar first."""
    scores: Float[np.ndarray, " N"]
    """The detector's scores."""
    similarity: Float[np.ndarray, " N"]
    """Similarity to the query: the inner product with embeddings that carry the score."""


def check_searches(model: Model) -> None:
    """Raises ValueError for a model of crops, and for a plain detector."""
    method, name = model.method, model.home or model.card.name
    if not isinstance(method, Detects):
        raise ValueError(
            f"{name} is a model of crops; frames are searched by a model of person search "
            "(configs/seqnet.py), and folders of crops by `g2ajax search`"
        )
    if not isinstance(method, SearchesPersons):
        raise ValueError(
            f"{name} is a model of {method_name(method)!r}, which finds people and does not tell them "
            "apart; search with one of SeqNet or COAT (configs/seqnet.py)"
        )


def search_frames(
    model: Model,
    query: UInt8[np.ndarray, "H W 3"],
    box: Box,
    frames: Iterable[Named],
    *,
    top: int = 10,
) -> tuple[list[Sighting], int]:
    """The `top` frames with the people most similar to the one in the `box` of the query image, and
    the number of frames searched. The query is embedded once, and each frame detected once; only
    the frames that are returned stay in memory.

    Raises ValueError for a box that is not inside the image, and for a frame that fits no canvas.
    """
    check_box(box, query)
    feature = model.embed_people(query, [box])[0]
    best: list[tuple[float, int, Sighting]] = []
    count = 0
    for number, (name, image), people in model.finder.detect(frames):
        count += 1
        if not len(people.boxes):
            continue
        similarity = people.features @ feature
        order = np.argsort(-similarity, kind="stable")
        sighting = Sighting(
            name, image, people.boxes[order], people.scores[order], similarity[order]
        )
        # The earlier of equal frames.
        heapq.heappush(best, (float(similarity[order[0]]), -number, sighting))
        if len(best) > top:
            heapq.heappop(best)
    return [
        sighting for *_, sighting in sorted(best, key=lambda item: item[:2], reverse=True)
    ], count
