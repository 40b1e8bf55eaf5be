"""Predicted attributes of test images beside the annotated ones, for a report."""

from collections.abc import Iterable, Sequence

import numpy as np
from flax import nnx
from jaxtyping import Int

from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.evaluation.attributes import accuracies, predicted_codes
from g2ajax.evaluation.reasons import Groups, known_codes
from g2ajax.methods import Method, PredictsAttributes
from g2ajax.report import charts
from g2ajax.report.album import Album
from g2ajax.report.charts import Bar
from g2ajax.report.names import words
from g2ajax.report.records import Chart
from g2ajax.tasks.embedder import Embedder, embed_split

SPOKEN = 3
"""Most differing groups of an image that are said in words."""

Side = tuple[CropSplit, Int[np.ndarray, "_ G"]]
"""Images with their predicted classes."""


def predicts(model: Method, dataset: Dataset) -> bool:
    """True if the model predicts the attributes that the dataset annotates."""
    groups = dataset.attribute_groups
    return isinstance(model, PredictsAttributes) and model.attribute_groups == groups


def predict(model: Method, embedder: Embedder, split: CropSplit) -> Side:
    """The images of a split with the class of each group that the model predicts."""
    options = embedder.options
    logits = embed_split(
        embedder.attribute_logits,
        nnx.state(model),
        split,
        options.data,
        options.evaluate.batch_size,
        embedder.mesh,
    )
    return split, predicted_codes(logits, embedder.dataset.attribute_groups)


def predict_shown(model: Method, embedder: Embedder, album: Album) -> list[Side]:
    """The test images whose pictures are in the album, with their predicted classes."""
    sides = []
    for name in ("query", "gallery"):
        split = embedder.dataset.splits[name]
        shown = [row for row in range(len(split)) if _place(album, split, row) is not None]
        if shown:
            sides.append(predict(model, embedder, split.take(np.array(shown))))
    return sides


def accuracy_chart(sides: Sequence[Side], groups: Groups, samples: int) -> Chart | None:
    """The accuracy of each group beside that of always naming its most frequent class; None if there is
    no group in which the people are annotated differently. An image of both sides counts once.
    """
    kept = [split.kind != KINDS.index("junk") for split, _ in sides]

    def joined(columns: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([column[rows] for column, rows in zip(columns, kept, strict=True)])

    _, first = np.unique(joined(split.image_id for split, _ in sides), return_index=True)
    columns = (
        joined(predicted for _, predicted in sides)[first],
        joined(split.attributes for split, _ in sides)[first],
        joined(split.identity for split, _ in sides)[first],
    )
    rows = accuracies(*columns, groups, samples=samples)
    if not rows:
        return None
    bars = [
        Bar(words(r.group), r.value, r.low, r.high, f"{r.chance:.1f}", mark=r.chance) for r in rows
    ]
    alt = "; ".join(
        f"{words(r.group)}: {r.value:.1f} ({r.low:.1f} to {r.high:.1f}) of {r.images} images, always "
        f"{words(r.group, r.frequent).partition(': ')[2]}: {r.chance:.1f}"
        for r in rows
    )
    note = (
        "Test images whose annotated class is predicted, with the 95% interval over people. The line "
        "across a bar, and the last number, are the accuracy of always naming the most frequent class. "
        "Classes called unknown are neither predicted nor counted."
    )
    svg = charts.bars(bars, x="images with the right class, in percent")
    return Chart("attributes", "Attributes: predicted against annotated", svg, alt, note)


def remarks(album: Album, sides: Sequence[Side], groups: Groups) -> dict[int, str]:
    """Where pictures of the album are predicted otherwise than annotated, in words, by their places."""
    result = {}
    for split, predicted in sides:
        annotated = known_codes(split.attributes, groups)
        for row in np.flatnonzero(((annotated >= 0) & (annotated != predicted)).any(1)):
            place = _place(album, split, int(row))
            if place is not None:
                result[place] = differences(predicted[row], annotated[row], groups)
    return result


def differences(
    predicted: Int[np.ndarray, " G"], annotated: Int[np.ndarray, " G"], groups: Groups
) -> str:
    """The groups that are annotated, and predicted otherwise, in words: "upper: predicted T-shirt,
    annotated coat". `annotated`: codes as from `known_codes`.
    """
    parts = []
    for (group, names), guess, code in zip(groups, predicted, annotated, strict=True):
        if code >= 0 and guess >= 0 and guess != code:
            own, true = (words(group, names[k]).partition(": ")[2] for k in (guess, code))
            parts.append(f"{words(group)}: predicted {own}, annotated {true}")
    more = f"; {len(parts) - SPOKEN} more" if len(parts) > SPOKEN else ""
    return "; ".join(parts[:SPOKEN]) + more


def _place(album: Album, split: CropSplit, row: int) -> int | None:
    return album.place((split.name, str(split.image_id[row])))
