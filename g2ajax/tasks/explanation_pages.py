"""Explained queries as records of a page, and the report of a model of crops."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int, UInt8

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import KINDS, CropSplit
from g2ajax.data.images import decode, resize
from g2ajax.data.sharding import put_whole
from g2ajax.evaluation.crops import protocol_rows
from g2ajax.evaluation.explanation import Measure, as_rows, gradcam
from g2ajax.evaluation.reasons import UNKNOWN, Unusual, strongest, telling, unusual
from g2ajax.evaluation.results import Result, dataset_label
from g2ajax.methods import Method
from g2ajax.report.album import Album
from g2ajax.report.names import words
from g2ajax.report.overlay import overlay
from g2ajax.report.records import Entry, Explained, Explanation, Reason, Report, Table
from g2ajax.tasks.crop_report import crop_report
from g2ajax.tasks.embedder import INPUTS, Embedder, Features, rankers, split_batches
from g2ajax.tasks.explanation_measures import REASONS, distances_and_shares, jitted_saliency
from g2ajax.tasks.predicted_attributes import accuracy_chart, predict, predicts, remarks
from g2ajax.tasks.ranked_lists import image_name
from g2ajax.tasks.scores import summary_of

EXPLAINED, CANDIDATES = 4, 32
"""Most explained queries of a report, and the queries of a protocol from which they are taken."""


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """Query images."""

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    titles: tuple[str, ...]
    camera: Int[np.ndarray, " N"]
    platform: Int[np.ndarray, " N"]
    attributes: Int[np.ndarray, "N G"] | None = None
    """Annotated classes; None: not annotated."""
    identity: Int[np.ndarray, " N"] | None = None
    """None: unknown, so nothing is marked as right or wrong."""
    split: str = ""
    """Split of the images; "": none, and their pictures are no test images'."""


def from_queries(query: CropSplit, rows: Sequence[int]) -> Queries:
    """Rows of the query split."""
    subset = query.take(np.asarray(rows, int))
    return Queries(
        tuple(decode(subset.read(i), str(subset.image_id[i])) for i in range(len(subset))),
        tuple(str(name) for name in subset.image_id),
        subset.camera,
        subset.platform,
        subset.attributes,
        subset.identity,
        subset.name,
    )


def from_file(path: pathlib.Path, *, platform: str) -> Queries:
    """An image supplied by the user; its identity is unknown. Raises ValueError if unreadable."""
    kind = np.array([PLATFORMS.index(platform)])
    return Queries((decode(path.read_bytes(), str(path)),), (path.name,), np.zeros(1, int), kind)


@dataclasses.dataclass(frozen=True, eq=False)
class _Query:
    """One query with what its explanation is made of."""

    image: UInt8[np.ndarray, "H W 3"]
    title: str
    embedding: Float[np.ndarray, " D"]
    attention: Float[np.ndarray, "h w M"]
    attributes: Int[np.ndarray, " G"] | None
    identity: int | None
    first: CropSplit
    """The first images of its ranking; the rest is of these."""
    distance: Float[np.ndarray, " n"]
    unusual: Unusual
    reasons: list[list[int]]
    """Groups that stand out in each distance, the strongest first."""

    def is_right(self, row: int) -> bool | None:
        """True if an image is the query's person; None if that is unknown."""
        if self.identity is None:
            return None
        is_person = self.first.kind[row] == KINDS.index("person")
        return bool(is_person and self.first.identity[row] == self.identity)


def explain(
    model: Method,
    embedder: Embedder,
    protocol: str,
    queries: Queries,
    album: Album,
    *,
    top: int = 5,
    most: int | None = None,
) -> list[Explanation]:
    """The explanations of images against a protocol's gallery; their pictures go to `album`.

    Gallery images of the query's own identity and camera are left out if the protocol says so.
    `most`: only so many queries are explained, those whose first `top` images have the most reasons:
    above all reasons of other people, whose differences the annotations know.
    """
    gallery = embedder.dataset.splits["gallery"].take(protocol_rows(embedder.dataset, protocol)[1])
    query = _embedded(model, embedder, queries)
    distance, share = distances_and_shares(model, embedder, query["attribute_embedding"], gallery)
    dropped = _dropped(embedder, protocol, gallery, queries)
    eligible = telling(embedder.dataset.attribute_groups, model.attribute_rates)
    asked = []
    for i, title in enumerate(queries.titles):
        order = np.argsort(np.where(dropped[i], np.inf, distance[i]), kind="stable")
        first = order[: min(top, int((~dropped[i]).sum()))]
        relative = Unusual(*(values[first] for values in unusual(share[i], ~dropped[i])))
        asked.append(
            _Query(
                queries.images[i],
                title,
                query["embedding"][i],
                query["attention"][i],
                None if queries.attributes is None else queries.attributes[i],
                None if queries.identity is None else int(queries.identity[i]),
                gallery.take(first),
                distance[i, first],
                relative,
                strongest(relative, eligible),
            )
        )
    caption = (
        f"{dataset_label(embedder.dataset.name)} {protocol}, ranked by the sum of the attributes' "
        "distances"
    )
    if most is not None and most < len(asked):
        caption += f"; chosen from {len(asked)} queries because its first images have many reasons"
        ranked = sorted(asked, key=_reasons, reverse=True)[:most]
        asked = [one for one in asked if one in ranked]
    return [
        Explanation(
            album.add((queries.split, one.title), lambda one=one: one.image),
            one.title,
            _shown(model, embedder, one, album),
            caption,
        )
        for one in asked
    ]


