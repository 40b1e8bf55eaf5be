"""Explained queries as records of a page, and the report of a model of crops."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt8

from g2ajax.data.builders import PLATFORMS
from g2ajax.data.crop_source import KINDS, CropSplit
from g2ajax.data.images import decode, resize
from g2ajax.data.sharding import put_whole
from g2ajax.evaluation.crops import protocol_rows
from g2ajax.evaluation.explanation import Measure, as_rows
from g2ajax.evaluation.rankings import between
from g2ajax.evaluation.results import Result, dataset_label
from g2ajax.methods import Method
from g2ajax.report import Explanation, Query, RankedImage, Table, words
from g2ajax.report.records import Report
from g2ajax.retrieval import pairwise
from g2ajax.retrieval.attributes import signed
from g2ajax.retrieval.decomposition import exclusive, shares
from g2ajax.tasks.crop_report import crop_report
from g2ajax.tasks.embedder import (
    INPUTS,
    Embedder,
    embed_split,
    explained_sides,
    rankers,
    split_batches,
)
from g2ajax.tasks.scores import summary_of

EXPLAINED = 4
"""Most explained queries of a report."""

INTRO = """\
Each figure explains one query. The upper row is the gallery ranked by the sum of the attributes' \
distances, the row below it the same gallery without the explainable stream. Then come the maps of the \
attributes that contribute most, and the contribution of every attribute to the distance; ◆ marks \
attributes in which the two people are annotated differently.

A contribution is the share of an attribute's distance in the sum over all attributes. A map shows \
where the attention of an attribute lies; each is scaled by itself, so compare places within one map."""


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """Query images."""

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    titles: tuple[str, ...]
    camera: Int[np.ndarray, " N"]
    platform: Int[np.ndarray, " N"]
    attributes: Int[np.ndarray, "N G"] | None = None
    """Annotated classes; None: not annotated, so nothing is marked as exclusive."""
    identity: Int[np.ndarray, " N"] | None = None
    """None: unknown, so nothing is marked as right or wrong."""


def from_queries(query: CropSplit, rows: Sequence[int]) -> Asked:
    """Rows of the query split."""
    subset = query.take(np.asarray(rows, int))
    return Asked(
        tuple(decode(subset.read(i), str(subset.image_id[i])) for i in range(len(subset))),
        tuple(str(name) for name in subset.image_id),
        subset.camera,
        subset.platform,
        subset.attributes,
        subset.identity,
    )


def from_file(path: pathlib.Path, *, platform: str) -> Asked:
    """An image supplied by the user; its identity is unknown. Raises ValueError if unreadable."""
    kind = np.array([PLATFORMS.index(platform)])
    return Asked((decode(path.read_bytes(), str(path)),), (path.name,), np.zeros(1, int), kind)


def explain(
    model: Method, embedder: Embedder, protocol: str, asked: Asked, top: int = 5
) -> list[Explanation]:
    """The explanations of images against a protocol's gallery.

    Gallery images of the query's own identity and camera are left out if the protocol says so.
    """
    gallery = embedder.dataset.splits["gallery"].take(protocol_rows(embedder.dataset, protocol)[1])
    explained, plain, query = _distances(model, embedder, gallery, asked)
    person = gallery.kind == KINDS.index("person")
    rule = embedder.dataset.protocol(protocol)[2]
    key = rule.get("camera_key", "camera")
    for i in range(len(asked.images)):
        dropped = gallery.kind == KINDS.index("junk")
        if asked.identity is not None and rule["drop_same_camera"]:
            same = person & (gallery.identity == asked.identity[i])
            dropped |= same & (getattr(gallery, key) == getattr(asked, key)[i])
        explained[i, dropped] = plain[i, dropped] = np.inf
    label = f"{dataset_label(embedder.dataset.name)} {protocol}"
    names = tuple(
        words(group, name)
        for group, classes in embedder.dataset.attribute_groups
        for name in classes
    )

    def first(distance: np.ndarray) -> np.ndarray:
        order = np.argsort(distance, kind="stable")[:top]
        return order[np.isfinite(distance[order])]

    results = []
    for i, title in enumerate(asked.titles):
        best = first(explained[i])
        extras = _of_pairs(model, embedder, query, i, gallery.take(best))

        def ranked(row: int, distance: float, extra: dict[str, Any], i: int = i) -> RankedImage:
            name, correct = str(gallery.image_id[row]), None
            if asked.identity is not None:
                correct = bool(person[row] and gallery.identity[row] == asked.identity[i])
            if asked.attributes is None:
                extra = {**extra, "exclusive": None}
            return RankedImage(decode(gallery.read(row), name), name, correct, distance, **extra)

        results.append(
            Explanation(
                Query(asked.images[i], title, np.moveaxis(query["attention"][i], -1, 0)),
                names,
                tuple(
                    ranked(int(row), float(explained[i, row]), extra)
                    for row, extra in zip(best, extras, strict=True)
                ),
                tuple(
                    ranked(int(row), float(plain[i, row]), {"exclusive": None})
                    for row in first(plain[i])
                ),
                "sum of the attributes' distances",
                label,
            )
        )
    return results


