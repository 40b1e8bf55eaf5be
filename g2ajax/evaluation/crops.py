"""Scoring embedded crops on the protocols of their dataset."""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from g2ajax.data.crop_source import KINDS, CropSplit, Dataset
from g2ajax.evaluation.bootstrap import interval
from g2ajax.evaluation.embedded import EXPANSION, RERANK, ExpansionOptions, RerankOptions, ranker
from g2ajax.evaluation.embedded import parameters as parameters_of
from g2ajax.evaluation.results import QueryScores, Result, data_of
from g2ajax.retrieval import RetrievalResult, pairwise
from g2ajax.retrieval.single_shot import REPEATS


class Ranker(NamedTuple):
    """One way to rank the gallery of one protocol."""

    protocol: str
    rank: Callable[..., RetrievalResult]
    """`retrieval.evaluate` with the features (or distances) already bound."""
    described: Mapping[str, Any]
    """Description for `score_protocol`: ranking, metric, feature_name and others."""
    distance: Callable[[Int[np.ndarray, " n"]], Float[np.ndarray, "n G"]] | None = None
    """The distances that rank the gallery for some of the queries; None for a ranking that is not by
    distances of pairs."""


def evaluate_crops(
    features: Mapping[str, Float[Array | np.ndarray, "N D"]],
    dataset: Dataset,
    *,
    protocols: Sequence[str] = (),
    metric: str,
    feature_name: str,
    rankings: Sequence[str] = ("reid",),
    rerank: RerankOptions = RERANK,
    expansion: ExpansionOptions = EXPANSION,
    **described: Any,
) -> list[Result]:
    """One result for each protocol (all of the dataset's if none is named) by each of the rankings.

    `features` holds the embeddings of the `query` and `gallery` splits (of captioned images: of
    `text` and `image`, see `Dataset.sides`), row for row. `rankings` are
    names in `embedded.EMBEDDED`; `described` has the further arguments of `score_protocol`. Raises
    ValueError for features with another number of rows, an unknown protocol, one without queries or
    gallery, and whatever `evaluate` refuses.
    """
    rankers = crop_rankers(
        features,
        dataset,
        protocols=protocols,
        metric=metric,
        feature_name=feature_name,
        rankings=rankings,
        rerank=rerank,
        expansion=expansion,
    )
    return score_rankers(rankers, dataset, **described)


def score_rankers(rankers: Iterable[Ranker], dataset: Dataset, **described: Any) -> list[Result]:
    """The result of each ranker; `described` has the further arguments of `score_protocol`."""
    return [
        score_protocol(one.rank, dataset, one.protocol, **one.described, **described)
        for one in rankers
    ]


def crop_rankers(
    features: Mapping[str, Float[Array | np.ndarray, "N D"]],
    dataset: Dataset,
    *,
    protocols: Sequence[str] = (),
    metric: str,
    feature_name: str,
    rankings: Sequence[str] = ("reid",),
    rerank: RerankOptions = RERANK,
    expansion: ExpansionOptions = EXPANSION,
) -> Iterator[Ranker]:
    """The rankers of `evaluate_crops`: all protocols by the first ranking, then by the next."""
    protocols = protocols or [row["name"] for row in dataset.protocols]
    for key, side in (side for protocol in protocols for side in dataset.sides(protocol)):
        if len(features[key]) != len(side):
            rows = "captions" if key == "text" else "images"
            raise ValueError(
                f"{len(features[key])} features for the {len(side)} {rows} of {dataset.name}'s "
                f"{key} split; give one a row, without the padding"
            )
    for ranking in rankings:
        for protocol in protocols:
            query_rows, gallery_rows = protocol_rows(dataset, protocol)
            (query, _), (gallery, _) = dataset.sides(protocol)
            sides = _rows(features[query], query_rows), _rows(features[gallery], gallery_rows)
            rank = ranker(ranking, *sides, metric=metric, rerank=rerank, expansion=expansion)
            distance = functools.partial(_distances, *sides, metric) if ranking == "reid" else None
            description = {
                "ranking": ranking,
                "metric": metric,
                "feature_name": feature_name,
                "parameters": parameters_of(ranking, rerank, expansion),
            }
            yield Ranker(protocol, rank, description, distance)


def _distances(
    query: Float[np.ndarray, "Q D"],
    gallery: Float[np.ndarray, "G D"],
    metric: str,
    rows: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n G"]:
    return np.asarray(pairwise(jnp.asarray(query[rows]), jnp.asarray(gallery), metric))


def protocol_rows(
    dataset: Dataset, protocol: str
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " G"]]:
    """Rows of a protocol's two sides that take part. Raises ValueError if one has none."""
    query_rows, gallery_rows, _ = dataset.protocol(protocol)
    for (key, _), rows in zip(dataset.sides(protocol), (query_rows, gallery_rows), strict=True):
        if not len(rows):
            what = key if key == "image" else f"{key} image"
            raise ValueError(f"{dataset.name}: no {what} takes part in {protocol}")
    return query_rows, gallery_rows


