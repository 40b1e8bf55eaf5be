import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from g2ajax.data.crop_source import KINDS
from g2ajax.evaluation.crops import evaluate_crops, scoring_fault
from g2ajax.retrieval import evaluate_distances
from tests.fake_data import make_dataset

# Query rows: person 100 from the air and the ground, then person 101. Gallery rows: two images of
# 100 from the air (0, 1) and the ground (2, 3), then of 101 (4 to 7).
DATASET = make_dataset(train_people=1, test_people=2, per_camera=2)
# In A2G both queries lie at 0 and the ground images in the order 100, 101, 100, 101.
FEATURES = {
    "query": np.array([[0.0], [0.1], [0.0], [0.2]], np.float32),
    "gallery": np.array([[50], [60], [1], [3], [70], [80], [2], [4]], np.float32),
}
A2G_MAP = 100 * (5 / 6 + 1 / 2) / 2


def scored(dataset=DATASET, features=FEATURES, **options):
    options = {"metric": "euclidean", "feature_name": "bn", "bootstrap_samples": 50, **options}
    return evaluate_crops(features, dataset, **options)


def with_kind(row: int, kind: str):
    gallery = DATASET.splits["gallery"]
    kinds = gallery.kind.copy()
    kinds[row] = KINDS.index(kind)
    changed = dataclasses.replace(gallery, kind=kinds)
    return dataclasses.replace(DATASET, splits={**DATASET.splits, "gallery": changed})


def test_scores_by_hand():
    (result,) = scored(protocols=["A2G"])
    assert result.mAP == pytest.approx(A2G_MAP, abs=1e-4)
    assert result.rank1 == 50.0 and result.rank5 == 100.0 and result.rank10 == 100.0
    assert result.mINP == pytest.approx(100 * (2 / 3 + 2 / 4) / 2, abs=1e-4)
    assert (result.queries, result.gallery, result.valid_queries) == (2, 4, 2)
    # Two people: the interval reaches from the worse to the better.
    assert result.interval_mAP == pytest.approx((50.0, 500 / 6), abs=1e-4)
    assert result.interval_rank1 == (0.0, 100.0)


def test_queries_of_known_altitude_are_scored_by_it():
    (result,) = scored(protocols=["A2G"])
    expected = {"mAP altitude 0": 500 / 6, "mAP altitude 1": 50.0}
    assert dict(result.measures) == pytest.approx(expected, abs=1e-4)
    (from_ground,) = scored(protocols=["G2A"])
    assert not from_ground.measures
    query = DATASET.splits["query"]
    level = np.ones(len(query), np.int8)
    changed = dataclasses.replace(query, altitude_level=level)
    one = dataclasses.replace(DATASET, splits={**DATASET.splits, "query": changed})
    assert not scored(one, protocols=["A2G"])[0].measures


def test_a_result_says_what_it_is_of():
    (result,) = scored(protocols=["G2A"], name="tiny", checkpoint="best", step=7, seed=3)
    assert (result.name, result.checkpoint, result.step, result.seed) == ("tiny", "best", 7, 3)
    assert (result.dataset, result.version) == ("fake", "1.0.0")
    assert result.dataset_fingerprint == DATASET.fingerprint
    assert (result.protocol, result.direction) == ("G2A", "ground -> aerial")
    assert (result.feature, result.metric) == ("bn", "euclidean")
    assert result.filter == "same identity and camera left out"
    assert result.cmc_rule == "standard"


def test_all_protocols_if_none_is_named():
    assert [result.protocol for result in scored()] == ["A2G", "G2A"]
    assert scored()[0] == scored(protocols=["A2G"])[0]
    assert len({result.fingerprint for result in scored()}) == 2


def test_junk_leaves_every_ranking():
    (result,) = scored(with_kind(6, "junk"), protocols=["A2G"])
    # 100, 100, 101: the ranks 1, 2 and 3.
    assert result.mAP == pytest.approx(100 * (1 + 1 / 3) / 2, abs=1e-4)
    assert result.mINP == pytest.approx(100 * (1 + 1 / 3) / 2, abs=1e-4)


def test_a_distractor_stays_but_matches_nobody():
    (result,) = scored(with_kind(6, "distractor"), protocols=["A2G"])
    assert result.mAP == pytest.approx(100 * (5 / 6 + 1 / 4) / 2, abs=1e-4)


