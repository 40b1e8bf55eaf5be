"""The ranked lists of queries as records of a report, with their pictures."""

import dataclasses
import posixpath
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from g2ajax.data.builders import PLATFORMS, records
from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.data.frame_source import FrameSplit
from g2ajax.data.images import decode
from g2ajax.evaluation.crops import Ranker, protocol_rows, rank_protocol
from g2ajax.evaluation.curves import Groups, chance
from g2ajax.report.album import HEIGHT, Album
from g2ajax.report.names import words
from g2ajax.report.records import Entry, Listed
from g2ajax.report.strips import strip
from g2ajax.retrieval import RetrievalResult

STRIP = 8
"""First places of a ranking that a report shows."""
FRAMES = 4
"""Frames of a tracklet in its picture."""
FINEST = 6
"""Most altitudes that are groups of their own; more are put together by tens of metres."""
SAMPLE = 1000
"""Gallery images of which the metres of a level are read."""


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """One ranking of one protocol."""

    ranker: Ranker
    result: RetrievalResult
    """With the first entries of each query's list."""
    query: CropSplit
    gallery: CropSplit
    """Rows that take part, as in the result."""
    camera_key: str = ""
    """Column that must differ between a query and its matches; "": none."""
    sentences: tuple[Sequence[str], Sequence[str]] = ((), ())
    """The sentences of both sides, row for row; empty for images."""

    @property
    def chance(self) -> tuple[float, float]:
        """Expected mAP and rank-1, in percent, of the same galleries in random order.

        Raises ValueError if no query has a match.
        """
        matches = np.array([len(ranks) for ranks in self.result.match_ranks])
        return chance(matches, self.result.listed)


def make_lists(ranker: Ranker, dataset: Dataset, top: int) -> Lists:
    """The scored ranking of a protocol, with the first `top` entries of each query's list."""
    rows = protocol_rows(dataset, ranker.protocol)
    sides, texts = [], []
    for (key, split), part in zip(dataset.sides(ranker.protocol), rows, strict=True):
        captions = dataset.splits[split.name].captions
        sides.append(split.take(part))
        texts.append([captions.text[row] for row in part] if key == "text" and captions else [])
    result = rank_protocol(ranker.rank, dataset, ranker.protocol, top=top)
    row = dataset.protocol(ranker.protocol)[2]
    key = row.get("camera_key", "camera") if row["drop_same_camera"] else ""
    return Lists(ranker, result, *sides, key, (texts[0], texts[1]))


def list_queries(
    lists: Lists, rows: Sequence[int], album: Album, dataset: Dataset | None = None
) -> list[Listed]:
    """These queries with their first places, and the first true match where it comes later.

    `dataset`: names of attributes and altitudes to filter by, if they are wanted. Raises ValueError for
    a query whose person has no image left in its ranking: it has no score.
    """
    result, listed = lists.result, []
    person = lists.gallery.kind == KINDS.index("person")
    height = Groups((), np.full(len(lists.query), -1))
    if dataset:
        height = altitudes(lists.query, lists.gallery)
    folders = _folder(lists.query), _folder(lists.gallery)
    for row in map(int, rows):
        if not result.valid[row]:
            raise ValueError(
                f"query {row} ({lists.query.image_id[row]}) has no image of its person left in the "
                "gallery, so it has no average precision and is not scored; choose another"
            )
        places = result.top[row] >= 0
        shown = [
            (int(entry), float(distance), rank)
            for rank, (entry, distance) in enumerate(
                zip(result.top[row][places], result.top_distance[row][places], strict=True), 1
            )
        ]
        first = int(result.first_match[row])
        if first > len(shown):
            shown.append((int(result.match[row]), float(result.match_distance[row]), first))
        correct = person & (lists.gallery.identity == lists.query.identity[row])
        entries = []
        for entry, distance, rank in shown:
            name = image_name(lists.gallery, entry, folders[1])
            picture, text = _shown(lists.gallery, lists.sentences[1], entry, album)
            entries.append(Entry(picture, name, rank, distance, bool(correct[entry]), text))
        picture, text = _shown(lists.query, lists.sentences[0], row, album)
        listed.append(
            Listed(
                picture,
                image_name(lists.query, row, folders[0]),
                100.0 * float(result.average_precision[row]),
                first,
                entries,
                text,
                _facts(lists.query, row, height),
                _attributes(lists.query, row, dataset),
            )
        )
    return listed


def worst(
    average_precision: Float[np.ndarray, " Q"], count: int | None = None
) -> Int[np.ndarray, " n"]:
    """The queries of the lowest average precision, the worst first; NaN, those without a score, are
    left out."""
    valid = np.flatnonzero(np.isfinite(average_precision))
    return valid[np.argsort(average_precision[valid], kind="stable")][:count]


