"""Scoring embedded crops on the protocols of their dataset."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from g2ajax.data.source import KINDS, Dataset
from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.results import Result
from g2ajax.retrieval import RetrievalResult, evaluate


def evaluate_crops(
    features: Mapping[str, Float[Array | np.ndarray, "N D"]],
    dataset: Dataset,
    *,
    protocols: Sequence[str] = (),
    metric: str,
    **described: Any,
) -> list[Result]:
    """One result for each protocol (all of the dataset's if none is named).

    `features` holds the embeddings of the `query` and `gallery` splits, row for row. `described` is
    what `score_protocol` takes besides. Raises ValueError for features of another number of rows, an
    unknown protocol, one without queries or gallery, and what `evaluate` refuses.
    """
    for split in ("query", "gallery"):
        if len(features[split]) != len(dataset.splits[split]):
            raise ValueError(
                f"{len(features[split])} features for the {len(dataset.splits[split])} images of "
                f"{dataset.name}'s {split} split; give one a row, without the padding"
            )

    def score(protocol: str) -> Result:
        query_rows, gallery_rows = protocol_rows(dataset, protocol)
        rank = functools.partial(
            evaluate,
            _rows(features["query"], query_rows),
            _rows(features["gallery"], gallery_rows),
            metric=metric,
        )
        return score_protocol(rank, dataset, protocol, metric=metric, **described)

    return [score(protocol) for protocol in protocols or [row["name"] for row in dataset.protocols]]


def protocol_rows(
    dataset: Dataset, protocol: str
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " G"]]:
    """Rows of the query and gallery splits that take part. Raises ValueError if one has none."""
    query_rows, gallery_rows, _ = dataset.protocol(protocol)
    for split, rows in (("query", query_rows), ("gallery", gallery_rows)):
        if not len(rows):
            raise ValueError(f"{dataset.name}: no {split} image takes part in {protocol}")
    return query_rows, gallery_rows


def score_protocol(
    rank: Callable[..., RetrievalResult],
    dataset: Dataset,
    protocol: str,
    *,
    metric: str,
    feature_name: str,
    ranking: str = "reid",
    given: str = "",
    name: str = "",
    checkpoint: str = "last",
    step: int = 0,
    seed: int = 0,
    bootstrap_samples: int = 1000,
) -> Result:
    """The result of one protocol, from `rank`: `retrieval.evaluate` (or `evaluate_distances`) with the
    features (or distances) of its rows already given.

    `given`: what a ranking is told besides the images; it makes a protocol of its own.
    """
    query_rows, gallery_rows = protocol_rows(dataset, protocol)
    described = dataset.protocol(protocol)[2]
    query, gallery = dataset.splits["query"], dataset.splits["gallery"]
    drop = described["drop_same_camera"]
    if described["cmc"] != "standard":
        raise ValueError(
            f"{dataset.name} {protocol} is scored by the CMC rule {described['cmc']!r}, which is not "
            "implemented (only 'standard'); choose another protocol with evaluate.protocols"
        )
    # What must differ between a query and its matches: CARGO's pooled protocol drops by platform.
    key = described.get("camera_key", "camera")
    ranked = rank(
        query_identity=query.identity[query_rows],
        gallery_identity=gallery.identity[gallery_rows],
        query_camera=getattr(query, key)[query_rows].astype(np.int32),
        gallery_camera=getattr(gallery, key)[gallery_rows].astype(np.int32),
        drop_same_camera=drop,
        junk=gallery.kind[gallery_rows] == KINDS.index("junk"),
        distractor=gallery.kind[gallery_rows] == KINDS.index("distractor"),
    )
    absent = ~np.isin(query.identity[query_rows], gallery.identity[gallery_rows])
    if absent.any():
        warnings.warn(
            f"{dataset.name} {protocol}: {absent.sum()} of {len(absent)} queries have an identity "
            "that the gallery lacks and do not count (the first: "
            f"{', '.join(query.image_id[query_rows][absent][:3])})",
            stacklevel=2,
        )
    people = query.identity[query_rows][ranked.valid]
    first = ranked.first_match[ranked.valid]
    scores = 100.0 * ranked.average_precision[ranked.valid]

    def bounds(values: np.ndarray) -> tuple[float, float]:
        return interval(values, people, samples=bootstrap_samples, seed=seed)

    return Result(
        name=name,
        dataset=dataset.name,
        version=dataset.version,
        dataset_fingerprint=dataset.fingerprint,
        protocol=protocol,
        direction=f"{described['query_platform']} -> {described['gallery_platform']}",
        queries=len(query_rows),
        gallery=len(gallery_rows),
        valid_queries=int(ranked.valid.sum()),
        filter=f"same identity and {key} left out" if drop else "nothing left out",
        cmc_rule=described["cmc"],
        given=given,
        ranking=ranking,
        feature=feature_name,
        metric=metric,
        seed=seed,
        checkpoint=checkpoint,
        step=step,
        mAP=100.0 * ranked.mAP,
        mINP=100.0 * ranked.mINP,
        rank1=100.0 * ranked.rank(1),
        rank5=100.0 * ranked.rank(5),
        rank10=100.0 * ranked.rank(10),
        interval_mAP=bounds(scores),
        interval_rank1=bounds(100.0 * (first == 1)),
    )


def _rows(features: Float[Array | np.ndarray, "N D"], rows: np.ndarray) -> np.ndarray:
    return np.asarray(jax.device_get(features))[rows]