def one_camera(drop: bool):
    """`DATASET`, but all gallery images take part and the rule on cameras is given."""
    splits = dict(DATASET.splits)
    for name in ("query", "gallery"):
        column = np.ones_like(splits[name].protocols)
        splits[name] = dataclasses.replace(splits[name], protocols=column)
    protocols = tuple({**row, "drop_same_camera": drop} for row in DATASET.protocols)
    return dataclasses.replace(DATASET, splits=splits, protocols=protocols)


def test_the_protocol_says_whether_cameras_count():
    # All images of a person at one place: perfect, however many are left.
    near = {
        "query": np.array([[0.0], [0.0], [9.0], [9.0]], np.float32),
        "gallery": np.repeat(np.array([[0.0], [9.0]], np.float32), 4, axis=0),
    }
    near["gallery"][[2, 3]] = 20.0  # the ground images of 100 are far away
    strict, loose = (scored(one_camera(d), near, protocols=["A2G"])[0] for d in (True, False))
    # The aerial query of 100 keeps only the far matches under the rule: ranks 5 and 6.
    ap = (1 / 5 + 2 / 6) / 2
    assert strict.mAP == pytest.approx(100 * (ap + 1 + 1 + 1) / 4, abs=1e-4)
    both = (1 + 1 + 3 / 7 + 4 / 8) / 4
    assert loose.mAP == pytest.approx(100 * (both + both + 1 + 1) / 4, abs=1e-4)
    assert loose.filter == "nothing left out"
    assert strict.fingerprint != loose.fingerprint


def test_a_query_without_a_match_does_not_count():
    gallery = DATASET.splits["gallery"]
    identity = gallery.identity.copy()
    identity[4:] = 555
    changed = dataclasses.replace(gallery, identity=identity)
    dataset = dataclasses.replace(DATASET, splits={**DATASET.splits, "gallery": changed})
    with pytest.warns(UserWarning, match=r"1 of 2 queries have an identity that the gallery lacks"):
        (result,) = scored(dataset, protocols=["A2G"])
    assert (result.queries, result.valid_queries) == (2, 1)
    assert result.mAP == pytest.approx(500 / 6, abs=1e-4)
    assert result.interval_mAP == pytest.approx((500 / 6, 500 / 6), abs=1e-4)


def test_features_may_lie_on_the_device():
    features = {name: jnp.asarray(value) for name, value in FEATURES.items()}
    assert scored(features=features) == scored()


def test_the_seed_moves_the_interval_alone():
    dataset = make_dataset(train_people=1, test_people=6, per_camera=2)
    rng = np.random.default_rng(0)
    features = {
        name: rng.normal(size=(len(dataset.splits[name]), 4)).astype(np.float32)
        for name in ("query", "gallery")
    }
    one, again, other = (scored(dataset, features, seed=seed)[0] for seed in (1, 1, 2))
    assert one == again
    assert one.mAP == other.mAP and one.interval_mAP != other.interval_mAP
    assert one.interval_mAP[0] <= one.mAP <= one.interval_mAP[1]


def test_unknown_protocol_gives_the_nearest():
    with pytest.raises(ValueError, match="fake has no protocol 'A2H'; did you mean 'A2G'"):
        scored(protocols=["A2H"])


def test_a_protocol_without_queries():
    query = DATASET.splits["query"]
    changed = dataclasses.replace(query, protocols=np.zeros_like(query.protocols))
    dataset = dataclasses.replace(DATASET, splits={**DATASET.splits, "query": changed})
    with pytest.raises(ValueError, match="fake: no query image takes part in A2G"):
        scored(dataset)


def with_column(name: str, **columns):
    split = dataclasses.replace(DATASET.splits[name], **columns)
    return dataclasses.replace(DATASET, splits={**DATASET.splits, name: split})


def of_one_camera():
    """`DATASET`, but all test images are of camera 0."""
    splits = dict(DATASET.splits)
    for name in ("query", "gallery"):
        splits[name] = dataclasses.replace(splits[name], camera=splits[name].camera * 0)
    return dataclasses.replace(DATASET, splits=splits)


def kept_same_camera(dataset):
    rows = tuple({**row, "drop_same_camera": False} for row in dataset.protocols)
    return dataclasses.replace(dataset, protocols=rows)