def _dropped(
    embedder: Embedder, protocol: str, gallery: CropSplit, queries: Queries
) -> Bool[np.ndarray, "Q N"]:
    """Gallery images that each query is not ranked against."""
    rule = embedder.dataset.protocol(protocol)[2]
    junk = gallery.kind == KINDS.index("junk")
    if queries.identity is None or not rule["drop_same_camera"]:
        return np.broadcast_to(junk, (len(queries.titles), len(gallery)))
    key = rule.get("camera_key", "camera")
    same = gallery.identity == queries.identity[:, None]
    same_camera = getattr(gallery, key) == getattr(queries, key)[:, None]
    return junk | (same & same_camera & (gallery.kind == KINDS.index("person")))


def _reasons(query: _Query) -> tuple[int, int]:
    """Numbers of reasons in a query's first images: of other people, and of all."""
    counts = [len(reasons) for reasons in query.reasons]
    return sum(n for row, n in enumerate(counts) if query.is_right(row) is False), sum(counts)


def _embedded(model: Method, embedder: Embedder, queries: Queries) -> dict[str, np.ndarray]:
    """The explained embeddings of query images."""
    options, state, count = embedder.options, nnx.state(model), len(queries.images)
    size, interpolation = options.data.image_size, options.data.test_interpolation
    batch = options.evaluate.batch_size
    rows = np.resize(np.arange(count), -(-count // batch) * batch)
    inputs = {
        "image": np.stack([resize(image, size, interpolation) for image in queries.images]),
        "camera": queries.camera.astype(np.int32),
        "platform": queries.platform.astype(np.int32),
    }
    parts = []
    for start in range(0, len(rows), batch):
        piece = {k: v[rows[start : start + batch]] for k, v in inputs.items()}
        explained = embedder.explain(state, put_whole(piece, embedder.mesh))
        parts.append(jax.device_get(explained._asdict()))
    return {name: np.concatenate([p[name] for p in parts])[:count] for name in parts[0]}


def _shown(model: Method, embedder: Embedder, query: _Query, album: Album) -> list[Explained]:
    """The first images of a ranking, each with the groups that stand out in its distance."""
    groups, gallery = embedder.dataset.attribute_groups, query.first
    attention, cam = _maps(model, embedder, query)
    own = _by_group(query.attention, groups)
    others = [_by_group(one, groups) for one in attention]
    # One scale for all maps of a group; one that hardly varies is not spread over it.
    tops = np.max([maps.max((0, 1)) for maps in (own, *others)], axis=0)
    lows = np.min([maps.min((0, 1)) for maps in (own, *others)], axis=0)
    lows = np.minimum(lows, 0.9 * tops)
    result = []
    for row in range(len(gallery)):
        name = str(gallery.image_id[row])
        image = decode(gallery.read(row), name)
        place = album.add((gallery.name, name), lambda image=image: image)
        entry = Entry(
            place,
            image_name(gallery, row),
            row + 1,
            float(query.distance[row]),
            query.is_right(row),
        )
        reasons = []
        for group in query.reasons[row]:
            label, scale = groups[group][0], (float(lows[group]), float(tops[group]))
            pair = (query.image, own, ("asked", query.title)), (image, others[row], name)
            pictures = tuple(
                album.add(
                    (query.title, key, group),
                    lambda picture=picture, maps=maps, group=group, scale=scale: overlay(
                        picture, maps[..., group], *scale
                    ),
                )
                for picture, maps, key in pair
            )
            codes = query.attributes, gallery.attributes[row]
            reasons.append(
                Reason(
                    words(label),
                    float(query.unusual.ratio[row, group]),
                    float(query.unusual.deviation[row, group]),
                    pictures,
                    tuple(_class(groups[group], group, code) for code in codes),
                )
            )
        saliency = album.add(
            (query.title, name, "grad-cam"),
            lambda image=image, row=row: overlay(image, cam[row], 0.0, float(cam[row].max())),
        )
        result.append(Explained(entry, reasons, saliency))
    return result


def _by_group(
    attention: Float[np.ndarray, "h w M"], groups: Sequence[tuple[str, Sequence[str]]]
) -> Float[np.ndarray, "h w G"]:
    """The mean attention of each group's known classes."""
    starts = np.cumsum([0, *(len(names) for _, names in groups)])
    columns = []
    for start, (_, names) in zip(starts, groups, strict=False):
        numbers = [start + i for i, name in enumerate(names) if name != UNKNOWN]
        columns.append(attention[..., numbers or [start]].mean(-1))
    return np.stack(columns, axis=-1)


def _class(
    group: tuple[str, Sequence[str]], number: int, codes: Int[np.ndarray, " G"] | None
) -> str:
    """The annotated class in words; "" if it is unknown."""
    code = -1 if codes is None else int(codes[number])
    if not 0 <= code < len(group[1]) or group[1][code] == UNKNOWN:
        return ""
    return words(group[0], group[1][code]).partition(": ")[2]


def _maps(
    model: Method, embedder: Embedder, query: _Query
) -> tuple[Float[np.ndarray, "n h w M"], Float[np.ndarray, "n h w"]]:
    """Attention in the first images of a ranking, and Grad-CAM of their distance to the query."""
    options, state = embedder.options, nnx.state(model)
    saliency, attention, cams = jitted_saliency(model), [], []
    for batch in split_batches(
        query.first, options.data, options.evaluate.batch_size, embedder.mesh
    ):
        inputs, mask = {k: batch[k] for k in INPUTS}, np.asarray(batch["mask"])
        other = np.repeat(query.embedding[None], len(mask), axis=0)
        features, gradients = saliency(state, inputs, other)
        cams.append(np.asarray(gradcam(features, gradients))[mask])
        attention.append(np.asarray(embedder.explain(state, inputs).attention)[mask])
    return np.concatenate(attention), np.concatenate(cams)


def embedder_report(
    model: Method,
    embedder: Embedder,
    results: Sequence[Result],
    measured: Sequence[Measure],
    noun: str,
    trained_on: str,
    features: Features | None = None,
) -> Report:
    """The report of a model of crops on the dataset of `embedder`, from its `features` if given.

    Lists and curves are those of the first ranking of `results`. If these have explained rankings, a few
    queries of the protocols are explained. `noun`: the kind of data; `trained_on`: a dataset, "" if it
    is unknown.
    """
    dataset, evaluate = embedder.dataset, embedder.options.evaluate
    album = Album()
    report = crop_report(
        list(rankers(model, embedder, (results[0].ranking,), features)),
        dataset,
        results,
        album,
        summary=summary_of(dataset, results, noun, trained_on),
        limit=evaluate.reported_queries,
        bootstrap_samples=evaluate.bootstrap_samples,
    )
    if "decomposed" in {result.ranking for result in results}:
        tables = []
        if measured:
            head, rows = as_rows(measured)
            caption = f"Explanations, measured on {dataset_label(dataset.name)}"
            tables.append(Table(caption, head, rows))
        count = min(EXPLAINED, evaluate.reported_queries)
        explanations = _explained(model, embedder, count, album)
        report = dataclasses.replace(
            report, tables=tables, explanations=explanations, trust=trust(measured)
        )
    if predicts(model, dataset):
        sides = [predict(model, embedder, dataset.splits[name]) for name in ("query", "gallery")]
        chart = accuracy_chart(sides, dataset.attribute_groups, evaluate.bootstrap_samples)
        report = dataclasses.replace(
            report,
            charts=[*report.charts, *([chart] if chart else [])],
            remarks=remarks(album, sides, dataset.attribute_groups),
        )
    return dataclasses.replace(report, pictures=album.pictures)


def trust(measured: Sequence[Measure]) -> str:
    """How many of the reasons are true beside the same ones of other pairs, in words; "" if that was not
    measured.
    """
    values = {(m.part, m.source): m for m in measured if m.measure == REASONS}
    sentences, better = [], []
    for (part, source), own in values.items():
        if source != "attention" or not part.startswith("reasons "):
            continue
        chance = values[part, "random"].value
        low, high = own.interval
        better.append(low > chance)
        verdict = "more than" if low > chance else "less than" if high < chance else "no more than"
        sentences.append(
            f"{part.removeprefix('reasons ')}: {100 * own.value:.1f}% of the reasons ({100 * low:.1f} "
            f"to {100 * high:.1f}) name an attribute in which the two people are annotated "
            f"differently, {verdict} the {100 * chance:.1f}% of the same reasons given for other pairs."
        )
    if not sentences:
        grouped = any(m.part.startswith("groups ") for m in measured)
        return "No attribute stood out in the pairs that were measured." if grouped else ""
    lead = "Not always, but more often than chance."
    if not all(better):
        lead = "In some protocols more often than chance, in others not."
    if not any(better):
        lead = "No more often than chance: do not rely on them."
    return " ".join([lead, *sentences, "Pairs of people who are annotated alike do not count."])


def _explained(model: Method, embedder: Embedder, count: int, album: Album) -> list[Explanation]:
    """Explanations of queries of the protocols, those with the most reasons of some that are spread over
    each protocol's list."""
    explanations = []
    for number, protocol in enumerate(embedder.protocols):
        rows, _ = protocol_rows(embedder.dataset, protocol)
        share = len(range(number, count, len(embedder.protocols)))
        places = rows[np.linspace(0, len(rows) - 1, min(CANDIDATES, len(rows))).astype(int)]
        if share:
            queries = from_queries(embedder.dataset.splits["query"], places.tolist())
            explanations += explain(model, embedder, protocol, queries, album, most=share)
    return explanations
