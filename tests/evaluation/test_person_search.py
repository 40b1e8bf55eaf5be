"""Results of person search: two queries, three frames, worked out by hand."""

import dataclasses

import numpy as np
import pytest

from g2ajax.data.frame_source import FrameDataset, FrameSplit
from g2ajax.evaluation.person_search import (
    Found,
    detection_result,
    evaluate_detector,
    evaluate_frames,
    gallery_sizes,
)
from g2ajax.evaluation.results import as_csv, as_dict, as_table
from g2ajax.retrieval.person_search import FrameDetections

LEFT, RIGHT = (0.0, 0.0, 40.0, 80.0), (100.0, 0.0, 140.0, 80.0)
WEST, NORTH = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)


def split(name, people, platform, protocols, **changes):
    """`people`: (box, identity) of each frame."""
    counts = [len(frame) for frame in people]
    boxes = [box for frame in people for box, _ in frame]
    identity = np.array([person for frame in people for _, person in frame], np.int64)
    number = len(people)
    return FrameSplit(
        name=name,
        folder="",
        position=np.arange(number),
        image_id=np.array([f"{name}{i}" for i in range(number)]),
        height=np.full(number, 100, np.int32),
        width=np.full(number, 200, np.int32),
        camera=np.arange(number, dtype=np.int32),
        platform=np.array(platform, np.int8),
        protocols=np.array(protocols, bool),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        identity=identity,
        label=np.full(len(identity), -1, np.int32),
        galleries={},
        **changes,
    )


def dataset():
    """Two aerial frames with both people, or one; a ground frame."""
    gallery = [[(LEFT, 1), (RIGHT, 2)], [(LEFT, 1)], [(LEFT, 2)]]
    row = {"gallery": "", "query_platform": "ground", "drop_same_camera": False}
    return FrameDataset(
        name="skyground/frames_fake",
        version="1.0.0",
        fingerprint="0" * 12,
        metadata={},
        protocols=(
            {**row, "name": "G2A", "gallery_platform": "aerial"},
            {**row, "name": "ALL", "gallery_platform": "any"},
        ),
        splits={
            "gallery": split("gallery", gallery, [0, 0, 1], [[True] * 2] * 3),
            "query": split("query", [[(LEFT, 1)], [(LEFT, 2)]], [1, 1], [[True] * 2] * 2),
        },
    )


def detections(*found):
    boxes, features = zip(*found, strict=True)
    return FrameDetections(
        np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), np.stack(features)
    )


def found(**changes):
    """Frame 0: person 2 is missed and something is seen where nobody is; frame 1: person 1, found."""
    nobody = (150.0, 0.0, 190.0, 80.0)
    made = Found(
        gallery=[
            detections((LEFT, 0.9 * WEST), (nobody, 0.9 * NORTH)),
            detections((LEFT, 0.8 * WEST)),
            detections((LEFT, 0.9 * NORTH)),
        ],
        query=np.stack([WEST, NORTH]),
    )
    return dataclasses.replace(made, **changes)


SAID = {"metric": "inner product", "feature_name": "embedding", "bootstrap_samples": 20}


def test_scores_by_hand():
    (result,) = evaluate_frames(found(), dataset(), protocols=("G2A",), **SAID)
    # Query 1 finds both its frames first; query 2 is in one frame, where it was missed.
    assert (result.mAP, result.rank1, result.queries, result.gallery) == (50.0, 50.0, 2, 2)
    assert result.mINP is None and result.interval_mAP[0] <= 50.0 <= result.interval_mAP[1]
    measures = dict(result.measures)
    assert (measures["missed"], measures["confused"]) == (50.0, 0.0)
    # Of three people two are detected, at equal scores with a false one: precision 2 / 3.
    assert measures["recall"] == pytest.approx(200 / 3)
    assert measures["detection AP"] == pytest.approx(100 * 2 / 3 * 2 / 3)
    assert "detection AP 44.44" in result.lines() and "mINP" not in result.lines()