GALLERY = DATASET.splits["gallery"]


@pytest.mark.filterwarnings("ignore:fake A2G")
@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (DATASET, ""),
        (
            of_one_camera(),
            "none of its 2 queries has a match: 0 have an identity that the gallery lacks",
        ),
        (of_one_camera(), "2 only images of their own camera, which do not count"),
        (kept_same_camera(of_one_camera()), ""),
        (
            with_column("gallery", identity=GALLERY.identity + 50),
            "2 have an identity that the gall",
        ),
        (with_column("gallery", identity=GALLERY.identity + 1), ""),
        (
            with_column("gallery", kind=np.full_like(GALLERY.kind, KINDS.index("junk"))),
            "2 have an id",
        ),
        (
            with_column("gallery", kind=np.full_like(GALLERY.kind, KINDS.index("distractor"))),
            "2 have an identity that the gallery lacks",
        ),
        (
            with_column("gallery", protocols=np.zeros_like(GALLERY.protocols)),
            "no gallery image takes part in A2G",
        ),
    ],
)
def test_why_a_protocol_has_no_score(dataset, reason):
    fault = scoring_fault(dataset, "A2G")
    assert reason in fault and bool(reason) == bool(fault)
    if fault:  # the score itself is refused then, and only then
        with pytest.raises(ValueError, match=r"has a match|takes part"):
            scored(dataset, protocols=["A2G"])
    else:
        scored(dataset, protocols=["A2G"])


def test_the_filter_of_a_protocol_may_be_by_platform():
    rows = tuple({**row, "camera_key": "platform"} for row in DATASET.protocols)
    by_platform = dataclasses.replace(of_one_camera(), protocols=rows)
    assert scoring_fault(by_platform, "A2G") == ""


def test_the_fault_of_an_unknown_protocol():
    with pytest.raises(ValueError, match="fake has no protocol 'A2H'; did you mean 'A2G'"):
        scoring_fault(DATASET, "A2H")


@pytest.mark.parametrize("rows", [3, 6])
def test_features_of_another_number_of_rows(rows):
    features = {**FEATURES, "query": np.zeros((rows, 1), np.float32)}
    with pytest.raises(ValueError, match=f"{rows} features for the 4 images of fake's query"):
        scored(features=features)


def test_features_that_are_not_finite():
    features = {**FEATURES, "query": np.full((4, 1), np.nan, np.float32)}
    with pytest.raises(ValueError, match="finite"):
        scored(features=features)


def test_a_protocol_may_drop_by_platform():
    """CARGO's pooled protocol: what must differ between a query and its matches is the platform."""
    changed = dataclasses.replace(
        DATASET, protocols=tuple({**p, "camera_key": "platform"} for p in DATASET.protocols)
    )
    (result,) = scored(changed, protocols=["A2G"])
    assert result.filter == "same identity and platform left out"


def with_rule(rule: str):
    rows = tuple({**p, "cmc": rule} for p in DATASET.protocols)
    return dataclasses.replace(DATASET, protocols=rows)


def test_the_rule_of_one_image_an_identity():
    (result,) = scored(with_rule("single-gallery-shot"), protocols=["A2G"])
    (plain,) = scored(protocols=["A2G"])
    assert result.cmc_rule == "single-gallery-shot, 10 draws"
    assert (result.mAP, result.mINP) == (plain.mAP, plain.mINP)
    assert result.fingerprint != plain.fingerprint
    # 100 lies at 1 and 3, 101 at 2 and 4: three of the four galleries have 100 first, one has 101.
    drawn = evaluate_distances(
        np.array([[1.0, 3.0, 2.0, 4.0], [1.0, 3.0, 2.0, 4.0]], np.float32),
        *([100, 101], [100, 100, 101, 101], [0, 0], [1] * 4),
        cmc="single-gallery-shot",
    )
    assert result.rank1 == pytest.approx(100 * drawn.rank(1))
    assert result.interval_rank1[0] <= result.rank1 <= result.interval_rank1[1]
    assert result.rank5 == 100.0


def test_an_unknown_cmc_rule_is_refused_not_approximated():
    with pytest.raises(ValueError, match=r"CMC rule 'multi-shot' is not known"):
        scored(with_rule("multi-shot"), protocols=["A2G"])
