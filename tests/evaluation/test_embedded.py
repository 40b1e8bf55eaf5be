"""Query expansion and re-ranking as rankings of a protocol."""

import dataclasses

import numpy as np
import pytest

from g2ajax.data.crop_source import KINDS
from g2ajax.evaluation.crops import crop_rankers, evaluate_crops, protocol_rows, rank_protocol
from g2ajax.evaluation.embedded import EMBEDDED, ExpansionOptions, RerankOptions, check, parameters
from g2ajax.retrieval import evaluate, evaluate_distances, expand, rerank
from tests.fake_data import make_dataset

DATASET = make_dataset(train_people=1, test_people=5, per_camera=3)
RERANK = RerankOptions(k1=4, k2=2)
EXPANSION = ExpansionOptions(k=3)
OPTIONS = {
    "metric": "cosine",
    "feature_name": "after",
    "rankings": EMBEDDED,
    "rerank": RERANK,
    "expansion": EXPANSION,
}


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=(len(DATASET.splits[name]), 6)).astype(np.float32)
        for name in ("query", "gallery")
    }


def direct(features, dataset=DATASET, protocol="A2G"):
    """The mAP of each ranking by the functions of `retrieval` alone, junk taken out before."""
    query_rows, gallery_rows = protocol_rows(dataset, protocol)
    query, gallery = dataset.splits["query"], dataset.splits["gallery"]
    gallery_rows = gallery_rows[gallery.kind[gallery_rows] != KINDS.index("junk")]
    q, g = features["query"][query_rows], features["gallery"][gallery_rows]
    labels = (
        *(query.identity[query_rows], gallery.identity[gallery_rows]),
        *(query.camera[query_rows], gallery.camera[gallery_rows]),
    )
    wide = expand(q, g, k=3, alpha=3)
    of_distance = {"rerank": rerank(q, g, k1=4, k2=2)}
    of_distance["query_expansion_rerank"] = rerank(*wide, k1=4, k2=2)
    found = {"reid": evaluate(q, g, *labels).mAP, "query_expansion": evaluate(*wide, *labels).mAP}
    for name, distance in of_distance.items():
        found[name] = evaluate_distances(distance, *labels).mAP
    return {name: pytest.approx(100 * value, abs=1e-6) for name, value in found.items()}


def test_rankings_are_those_of_the_functions(features):
    results = evaluate_crops(features, DATASET, bootstrap_samples=20, **OPTIONS)
    for protocol in ("A2G", "G2A"):
        got = {r.ranking: r.mAP for r in results if r.protocol == protocol}
        assert got == direct(features, protocol=protocol)
    assert len({r.mAP for r in results}) > 4
    assert len({r.fingerprint for r in results}) == 2
    by_name = {r.ranking: r for r in results}
    assert by_name["reid"].parameters == ""
    assert by_name["rerank"].parameters == "k1 4, k2 2, lambda 0.3, zhong"
    assert by_name["query_expansion"].parameters == "k 3, alpha 3"
    assert by_name["query_expansion_rerank"].parameters.startswith("k 3, alpha 3; k1 4")
    assert {r.metric for r in results} == {"cosine"}
    for result in results:
        for score in ("mAP", "rank1", "rank5", "mINP"):
            low, high = getattr(result, f"interval_{score}")
            assert low <= getattr(result, score) + 1e-9 and getattr(result, score) <= high + 1e-9


def test_junk_is_nobodys_neighbour(features):
    gallery = DATASET.splits["gallery"]
    kind = gallery.kind.copy()
    kind[[4, 9, 22]] = KINDS.index("junk")
    changed = {**DATASET.splits, "gallery": dataclasses.replace(gallery, kind=kind)}
    dataset = dataclasses.replace(DATASET, splits=changed)
    results = evaluate_crops(features, dataset, protocols=["A2G"], bootstrap_samples=20, **OPTIONS)
    assert {r.ranking: r.mAP for r in results} == direct(features, dataset)
    wild = {**features, "gallery": features["gallery"].copy()}
    wild["gallery"][[4, 9, 22]] = 100.0
    again = evaluate_crops(wild, dataset, protocols=["A2G"], bootstrap_samples=20, **OPTIONS)
    assert [r.mAP for r in again] == [r.mAP for r in results]


def test_the_lists_of_a_ranking(features):
    """The kept list of every ranking gives the average precision of its metric."""
    _, gallery_rows = protocol_rows(DATASET, "G2A")
    identity = DATASET.splits["gallery"].identity[gallery_rows]
    query_rows, _ = protocol_rows(DATASET, "G2A")
    asked = DATASET.splits["query"].identity[query_rows]
    for one in crop_rankers(features, DATASET, protocols=["G2A"], **OPTIONS):
        ranked = rank_protocol(one.rank, DATASET, "G2A", top=50)
        assert ranked.top.shape == (5, 15)
        for row, listed in enumerate(ranked.top):
            ranks = np.flatnonzero(identity[listed] == asked[row]) + 1
            expected = np.mean(np.arange(1, len(ranks) + 1) / ranks)
            assert ranked.average_precision[row] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ranking", "changes", "message"),
    [
        (
            "rerank",
            {"k1": 16},
            r"evaluate.rerank does not fit fake A2G \(5 queries, 15 gallery.*k1",
        ),
        ("rerank", {"k2": 0}, r"k2 is 0; it must be at least 1"),
        ("rerank", {"lambda_value": 1.5}, r"lambda_value is 1.5; expected a share"),
        ("query_expansion", {"k": 21}, r"evaluate.expansion does not fit.*k is 21.*only 20"),
        ("query_expansion_rerank", {"alpha": -1}, r"alpha is -1; it must be a whole number"),
        ("query_expansion_rerank", {"k1": 16}, r"evaluate.rerank does not fit"),
    ],
)
def test_parameters_that_do_not_fit(ranking, changes, message):
    own = {k: v for k, v in changes.items() if hasattr(RERANK, k)}
    other = {k: v for k, v in changes.items() if k not in own}
    options = dataclasses.replace(RERANK, **own), dataclasses.replace(EXPANSION, **other)
    with pytest.raises(ValueError, match=message):
        check(DATASET, ["A2G"], [ranking], *options)
    check(DATASET, ["A2G"], ["reid"], *options)


def test_parameters_in_words():
    twice = ExpansionOptions(times=2)
    assert parameters("query_expansion", RERANK, twice) == "k 5, alpha 3, 2 times"
    assert parameters("decomposed", RERANK, twice) == ""
