"""Scoring embedded crops on the protocols of their dataset."""

import warnings
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from g2ajax.data.source import KINDS, Dataset
from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.results import Result
from g2ajax.retrieval import evaluate


def evaluate_crops(
    features: Mapping[str, Float[Array | np.ndarray, "N D"]],
    dataset: Dataset,
    *,
    protocols: Sequence[str] = (),
    metric: str,
    feature_name: str,
    name: str = "",
    checkpoint: str = "last",
    step: int = 0,
    seed: int = 0,
    bootstrap_samples: int = 1000,
) -> list[Result]:
    """One result for each protocol (all of the dataset's if none is named).

    `features` holds the embeddings of the `query` and `gallery` splits, row for row. Raises
    ValueError for features of another number of rows, an unknown protocol, one without queries or
    gallery, and what `evaluate` refuses.
    """
    for split in ("query", "gallery"):
        if len(features[split]) != len(dataset.splits[split]):
            raise ValueError(
                f"{len(features[split])} features for the {len(dataset.splits[split])} images of "
                f"{dataset.name}'s {split} split; give one a row, without the padding"
            )
    results = []
    for protocol in protocols or [row["name"] for row in dataset.protocols]:
        query_rows, gallery_rows, described = dataset.protocol(protocol)
        query, gallery = dataset.splits["query"], dataset.splits["gallery"]
        for split, rows in (("query", query_rows), ("gallery", gallery_rows)):
            if not len(rows):
                raise ValueError(f"{dataset.name}: no {split} image takes part in {protocol}")
        drop = described["drop_same_camera"]
        ranked = evaluate(
            _rows(features["query"], query_rows),
            _rows(features["gallery"], gallery_rows),
            query.identity[query_rows],
            gallery.identity[gallery_rows],
            query.camera[query_rows],
            gallery.camera[gallery_rows],
            metric=metric,
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

        def bounds(values: np.ndarray, people: np.ndarray = people) -> tuple[float, float]:
            return interval(values, people, samples=bootstrap_samples, seed=seed)

        results.append(
            Result(
                name=name,
                dataset=dataset.name,
                version=dataset.version,
                dataset_fingerprint=dataset.fingerprint,
                protocol=protocol,
                direction=f"{described['query_platform']} -> {described['gallery_platform']}",
                queries=len(query_rows),
                gallery=len(gallery_rows),
                valid_queries=int(ranked.valid.sum()),
                filter="same identity and camera left out" if drop else "nothing left out",
                cmc_rule=described["cmc"],
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
        )
    return results


def _rows(features: Float[Array | np.ndarray, "N D"], rows: np.ndarray) -> np.ndarray:
    return np.asarray(jax.device_get(features))[rows]