def test_a_plain_detector_has_no_ranking():
    aerial, any_frame = evaluate_detector(found().gallery, dataset(), name="detector")
    assert (aerial.protocol, any_frame.protocol) == ("people, aerial", "people, any")
    assert (aerial.gallery, any_frame.gallery) == (2, 3)
    assert aerial.mAP is None and aerial.interval_mAP is None
    assert aerial.scalars() == pytest.approx({"detection AP": 400 / 9, "recall": 200 / 3})
    line = " ".join(aerial.lines().split())
    assert line.endswith("detection AP 44.44 recall 66.67 (2 frames)")
    head, row = as_table([aerial]).splitlines()[-2:]
    assert head.split()[-3:] == ["detection", "AP", "recall"] and "mAP" not in head
    assert row.split()[-2:] == ["44.44", "66.67"]
    assert as_csv([aerial]).count("\n") == 2 and as_dict(aerial)["mAP"] is None


def test_detections_of_a_platform_have_ranks():
    result = detection_result(found().gallery, dataset(), "aerial")
    # Two of three people, at equal scores with a false detection.
    assert (result.match_ranks.tolist(), result.people) == ([3, 3], 3)
    every = detection_result(found().gallery, dataset(), "any")
    assert (every.match_ranks.tolist(), every.people) == ([4, 4, 4], 4)


def test_true_boxes_are_a_protocol_of_their_own():
    true = [
        detections((LEFT, WEST), (RIGHT, NORTH)),
        detections((LEFT, WEST)),
        detections((LEFT, NORTH)),
    ]
    own, bound = evaluate_frames(
        found(true_boxes=true),
        dataset(),
        protocols=("G2A",),
        rankings=("reid", "true_boxes"),
        **SAID,
    )
    assert bound.mAP == 100.0 and bound.measures == ()
    assert own.fingerprint != bound.fingerprint
    table = as_table([own, bound])
    assert "true boxes of the gallery given" in table and "mINP" not in table
    assert "detection AP" in as_csv([own, bound]).splitlines()[0]
    assert as_dict(own)["measures"] and "measures" not in as_dict(bound)


def test_context_matching_and_its_parameters():
    context = [np.stack([WEST, NORTH]), np.stack([NORTH, WEST])]
    results = evaluate_frames(found(context=context), dataset(), rankings=("cbgm",), **SAID)
    assert [(r.protocol, r.ranked_by) for r in results] == [
        ("G2A", "cbgm (k1=10, k2=3)"),
        ("ALL", "cbgm (k1=10, k2=3)"),
    ]


def test_an_unknown_ranking_gives_the_nearest():
    with pytest.raises(ValueError, match="no ranking 'cbmg' of frames; did you mean 'cbgm'"):
        evaluate_frames(found(), dataset(), rankings=("cbmg",), **SAID)


def test_a_person_who_is_nowhere_counts_as_zero_and_is_said():
    frames = dataset()
    nobody = dataclasses.replace(frames.splits["query"], identity=np.array([1, 7]))
    frames = dataclasses.replace(frames, splits={**frames.splits, "query": nobody})
    with pytest.warns(UserWarning, match="the person of 1 of 2 queries is in no gallery frame"):
        (result,) = evaluate_frames(found(), frames, protocols=("ALL",), **SAID)
    assert result.mAP == 50.0


def test_results_by_the_size_of_the_gallery():
    (result,) = evaluate_frames(found(), dataset(), protocols=("G2A",), **SAID)
    listed = [
        dataclasses.replace(result, filter="listed frames", gallery=size, ranking=ranking)
        for ranking, size in (("reid", 100), ("reid", 25), ("cbgm", 25))
    ]
    sweeps = gallery_sizes([result, *listed])
    assert {name: [r.gallery for r in group] for name, group in sweeps.items()} == {
        "ground -> aerial, reid": [25, 100]
    }


def test_nobody_is_detected_anywhere():
    nothing = FrameDetections(*(np.zeros((0, *rest), np.float32) for rest in ((4,), (), (2,))))
    (result,) = evaluate_frames(found(gallery=[nothing] * 3), dataset(), protocols=("G2A",), **SAID)
    assert result.mAP == result.rank10 == 0.0
    lost = {"detection AP": 0.0, "recall": 0.0, "missed": 100.0, "confused": 0.0}
    assert dict(result.measures) == lost