def scoring_fault(dataset: Dataset, protocol: str) -> str:
    """The reason why no query of a protocol has a score: none takes part, or the gallery holds no other image of
    their people that the protocol's filter keeps; "" if one has. Raises ValueError for a protocol
    that the dataset does not have."""
    described = dataset.protocol(protocol)[2]
    try:
        query_rows, gallery_rows = protocol_rows(dataset, protocol)
    except ValueError as error:
        return str(error).removeprefix(f"{dataset.name}: ")
    (_, query), (_, gallery) = dataset.sides(protocol)
    gallery_rows = gallery_rows[gallery.kind[gallery_rows] == KINDS.index("person")]
    key = described.get("camera_key", "camera")
    seen: dict[int, set[int]] = {}
    for identity, camera in _people(gallery, gallery_rows, key):
        seen.setdefault(identity, set()).add(camera)
    alone = 0
    for identity, camera in _people(query, query_rows, key):
        cameras = seen.get(identity, set())
        if cameras - {camera} or (cameras and not described["drop_same_camera"]):
            return ""
        alone += bool(cameras)
    return (
        f"none of its {len(query_rows)} queries has a match: {len(query_rows) - alone} have an "
        f"identity that the gallery lacks, {alone} only images of their own {key}, which do not count"
    )


def _people(split: CropSplit, rows: Int[np.ndarray, " n"], key: str) -> Iterator[tuple[int, int]]:
    """Identity and camera (or platform) of rows."""
    return zip(split.identity[rows].tolist(), getattr(split, key)[rows].tolist(), strict=True)


def rank_protocol(
    rank: Callable[..., RetrievalResult], dataset: Dataset, protocol: str, *, top: int = 0
) -> RetrievalResult:
    """Ranks a protocol's gallery for its queries, by its filter and CMC rule.

    The result's rows and entries are those of `protocol_rows`.
    """
    query_rows, gallery_rows = protocol_rows(dataset, protocol)
    described = dataset.protocol(protocol)[2]
    (_, query), (_, gallery) = dataset.sides(protocol)
    # Column that must differ between a query and its matches: CARGO's pooled protocol drops by
    # platform.
    key = described.get("camera_key", "camera")
    return rank(
        query_identity=query.identity[query_rows],
        gallery_identity=gallery.identity[gallery_rows],
        query_camera=getattr(query, key)[query_rows].astype(np.int32),
        gallery_camera=getattr(gallery, key)[gallery_rows].astype(np.int32),
        drop_same_camera=described["drop_same_camera"],
        junk=gallery.kind[gallery_rows] == KINDS.index("junk"),
        distractor=gallery.kind[gallery_rows] == KINDS.index("distractor"),
        cmc=described["cmc"],
        top=top,
    )


def score_protocol(
    rank: Callable[..., RetrievalResult],
    dataset: Dataset,
    protocol: str,
    *,
    metric: str,
    feature_name: str,
    ranking: str = "reid",
    parameters: str = "",
    given: str = "",
    name: str = "",
    checkpoint: str = "last",
    step: int = 0,
    seed: int = 0,
    bootstrap_samples: int = 1000,
) -> Result:
    """The result of one protocol, from `rank`: `retrieval.evaluate` (or `evaluate_distances`) with the
    features (or distances) of its rows already bound.

    `given`: inputs of a ranking besides the images; they make a protocol of its own.
    """
    query_rows, gallery_rows = protocol_rows(dataset, protocol)
    described = dataset.protocol(protocol)[2]
    (_, query), (_, gallery) = dataset.sides(protocol)
    ranked = rank_protocol(rank, dataset, protocol)
    absent = ~np.isin(query.identity[query_rows], gallery.identity[gallery_rows])
    if absent.any():
        warnings.warn(
            f"{dataset.name} {protocol}: {absent.sum()} of {len(absent)} queries have an identity "
            "that the gallery lacks and do not count (the first: "
            f"{', '.join(query.image_id[query_rows][absent][:3])})",
            stacklevel=2,
        )
    people = query.identity[query_rows][ranked.valid]
    key = described.get("camera_key", "camera")
    rule = described["cmc"]

    def bounds(values: np.ndarray) -> tuple[float, float]:
        values = 100.0 * values[ranked.valid]
        return interval(values, people, samples=bootstrap_samples, seed=seed)

    return Result(
        name=name,
        **data_of(dataset),
        protocol=protocol,
        direction=f"{described['query_platform']} -> {described['gallery_platform']}",
        queries=len(query_rows),
        gallery=len(gallery_rows),
        valid_queries=int(ranked.valid.sum()),
        filter=f"same identity and {key} left out"
        if described["drop_same_camera"]
        else "nothing left out",
        cmc_rule=rule if rule == "standard" else f"{rule}, {REPEATS} draws",
        given=given,
        ranking=ranking,
        parameters=parameters,
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
        interval_mAP=bounds(ranked.average_precision),
        interval_rank1=bounds(ranked.hits(1)),
        interval_rank5=bounds(ranked.hits(5)),
        interval_mINP=bounds(ranked.inverse_negative_penalty),
        measures=by_altitude(query.altitude_level[query_rows], ranked),
        per_query=QueryScores(
            row=np.flatnonzero(ranked.valid),
            name=query.image_id[query_rows][ranked.valid],
            identity=people,
            average_precision=100.0 * ranked.average_precision[ranked.valid],
            rank1=100.0 * ranked.hits(1)[ranked.valid],
        ),
    )


def by_altitude(
    level: Int[np.ndarray, " Q"], ranked: RetrievalResult
) -> tuple[tuple[str, float], ...]:
    """mAP in percent of the queries of each altitude level, if there are several."""
    levels = np.unique(level[ranked.valid & (level >= 0)])
    if len(levels) < 2:
        return ()
    precision = 100.0 * np.asarray(ranked.average_precision)
    return tuple(
        (f"mAP altitude {number}", float(precision[ranked.valid & (level == number)].mean()))
        for number in levels
    )


def _rows(features: Float[Array | np.ndarray, "N D"], rows: np.ndarray) -> np.ndarray:
    return np.asarray(jax.device_get(features))[rows]