def choose(
    average_precision: Float[np.ndarray, " Q"], limit: int
) -> tuple[Int[np.ndarray, " n"], str]:
    """The queries of a report, the worst first, and a sentence that says which they are: all up to
    `limit`, else two thirds of it the worst ones and the rest evenly spaced over the others."""
    order = worst(average_precision)
    left_out = len(average_precision) - len(order)
    note = f" {left_out} queries have no match and no score." if left_out > 1 else ""
    note = " 1 query has no match and no score." if left_out == 1 else note
    if len(order) <= limit:
        return order, f"All {len(order)} queries.{note}"
    head = max(1, 2 * limit // 3)
    others = np.linspace(head, len(order) - 1, limit - head).astype(int)
    rows = np.concatenate([order[:head], order[others]])
    text = (
        f"{len(rows)} of {len(order)} queries: the {head} worst and a sample of the others.{note}"
    )
    return rows, text


def altitudes(query: CropSplit, gallery: CropSplit) -> Groups:
    """Groups of the queries by the altitude from which their people were seen.

    In metres where the dataset knows them, as `by_metres`. A query from the ground that has a level has
    the altitudes of the aerial images of that level; where metres are unknown the groups are the
    dataset's levels.
    """
    metres = aerial_metres(query)
    levels = _levels(query, metres, gallery)
    names = [levels.get(level, ("", 0.0)) for level in query.altitude_level.tolist()]
    return by_metres(metres, names)


def by_metres(metres: Float[np.ndarray, " N"], names: Sequence[tuple[str, float]] = ()) -> Groups:
    """Groups of altitudes: one for each whole number of metres, or for ten metres if there are many.

    `names`: for each row without metres the group's name, "" for none, and its place in the order.
    """
    heights = np.unique(np.round(metres[np.isfinite(metres)]))
    step = 10.0 if len(heights) > FINEST else 0.0
    order: dict[str, float] = {}
    labels = []
    for row, height in enumerate(metres.tolist()):
        label, place = names[row] if names else ("", 0.0)
        if np.isfinite(height):
            place = step * (height // step) if step else float(round(height))
            label = _range(place, place + step)
        order.setdefault(label, place)
        labels.append(label)
    order.pop("", None)
    ordered = sorted(order, key=order.__getitem__)
    return Groups(ordered, np.array([ordered.index(x) if x else -1 for x in labels], np.int64))


def _levels(
    query: CropSplit, metres: np.ndarray, gallery: CropSplit
) -> dict[int, tuple[str, float]]:
    """The name of each altitude level of queries without metres, and its place in the order."""
    unknown = query.altitude_level[~np.isfinite(metres)]
    present = [int(level) for level in np.unique(unknown) if level >= 0]
    if not present:
        return {}
    rows = np.linspace(0, len(gallery) - 1, min(len(gallery), SAMPLE)).astype(int)
    sample = gallery.take(rows)
    height = np.concatenate([metres, aerial_metres(sample)])
    level = np.concatenate([query.altitude_level, sample.altitude_level])
    names = {}
    for number in present:
        here = height[(level == number) & np.isfinite(height)]
        names[number] = (f"level {number}", float(number))
        if len(here):
            names[number] = (
                _range(float(np.round(here.min())), float(np.round(here.max()))),
                float(here.min()),
            )
    return names


def _range(low: float, high: float) -> str:
    return f"{low:.0f}–{high:.0f} m" if high > low else f"{low:.0f} m"


def aerial_metres(split: CropSplit | FrameSplit) -> Float[np.ndarray, " N"]:
    """The altitude of each aerial image in metres; NaN where it is unknown, and for other images."""
    metres = np.full(len(split), np.nan)
    if split.folder:  # not of a dataset in memory
        stored = records(split.folder, split.name)
        for row in np.flatnonzero(split.platform == PLATFORMS.index("aerial")):
            metres[row] = stored[int(split.position[row])].get("altitude_m", np.nan)
    return metres


def image_name(split: CropSplit, row: int, folder: str | None = None) -> str:
    """The image's name without the folders that all images of the split are in, and its camera."""
    folder = _folder(split) if folder is None else folder
    name = str(split.image_id[row])[len(folder) + 1 if folder else 0 :]
    camera = split.camera[row]
    return name if camera < 0 else f"{name} (camera {camera})"


def _folder(split: CropSplit) -> str:
    # Rows are sorted: what the first and the last share all do.
    ends = [posixpath.dirname(str(split.image_id[end])) for end in (0, -1)]
    return posixpath.commonpath(ends)


def _shown(
    split: CropSplit, sentences: Sequence[str], row: int, album: Album
) -> tuple[int | None, str]:
    """The picture of a row, or its sentence."""
    if len(sentences):
        return None, sentences[row]
    key = split.name, str(split.image_id[row])
    return album.add(key, lambda: picture(split, row)), ""


def picture(split: CropSplit, row: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image of a row; of a tracklet some of its frames beside each other."""
    encoded, name = split.encoded(row), str(split.image_id[row])
    if len(encoded) == 1:
        return decode(encoded[0], name)
    places = np.unique(np.linspace(0, len(encoded) - 1, FRAMES).astype(int))
    return strip([decode(encoded[place], name) for place in places], HEIGHT)


def _facts(split: CropSplit, row: int, height: Groups) -> dict[str, str]:
    platform, camera, code = split.platform[row], split.camera[row], height.codes[row]
    facts = {
        "view": PLATFORMS[platform] if platform >= 0 else "",
        "altitude": height.names[code] if code >= 0 else "",
        "camera": str(camera) if camera >= 0 else "",
    }
    return {name: value for name, value in facts.items() if value}


def _attributes(split: CropSplit, row: int, dataset: Dataset | None) -> list[str]:
    """The annotated classes of a row in words."""
    if dataset is None:
        return []
    groups = zip(dataset.attribute_groups, split.attributes[row].tolist(), strict=False)
    return [
        words(group, names[code])
        for (group, names), code in groups
        if 0 <= code < len(names) and names[code] != "unknown"
    ]
