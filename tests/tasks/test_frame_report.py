"""The report of person search, from detections that are known: the true boxes and one false."""

import dataclasses

import numpy as np
import pytest

from g2ajax.data.frame_source import open_frames
from g2ajax.evaluation.person_search import Found, evaluate_detector, evaluate_frames
from g2ajax.report.album import size_of
from g2ajax.retrieval.person_search import FrameDetections
from g2ajax.tasks.frame_report import around, frame_report


@pytest.fixture(scope="module")
def dataset():
    return open_frames("skyground/frames_tiny")


def perfect(dataset) -> Found:
    """Everybody is detected, and embedded by identity alone."""
    query, gallery = dataset.splits["query"], dataset.splits["gallery"]
    known = np.unique(np.concatenate([query.identity, gallery.identity]))

    def embedded(identity):
        return (identity[:, None] == known[None]).astype(np.float32)

    frames = []
    for row in range(len(gallery)):
        here = gallery.people(row)
        boxes = gallery.boxes[here]
        features = embedded(gallery.identity[here])
        frames.append(FrameDetections(boxes, np.ones(len(boxes), np.float32), features))
    first = [query.people(row).start for row in range(len(query))]
    return Found(frames, embedded(query.identity[first]))


def reported(dataset, found):
    options = {"metric": "inner product", "feature_name": "f", "bootstrap_samples": 20}
    results = evaluate_frames(found, dataset, **options)
    return frame_report(
        found, dataset, results, noun="whole frames", trained_on="", limit=400, samples=20
    ), results


def test_a_perfect_search_is_reported_as_one(dataset):
    report, results = reported(dataset, perfect(dataset))
    directions = {}
    for result in results:
        directions.setdefault(result.direction, result.protocol)
    assert [score.value for score in report.scores] == [100.0] * len(directions)
    queries = {row["name"]: len(dataset.protocol(row["name"])[0]) for row in dataset.protocols}
    for ranking in report.rankings:
        assert len(ranking.queries) == queries[ranking.label]
        for query in ranking.queries:
            assert query.first_match == 1 and query.entries[0].correct
            assert query.score == pytest.approx(100.0)
            assert query.facts["view"] in ("aerial", "ground")
            # All of a person's detections are equally similar, and those of others are not.
            near = [e.distance for e in query.entries if e.correct]
            assert near == [1.0] * len(near)
    assert all(max(size_of(one)) <= 224 for one in report.pictures)
    names = {chart.name for chart in report.charts}
    assert [ranking.label for ranking in report.rankings] == list(directions.values())
    spreads = {f"similarities_{ranking.label}" for ranking in report.rankings[:2]}
    recall = {"precision_recall", "detection"}
    assert names == {"cmc", "altitude", "cameras", "gallery_size"} | recall | spreads
    assert "Nothing is known of its training data" in report.summary[0]
    assert len(results) > len(report.scores)


def test_the_first_true_match_is_listed_where_it_comes_late(dataset):
    found = perfect(dataset)
    # The person's own detections are the least similar ones.
    report, _ = reported(dataset, dataclasses.replace(found, query=-found.query))
    for ranking in report.rankings:
        for query in ranking.queries:
            assert query.first_match > 1
            (last,) = [entry for entry in query.entries if entry.rank == query.first_match]
            assert last.correct and len(query.entries) <= 9


def test_a_detector_alone_has_scores_and_no_lists(dataset):
    found = dataclasses.replace(perfect(dataset), query=None)
    results = evaluate_detector(found.gallery, dataset)
    report = frame_report(
        found, dataset, results, noun="whole frames", trained_on="", limit=400, samples=20
    )
    assert {(s.name, s.value) for s in report.scores} == {("detection AP", 100.0)}
    assert len(report.scores) == len(results)
    assert not report.rankings
    (curve,) = report.charts
    assert curve.name == "detection" and "aerial frames (AP 100.0): precision at rec" in curve.alt


def test_curves_fall_to_nothing_beyond_what_was_detected(dataset):
    found = perfect(dataset)
    # The first person of each frame alone is detected, and a false alarm is surer than all of them.
    frames = [
        FrameDetections(
            np.concatenate([frame.boxes[:1], frame.boxes[:1] + 1000.0]),
            np.array([0.8, 0.9], np.float32)[: 2 * len(frame.boxes)],
            np.concatenate([frame.features[:1], 0.0 * frame.features[:1]]),
        )
        for frame in found.gallery
    ]
    report, results = reported(dataset, dataclasses.replace(found, gallery=frames))
    charts = {chart.name: chart for chart in report.charts}
    measures = dict(results[0].measures)
    platform = results[0].direction.split()[-1]
    assert measures["recall"] < 90.0
    assert f"{platform} frames (AP {measures['detection AP']:.1f})" in charts["detection"].alt
    assert "recall 10 50.0, precision at recall" in charts["detection"].alt
    assert "precision at recall 90 0.0" in charts["detection"].alt
    protocol = results[0].protocol
    spread = charts[f"similarities_{protocol}"]
    assert "of another person or nobody" in spread.alt and "another person or nobody" in spread.svg
    assert "similarity (inner product)" in spread.svg


def test_the_surroundings_of_a_box_stay_in_the_frame():
    frame = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    np.testing.assert_array_equal(around(frame, np.array([0.0, 0, 20, 10])), frame)
    np.testing.assert_array_equal(around(frame, np.array([10.0, 4, 12, 6])), frame[3:7, 9:13])
    assert around(frame, np.array([25.0, 12, 30, 15])).size > 0  # a box beyond the frame