def _distances(
    model: Method, embedder: Embedder, gallery: CropSplit, asked: Asked
) -> tuple[Float[np.ndarray, "N G"], Float[np.ndarray, "N G"], dict[str, np.ndarray]]:
    """The explained and the plain distance of each image to the gallery, and the explanations."""
    options, state = embedder.options, nnx.state(model)
    size, interpolation = options.data.image_size, options.data.test_interpolation
    batch = options.evaluate.batch_size
    count = len(asked.images)
    rows = np.resize(np.arange(count), -(-count // batch) * batch)
    inputs = {
        "image": np.stack([resize(image, size, interpolation) for image in asked.images]),
        "camera": asked.camera.astype(np.int32),
        "platform": asked.platform.astype(np.int32),
    }
    parts = []
    for start in range(0, len(rows), batch):
        piece = put_whole(
            {k: v[rows[start : start + batch]] for k, v in inputs.items()}, embedder.mesh
        )
        arrays = embedder.explain(state, piece)._asdict() | {"own": embedder.embed(state, piece)}
        parts.append(jax.device_get(arrays))
    query = {name: np.concatenate([p[name] for p in parts])[:count] for name in parts[0]}
    sizes = [len(names) for _, names in embedder.dataset.attribute_groups]
    codes = np.full((count, len(sizes)), -1) if asked.attributes is None else asked.attributes
    query["annotated"] = np.asarray(signed(jnp.asarray(codes), sizes))
    explained = [
        np.asarray(jnp.sum(between(query["attribute_embedding"], side.attribute_embedding), -1))[
            :, mask
        ]
        for side, mask in explained_sides(model, embedder, gallery)
    ]
    features = embed_split(embedder.embed, state, gallery, options.data, batch, embedder.mesh)
    plain = np.array(pairwise(jnp.asarray(query["own"]), jnp.asarray(features), model.metric))
    return np.concatenate(explained, axis=1), plain, query


def _of_pairs(
    model: Method, embedder: Embedder, query: dict[str, np.ndarray], i: int, gallery: CropSplit
) -> list[dict[str, Any]]:
    """Shares, exclusive attributes and maps of query i with each of a few gallery images."""
    options, state, results = embedder.options, nnx.state(model), []
    sizes = [len(names) for _, names in embedder.dataset.attribute_groups]
    for batch in split_batches(gallery, options.data, options.evaluate.batch_size, embedder.mesh):
        explanation = jax.device_get(embedder.explain(state, {k: batch[k] for k in INPUTS}))
        apart = between(query["attribute_embedding"][[i]], explanation.attribute_embedding)[0]
        annotated = signed(batch["attributes"], sizes)
        differs = exclusive(jnp.asarray(query["annotated"][[i]]), annotated)[0]
        share, differs = np.asarray(shares(apart)), np.asarray(differs)
        results += [
            {
                "shares": share[j],
                "exclusive": differs[j],
                "maps": np.moveaxis(explanation.attention[j], -1, 0),
            }
            for j in np.flatnonzero(np.asarray(batch["mask"]))
        ]
    return results


def embedder_report(
    model: Method,
    embedder: Embedder,
    results: Sequence[Result],
    measured: Sequence[Measure],
    noun: str,
    trained_on: str,
) -> Report:
    """The report of a model of crops on the dataset of `embedder`.

    Lists and curves are those of the first ranking of `results`. If these have explained rankings, a few
    queries of the protocols are explained. `noun`: the kind of data; `trained_on`: a dataset, "" if it
    is unknown.
    """
    dataset, evaluate = embedder.dataset, embedder.options.evaluate
    report = crop_report(
        list(rankers(model, embedder, (results[0].ranking,))),
        dataset,
        results,
        summary=summary_of(dataset, results, noun, trained_on),
        limit=evaluate.reported_queries,
        bootstrap_samples=evaluate.bootstrap_samples,
    )
    if "decomposed" not in {result.ranking for result in results}:
        return report
    tables = []
    if measured:
        head, rows = as_rows(measured)
        caption = f"Explanations, measured on {dataset_label(dataset.name)}"
        tables.append(Table(caption, head, rows))
    explanations = _explained(model, embedder, min(EXPLAINED, evaluate.reported_queries))
    return dataclasses.replace(report, tables=tables, explanations=explanations)


def _explained(model: Method, embedder: Embedder, count: int) -> list[Explanation]:
    """Explanations of queries spread over the protocols' query lists."""
    explanations = []
    for number, protocol in enumerate(embedder.protocols):
        rows, _ = protocol_rows(embedder.dataset, protocol)
        share = len(range(number, count, len(embedder.protocols)))
        places = rows[np.linspace(0, len(rows) - 1, share).astype(int)]
        if share:
            queries = from_queries(embedder.dataset.splits["query"], places.tolist())
            explanations += explain(model, embedder, protocol, queries)
    return explanations
